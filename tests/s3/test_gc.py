"""gc of a remote, on every kind of remote: real buckets and a folder, whole repositories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dvtool.errors import BusyError, CorruptError, SetupError, UsageError
from dvtool.format.digest import Digest
from dvtool.format.locations import RemotePack
from dvtool.format.pack import Placement
from dvtool.format.ranges import PackRange
from dvtool.remotes import repack as moving
from dvtool.remotes.objects import pack_key, shard_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import Tombstones
from dvtool.system.progress import Progress
from dvtool.verbs.gc.remote import RemoteGcResult
from tests.scenario import Clone, Remote, noise


@pytest.fixture
def mine(tmp_path: Path, remote: Remote) -> Clone:
    return Clone.new(tmp_path / "mine", remote)


def version(clone: Clone, **files: bytes) -> str:
    """Write, add, commit and push files of the target `data`."""
    for name, data in files.items():
        clone.write(f"data/{name}", data)
    clone.add("data")
    commit = clone.commit("version")
    with clone.repo() as repo:
        repo.push()
    return commit


def keys(clone: Clone, top: str = "") -> set[str]:
    with clone.repo() as repo:
        return {info.key for info in repo.config.open_remote().backend.list(top)}


def gc(clone: Clone, grace_s: float = 0, **options: bool) -> RemoteGcResult:
    with clone.repo() as repo:
        return repo.remotes.gc(grace_s=grace_s, **options)


def pulled(mine: Clone, remote: Remote, place: Path, commit: str) -> dict[str, str]:
    """Return what a fresh clone gets of a commit."""
    other = mine.clone(place, remote)
    with other.repo() as repo:
        repo.checkout(commit)
    return other.tree("data")


def forget(clone: Clone) -> None:
    clone.git("reflog", "expire", "--expire=now", "--all")
    for name in ("ORIG_HEAD",):
        (clone.path / ".git" / name).unlink(missing_ok=True)
    clone.git("gc", "-q", "--prune=now")


@pytest.fixture
def stray(mine: Clone) -> tuple[str, str]:
    """A pushed version, and a pack and a shard beside it that no root names; return their keys."""
    version(mine, a=noise(200_000, 1))
    mine.write("other/b", noise(100_000, 2))
    mine.add("other")
    with mine.repo() as repo:
        store = repo._project.store
        there = {info.key for info in repo.config.open_remote().backend.list("packs/")}
        (pack,) = [p for p in store.db.packs().values() if pack_key(p.digest) not in there]
        remote = repo.config.open_remote()
        with open(store.pack_path(pack.digest), "rb") as file:
            remote.put_pack(pack.digest, file)
        remote.put_shard(b"\x07" * 32, b"no shard at all")
    return pack_key(pack.digest), shard_key(b"\x07" * 32)


def test_what_no_root_names_goes_in_two_steps(
    mine: Clone, stray: tuple[str, str], remote: Remote, tmp_path: Path
) -> None:
    before = keys(mine)
    dry = gc(mine, dry_run=True)
    assert {info.key for info in dry.plan.dead} == set(stray)
    assert keys(mine) == before
    assert not gc(mine, grace_s=3600).swept
    assert set(stray) < keys(mine)
    (tomb,) = keys(mine, "gc/")
    assert tomb.startswith("gc/tombstones/")
    again = gc(mine, grace_s=3600)  # too young, and buried already
    assert (len(again.waiting), again.plan.empty) == (1, True)
    assert keys(mine, "gc/") == {tomb}
    done = gc(mine)
    assert done.swept[0].removed == 2
    assert done.removed_bytes > 100_000
    assert keys(mine) == before - set(stray)
    assert gc(mine).plan.empty
    with mine.repo() as repo:
        assert not repo.push().pushed.changed
    assert pulled(mine, remote, tmp_path / "theirs", "HEAD") == mine.tree("data")


def test_undo(mine: Clone, stray: tuple[str, str]) -> None:
    before = keys(mine)
    gc(mine, grace_s=3600)
    with mine.repo() as repo:
        assert repo.remotes.undo_gc() == 1
        assert repo.remotes.undo_gc() == 0
    assert keys(mine) == before


def test_undo_is_refused_once_a_sweep_has_begun(mine: Clone, stray: tuple[str, str]) -> None:
    gc(mine, grace_s=3600)
    with mine.repo() as repo:
        tombstones = Tombstones(repo.config.open_remote())
        (name,) = tombstones.look().tombstones
        tombstones.begin_sweep(name)
        with pytest.raises(BusyError):
            repo.remotes.undo_gc()
    assert set(stray) < keys(mine)
    # Another gc finishes what the interrupted one began; its mark is believed for some time.
    assert gc(mine).swept[0].removed == 2


def test_a_push_takes_back_what_was_buried(
    mine: Clone, stray: tuple[str, str], remote: Remote, tmp_path: Path
) -> None:
    gc(mine, grace_s=3600)
    commit = mine.commit("the other too")
    with mine.repo() as repo:
        repo.push()
    done = gc(mine)
    assert done.swept[0].spared == 1  # the pack; its shard object is another
    assert stray[0] in keys(mine)
    assert mine.git("status", "--porcelain") == ""
    other = mine.clone(tmp_path / "theirs", remote)
    with other.repo() as repo:
        repo.checkout(commit)
    assert other.tree("other") == mine.tree("other")


class Told(Progress):
    """Remembers the phases that it was told of: name, bytes in all, bytes done."""

    def __init__(self) -> None:
        self.phases: list[list[object]] = []

    def start(self, what: str, *, total_bytes: int | None = None) -> None:
        self.phases.append([what, total_bytes, 0])

    def advance(self, size: int) -> None:
        self.phases[-1][2] += size  # type: ignore[operator]


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_packs_are_moved_in_groups_that_fit_into_the_memory(
    mine: Clone, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = [version(mine, **{f"f{n}": noise(70_000, n)}) for n in range(12)]
    monkeypatch.setattr(moving, "CHUNKS_AT_ONCE", 20)
    monkeypatch.setattr(moving, "SHARDS_AT_ONCE", 2)
    told = Told()
    with mine.repo() as repo:
        repo._project.progress = told
        done = repo.remotes.gc(grace_s=0)
        assert done.moved.packs == len([one for one in told.phases if one[0] == "moving"])
        assert 2 < done.moved.packs <= 6, "merged, however many versions name the same"
        repo.remotes.gc(grace_s=0)
    assert {one[0] for one in told.phases} == {"reading shards", "moving", "removing"}
    assert all(total == size for what, total, size in told.phases if what != "reading shards")
    assert all(size for what, _, size in told.phases if what == "reading shards")
    assert len(keys(mine, "packs/")) == done.moved.packs
    for number in (0, 5, 11):
        got = pulled(mine, remote, tmp_path / f"theirs {number}", commits[number])
        assert len(got) == number + 1
        assert got.items() <= mine.tree("data").items()
    with mine.repo() as repo:
        assert repo.fsck(remote="origin", deep=True).clean


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_groups_are_counted_over_all_lists_of_files(
    mine: Clone, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in one pack may be needed by many lists, of each of which it has a few chunks."""
    targets = ["a", "b", "c"]
    for number in range(10):
        for at, target in enumerate(targets):
            for file in range(4):
                mine.write(f"{target}/{file}", noise(50_000, number * 100 + at * 10 + file))
        mine.add(*targets)
        mine.commit("version")
        with mine.repo() as repo:
            repo.push()
    monkeypatch.setattr(moving, "CHUNKS_AT_ONCE", 24)
    held: list[int] = []
    real = moving.ranges_of

    def counted(wanted: Mapping[RemotePack, Mapping[Digest, Placement]]) -> list[PackRange]:
        held.append(sum(len(places) for places in wanted.values()))
        return real(wanted)

    monkeypatch.setattr(moving, "ranges_of", counted)
    moved = len(gc(mine).plan.move)
    assert sum(held) == 10 * len(targets) * 4
    assert max(held) <= 24
    assert len(held) < moved, "several packs at a time all the same"


def test_small_packs_and_roots_are_merged(mine: Clone, remote: Remote, tmp_path: Path) -> None:
    commits = [version(mine, **{f"f{n}": noise(70_000, n)}) for n in range(12)]
    assert len(keys(mine, "packs/")) == 12
    assert len(keys(mine, "roots/")) == 12
    done = gc(mine)
    assert (len(done.plan.move), len(done.plan.replace), done.moved.packs) == (12, 12, 1)
    assert len(keys(mine, "packs/")) == 13
    with mine.repo() as repo:
        assert not repo.push().pushed.changed  # the old roots do not count, the new one does
    gc(mine)
    assert len(keys(mine, "packs/")) == 1
    assert len(keys(mine, "roots/")) == 1
    with mine.repo() as repo:
        assert not repo.push().pushed.changed
    for commit in (commits[0], commits[7], commits[-1]):
        got = pulled(mine, remote, tmp_path / commit, commit)
        assert len(got) == commits.index(commit) + 1
    assert gc(mine).plan.empty
    version(mine, f0=b"changed")


def test_a_pack_that_is_mostly_dead_is_rewritten(
    mine: Clone, remote: Remote, tmp_path: Path
) -> None:
    version(mine, a=noise(30_000, 1), b=noise(300_000, 2))
    mine.git("checkout", "-q", "--orphan", "fresh")
    (mine.path / "data/b").unlink()
    version(mine)
    mine.git("branch", "-q", "-D", "main")
    forget(mine)
    (old,) = keys(mine, "packs/")
    done = gc(mine, expire=True)
    assert [one.target for one in done.plan.expired] == ["data"]
    gc(mine, expire=True)
    gc(mine, expire=True)
    gc(mine, expire=True)
    (new,) = keys(mine, "packs/")
    assert new != old
    with mine.repo() as repo:
        size = repo.config.open_remote().backend.head(new)
    assert size is not None
    assert size.size < 40_000
    assert pulled(mine, remote, tmp_path / "theirs", "HEAD") == mine.tree("data")


def test_nothing_that_a_root_names_goes_unless_asked(
    mine: Clone, remote: Remote, tmp_path: Path
) -> None:
    version(mine, a=b"one")
    old = version(mine, a=noise(100_000, 2))
    mine.git("tag", "old")
    mine.git("reset", "-q", "--hard", "HEAD~1")
    assert gc(mine).plan.empty
    assert gc(mine, expire=True).plan.empty  # a tag names it
    mine.git("tag", "-d", "old")
    assert gc(mine, expire=True).plan.empty  # the reflog does
    forget(mine)
    assert gc(mine).plan.empty
    assert gc(mine, grace_s=3600, expire=True).plan.empty  # pushed a moment ago
    done = gc(mine, expire=True)
    assert len(done.plan.expired) == 1
    assert len(done.plan.dead) == 2
    assert old
    gc(mine, expire=True)
    assert len(keys(mine, "packs/")) == 1
    with mine.repo() as repo:
        assert not repo.push().pushed.changed
    with mine.repo() as repo:
        repo.checkout()
    assert (mine.path / "data/a").read_bytes() == b"one"
    assert pulled(mine, remote, tmp_path / "theirs", "HEAD") == mine.tree("data")


def test_expire_spares_what_is_needed_again(mine: Clone, remote: Remote, tmp_path: Path) -> None:
    version(mine, a=b"one")
    old = version(mine, a=noise(100_000, 2))
    bundle = tmp_path / "bundle"
    mine.git("bundle", "create", "-q", str(bundle), "HEAD")
    mine.git("reset", "-q", "--hard", "HEAD~1")
    forget(mine)
    assert gc(mine, expire=True).plan.expired
    # A gc that does not look at commits cannot tell, and leaves it alone.
    assert gc(mine).warnings
    mine.git("fetch", "-q", str(bundle), "HEAD")
    mine.git("branch", "-q", "again", old)
    swept = gc(mine, expire=True).swept[0]
    # Of two roots the one whose manifest stands in the new root goes; the other stays, with all
    # that it needs.
    assert (swept.removed, swept.spared) == (1, 3)
    with mine.repo() as repo:
        repo.push(revs=["again"])
    mine.git("checkout", "-q", old)
    with mine.repo() as repo:
        repo.checkout()
    assert pulled(mine, remote, tmp_path / "theirs", old) == mine.tree("data")


def test_expire_needs_to_know_all_commits(mine: Clone, remote: Remote, tmp_path: Path) -> None:
    version(mine, a=b"one")
    origin = tmp_path / "origin.git"
    mine.git("clone", "-q", "--bare", str(mine.path), str(origin))
    mine.git("remote", "add", "origin", str(origin))
    mine.git("fetch", "-q", "origin")
    assert gc(mine, expire=True).plan.empty
    other = Clone(tmp_path / "other")
    other.path.mkdir()
    mine.git("clone", "-q", str(origin), str(other.path))
    other.write("code.py", b"pass")
    other.git("add", "code.py")
    other.commit("code")
    other.git("push", "-q", "origin", "HEAD:refs/heads/side")
    with pytest.raises(SetupError, match="origin refs/heads/side"):
        gc(mine, expire=True)
    mine.git("fetch", "-q", "origin")
    gc(mine, expire=True)
    shallow = tmp_path / "shallow"
    mine.git("clone", "-q", "--depth", "1", f"file://{origin}", str(shallow))
    with Clone(shallow, remote).repo() as repo:
        repo.config.trust_first_use()
    with pytest.raises(SetupError, match="shallow"):
        gc(Clone(shallow, remote), expire=True)


@pytest.fixture
def gone(mine: Clone, remote: Remote, tmp_path: Path) -> Iterator[str]:
    """Another repository on the same remote; return its id."""
    version(mine, a=noise(50_000, 1), both=noise(60_000, 3))
    other = Clone.new(tmp_path / "gone", remote)
    version(other, b=noise(70_000, 2), both=noise(60_000, 3))
    yield other.git("config", "--file", ".dvconfig", "core.repoid")


def test_roots_lists_repositories_and_retires_one(
    mine: Clone, gone: str, remote: Remote, tmp_path: Path
) -> None:
    with mine.repo() as repo:
        there = {one.repo: one for one in repo.remotes.roots()}
        assert len(there) == 2
        assert there[gone].manifests == 1
        assert there[gone].targets == ("data",)
        assert there[gone].bytes > 70_000
        assert not there[gone].retired
        assert (there[gone].pushed_s or 0) > 1.7e9
        would = repo.remotes.retire(gone, plan_only=True)
        assert not any(one.retired for one in repo.remotes.roots())
        plan = repo.remotes.retire(gone)
        assert plan == would
        assert plan.dead_bytes > 70_000
        assert {one.repo for one in repo.remotes.roots() if one.retired} == {gone}
        with pytest.raises(UsageError, match="going already"):
            repo.remotes.retire(gone)
        with pytest.raises(UsageError, match="no roots"):
            repo.remotes.retire("0" * 32)
        repo.remotes.undo_gc()
        assert not any(one.retired for one in repo.remotes.roots())
        repo.remotes.retire(gone)
    assert gc(mine, grace_s=3600).plan.empty
    gc(mine)
    with mine.repo() as repo:
        assert [one.repo for one in repo.remotes.roots()] != [gone]
        assert len(repo.remotes.roots()) == 1
    assert pulled(mine, remote, tmp_path / "theirs", "HEAD") == mine.tree("data")


def test_a_retired_repository_that_pushes_is_not_gone(
    mine: Clone, gone: str, remote: Remote, tmp_path: Path
) -> None:
    with mine.repo() as repo:
        repo.remotes.retire(gone)
    other = Clone(tmp_path / "gone")
    first = other.git("rev-parse", "HEAD")
    version(other, c=b"still alive")
    done = gc(mine)
    assert done.swept[0].removed == 0
    with mine.repo() as repo:
        assert len(repo.remotes.roots()) == 2
    assert "b" in pulled(other, remote, tmp_path / "theirs", first)


@pytest.mark.parametrize("kind", ["shards/", "packs/", "roots/"])
def test_a_remote_that_is_not_whole_is_left_alone(
    mine: Clone, stray: tuple[str, str], kind: str
) -> None:
    with mine.repo() as repo:
        backend = repo.config.open_remote().backend
        key = next(info.key for info in backend.list(kind) if info.key not in stray)
        if kind == "roots/":
            backend.put(key, b"{}")
        else:
            backend.delete(key)
    before = keys(mine)
    with pytest.raises(CorruptError, match=key.rpartition("/")[2][:20]):
        gc(mine)
    assert keys(mine) == before


def test_a_push_in_between_waits_for_the_sweep(
    mine: Clone, stray: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvtool.remotes import tombstones as module

    gc(mine, grace_s=3600)
    mine.commit("the other too")
    with mine.repo() as repo:
        tombstones = Tombstones(repo.config.open_remote())
        (name,) = tombstones.look().tombstones
        mark = tombstones.begin_sweep(name)
        monkeypatch.setattr(module, "WAIT_S", 0.0)
        with pytest.raises(BusyError, match="removing"):
            repo.push()
        assert not keys(mine, "gc/claims/")
        tombstones.end_sweep(mark)
        assert repo.push().pushed.changed


def test_claims_are_believed_for_some_time(mine: Clone, stray: tuple[str, str]) -> None:
    with mine.repo() as repo:
        remote: RemoteStore = repo.config.open_remote()
        claim = Tombstones(remote).claim(shards=(), packs=[stray[0].rpartition("/")[2]])
    assert {info.key for info in gc(mine, dry_run=True).plan.dead} == {stray[1]}
    with mine.repo() as repo:
        Tombstones(repo.config.open_remote()).release(claim)
    assert len(gc(mine, dry_run=True).plan.dead) == 2


def test_a_damaged_repository_is_named_and_can_be_retired(
    mine: Clone, gone: str, remote: Remote, tmp_path: Path
) -> None:
    with mine.repo() as repo:
        backend = repo.config.open_remote().backend
        (key,) = (info.key for info in backend.list(f"roots/{gone}/"))
        backend.put(key, b"not a root")
        there = {one.repo: one.damaged for one in repo.remotes.roots()}
        assert there[gone]
        assert len([one for one in there.values() if one]) == 1
        with pytest.raises(CorruptError):
            repo.remotes.gc(grace_s=0)
        repo.remotes.retire(gone)
    assert gc(mine).swept[0].removed == 3
    with mine.repo() as repo:
        assert [one.damaged for one in repo.remotes.roots()] == [False]
    assert pulled(mine, remote, tmp_path / "theirs", "HEAD") == mine.tree("data")


def test_a_push_says_that_something_is_about_to_go(
    mine: Clone, remote: Remote, tmp_path: Path
) -> None:
    """A clone gives up what it once had and no longer names; another that needs it can act."""
    version(mine, a=b"one")
    mine.git("branch", "-q", "public")
    side = version(mine, a=noise(50_000, 2))
    mine.git("switch", "-q", "-c", "side")
    mine.git("branch", "-q", "-f", "main", "public")
    other = tmp_path / "other"
    mine.git("clone", "-q", "--branch", "public", str(mine.path), str(other))
    clone = Clone(other, remote)
    with clone.repo() as repo:
        repo.config.trust_first_use()
    clone.git("remote", "remove", "origin")  # the commits of the other branches stay, unnamed
    assert len(gc(clone, expire=True).plan.expired) == 1
    mine.git("switch", "-q", "main")
    with mine.repo() as repo:
        assert "dv push --all" in " ".join(repo.push().warnings)
        assert repo.push(every=True).pushed.changed
    assert gc(mine, expire=True).swept[0].removed > 0  # the roots that were replaced
    with mine.repo() as repo:
        assert not repo.push().warnings
    assert pulled(mine, remote, tmp_path / "theirs", side)
