"""Repositories made by an attacker, each played through the commands: see tests/data/hostile.

Whoever can open a pull request, or write to the bucket, chooses what is in there. Each case says
which command refuses it, with which exit code, and what the message must name. Of all of them this
holds: nothing is written before the refusal, nothing outside of the targets at any time, no command
shows a traceback, and nothing of theirs reaches the terminal unescaped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ran, Work

CORPUS = Path(__file__).parent.parent / "data" / "hostile"
MANIFESTS = json.loads((CORPUS / "manifests.json").read_text())
REPOSITORIES = json.loads((CORPUS / "repositories.json").read_text())
PAYLOAD = b"payload\n"
SECRET = b"aws_secret_access_key = hunter2\n"
VERBS = (
    "status",
    "checkout",
    "checkout HEAD",
    "pull",
    "fetch",
    "ls",
    "cat data/a.txt",
    "describe",
    "diff",
    "add data",
    "push",
    "drop data",
)
RAW_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


class Site:
    """A repository, what lies outside of it, and the remote that has its content."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.outside = work.root.parent / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(SECRET)
        (self.outside / "config").write_text('[remote "x"]\n\turl = s3://evil/x\n')
        work.write("data/a.txt", PAYLOAD)
        work.write("data/sub/c.txt", PAYLOAD)
        work.write(".gitignore", "/new\n")
        work.dv("add", "data")
        self.base = work.commit("base")
        work.dv("push")
        self.config = (work.root / ".git/config").read_bytes()

    def restore(self) -> None:
        """Make all as it was, caches included."""
        self.work.git("reset", "--quiet", "--hard", self.base)
        self.work.git("clean", "--quiet", "-ffdx", "--exclude=/data")
        (self.work.root / ".git/config").write_bytes(self.config)
        data = self.work.root / "data"
        shutil.rmtree(data) if data.is_dir() and not data.is_symlink() else data.unlink()
        self.work.dv("checkout")

    def place(self, files: dict[str, Any]) -> None:
        """Put an attacker's files into the worktree, and commit them."""
        for name, content in files.items():
            path = self.work.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or path.is_file():
                path.unlink()
            if isinstance(content, str):
                path.write_bytes(content.encode())
            else:
                path.symlink_to(content["link"])
        self.work.git("add", "--all", "--force", "--", *files)
        self.work.git("commit", "--quiet", "--message", "evil")

    def seen(self) -> dict[str, str]:
        """Return all that must not change: files, links and modes, but for caches and the store."""
        top = self.work.root.parent
        found: dict[str, str] = {}
        for folder, folders, files in os.walk(top):
            inner = os.path.relpath(folder, top)
            if inner == "work/.git":
                folders[:] = [name for name in folders if name not in ("dv", "objects", "logs")]
            for name in (*folders, *files):
                path = Path(folder, name)
                if inner != "work/.git" or name not in ("index", "dv"):
                    found[f"{inner}/{name}"] = described(path)
        return found


def described(path: Path) -> str:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"link {os.readlink(path)}"
    if stat.S_ISREG(found.st_mode):
        return f"{found.st_mode:o} {path.read_bytes()!r}"
    return f"{found.st_mode:o}"


def told(ran: Ran) -> str:
    """Return what a command said, after looking that it is fit for a terminal."""
    said = ran.out + ran.err
    assert not RAW_CONTROL.search(said), repr(said)
    assert "Traceback" not in said
    assert "report" not in ran.err, said  # as of what dvtool takes for its own mistake
    assert "hunter2" not in said
    return said


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Site:
    work = Work(tmp_path_factory.mktemp("site") / "work")
    work.root.mkdir()
    work.git("init", "-q")
    work.dv("init", "--remote", work.root.parent / "remote")
    return Site(work)


@pytest.fixture
def site(built: Site) -> Iterator[Site]:
    yield built
    built.restore()


def content_of(case: dict[str, Any]) -> bytes:
    return (CORPUS / case["file"]).read_bytes()


def stem(case: dict[str, Any]) -> str:
    return Path(case["file"]).stem


@pytest.mark.parametrize("case", MANIFESTS, ids=stem)
def test_every_command_refuses_the_manifest_by_name(site: Site, case: dict[str, Any]) -> None:
    (site.work.root / "data.dv.json").write_bytes(content_of(case))
    site.work.git("commit", "--quiet", "--all", "--message", "evil")
    before = site.seen()
    for verb in VERBS:
        ran = site.work.dv(*verb.split(), code=case["exit"])
        said = told(ran)
        assert "data.dv.json" in ran.err, (verb, said)
        assert case["says"] in ran.err, (verb, said)
        assert site.seen() == before, verb


@pytest.mark.parametrize("case", REPOSITORIES, ids=lambda case: case["name"])
def test_a_repository_is_refused_or_does_no_harm(site: Site, case: dict[str, Any]) -> None:
    site.place(case["files"])
    site.work.write("new/x", PAYLOAD)
    for run in case["runs"]:
        before = site.seen()
        ran = site.work.dv(*run["dv"].split(), code=run["exit"])
        said = told(ran)
        assert run["says"] in said, (run, said)
        after = site.seen()
        if run["exit"]:
            assert after == before, run["dv"]
        changed = {
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        }
        assert all(path.startswith("work/") for path in changed if not path.startswith("remote"))
        assert not [path for path in changed if path.startswith("work/.git/")], run["dv"]
    assert SECRET not in site.work.git("diff", "--cached", "HEAD").encode()
