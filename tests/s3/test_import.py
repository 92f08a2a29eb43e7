"""Data from buckets: imported, updated, refused; on real S3 servers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dvtool.format.manifest import decode
from dvtool.format.source import DataSource
from tests.cli.conftest import Ran, Work
from tests.s3.conftest import use
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.scenario import noise

Contents = Mapping[str, bytes]
SMALL: Contents = {
    "a.txt": b"alpha\n",
    "empty": b"",
    "sub/b.bin": noise(70_000, 1),
    "sub/deep/ünïcödé 図.txt": b"odd",
    "sub/same.txt": b"alpha\n",
}


class Bucket:
    """A bucket with data, and `dv` in a fresh repository beside it."""

    def __init__(self, work: Work, server: S3Server) -> None:
        self.work = work
        self.server = server
        self.name = server.new_bucket()
        self.url = f"s3://{self.name}/data"

    def put(self, contents: Contents, prefix: str = "data/") -> None:
        with self.server.client() as client:
            for key, data in contents.items():
                client.put_object(Bucket=self.name, Key=prefix + key, Body=data)

    def delete(self, *keys: str) -> None:
        with self.server.client() as client:
            for key in keys:
                client.delete_object(Bucket=self.name, Key=key)

    def dv(self, verb: str, *args: str, code: int = 0) -> Ran:
        """Run `dv import` or another verb; an import goes to this server."""
        more = ("--endpoint-url", self.server.endpoint_url) if verb == "import" else ()
        return self.work.dv(verb, *args, *more, code=code)

    def manifest(self, target: str = "out") -> Any:
        return decode(self.work.read(f"{target}.dv.json"), target)


def files(top: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()
    }


@pytest.fixture
def work(tmp_path: Path) -> Work:
    root = tmp_path / "work"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    work = Work(root)
    work.dv("init", "--no-hooks")
    work.commit("init")
    return work


@pytest.fixture
def bucket(work: Work, s3_env: S3Server) -> Bucket:
    bucket = Bucket(work, s3_env)
    bucket.put(SMALL)
    return bucket


@pytest.fixture
def moto(work: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    use(moto_server, monkeypatch)
    return Bucket(work, moto_server)


def test_a_prefix_becomes_a_target_and_follows_its_source(bucket: Bucket) -> None:
    work = bucket.work
    done = bucket.dv("import", bucket.url, "out", "--json").json
    assert (done["files"], done["added"], done["read"], done["written"]) == (5, 5, 5, 5)
    assert files(work.root / "out") == SMALL
    source = bucket.manifest().source
    assert source == DataSource(
        "s3", bucket.url + "/", done["state"], options={"endpoint_url": bucket.server.endpoint_url}
    )
    work.commit("imported")
    work.dv("status", "--exit-code")
    assert bucket.dv("status", "--sources", "--json").json["sources"][0]["standing"] == "current"
    before = work.read("out.dv.json")
    assert bucket.dv("update", "--json").json["targets"][0]["changed"] is False
    assert work.read("out.dv.json") == before
    assert work.git("status", "--porcelain") == ""

    bucket.put({"new.txt": b"new", "a.txt": b"another"})
    bucket.delete("data/empty", "data/sub/same.txt")
    behind = bucket.dv("status", "--sources", "--json").json["sources"][0]
    assert (behind["standing"], behind["added"]) == ("behind", 1)
    assert (behind["modified"], behind["removed"]) == (1, 2)
    assert "behind: 1 added, 1 modified, 2 removed" in bucket.dv("status", "--sources").out
    ran = bucket.dv("update")
    assert "gone at the source, and here:\n  out/empty\n  out/sub/same.txt" in ran.out
    now = {**SMALL, "new.txt": b"new", "a.txt": b"another"}
    del now["empty"], now["sub/same.txt"]
    assert files(work.root / "out") == now
    work.commit("updated")
    work.dv("status", "--exit-code")
    # The same state gives the same text: a fresh import comes to the same manifest.
    bucket.dv("import", bucket.url + "/", "again", "--no-checkout")
    assert work.read("again.dv.json") == work.read("out.dv.json")
    assert not (work.root / "again").exists()
    work.dv("checkout", "--", "again")
    assert files(work.root / "again") == now


def test_a_key_is_a_file_and_filters_choose(bucket: Bucket) -> None:
    bucket.dv("import", bucket.url + "/a.txt")
    assert bucket.work.read("a.txt") == b"alpha\n"
    assert bucket.manifest("a.txt").kind == "file"
    bucket.dv(
        "import", bucket.url, "some", "--exclude", "*.txt", "--include", "sub", "--include", "e*"
    )
    assert sorted(files(bucket.work.root / "some")) == ["empty", "sub/b.bin"]
    ran = bucket.dv("import", bucket.url, "few", "--limit", "2")
    assert "only the first 2 objects were taken (--limit)" in ran.err
    assert sorted(files(bucket.work.root / "few")) == ["a.txt", "empty"]
    assert bucket.manifest("few").source.limit == 2
    assert "--limit" not in bucket.dv("import", bucket.url, "all", "--limit", "5").err
    bucket.put({"a.txt": b"one file"})
    bucket.dv("update", "a.txt", "few")
    assert bucket.work.read("a.txt") == bucket.work.read("few/a.txt") == b"one file"


def test_requests_are_the_listing_and_one_get_an_object(moto: Bucket, work: Work) -> None:
    moto.put({f"{number:04d}": b"%d" % number for number in range(1_200)})
    with CountingProxy(moto.server.endpoint_url) as proxy:
        options = ("--endpoint-url", proxy.url)
        plan = work.dv("import", moto.url, "out", *options, "--plan", "--json").json
        assert (plan["objects"], plan["requests"]["get"], plan["requests"]["list"]) == (
            1200,
            1200,
            2,
        )
        assert plan["seconds"] > 0
        proxy.reset()
        work.dv("import", moto.url, "out", *options)
        assert proxy.counts == {"LIST": 2, "GET": 1_200}
        work.commit("imported")
        proxy.reset()
        work.dv("update")
        assert proxy.counts == {"LIST": 2}
        moto.put({"0007": b"changed"})
        moto.delete("data/0008")
        proxy.reset()
        done = work.dv("update", "--json").json["targets"][0]
        assert proxy.counts == {"LIST": 2, "GET": 1}
        assert (done["modified"], done["removed"], done["read"]) == (1, ["0008"], 1)
    assert len(files(work.root / "out")) == 1_199
    # Of 1,199 entries: shards, whose content is the very same as that of the files here.
    assert moto.manifest().shards
    work.dv("add", "out")
    assert moto.manifest().source.edited is False


def test_a_clone_asks_nobody_before_it_is_told_to(bucket: Bucket, tmp_path: Path) -> None:
    work = bucket.work
    work.dv("remote", "add", "origin", tmp_path / "remote")
    bucket.dv("import", bucket.url, "out")
    work.commit("imported")
    work.dv("push")
    clone = work.clone()
    clone.dv("pull")
    ran = clone.dv("update", code=3)
    assert f"nobody approved in this clone that {bucket.url}/" in ran.err
    assert "dv update --trust TARGET" in ran.err
    assert clone.dv("status", "--sources", "--json").json["sources"][0]["standing"] == "unapproved"
    bucket.put({"a.txt": b"another"})
    ran = clone.dv("update", "--trust", "out")
    assert f"from now on this clone asks {bucket.url}/, endpoint-url http" in ran.err
    # What is here is told by the MD5 that the store states: one object is read.
    assert "1 modified; read 1 object" in ran.out
    assert clone.read("out/a.txt") == b"another"
    # Another address in the manifest is another question.
    text = clone.read("out.dv.json").replace(b"/data/", b"/other/")
    clone.write("out.dv.json", text)
    assert "nobody approved" in clone.dv("update", code=3).err
    assert "needs a PATH" in clone.dv("update", "--trust", code=2).err


def test_edited_files_are_refused_and_kept(moto: Bucket) -> None:
    work = moto.work
    moto.put(SMALL)
    moto.dv("import", moto.url, "out")
    work.commit("imported")
    work.write("out/a.txt", "mine")
    work.write("out/sub/b.bin", "mine too")
    moto.put({"a.txt": b"theirs"})
    before = work.read("out.dv.json")
    ran = moto.dv("update", code=5)
    assert "edited here and changed at the source; nothing was changed:\n  out/a.txt" in ran.err
    assert work.read("out.dv.json") == before
    assert work.read("out/a.txt") == b"mine"
    # An edited file whose object is gone is no other case.
    moto.put({"a.txt": SMALL["a.txt"]})
    moto.delete("data/sub/b.bin")
    assert "nothing was changed:\n  out/sub/b.bin" in moto.dv("update", code=5).err
    assert (work.read("out/sub/b.bin"), work.read("out.dv.json")) == (b"mine too", before)
    moto.put({"a.txt": b"theirs", "sub/b.bin": SMALL["sub/b.bin"]})
    # Added, it is in the manifest, and conflicts there.
    work.dv("add", "out/a.txt")
    work.commit("edited")
    assert "changed here and at the source" in moto.dv("update", code=5).err
    # What is edited and did not change there is kept, and merged.
    moto.put({"a.txt": SMALL["a.txt"], "new.txt": b"new"})
    moto.dv("update")
    assert moto.manifest().source.edited
    assert work.read("out/a.txt") == b"mine"
    assert work.read("out/sub/b.bin") == b"mine too"
    assert work.read("out/new.txt") == b"new"
    # The state that was taken then is in no commit, and the next update merges with it.
    work.commit("updated")
    work.dv("gc")
    moto.put({"new.txt": b"newer"})
    moto.dv("update")
    assert (work.read("out/new.txt"), work.read("out/a.txt")) == (b"newer", b"mine")
    moto.put({"a.txt": b"theirs again"})
    assert "changed here and at the source" in moto.dv("update", code=5).err
    shutil.rmtree(work.root / ".git/dv/as-taken")
    assert "neither a commit nor this clone" in moto.dv("update", code=2).err


def test_an_import_goes_on_where_it_ended(moto: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvtool.verbs.imports import bring

    moto.put(SMALL)
    publish = bring.publish

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bring, "publish", ended)
    moto.dv("import", moto.url, "out", code=130)
    assert not (moto.work.root / "out.dv.json").exists()
    assert not (moto.work.root / "out").exists()
    monkeypatch.setattr(bring, "publish", publish)
    done = moto.dv("import", moto.url, "out", "--json").json
    assert (done["read"], done["added"]) == (0, 5)
    assert files(moto.work.root / "out") == SMALL
    # Once more: nothing is new.
    assert "unchanged" in moto.dv("import", moto.url, "out").out


def nothing_recorded(work: Work) -> None:
    left = {path.name for path in work.root.iterdir()} - {".git"}
    assert left <= {".dvconfig", ".gitattributes"}
    assert work.git("status", "--porcelain") == ""
    assert not (work.root / ".git/dv/trusted-sources.json").exists()


BAD_KEYS: dict[str, tuple[Contents, str]] = {
    "two-dots": ({"../x": b"1"}, "'..' component"),
    "two-slashes": ({"a//b": b"1"}, "has an empty"),
    "trailing-slash": ({"a/": b"not empty"}, "ends in a slash and is not empty"),
    "fold": ({"Read": b"1", "read": b"2"}, "Read  and  read"),
    "unicode": ({"caf\u00e9": b"1", "cafe\u0301": b"2"}, "would be one name"),
    "nested": ({"a": b"1", "a/b": b"2"}, "a  and  a/b"),
    "git": ({".git/hooks/x": b"1"}, "git's own folder"),
    "long-name": ({"x" * 300: b"1"}, "too long for a file"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_keys_that_can_be_no_files_are_refused_by_name(moto: Bucket, name: str) -> None:
    contents, says = BAD_KEYS[name]
    moto.put({"fine": b"1", **contents})
    ran = moto.dv("import", moto.url, "out", code=8)
    assert says in ran.err
    assert "nothing was recorded" in ran.err
    assert "--exclude" in ran.err
    nothing_recorded(moto.work)


def test_long_keys_and_folder_markers(moto: Bucket) -> None:
    long = "/".join(["d" * 100] * 10) + "/" + "f" * 9
    assert len("data/" + long) == 1_024
    moto.put({long: b"long", "sub/": b"", "": b""})
    ran = moto.dv("import", moto.url, "out")
    assert files(moto.work.root / "out") == {long: b"long"}
    assert "2 empty keys ending in a slash" in ran.err


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("s3://BUCKET/nothing", 4, "there is nothing at s3://BUCKET/nothing, nor below it"),
        ("s3://BUCKET/nothing/", 4, "there is nothing to take at s3://BUCKET/nothing/"),
        ("s3://no-such-bucket-here/x", 7, "there is no bucket"),
        ("s3://user:pw@b/x", 2, "holds credentials"),
        ("s3://b/x", 2, "a name has 2 characters or more (on AWS 3)"),
        ("s3://bucket!/x", 2, "is not a bucket: a name has letters, digits"),
        ("ftp://example.org/x", 2, "is nothing to import from"),
        ("data/here", 2, "is nothing to import from"),
        ("https://example.org/x?X-Amz-Signature=1", 2, "holds credentials"),
    ],
)
def test_bad_addresses(moto: Bucket, source: str, code: int, says: str) -> None:
    ran = moto.dv("import", source.replace("BUCKET", moto.name), "out", code=code)
    assert says.replace("BUCKET", moto.name) in ran.err
    nothing_recorded(moto.work)


def test_credentials_that_are_refused(
    work: Work, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(rclone_server, monkeypatch)
    bucket = Bucket(work, rclone_server)
    bucket.put(SMALL)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODYELSE")
    assert bucket.dv("import", bucket.url, "out", code=7).err
    nothing_recorded(work)


def test_places_that_are_taken(moto: Bucket) -> None:
    work = moto.work
    moto.put(SMALL)
    work.write("here/x", "mine")
    assert "is there already" in moto.dv("import", moto.url, "here", code=2).err
    work.dv("add", "here")
    assert "not imported" in moto.dv("import", moto.url, "here", code=2).err
    assert "lies in the target" in moto.dv("import", moto.url, "here/in", code=2).err
    assert "was not imported" in moto.dv("update", "here", code=2).err
    moto.dv("import", moto.url, "out")
    ran = moto.dv("import", moto.url, "out", "--exclude", "a*", code=2)
    assert "with other options" in ran.err
    assert work.read("here/x") == b"mine"


def test_an_object_that_changes_under_way_is_named(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvtool.verbs.imports import import_data

    take: Callable[..., Any] = import_data.take_content

    def late(*args: Any) -> Any:
        bucket.put({"a.txt": b"swapped"})
        return take(*args)

    monkeypatch.setattr(import_data, "take_content", late)
    assert (
        "data/a.txt changed after it was listed"
        in bucket.dv("import", bucket.url, "out", code=7).err
    )
    assert not (bucket.work.root / "out.dv.json").exists()


def test_a_server_that_dies(moto: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvtool.remotes.transports import retry

    monkeypatch.setattr(retry, "PAUSE_FIRST_S", 0.01)
    moto.put(SMALL)
    with CountingProxy(moto.server.endpoint_url) as proxy:
        url = proxy.url
    ran = moto.work.dv("import", moto.url, "out", "--endpoint-url", url, code=7)
    assert "gave up after 5 attempts" in ran.err
    nothing_recorded(moto.work)
