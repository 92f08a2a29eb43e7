"""One store for several clones: what one of them frees, the others must not need."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dvtool.store import lock
from dvtool.store.clones import FOLDER, ID_FILE, notes
from tests.cli.conftest import Work
from tests.scenario import noise

DATA = noise(300_000, 1)


def new(root: Path, store: Path | str) -> Work:
    root.mkdir()
    work = Work(root)
    work.git("init", "-q", "-b", "main")
    work.dv("init", "--remote", root.parent / f"remote-{root.name}")
    if store:
        work.dv("config", "store.path", store)
    return work


def abandon(work: Work) -> None:
    """Push the data, then have git forget the commit."""
    work.write("data/set.bin", DATA)
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    work.write("data/set.bin", "none")
    work.dv("add", "data")
    work.git("add", "-A")
    work.git("commit", "-q", "--amend", "-m", "again")
    work.git("reflog", "expire", "--expire=now", "--all")
    (work.root / ".git/ORIG_HEAD").unlink(missing_ok=True)
    work.git("gc", "-q", "--prune=now")


def needs(work: Work) -> None:
    """Commit the data, and then a version without; nothing is pushed."""
    work.write("data/set.bin", DATA)
    work.dv("add", "data")
    work.commit()
    (work.root / "data/set.bin").unlink()
    work.write("data/notes", "notes")
    work.dv("add", "data")
    work.commit()


def has_it(work: Work) -> bool:
    return work.dv("cat", "--rev", "HEAD~1", "data/set.bin", code=None).raw == DATA


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "shared/dv"


@pytest.fixture
def alice(tmp_path: Path, store: Path) -> Work:
    return new(tmp_path / "alice", store)


@pytest.fixture
def bob(tmp_path: Path, store: Path) -> Work:
    bob = new(tmp_path / "bob", store)
    needs(bob)
    return bob


def free(work: Work, how: str, *, code: int = 0) -> str:
    if how == "drop":
        work.write("data/set.bin", DATA)
        work.dv("add", "data")
        work.commit()
        work.dv("push")
        return work.dv("drop", "data", code=code).err
    abandon(work)
    if how == "used":
        work.dv("config", "store.keep", "unpushed")
    options = ("--unpushed", "--grace", "0d") if how == "unpushed" else ()
    return work.dv("gc", *options, code=code).err


WAYS = ("drop", "gc", "unpushed", "used")


@pytest.mark.parametrize("how", WAYS)
def test_what_another_clone_needs_stays(alice: Work, bob: Work, how: str) -> None:
    free(alice, how)
    assert has_it(bob)
    bob.dv("push", "--all")
    shutil.rmtree(bob.root.parent / "shared")
    (bob.root.parent / "shared/dv/packs").mkdir(parents=True)  # as the refusal of a store says
    bob.dv("fetch", "HEAD~1")
    assert has_it(bob)


@pytest.mark.parametrize("how", WAYS)
def test_what_no_other_clone_needs_goes(alice: Work, store: Path, how: str) -> None:
    before = free(alice, how)
    assert "nothing was freed" not in before
    left = sum(path.stat().st_size for path in (store / "packs").rglob("*") if path.is_file())
    assert left < 10_000


@pytest.mark.parametrize("how", WAYS)
def test_nothing_goes_while_a_clone_cannot_be_read(
    alice: Work, bob: Work, store: Path, how: str
) -> None:
    """It may be on a disk that is not mounted; only a user can know that it is gone."""
    bob.root.rename(bob.root.parent / "away")
    said = free(alice, how, code=3)
    assert str(bob.root / ".git") in said
    assert "nothing was freed" in said
    rm = said.partition("rm ")[2].split()[0]
    (bob.root.parent / "away").rename(bob.root)
    assert has_it(bob)
    shutil.rmtree(bob.root)
    Path(rm).unlink()
    if how == "drop":
        alice.dv("drop", "data")
    else:
        alice.dv("gc", *(("--unpushed", "--grace", "0d") if how == "unpushed" else ()))
    left = sum(path.stat().st_size for path in (store / "packs").rglob("*") if path.is_file())
    assert left < 10_000


def test_a_clone_that_only_reads_counts_too(alice: Work, bob: Work, store: Path) -> None:
    """What it needs came from elsewhere; whoever put it there is gone."""
    reader = Work(bob.root.parent / "reader")
    bob.git("clone", "-q", str(bob.root), str(reader.root))
    reader.dv("config", "store.path", store)
    assert has_it(reader)
    for note, known in notes(str(store)):
        if known.git_dir == str(bob.root / ".git"):
            Path(note).unlink()
    shutil.rmtree(bob.root)
    free(alice, "gc")
    assert has_it(reader)


def test_another_repository_in_its_place_is_not_taken_for_it(alice: Work, bob: Work) -> None:
    """As on another machine, where a path leads to something else."""
    (bob.root / ".git" / ID_FILE).write_text("0" * 32 + "\n")
    assert "nothing was freed" in free(alice, "gc", code=3)


def test_a_copied_clone_is_another_one(alice: Work, bob: Work) -> None:
    copy = Work(bob.root.parent / "copy")
    shutil.copytree(bob.root, copy.root, symlinks=True)
    copy.git("reset", "-q", "--hard", "HEAD~1")
    copy.dv("checkout")
    bob.git("checkout", "-q", "--orphan", "new")
    bob.git("branch", "-q", "-D", "main")
    bob.git("reflog", "expire", "--expire=now", "--all")
    free(alice, "gc")
    assert copy.dv("cat", "data/set.bin").raw == DATA


@pytest.mark.parametrize("freeing", ["owner", "guest"])
def test_a_store_in_a_repository_that_another_one_uses(tmp_path: Path, freeing: str) -> None:
    owner = new(tmp_path / "owner", "")
    guest = new(tmp_path / "guest", owner.root / ".git/dv")
    one, other = (owner, guest) if freeing == "owner" else (guest, owner)
    needs(other)
    free(one, "gc")
    assert has_it(other)


def test_a_clone_at_work_keeps_others_from_freeing(
    alice: Work, bob: Work, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest comes last: until then nobody can know what it needs."""
    abandon(alice)
    monkeypatch.setattr(lock, "STORE_LOCK_WAIT_S", 0.1)
    with lock.used(str(store), alone=False):
        alice.dv("gc", code=9)
        bob.write("data/more", "more")
        bob.dv("add", "data")  # who adds does not wait for whoever else does
    with lock.used(str(store), alone=True):
        assert "at work in the store" in bob.dv("add", "data", code=9).err
    alice.dv("gc")


def test_a_note_that_cannot_be_read_frees_nothing(alice: Work, bob: Work, store: Path) -> None:
    for path in (store / FOLDER).iterdir():
        path.write_bytes(b"?")
    assert "cannot be read" in free(alice, "gc", code=6)
    assert has_it(bob)


def test_a_store_of_ones_own_has_no_notes_and_no_lock(work: Work) -> None:
    work.write("data/f", "x")
    work.dv("add", "data")
    names = {path.name for path in (work.root / ".git/dv").iterdir()}
    assert names.isdisjoint({FOLDER, "use.lock"})
