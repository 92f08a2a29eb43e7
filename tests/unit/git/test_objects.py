"""Reading what git stores."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path

import pytest

from dvtool.errors import CorruptError, DvError, MissingError
from dvtool.git import Git
from tests.unit.git.conftest import commit, run


def test_read_blobs(git: Git, top: Path) -> None:
    bodies = [b"", b"\n", b"no newline", bytes(range(256)) * 4096, b"a\0b\n"]
    ids = [run(top, "hash-object", "-w", "--stdin", stdin=body) for body in bodies]
    assert list(git.read_blobs(ids)) == bodies
    git.close()
    assert git.read_blob(ids[2]) == bodies[2]


def test_read_blob_refuses_and_goes_on(git: Git, top: Path) -> None:
    first = commit(top, {"a": "content"})
    blob = run(top, "rev-parse", "HEAD:a")
    with pytest.raises(MissingError, match="git has no object"):
        git.read_blob("f" * 40)
    with pytest.raises(CorruptError, match="commit of"):
        git.read_blob(first)
    with pytest.raises(CorruptError, match="7 bytes"):
        git.read_blob(blob, size_max=6)
    for bad in ("HEAD:a", f"{blob}\n{blob}", "", blob[:8]):
        with pytest.raises(ValueError, match="object id"):
            git.read_blob(bad)
    assert git.read_blob(blob, size_max=7) == b"content"


def test_read_blob_of_a_damaged_repository(git: Git, top: Path) -> None:
    commit(top, {"a": "content", "b": "fine"})
    blob, fine = run(top, "rev-parse", "HEAD:a"), run(top, "rev-parse", "HEAD:b")
    path = top / ".git" / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.write_bytes(b"rubbish")
    with pytest.raises(DvError):
        git.read_blob(blob)
    assert git.read_blob(fine) == b"fine"


def test_read_blob_from_several_threads(git: Git, top: Path) -> None:
    bodies = [b"%d" % n * (n + 1) for n in range(40)]
    ids = [run(top, "hash-object", "-w", "--stdin", stdin=body) for body in bodies]
    failures: list[int] = []

    def read_all() -> None:
        failures.extend(n for n in range(40) if git.read_blob(ids[n]) != bodies[n])

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_many_damaged_objects_do_not_fill_the_pipe_of_git(top: Path) -> None:
    """Of each git says some 130 bytes on its standard error; a pipe holds 64 KiB."""
    git = Git.discover(str(top))  # left open if it hangs, for closing would wait too
    good = run(top, "hash-object", "-w", "--stdin", stdin=b"good")
    names = [f"{number:08x}" + "0" * 32 for number in range(0, 1_000 << 16, 1 << 16)]
    for name in names:
        path = top / ".git/objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged")
    missing: list[str] = []

    def read() -> None:
        for name in names:
            with pytest.raises(MissingError):
                git.read_blob(name)
            missing.append(name)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(60)
    assert missing == names
    assert git.read_blob(good) == b"good"
    git.close()


def test_close_does_not_wait_for_a_process_that_holds_the_pipe(git: Git, top: Path) -> None:
    blob = run(top, "hash-object", "-w", "--stdin", stdin=b"x")
    git.read_blob(blob)
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():  # newer Pythons warn of threads, which the test runner has
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # holds a copy of every pipe until it is told to go
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    git.close()
    os.close(read_end)
    os.close(write_end)
    os.waitpid(child, 0)


def test_a_git_that_nobody_closed(top: Path) -> None:
    blob = run(top, "hash-object", "-w", "--stdin", stdin=b"x")
    git = Git.discover(str(top))
    assert git.read_blob(blob) == b"x"
    del git  # no ResourceWarning, which would fail this test


def test_blobs_at_and_sizes(git: Git, top: Path) -> None:
    first = commit(top, {"d/a": "one", "b": "four", "ü": ""})
    run(top, "rm", "-q", "b")
    commit(top, {"d/a": "other"})
    found = git.blobs_at(first, ["d/a", "d", "ü", "gone"])
    assert {path: git.read_blob(blob) for path, blob in found.items()} == {"d/a": b"one", "ü": b""}
    assert git.blobs_at("HEAD", ["b"]) == git.blobs_at("HEAD", []) == {}
    sizes = git.object_sizes([*found.values(), "f" * 40])
    assert sizes == {found["d/a"]: 3, found["ü"]: 0}


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_is_blob(tmp_path: Path, form: str) -> None:
    run(tmp_path, "init", "-q", f"--object-format={form}", "repo")
    blob = run(tmp_path / "repo", "hash-object", "--stdin", stdin=b"text")
    assert Git.is_blob(blob, b"text")
    assert not Git.is_blob(blob, b"other")
