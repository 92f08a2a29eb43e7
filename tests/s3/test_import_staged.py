"""Files of an import that are written while others are read, and take their place at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec import structs

from dvtool.format.source import DataSource
from dvtool.remotes.origins.registry import open_origin
from tests.s3.proxy import CountingProxy, Fault, Request
from tests.s3.test_import import Bucket, files, moto, work
from tests.scenario import noise

__all__ = ["moto", "work"]
CONTENTS = {f"{number % 3}/{number:03}": noise(3_000, number) for number in range(40)}
CONTENTS |= {"empty": b"", "same": noise(3_000, 7)}


def staged(bucket: Bucket) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for folder in (bucket.work.root / ".git/dv").glob("staged-*")
        for path in folder.rglob("*")
        if path.is_file()
    }


class Late:
    """A proxy's policy: what happens once so many objects were asked for, if `fails`, a 404."""

    def __init__(self, bucket: Bucket, *, appears: str = "", fails: bool = False) -> None:
        self.bucket = bucket
        self.appears = appears
        self.fails = fails
        self.gets = 0
        self.lock = threading.Lock()
        self.seen: dict[str, bytes] = {}

    def choose(self, request: Request) -> Fault | None:
        if request.kind != "GET":
            return None
        with self.lock:
            self.gets += 1
            if self.gets < len(CONTENTS):
                return None
            return self.last(request)

    def last(self, request: Request) -> Fault | None:
        if not self.seen:
            self.seen = staged(self.bucket)
            assert not (self.bucket.work.root / "out").exists()
        if self.appears:
            path = self.bucket.work.root / "out" / self.appears
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"the user's")
        return Fault(request.kind, status=404, code="NoSuchKey") if self.fails else None


@pytest.fixture
def proxy(moto: Bucket) -> Iterator[CountingProxy]:
    moto.delete(*(f"data/{name}" for name in ("a.txt",)))
    moto.url = f"s3://{moto.name}/staged"
    moto.put(CONTENTS, "staged/")
    with CountingProxy(moto.server.endpoint_url) as proxy:
        yield proxy


def import_late(moto: Bucket, proxy: CountingProxy, late: Late, *more: str, code: int = 0) -> str:
    proxy.policy = late
    ran = moto.work.dv("import", moto.url, "out", "--endpoint-url", proxy.url, *more, code=code)
    return ran.err if code else ran.out


def test_files_take_their_place_together(moto: Bucket, proxy: CountingProxy) -> None:
    late = Late(moto)
    (moto.work.root / ".git/dv/staged-left").mkdir()  # as of a run that was killed
    import_late(moto, proxy, late)
    assert len(late.seen) > len(CONTENTS) // 4
    assert all(CONTENTS[path].startswith(data) for path, data in late.seen.items())
    assert files(moto.work.root / "out") == CONTENTS
    assert not list((moto.work.root / ".git/dv").glob("staged*"))
    status = moto.work.dv("status", "--json").json["targets"][0]
    assert (status["modified"], status["deleted"]) == ([], [])
    (moto.work.root / "out/same").write_bytes(noise(3_000, 8))
    status = moto.work.dv("status", "--json").json["targets"][0]
    assert (status["modified"], status["deleted"]) == (["same"], [])


def test_what_a_killed_run_left_goes_with_an_import_that_has_nothing_to_do(
    moto: Bucket, proxy: CountingProxy
) -> None:
    import_late(moto, proxy, Late(moto))
    left = moto.work.write(".git/dv/staged-left/a/b", b"left")
    import_late(moto, proxy, Late(moto))
    assert not left.parent.parent.exists()
    assert files(moto.work.root / "out") == CONTENTS


def test_a_run_that_fails_leaves_no_files(moto: Bucket, proxy: CountingProxy) -> None:
    moto.delete("staged/empty")  # what an empty object holds is known by its listing
    late = Late(moto, fails=True)
    late.gets = 1
    err = import_late(moto, proxy, late, code=7)
    assert "changed after it was listed" in err
    assert late.seen
    assert not (moto.work.root / "out").exists()
    assert not list((moto.work.root / ".git/dv").glob("staged*"))
    assert moto.work.git("status", "--porcelain") == ""


@pytest.mark.parametrize("name", ["0/000", "mine"])
def test_what_appears_in_the_place_meanwhile_stays(
    moto: Bucket, proxy: CountingProxy, name: str
) -> None:
    in_the_way = name in CONTENTS
    import_late(moto, proxy, Late(moto, appears=name), code=5 if in_the_way else 0)
    assert (moto.work.root / "out" / name).read_bytes() == b"the user's"
    assert not list((moto.work.root / ".git/dv").glob("staged*"))
    if not in_the_way:
        assert files(moto.work.root / "out") == CONTENTS | {name: b"the user's"}


def test_without_checkout_and_of_a_folder_that_is_there_nothing_is_staged(
    moto: Bucket, proxy: CountingProxy
) -> None:
    late = Late(moto)
    import_late(moto, proxy, late, "--no-checkout")
    assert late.gets == len(CONTENTS)
    assert late.seen == {}
    assert not (moto.work.root / "out").exists()


def test_two_buckets_are_told_apart(moto: Bucket, proxy: CountingProxy) -> None:
    """A worker stays connected from one batch to the next of the same place only."""
    from dvtool.jobs.take import TakeBatch, take_objects

    other = moto.server.new_bucket()
    with moto.server.client() as client:
        client.put_object(Bucket=other, Key="staged/same", Body=b"other")
    options = {"endpoint_url": proxy.url, "region": "us-east-1"}
    store = moto.work.root / ".git/dv"
    sizes = []
    for name in (moto.name, other, moto.name):
        origin = open_origin(DataSource("s3", f"s3://{name}/staged/", "", options=options), {})
        objects = tuple(
            each for batch in origin.batches() for each in batch if each.key == "staged/same"
        )
        sizes += take_objects(TakeBatch(origin, str(store), objects)).sizes
    assert sizes == [3_000, 5, 3_000]


PAGE = """<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated>
<NextContinuationToken>{number}</NextContinuationToken><Contents><Key>data/{number}</Key>
<Size>1</Size><ETag>"e"</ETag></Contents></ListBucketResult>"""


@pytest.mark.parametrize(("limit", "more"), [(3, 0), (0, 1)])
def test_a_limit_has_no_page_of_a_listing_asked_for_in_vain(
    monkeypatch: pytest.MonkeyPatch, limit: int, more: int
) -> None:
    asked: list[str] = []
    enough = threading.Event()

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(parse_qs(urlsplit(self.path).query).get("continuation-token", ["0"])[0])
            if len(asked) == 2 + more:
                enough.set()
            data = PAGE.format(number=len(asked)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        options = {"endpoint_url": url, "region": "us-east-1"}
        source = DataSource("s3", "s3://bucket/data/", "", options=options)
        origin = open_origin(structs.replace(source, limit=limit), {})
        pages = origin.batches()
        keys = [each.key for _ in range(2) for each in next(pages)]
        assert enough.wait(30)
        pages.close()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()
        origin.close()
    assert keys == ["data/1", "data/2"]
    assert len(asked) == 2 + more
