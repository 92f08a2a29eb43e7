"""Data that other repositories keep with DVC or git-lfs: imported, verified, updated, refused."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dvtool.format.manifest import decode
from dvtool.format.source import DataSource
from dvtool.verbs.imports.kept_otherwise import lfs_server
from tests.cli.conftest import Work
from tests.s3.conftest import use
from tests.s3.servers import S3Server
from tests.scenario import noise

DVC = Path(__file__).parent.parent / "data" / "dvc_repository"
"""A repository and its remote as DVC 3.67 wrote them."""
IN_DATA = {"images/a.txt": b"alpha\n", "images/sub/b.txt": b"beta\r\n", "table.csv": b"one,two\n"}


def git(folder: Path, *args: str) -> str:
    names = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", *names, *args], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "a commit")
    return git(folder, "rev-parse", "HEAD")


def files(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def source_of(work: Work, target: str) -> DataSource:
    source = decode(work.read(f"{target}.dv.json"), target).source
    assert source is not None
    return source


def nothing_planned_is_kept(work: Work) -> None:
    assert work.git("status", "--porcelain") == ""
    assert not (work.root / ".git/dv/trusted-sources.json").exists()


@pytest.fixture
def mine(tmp_path: Path) -> Work:
    root = tmp_path / "mine"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    mine = Work(root)
    mine.dv("init", "--no-hooks")
    mine.commit("init")
    return mine


@pytest.fixture
def dvc(tmp_path: Path) -> Path:
    top = tmp_path / "dvc"
    shutil.copytree(DVC, top)
    repo = top / "repo"
    (repo / "dot-dvc").rename(repo / ".dvc")
    git(repo, "init", "-q", "-b", "main")
    commit(repo)
    return repo


def test_outputs_of_dvc_come_and_follow(mine: Work, dvc: Path) -> None:
    head = git(dvc, "rev-parse", "HEAD")
    plan = mine.dv("import", "--plan", f"{dvc}//data", "all", "--json").json
    assert (plan["remote"], plan["files"], plan["objects"], plan["bytes"]) == (
        "../../storage",
        3,
        3,
        sum(map(len, IN_DATA.values())),
    )
    assert plan["requests"] == {"put": 0, "list": 0, "get": 4, "head": 0}  # with images.dir
    nothing_planned_is_kept(mine)
    done = mine.dv("import", f"{dvc}//data", "all", "--json").json
    assert (done["added"], done["read"], done["state"]) == (3, 3, head)
    assert files(mine.root / "all") == IN_DATA
    stated = DataSource("dvc", str(dvc), head, "data", options={"remote": "../../storage"})
    assert source_of(mine, "all") == stated
    mine.dv("import", f"{dvc}//data/images/sub", "sub")
    assert files(mine.root / "sub") == {"b.txt": b"beta\r\n"}
    mine.dv("import", f"{dvc}//data/images/a.txt@{head[:12]}")
    assert mine.read("a.txt") == b"alpha\n"
    mine.dv("import", f"{dvc}//model.bin")
    mine.dv("import", f"{dvc}//out", "made")
    assert (mine.read("model.bin"), files(mine.root / "made")) == (b"made", {"one": b"1"})
    mine.dv("import", "--exclude", "*.csv", f"{dvc}//data", "no-tables")
    assert set(files(mine.root / "no-tables")) == {"images/a.txt", "images/sub/b.txt"}
    mine.commit("imported")

    (dvc / "README").write_text("another commit with the same data")
    commit(dvc)
    assert "unchanged" in mine.dv("update", "all").out
    assert mine.git("status", "--porcelain") == ""
    new = b"three\n"
    md5 = hashlib.md5(new).hexdigest()
    held = dvc.parent / "storage/files/md5" / md5[:2] / md5[2:]
    held.parent.mkdir(exist_ok=True)
    held.write_bytes(new)
    dvc.joinpath("data/table.csv.dvc").write_text(
        f"outs:\n- md5: {md5}\n  size: {len(new)}\n  hash: md5\n  path: table.csv\n"
    )
    dvc.joinpath("data/images.dvc").unlink()
    commit(dvc)
    sources = mine.dv("status", "--sources", "--json").json["sources"]
    standings = {one["target"]: one["standing"] for one in sources}
    assert (standings["all"], standings["made"], standings["a.txt"]) == (
        "behind",
        "current",
        "current",
    )
    done = mine.dv("update", "all", "--json").json["targets"][0]
    assert (done["read"], done["removed"]) == (1, ["images/a.txt", "images/sub/b.txt"])
    assert files(mine.root / "all") == {"table.csv": new}
    ran = mine.dv("update", "sub", code=4)
    assert "keeps nothing with DVC at data/images/sub any more" in ran.err
    assert mine.read("sub/b.txt") == b"beta\r\n"


def test_content_that_its_hash_does_not_name_is_refused(mine: Work, dvc: Path) -> None:
    held = dvc.parent / "storage/files/md5/8e/85b815d39c332d49e64b713c957819"
    held.write_bytes(b"x" * held.stat().st_size)
    ran = mine.dv("import", f"{dvc}//data", "all", code=6)
    assert "is not the content that its hash names" in ran.err
    assert not (mine.root / "all.dv.json").exists()
    held.unlink()
    ran = mine.dv("import", f"{dvc}//data", "all", code=4)
    assert "images/sub/b.txt" in ran.err
    assert mine.git("status", "--porcelain") == ""


def test_the_layout_and_line_ends_of_dvc_before_3(mine: Work, dvc: Path) -> None:
    text = b"one\r\ntwo\r\n"
    md5 = hashlib.md5(text.replace(b"\r\n", b"\n")).hexdigest()
    held = dvc.parent / "storage" / md5[:2] / md5[2:]
    held.parent.mkdir()
    held.write_bytes(text)
    dvc.joinpath("old.txt.dvc").write_text(f"outs:\n- md5: {md5}\n  path: old.txt\n")
    commit(dvc)
    mine.dv("import", f"{dvc}//old.txt")
    assert mine.read("old.txt") == text
    assert not os.access(mine.root / "old.txt", os.X_OK)
    # The bit that DVC sets is the file's here, too.
    dvc.joinpath("old.txt.dvc").write_text(
        f"outs:\n- md5: {md5}\n  path: old.txt\n  isexec: true\n"
    )
    commit(dvc)
    done = mine.dv("update", "--json").json["targets"][0]
    assert (done["read"], done["modified"]) == (0, 1)
    assert os.access(mine.root / "old.txt", os.X_OK)


def test_dvcs_remote_in_a_bucket(
    mine: Work, dvc: Path, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    bucket = moto_server.new_bucket()
    storage = dvc.parent / "storage"
    with moto_server.client() as client:
        for path, data in files(storage).items():
            client.put_object(Bucket=bucket, Key=f"store/{path}", Body=data)
    shutil.rmtree(storage)
    (dvc / ".dvc/config").write_text(
        "[core]\n    remote = s\n['remote \"s\"']\n"
        f"    url = s3://{bucket}/store\n    endpointurl = {moto_server.endpoint_url}\n"
    )
    commit(dvc)
    mine.dv("import", f"{dvc}//data", "all")
    assert files(mine.root / "all") == IN_DATA
    told = f"s3://{bucket}/store endpoint-url {moto_server.endpoint_url}"
    assert source_of(mine, "all").options == {"remote": told}
    mine.commit("imported")
    # Another remote is another question.
    text = (dvc / ".dvc/config").read_text()
    (dvc / ".dvc/config").write_text(text.replace("/store", "/elsewhere"))
    commit(dvc)
    ran = mine.dv("update", code=3)
    assert f"s3://{bucket}/elsewhere" in ran.err


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ("url = gs://lab/data", 2, "gs://lab/data, which is not read here"),
        ("url = s3://lab/data\n    version_aware = true", 2, "versions of its bucket"),
        ("url = https://me:secret@example.org/x", 2, "holds credentials"),
        ("", 2, "names no remote of DVC"),
    ],
)
def test_remotes_that_are_not_read(
    mine: Work, dvc: Path, settings: str, code: int, says: str
) -> None:
    section = f"['remote \"storage\"']\n    {settings}\n" if settings else ""
    (dvc / ".dvc/config").write_text(f"[core]\n    remote = storage\n{section}")
    commit(dvc)
    ran = mine.dv("import", f"{dvc}//data", "all", code=code)
    assert says in ran.err
    assert "secret" not in ran.err
    assert mine.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("outs: [", "is no YAML"),
        ("outs:\n- md5: 0f\n  path: x\n", "has no MD5"),
        (f"outs:\n- md5: {'0' * 32}\n  path: ../../x\n", "'..' component"),
    ],
)
def test_hostile_files_of_dvc(mine: Work, dvc: Path, text: str, says: str) -> None:
    dvc.joinpath("x.dvc").write_text(text)
    commit(dvc)
    assert says in mine.dv("import", f"{dvc}//data", "all", code=8).err


# --- git-lfs ---------------------------------------------------------------------------------


@pytest.fixture
def lfs(tmp_path: Path) -> Path:
    """A clone that git-lfs made, pushed to a bare repository on this machine."""
    if shutil.which("git-lfs") is None:
        pytest.skip("git-lfs is not installed (Debian: apt install git-lfs)")
    bare, clone = tmp_path / "team.git", tmp_path / "lfs"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(bare))
    git(tmp_path, "init", "-q", "-b", "main", str(clone))
    git(clone, "lfs", "install", "--local")
    git(clone, "lfs", "track", "*.bin")
    (clone / "data/sub").mkdir(parents=True)
    (clone / "data/a.bin").write_bytes(noise(70_000, 1))
    (clone / "data/sub/b.bin").write_bytes(b"b" * 5_000)
    (clone / "data/notes.txt").write_bytes(b"of git\n")
    commit(clone)
    git(clone, "remote", "add", "origin", str(bare))
    git(clone, "push", "-q", "origin", "main")
    return clone


IN_LFS = {"a.bin": noise(70_000, 1), "notes.txt": b"of git\n", "sub/b.bin": b"b" * 5_000}


def test_files_of_git_lfs_come_and_follow(mine: Work, lfs: Path) -> None:
    bare = lfs.parent / "team.git"
    for number, url in enumerate((str(lfs), str(bare))):
        mine.dv("import", f"{url}//data", f"out{number}")
        assert files(mine.root / f"out{number}") == IN_LFS
        source = source_of(mine, f"out{number}")
        assert (source.kind, source.state) == ("lfs", git(lfs, "rev-parse", "HEAD"))
    mine.dv("import", f"{bare}//data/sub/b.bin@main")
    assert mine.read("b.bin") == b"b" * 5_000
    mine.commit("imported")
    assert mine.dv("update").out.count("unchanged") == 3
    (lfs / "data/a.bin").write_bytes(b"new")
    commit(lfs)
    git(lfs, "push", "-q", "origin", "main")
    done = mine.dv("update", "out1", "--json").json["targets"][0]
    assert (done["read"], done["modified"]) == (1, 1)
    assert mine.read("out1/a.bin") == b"new"
    oid = hashlib.sha256(b"b" * 5_000).hexdigest()
    held = bare / "lfs/objects" / oid[:2] / oid[2:4] / oid
    os.chmod(held, 0o644)
    held.write_bytes(b"c" * 5_000)
    ran = mine.dv("import", f"{bare}//data/sub", "again", code=6)
    assert "b.bin is not the content that its hash names" in ran.err
    assert not (mine.root / "again.dv.json").exists()


def test_executable_bits_and_symlinks_of_git_are_taken_over(mine: Work, lfs: Path) -> None:
    data = lfs / "data"
    data.joinpath("run.sh").write_bytes(b"#!/bin/sh\n")
    data.joinpath("run.sh").chmod(0o755)
    data.joinpath("a.bin").chmod(0o755)
    data.joinpath("sub/link").symlink_to("../notes.txt")
    commit(lfs)
    mine.dv("import", f"{lfs}//data", "out")
    top = mine.root / "out"
    assert {str(p.relative_to(top)) for p in top.rglob("*") if os.access(p, os.X_OK)} == {
        "sub",
        "run.sh",
        "a.bin",
    }
    assert (top / "sub/link").readlink() == Path("../notes.txt")
    mine.commit("imported")
    mine.dv("status", "--exit-code")
    assert "unchanged" in mine.dv("update").out
    # A bit alone changes, and where a link leads: nothing is read again.
    data.joinpath("a.bin").chmod(0o644)
    data.joinpath("sub/link").unlink()
    data.joinpath("sub/link").symlink_to("b.bin")
    commit(lfs)
    assert mine.dv("status", "--sources", "--json").json["sources"][0]["standing"] == "behind"
    done = mine.dv("update", "--json").json["targets"][0]
    assert (done["read"], done["modified"]) == (0, 2)
    assert not os.access(top / "a.bin", os.X_OK)
    assert (top / "sub/link").readlink() == Path("b.bin")
    mine.commit("updated")
    (lfs / "README").write_text("another commit with the same data")
    commit(lfs)
    assert mine.dv("status", "--sources", "--json").json["sources"][0]["standing"] == "current"
    # A link that leads out of the target, or is all that is asked for, is refused by name.
    ran = mine.dv("import", f"{lfs}//data/sub", "part")
    assert files(mine.root / "part")["link"] == b"b" * 5_000
    ran = mine.dv("import", f"{lfs}//data/sub/link", "one", code=4)
    assert "keeps nothing" in ran.err or "no data of dv" in ran.err
    data.joinpath("sub/link").unlink()
    data.joinpath("sub/link").symlink_to("../../README")
    data.joinpath("sub/odd").symlink_to(os.fsdecode(b"\xff"))
    commit(lfs)
    ran = mine.dv("import", f"{lfs}//data", "again", code=8)
    assert "sub/link leads outside of its folder (-> ../../README)" in ran.err
    assert "sub/odd points at a name that is not valid UTF-8" in ran.err
    assert not (mine.root / "again.dv.json").exists()
    git(lfs, "submodule", "add", "-q", "--", "./", "data/module")
    git(lfs, "commit", "-qm", "module")
    ran = mine.dv("import", f"{lfs}//data", "--exclude", "link", "--exclude", "odd", "most")
    assert "1 submodule of git not taken (data/module)" in ran.err
    assert files(mine.root / "most").keys() == {*IN_LFS, "run.sh"}


class Lfs(http.server.BaseHTTPRequestHandler):
    """A repository over plain HTTP, and the batch API of git-lfs beside it, with a password."""

    server: Any
    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(self.path)
        if self.headers.get("authorization") != "Basic bWU6a2V5":
            self._answer(401, b"{}")
            return
        rows = []
        for row in body["objects"]:
            href = f"http://127.0.0.1:{self.server.server_port}/object/{row['oid']}"
            header = {"x-key": "of the object"}
            rows.append({**row, "actions": {"download": {"href": href, "header": header}}})
        self._answer(200, json.dumps({"transfer": "basic", "objects": rows}).encode())

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path.startswith("/object/"):
            self.server.asked.append("GET")
            assert self.headers["x-key"] == "of the object"
            data = self.server.objects.get(name)
        else:
            file = self.server.top / path.lstrip("/")
            data = file.read_bytes() if file.is_file() else None
        self._answer(404 if data is None else 200, data or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def lfs_site(lfs: Path) -> Iterator[Any]:
    bare = lfs.parent / "team.git"
    git(bare, "update-server-info")
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lfs)
    server.top, server.asked = lfs.parent, []
    server.objects = {p.name: p.read_bytes() for p in (bare / "lfs").rglob("*") if p.is_file()}
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server
    server.shutdown()
    serving.join()
    server.server_close()


def test_the_batch_api_of_a_server(mine: Work, lfs_site: Any) -> None:
    url = f"http://127.0.0.1:{lfs_site.server_port}/team.git"
    ran = mine.dv("import", f"{url}//data", "out", code=7)
    assert "access to its git-lfs data was refused (401)" in ran.err
    assert not (mine.root / "out.dv.json").exists()
    helper = "!f() { echo username=me; echo password=key; }; f"
    subprocess.run(["git", "config", "--global", "credential.helper", helper], check=True)
    plan = mine.dv("import", "--plan", f"{url}//data", "out", "--json").json
    assert (plan["objects"], plan["bytes"]) == (3, sum(map(len, IN_LFS.values())))
    assert plan["requests"] == {"put": 0, "list": 1, "get": 2, "head": 0}
    lfs_site.asked.clear()
    mine.dv("import", f"{url}//data", "out")
    assert files(mine.root / "out") == IN_LFS
    assert lfs_site.asked.count("GET") == 2
    assert set(lfs_site.asked) == {"GET", "/team.git/info/lfs/objects/batch"}
    assert source_of(mine, "out").options == {"remote": f"{url}/info/lfs"}
    assert "key" not in mine.read("out.dv.json").decode()
    for name, data in lfs_site.objects.items():
        lfs_site.objects[name] = b"x" * len(data)
    again = Work(mine.root.parent / "fresh")
    subprocess.run(["git", "init", "-q", str(again.root)], check=True)
    again.dv("init", "--no-hooks")
    ran = again.dv("import", f"{url}//data", "out", code=6)
    assert "is not the content that its hash names" in ran.err


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://example.org/a/b", "https://example.org/a/b.git/info/lfs"),
        ("https://example.org/a/b.git/", "https://example.org/a/b.git/info/lfs"),
        ("git@example.org:a/b.git", "https://example.org/a/b.git/info/lfs"),
        ("ssh://git@example.org:2222/a/b", "https://example.org/a/b.git/info/lfs"),
    ],
)
def test_where_git_lfs_asks(url: str, server: str) -> None:
    assert lfs_server(url) == server
