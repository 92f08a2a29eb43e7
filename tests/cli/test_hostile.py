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
import subprocess
from collections.abc import Callable, Iterator
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
        if data.is_symlink():
            data.unlink()
        shutil.rmtree(data, ignore_errors=True)
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

    def seen_names(self) -> set[str]:
        """As `seen`, but for content: a pipe or a device has none, or no end."""
        top = self.work.root
        return {
            f"{stat.S_IFMT(path.lstat().st_mode):o} {path.lstat().st_ino} {path.relative_to(top)}"
            for path in top.rglob("*")
            if ".git" not in path.parts
        }


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


@pytest.mark.parametrize(
    "text",
    [
        b'{"dv":1,"kind":"dir","entries":{"a":' + b"[" * 10**7,
        b'{"dv":1,"x":' + b"[" * 10**7 + b"]" * 10**7 + b"}",
        b'{"dv":1,"kind":"dir","entries":{"a":' * 10**5,
        b" " * (65 << 20),
    ],
    ids=["open", "closed", "objects", "too-large"],
)
def test_endless_manifests_are_refused_too(site: Site, text: bytes) -> None:
    (site.work.root / "data.dv.json").write_bytes(text)
    before = site.seen_names()
    for verb in ("status", "pull", "ls"):
        assert "data.dv.json" in told(site.work.dv(verb, code=6))
        assert site.seen_names() == before


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


# --- git at work ----------------------------------------------------------------------------

PLAYED_THROUGH_GIT = (
    "path-dotdot",
    "path-git-hook",
    "path-nul",
    "path-below-a-link",
    "link-outside",
    "size-of-five-thousand-digits",
    "key-with-escape-sequences",
    "path-twice",
    "version-two",
    "json-empty",
    "utf-8-invalid",
    "shard-first-outside",
    "shard-hash-a-path",
)


def git_says(work: Work, *args: str) -> str:
    """Run git with dvtool's hooks and drivers; whether git minds is git's own affair."""
    environment = {key: value for key, value in os.environ.items() if key != "DV_HOOKS_INSTALL"}
    done = subprocess.run(
        ["git", *args], cwd=work.root, env=environment, capture_output=True, check=False
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert "Traceback" not in said
    assert "hunter2" not in said
    return said


@pytest.fixture
def driven(tmp_path: Path) -> Site:
    """A site of its own, with hooks and drivers installed."""
    work = Work(tmp_path / "work")
    work.root.mkdir()
    work.git("init", "-q")
    work.dv("init", "--remote", work.root.parent / "remote")
    site = Site(work)
    work.dv("hooks", "install")
    work.commit("Drivers")
    return site


@pytest.mark.parametrize("name", PLAYED_THROUGH_GIT)
def test_hooks_and_drivers_of_git_do_no_harm(driven: Site, name: str) -> None:
    work = driven.work
    text = (CORPUS / "manifests" / f"{name}.json").read_bytes()
    work.git("checkout", "--quiet", "-b", "evil")
    (work.root / "data.dv.json").write_bytes(text)
    work.git("commit", "--quiet", "--all", "--no-verify", "--message", "evil")
    git_says(work, "checkout", "--quiet", "main")
    work.write("data/b.txt", "ours\n")
    work.dv("add", "data")
    work.commit("ours")
    before = {path: what for path, what in driven.seen().items() if "/.git" not in path}

    said = git_says(work, "merge", "evil")
    assert "CONFLICT" in said or "data.dv.json" in said
    merged = {path: what for path, what in driven.seen().items() if "/.git" not in path}
    changed = {
        path for path in before.keys() | merged.keys() if before.get(path) != merged.get(path)
    }
    assert changed <= {"work/data.dv.json"}
    told(work.dv("status", code=None))
    told(work.dv("resolve", code=None))
    git_says(work, "merge", "--abort")
    git_says(work, "diff", "main", "evil")

    said = git_says(work, "checkout", "evil")
    assert "data.dv.json" in said
    now = {path: what for path, what in driven.seen().items() if "/.git" not in path}
    del now["work/data.dv.json"], before["work/data.dv.json"]
    assert now == before
    git_says(work, "checkout", "main")
    assert "Clean" in work.dv("status").out


# --- what lies in the workspace -------------------------------------------------------------


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def device(path: Path, _: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero has no end
    except PermissionError:
        pytest.skip("only root makes devices")


def folder(path: Path, _: Path) -> None:
    path.mkdir()
    (path / "mine").write_bytes(b"mine")


def link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "secret")


def hard_link(path: Path, outside: Path) -> None:
    os.link(outside / "secret", path)


@pytest.mark.parametrize("what", [pipe, device, folder, link, hard_link])
def test_what_took_the_place_of_a_file_is_neither_read_through_nor_destroyed(
    site: Site, what: Callable[[Path, Path], None]
) -> None:
    site.work.dv("checkout")
    place = site.work.root / "data/a.txt"
    place.unlink()
    what(place, site.outside)
    before = site.seen_names()
    assert "data/a.txt" in told(site.work.dv("status", code=None))
    for verb in ("checkout", "pull"):
        ran = site.work.dv(verb, code=None)
        assert ran.code in (5, 8), verb
        assert "data/a.txt" in told(ran)
        assert site.seen_names() == before, verb
    ran = site.work.dv("add", "data", code=None)
    if what is hard_link:
        assert ran.code == 0
        site.work.dv("checkout", site.base, "--", "data/a.txt")
        assert place.read_bytes() == PAYLOAD
    elif what is not folder:
        assert ran.code == 8
        assert "data/a.txt" in told(ran)
    assert (site.outside / "secret").read_bytes() == SECRET


# --- what lies in the bucket ----------------------------------------------------------------


def replaced(data: bytes) -> bytes:
    return bytes(len(data))


def other_frame(data: bytes) -> bytes:
    """The payload exchanged for other bytes, the guard made anew."""
    return (
        data.replace(b"payload", b"PAYLOAD") if b"payload" in data else data[:9] + b"x" + data[10:]
    )


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def longer(data: bytes) -> bytes:
    return data + b"and more"


def emptied(_: bytes) -> bytes:
    return b""


REMOTE = [
    (kind, change)
    for kind in ("packs", "shards")
    for change in (replaced, other_frame, cut_short, longer, emptied)
]


@pytest.mark.parametrize(("kind", "change"), REMOTE)
def test_what_a_bucket_made_of_an_object_is_not_believed(
    pushed: Work, kind: str, change: Callable[[bytes], bytes]
) -> None:
    remote = pushed.root.parent / "remote"
    paths = [path for path in (remote / kind).rglob("*") if path.is_file()]
    for path in paths:
        path.chmod(0o644)
        path.write_bytes(change(path.read_bytes()))
    clone = pushed.clone()
    ran = clone.dv("pull", code=None)
    if ran.code == 0:  # what was changed is no part of what was asked for
        assert clone.read("data/images/a.txt") == b"content of a.txt"
        return
    assert ran.code in (4, 6, 7)
    assert any(path.name in told(ran) for path in paths)
    assert not list(clone.root.glob("data/*/*"))
    assert not (clone.root / "data/table.csv").exists()


def test_a_manifest_that_lies_about_a_size_writes_nothing(site: Site) -> None:
    text = (site.work.root / "data.dv.json").read_text()
    lied = text.replace('"size": 8', '"size": 9', 1)
    assert lied != text
    site.work.write("data.dv.json", lied)
    site.work.commit("lie")
    shutil.rmtree(site.work.root / "data")
    before = site.seen()
    for verb in ("checkout", "pull"):
        ran = site.work.dv(verb, code=6)
        assert "a.txt" in told(ran)
        assert site.seen() == before
