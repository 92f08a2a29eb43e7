"""Work in a clone that holds only a part of a large target, or nothing of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dvtool import Listed
from dvtool.format import manifest
from dvtool.format.manifest import Entries, build, encode, in_order
from dvtool.remotes.remote import RemoteStore
from dvtool.repo import Repo
from dvtool.store.local import LocalStore
from tests.cli.conftest import Work
from tests.scenario import noise

ENTRIES = 60_000
CONTENTS = 16


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """A target of 60,000 entries, committed and pushed, whose files were never on this disk."""
    work = Work(tmp_path_factory.mktemp("partial") / "work")
    work.root.mkdir()
    work.git("init", "-q")
    work.dv("init", "--remote", work.root.parent / "remote")
    for number in range(CONTENTS):
        work.write(f"data/x/{number}", f"tiny {number}")
    work.dv("add", "data/x")
    with Repo.open(str(work.root)) as repo:
        few = repo._project.entries(repo._project.manifest("data/x"))
        entries: Entries = {
            f"{number % 50:02}/file-{number:05}.txt": few[f"{number % CONTENTS}"]
            for number in range(ENTRIES)
        }
        built = build("dir", in_order(entries))
        repo._project.store.put_shards(built.shards)
    shutil.rmtree(work.root / "data/x")
    work.write("data/x.dv.json", encode(built.manifest))
    work.commit()
    work.dv("push")
    return work


class Counted:
    """Which shards were read from the store, and which fetched from the remote."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.loaded: set[bytes] = set()
        self.fetched: set[bytes] = set()
        shard_text, read_shard = LocalStore.shard_text, RemoteStore.read_shard_as

        def counted_text(store: LocalStore, digest: bytes) -> bytes:
            text = shard_text(store, digest)
            self.loaded.add(digest)
            return text

        def counted_read(remote: RemoteStore, digest, decode):  # type: ignore[no-untyped-def]
            self.fetched.add(digest)
            return read_shard(remote, digest, decode)

        patch.setattr(LocalStore, "shard_text", counted_text)
        patch.setattr(RemoteStore, "read_shard_as", counted_read)

    def take(self) -> tuple[int, int]:
        found = len(self.loaded), len(self.fetched)
        self.loaded.clear()
        self.fetched.clear()
        return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def clone(origin: Work, tmp_path: Path) -> Work:
    """A clone with no data and no shards."""
    origin.git("clone", "-q", str(origin.root), str(tmp_path / "clone"))
    work = Work(tmp_path / "clone")
    work.dv("remote", "add", "origin", origin.root.parent / "remote")
    return work


def _entry(work: Work, path: str) -> Listed | None:
    with Repo.open(str(work.root)) as repo:
        found = list(repo.ls([str(work.root / path)]))
        return found[0] if found else None


def _files(work: Work) -> int:
    with Repo.open(str(work.root)) as repo:
        return repo._project.manifest("data/x").files


def test_add_replace_and_remove_touch_few_shards(clone: Work, counted: Counted) -> None:
    clone.write("data/x/07/new.txt", "new")
    assert "1 added" in clone.dv("add", "data/x/07/new.txt").out
    assert max(counted.take()) <= 3
    clone.write("data/x/20/file-00020.txt", "replaced")
    assert "1 modified" in clone.dv("add", "data/x/20/file-00020.txt").out
    assert max(counted.take()) <= 3
    clone.dv("rm", "data/x/33/file-00033.txt")
    assert max(counted.take()) <= 3
    clone.dv("mv", "data/x/41/file-00041.txt", "data/x/41/moved.txt")
    assert max(counted.take()) <= 3
    clone.write("data/x/zz/deep/er.txt", "deep")
    clone.dv("add", "data/x/zz")
    assert max(counted.take()) <= 3
    assert _files(clone) == ENTRIES + 1
    counted.take()
    clone.commit()
    pushed = clone.dv("push", "--json").json["pushes"][0]
    assert pushed["bytes"] < 600_000  # five shard objects of some 4,096 lines, and a small pack
    assert pushed["packs"] <= 4
    other = clone.clone("other", remote=False)
    other.dv("remote", "add", "origin", _remote(clone))
    other.dv("pull", "--", "data/x/20", "data/x/07/new.txt", "data/x/41/moved.txt")
    assert other.read("data/x/20/file-00020.txt") == b"replaced"
    assert other.read("data/x/20/file-00070.txt") == b"tiny 6"
    assert other.read("data/x/41/moved.txt") == b"tiny 9"


def _remote(clone: Work) -> str:
    return clone.git("config", "dv.remote.origin.url")


def test_adding_the_whole_reads_only_what_the_disk_concerns(clone: Work, counted: Counted) -> None:
    clone.dv("pull", "--", "data/x/20")
    counted.take()
    (clone.root / "data/x/20/file-00020.txt").unlink()
    clone.write("data/x/20/new.txt", "new")
    ran = clone.dv("add", "data/x")
    assert "1 added, 1 removed" in ran.out
    assert max(counted.take()) <= 4
    assert _files(clone) == ENTRIES
    assert clone.dv("status", "--json").json["targets"][0]["deleted"] == []


def test_a_part_is_pulled_checked_out_and_listed(clone: Work, counted: Counted) -> None:
    clone.dv("pull", "--", "data/x/20/file-00020.txt")
    assert counted.take()[1] <= 2
    clone.write("data/x/20/file-00020.txt", "changed")
    status = clone.dv("status", "--json", "data/x/20").json["targets"][0]
    assert status["modified"] == ["20/file-00020.txt"]
    assert len(status["absent"]) == ENTRIES // 50 - 1
    assert status["deleted"] == []
    clone.dv("checkout", "--force", "--", "data/x/20/file-00020.txt")
    assert clone.read("data/x/20/file-00020.txt") == b"tiny 4"
    assert len(clone.dv("ls", "data/x/31").lines) == ENTRIES // 50
    assert counted.take()[1] <= 4
    assert clone.dv("cat", "data/x/02/file-00002.txt").out == "tiny 2"


def test_status_and_diff_of_the_whole_fetch_its_lists(clone: Work) -> None:
    status = clone.dv("status", "--json").json["targets"][0]
    assert (len(status["absent"]), status["clean"]) == (ENTRIES, True)
    assert clone.dv("diff", "--json").json["targets"] == []


def test_diff_of_commits_fetches_only_what_differs(clone: Work, counted: Counted) -> None:
    clone.write("data/x/07/new.txt", "new")
    clone.dv("add", "data/x/07/new.txt")
    clone.commit()
    clone.dv("push")
    other = clone.clone("other", remote=False)
    other.dv("remote", "add", "origin", _remote(clone))
    counted.take()
    assert "data/x" in other.dv("diff", "HEAD~1", "HEAD").out
    assert counted.take()[1] == 2
    assert "1 added" in other.dv("log", "data/x").out


def test_log_asks_no_remote(clone: Work, counted: Counted) -> None:
    assert "60,000 files" in clone.dv("log", "data/x").out
    assert counted.take() == (0, 0)


def test_offline_says_what_is_missing(clone: Work, tmp_path: Path) -> None:
    clone.git("config", "dv.remote.origin.url", str(tmp_path / "unplugged"))
    clone.write("data/x/07/new.txt", "new")
    for args in (("add", "data/x/07/new.txt"), ("ls",), ("status",), ("rm", "data/x/07")):
        ran = clone.dv(*args, code=4)
        assert "shards of large manifests" in ran.err
        assert "unplugged" in ran.err
    assert clone.git("status", "--porcelain") == ""
    clone.dv("remote", "remove", "origin")
    assert "dv remote add" in clone.dv("ls", code=4).err
    assert "dv fetch" in clone.dv("checkout", "--no-fetch", code=4).err


def test_absent_files_are_moved_and_removed(clone: Work) -> None:
    clone.dv("mv", "data/x/20", "data/x/moved")
    clone.dv("rm", "data/x/21")
    assert _files(clone) == ENTRIES - ENTRIES // 50
    assert not (clone.root / "data/x").exists()
    clone.dv("pull", "--", "data/x/moved/file-00020.txt")
    assert clone.read("data/x/moved/file-00020.txt") == b"tiny 4"


def test_drop_a_part_of_a_large_target(clone: Work, counted: Counted) -> None:
    clone.dv("pull", "--", "data/x/20", "data/x/21")
    counted.take()
    found = clone.dv("drop", "--json", "data/x/20").json
    assert found["targets"][0]["files"] == ENTRIES // 50
    assert not (clone.root / "data/x/20").exists()
    assert (clone.root / "data/x/21/file-00021.txt").exists()
    assert max(counted.take()) <= 6
    clone.dv("pull", "--", "data/x/20")
    assert len(list((clone.root / "data/x/20").iterdir())) == ENTRIES // 50


def test_a_file_replaces_absent_ones_below_it(clone: Work) -> None:
    clone.write("data/x/20", "a file where the others have a folder")
    ran = clone.dv("add", "data/x/20")
    assert f"1 added, {ENTRIES // 50:,} removed" in ran.out
    clone.dv("rm", "data/x/20")
    (clone.root / "data/x/20").unlink()
    clone.write("data/x/21/file-00021.txt/below", "a folder where the others have a file")
    assert "1 added, 1 removed" in clone.dv("add", "data/x/21/file-00021.txt/below").out


def test_changes_in_a_clone_that_fetched_nothing(pushed: Work) -> None:
    """Where the unchanged content lies, only the pushed version of the manifest can say."""
    clone = pushed.clone()
    clone.write("data/images/new.txt", "new")
    clone.dv("add", "data/images")
    clone.dv("pull", "--", "data/images/a.txt")
    assert clone.read("data/images/a.txt") == b"content of a.txt"
    other = pushed.clone("other")
    for name in ("new.txt", "newer.txt"):
        other.write(f"data/images/{name}", name)
        other.dv("add", "data/images")
        other.commit()
    assert other.dv("push", "--json").json["pushes"][0]["bytes"] < 5_000
    third = other.clone("third", remote=False)
    third.dv("remote", "add", "origin", pushed.root.parent / "remote")
    third.dv("pull")
    assert third.read("data/images/sub/c.txt") == b"content of sub/c.txt"


def test_a_small_target_of_which_a_part_is_here(pushed: Work) -> None:
    clone = pushed.clone()
    clone.dv("pull", "--", "data/images/sub")
    clone.write("data/images/new.txt", "new")
    clone.dv("add", "data/images")
    clone.dv("rm", "data/images/a.txt")
    clone.commit()
    assert clone.dv("status", "--json").json["targets"][0]["absent"] == ["b.txt"]
    clone.dv("push")
    other = clone.clone("other", remote=False)
    other.dv("remote", "add", "origin", pushed.root.parent / "remote")
    other.dv("pull")
    names = sorted(path.name for path in (other.root / "data/images").iterdir())
    assert names == ["b.txt", "new.txt", "sub"]


def test_an_empty_folder_takes_no_absent_files_out_of_a_manifest(pushed: Work) -> None:
    clone = pushed.clone()
    clone.dv("pull", "data/images/a.txt")
    (clone.root / "data/images/sub").mkdir()
    (clone.root / "data/images/new").mkdir()
    (state,) = clone.dv("status", "--json", "data/images").json["targets"]
    assert state["added"] == ["new"]
    assert state["absent"] == ["b.txt", "sub/c.txt"]
    assert clone.dv("diff", "--stat", "data/images").out == "data/images: 1 added (±0 B)\n"
    clone.dv("add", "data/images")
    clone.dv("add", "data/images/sub")
    assert '"sub/c.txt"' in clone.read("data/images.dv.json").decode()
    assert '"new": {"dir": true}' in clone.read("data/images.dv.json").decode()
    assert '"sub": {' not in clone.read("data/images.dv.json").decode()
    assert (clone.root / "data/images/sub").is_dir()
    clone.dv("pull")
    assert clone.read("data/images/sub/c.txt") == b"content of sub/c.txt"
    # What was here and is deleted leaves its folder behind, empty.
    (clone.root / "data/images/sub/c.txt").unlink()
    clone.dv("add", "data/images")
    assert '"sub": {"dir": true}' in clone.read("data/images.dv.json").decode()


def test_what_was_fetched_in_parts_needs_no_index_to_be_found(work: Work) -> None:
    for name in ("one", "two"):
        work.write(f"d/{name}", noise(300_000, ord(name[0])))
    work.dv("add", "d")
    work.commit()
    work.dv("push")
    clone = work.clone()
    clone.dv("fetch", "d/one")  # less than would make it worth to read the whole pack
    for path in (clone.root / ".git/dv").glob("store.db*"):
        path.unlink()
    shutil.rmtree(work.root.parent / "remote")
    clone.dv("checkout", "--no-fetch", "--", "d/one")
    assert clone.read("d/one") == noise(300_000, ord("o"))


def test_what_is_not_here_is_not_taken_for_stored(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "SHARD_ENTRIES_AVERAGE", 8)
    monkeypatch.setattr(manifest, "INLINE_ENTRIES_MAX", 20)
    for number in range(60):
        work.write(f"data/{number:03}", f"content {number}")
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    clone = work.clone()
    with Repo.open(str(work.root)) as repo:
        shard = repo._project.manifest("data").shards[2]
        paths = list(repo._project.store.load_shard(shard))
    clone.dv("pull", "--", *(f"data/{path}" for path in paths))
    clone.write(f"data/{paths[1]}", "changed")
    clone.dv("add", "data")
    with Repo.open(str(clone.root)) as repo:
        refs = repo._project.manifest("data").shards
        here = {ref.digest for ref in refs if repo._project.store.has_shard(ref.digest)}
        assert 0 < len(here) < len(refs)
        assert repo._project.store.db.held_shards(ref.digest for ref in refs) <= here
