"""Data of the Hugging Face hub, asked by huggingface_hub of a server that speaks its endpoints."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from dvtool.format.manifest import decode
from dvtool.format.source import DataSource
from tests.cli.conftest import Work
from tests.scenario import noise

FIRST, SECOND = "1" * 40, "2" * 40
LARGE = noise(300_000, 3)


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(ThreadingHTTPServer):
    """One dataset, `lab/cats`, of several commits: path -> content; `.bin` files are large ones."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.main = FIRST
        self.commits: dict[str, dict[str, bytes]] = {
            FIRST: {"README.md": b"cats\n", "train/a.csv": b"1,2\n", "train/big.bin": LARGE}
        }
        self.spoilt = ""
        self.tokens: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        parts = urlsplit(self.path).path.split("/")
        if parts[5] != "paths-info":
            self._send(404, b"")
            return
        paths = (
            json.loads(body)["paths"]
            if body.startswith("{")
            else [unquote(x.partition("=")[2]) for x in body.split("&") if x.startswith("paths=")]
        )
        files = self.server.commits[parts[6]]
        rows = [self._row(path, files[path]) for path in paths if path in files]
        rows += [
            {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
            for path in paths
            if any(name.startswith(path + "/") for name in files)
        ]
        self._send(200, json.dumps(rows).encode(), Content_Type="application/json")

    @staticmethod
    def _row(path: str, data: bytes) -> dict[str, Any]:
        row: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
        row["oid"] = blob_id(data)
        if path.endswith(".bin"):
            name = hashlib.sha256(data).hexdigest()
            row["lfs"] = {"oid": name, "size": len(data), "pointerSize": 130}
        return row

    def do_GET(self) -> None:
        site, path = self.server, unquote(urlsplit(self.path).path)
        if "/lab/cats" in path:  # the library asks for things of its own besides
            site.tokens.add(self.headers.get("authorization"))
        if path.startswith("/api/datasets/lab/cats/revision/") or path == "/api/datasets/lab/cats":
            rev = path.rpartition("/")[2]
            commit = site.main if rev in ("main", "cats") else rev
            if commit not in site.commits:
                self._send(404, b"{}", X_Error_Code="RevisionNotFound")
                return
            document = {"id": "lab/cats", "sha": commit, "siblings": []}
            self._send(200, json.dumps(document).encode(), Content_Type="application/json")
        elif path.startswith("/api/datasets/lab/cats/tree/"):
            commit, _, below = path.removeprefix("/api/datasets/lab/cats/tree/").partition("/")
            rows = [
                self._row(name, data)
                for name, data in site.commits[commit].items()
                if not below or name.startswith(below + "/")
            ]
            self._send(200, json.dumps(rows).encode(), Content_Type="application/json")
        elif path.startswith("/datasets/lab/cats/resolve/"):
            commit, _, name = path.removeprefix("/datasets/lab/cats/resolve/").partition("/")
            data = site.commits[commit][name]
            if name.endswith(".bin"):
                self._send(302, b"", Location=f"{site.url}/cdn/{commit}/{name}")
            else:
                self._send(200, data[::-1] if name == site.spoilt else data)
        elif path.startswith("/cdn/"):
            commit, _, name = path.removeprefix("/cdn/").partition("/")
            data = site.commits[commit][name]
            self._send(200, data[::-1] if name == site.spoilt else data)
        else:
            self._send(404, b"{}", X_Error_Code="RepoNotFound")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        import huggingface_hub.constants as settings  # read from the environment when imported

        monkeypatch.setattr(settings, "ENDPOINT", site.url)
        template = site.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(settings, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
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


def files(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def test_a_dataset_comes_and_follows(work: Work, hub: Hub) -> None:
    done = work.dv("import", "hf://datasets/lab/cats", "--json").json
    assert (done["target"], done["added"], done["state"]) == ("cats", 3, FIRST)
    assert files(work.root / "cats") == hub.commits[FIRST]
    source = decode(work.read("cats.dv.json"), "cats").source
    assert source == DataSource("hf", "hf://datasets/lab/cats", FIRST)
    assert b"hf_secret" not in work.read("cats.dv.json")
    assert hub.tokens == {"Bearer hf_secret"}
    work.dv("import", "hf://datasets/lab/cats/train", "--exclude", "*.csv")
    assert set(files(work.root / "train")) == {"big.bin"}
    work.dv("import", f"hf://datasets/lab/cats@{FIRST}/train/a.csv", "x.csv")
    assert work.read("x.csv") == b"1,2\n"
    work.commit("imported")
    assert work.dv("update").out.count("unchanged") == 3

    hub.commits[SECOND] = {"README.md": b"more cats\n", "train/big.bin": LARGE}
    hub.main = SECOND
    standings = {
        one["target"]: one["standing"]
        for one in work.dv("status", "--sources", "--json").json["sources"]
    }
    assert standings == {"cats": "behind", "train": "current", "x.csv": "current"}
    done = work.dv("update", "cats", "--json").json["targets"][0]
    assert (done["read"], done["removed"]) == (1, ["train/a.csv"])
    assert files(work.root / "cats") == hub.commits[SECOND]


def test_what_lacks_is_named(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    ran = work.dv("import", "hf://datasets/lab/cats", code=3)
    assert "need huggingface_hub, which is not installed" in ran.err
    assert "its extra hub" in ran.err
    ran = work.dv("import", "hf://datasets/lab/cats", "--region", "x", code=2)
    assert "is on the Hugging Face hub, where --region means nothing" in ran.err


def test_what_is_wrong_is_said_and_nothing_recorded(work: Work, hub: Hub) -> None:
    for url, code, says in (
        ("hf://datasets/lab/dogs", 4, "the hub has no hf://datasets/lab/dogs"),
        ("hf://datasets/lab/cats@nothing", 4, "at nothing"),
        ("hf://datasets/lab/cats/nothing", 4, "nothing"),
        ("hf://datasets/lab", 2, "is no address of the hub"),
        ("hf://datasets/lab/cats/../x", 2, "is no address of the hub"),
    ):
        assert says in work.dv("import", url, "out", code=code).err, url
    for name in ("train/big.bin", "README.md"):
        hub.spoilt = name
        ran = work.dv("import", "hf://datasets/lab/cats", "out", code=6)
        assert f"{name} is not the content that its hash names" in ran.err
    assert work.git("status", "--porcelain") == ""
