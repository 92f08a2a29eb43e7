"""Files of a web server, imported and updated; the server is a real one, with faults of its own."""

from __future__ import annotations

import io
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dvtool.format.manifest import decode
from dvtool.remotes.transports import retry
from tests.cli.conftest import Work
from tests.scenario import noise

BIG = noise(300_000, 5)


class Site(ThreadingHTTPServer):
    """What the server has: path -> body; and how it behaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: dict[str, bytes] = {"/a.csv": b"x,y\n1,2\n", "/big.bin": BIG}
        self.asked: list[str] = []
        self.cuts = 0
        """How many answers break off in the middle."""
        self.no_head = self.no_tag = self.no_length = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        site = self.server
        site.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        if self.path == "/moved.csv":
            self._plain(302, {"Location": "/a.csv"})
            return
        if self.command == "HEAD" and site.no_head:
            self._plain(405)
            return
        if self.path == "/secret":
            self._plain(403)
            return
        data = site.bodies.get(self.path)
        if data is None:
            self._plain(404)
            return
        start = int(self.headers["Range"][6:].rstrip("-")) if "Range" in self.headers else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if not site.no_tag:
            self.send_header("ETag", f'"{hash(data)}"')
        if site.no_length:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not body:
            return
        if site.cuts and len(data) > 1_000:
            site.cuts -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
            return
        self.wfile.write(data[start:])

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(retry, "PAUSE_FIRST_S", 0.01)
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


@pytest.fixture
def work(tmp_path: Path) -> Work:
    root = tmp_path / "work"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    work = Work(root)
    work.dv("init", "--no-hooks")
    work.commit("init")
    return work


def test_a_file_comes_and_follows(work: Work, site: Site) -> None:
    work.dv("import", f"{site.url}/a.csv")
    assert site.asked == ["HEAD /a.csv", "GET /a.csv"]
    assert work.read("a.csv") == b"x,y\n1,2\n"
    source = decode(work.read("a.csv.dv.json"), "a.csv").source
    assert source is not None
    assert (source.kind, source.url) == ("web", f"{site.url}/a.csv")
    work.commit("imported")
    site.asked.clear()
    assert "unchanged" in work.dv("update").out
    assert site.asked == ["HEAD /a.csv"]
    site.bodies["/a.csv"] = b"x,y\n3,4\n"
    assert work.dv("status", "--sources", "--json").json["sources"][0]["standing"] == "behind"
    assert "1 modified" in work.dv("update").out
    assert work.read("a.csv") == b"x,y\n3,4\n"


def test_servers_of_all_kinds(work: Work, site: Site) -> None:
    site.no_head = site.no_length = True
    work.dv("import", f"{site.url}/big.bin", "one.bin")
    assert work.read("one.bin") == BIG
    site.no_tag = True
    work.dv("import", f"{site.url}/moved.csv", "two.csv")
    assert work.read("two.csv") == b"x,y\n1,2\n"
    work.commit("imported")
    # Without a tag the file has to be read; the same bytes are no change.
    assert "unchanged" in work.dv("update", "two.csv").out
    site.bodies["/a.csv"] = b"x,y\n9,9\n"
    standing = work.dv("status", "--sources", "two.csv", "--json").json["sources"][0]["standing"]
    assert standing == "unknown"
    assert "1 modified" in work.dv("update", "two.csv").out


def test_a_body_that_breaks_off_is_gone_on_with(work: Work, site: Site) -> None:
    site.cuts = 3
    work.dv("import", f"{site.url}/big.bin", "big.bin")
    assert work.read("big.bin") == BIG
    assert [asked for asked in site.asked if "bytes=" in asked]


def test_what_cannot_be_had_is_said_and_nothing_recorded(work: Work, site: Site) -> None:
    for path, code, says in (
        ("/none.csv", 4, "has no object none.csv"),
        ("/secret", 7, "access refused (403)"),
        ("/", 2, "names no file"),
    ):
        assert says in work.dv("import", site.url + path, "out", code=code).err
    assert "means nothing" in work.dv("import", f"{site.url}/a.csv", "--region", "x", code=2).err
    assert work.git("status", "--porcelain") == ""
    assert not (work.root / ".git/dv/trusted-sources.json").exists()


def tar_of(members: dict[str, bytes], *, link: str = "", mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
    return packed.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # of one date
    return packed.getvalue()


MEMBERS = {"./a.txt": b"a", "sub/run.sh": b"#!/bin/sh\n", "big.bin": BIG, "empty": b""}


def test_members_of_archives_take_their_place(work: Work, site: Site) -> None:
    site.bodies["/data.tar.gz"] = tar_of(MEMBERS, link="sub/run.sh")
    site.bodies["/data.zip"] = zip_of({"a.txt": b"a", "b/": b"", "b/c.tmp": b"c"})
    done = work.dv("import", "--unpack", f"{site.url}/data.tar.gz", "--json").json
    assert (done["target"], done["read"], done["added"]) == ("data", 1, 5)
    top = work.root / "data"
    assert (top / "big.bin").read_bytes() == BIG
    assert (top / "sub/run.sh").stat().st_mode & 0o100
    assert (top / "link").readlink() == Path("sub/run.sh")
    assert (top / "a.txt").read_bytes() == b"a"
    work.dv("import", "--unpack", "--exclude", "*.tmp", f"{site.url}/data.zip", "zipped")
    assert [path.name for path in (work.root / "zipped").rglob("*")] == ["a.txt"]
    work.commit("imported")
    work.dv("status", "--exit-code")
    assert "unchanged" in work.dv("update", "data").out
    site.bodies["/data.tar.gz"] = tar_of({"a.txt": b"another"})
    ran = work.dv("update", "data")
    assert "1 modified, 4 removed" in ran.out
    assert [path.name for path in top.rglob("*")] == ["a.txt"]


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("x.tar", tar_of({"../up": b"1"}, mode="w"), "'..' component"),
        ("x.tgz", tar_of({"fine": b"1"}, link="/etc/passwd"), "is absolute"),
        ("x.zip", zip_of({"/abs": b"1"}), "is absolute"),
        ("x.zip", zip_of({"Read": b"1", "read": b"2"}), "are one name"),
        ("x.zip", zip_of({"a": b"1"})[:-30], "no sound archive"),
        ("x.tar.gz", tar_of({"a": BIG})[:1_000], "no sound archive"),
        ("x.tar", b"no archive", "no sound archive"),
    ],
    ids=["up", "link", "absolute", "case", "zip cut short", "gz cut short", "nothing"],
)
def test_members_that_can_be_no_files(
    work: Work, site: Site, name: str, body: bytes, says: str
) -> None:
    site.bodies[f"/{name}"] = body
    ran = work.dv("import", "--unpack", f"{site.url}/{name}", "out", code=8)
    assert says in ran.err
    assert "nothing was recorded" in ran.err
    assert work.git("status", "--porcelain") == ""
    assert not (work.root / "out").exists()
    assert list((work.root / ".git/dv/tmp").iterdir()) == []


def test_what_is_no_archive_is_not_unpacked(work: Work, site: Site) -> None:
    ran = work.dv("import", "--unpack", f"{site.url}/a.csv", code=2)
    assert "cannot be unpacked" in ran.err


def test_a_server_that_is_gone(work: Work) -> None:
    with Site() as site:
        url = site.url
    ran = work.dv("import", f"{url}/a.csv", code=7)
    assert url in ran.err
    assert work.git("status", "--porcelain") == ""
