"""Damage on every kind of remote: found, named, mended from any good copy, and then clean."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.errors import BusyError
from dvtool.format.digest import digest_of
from dvtool.format.locations import (
    Located,
    RemotePack,
    contents_of,
    decode_locations,
    encode_object,
    split_object,
)
from dvtool.format.manifest import decode_any_shard
from dvtool.format.pack import PackWriter, Placement
from dvtool.remotes.objects import FORMAT, now_text, root_key
from dvtool.remotes.tombstones import Tombstone, Tombstones
from dvtool.remotes.transports.base import Backend
from dvtool.repo import Repo
from dvtool.verbs.fsck.findings import FsckReport, Sample
from tests.scenario import Clone, Remote, noise

LIMIT = 1 << 30


@pytest.fixture
def work(tmp_path: Path, remote: Remote) -> Clone:
    work = Clone.new(tmp_path / "work", remote)
    for number in range(3):
        work.write(f"data/{number}.bin", noise(200_000, number))
    work.write("data/small.txt", b"small")
    work.write("other/x.bin", noise(150_000, 9))
    work.add("data", "other")
    work.git("add", "-A")
    work.commit("Add the data")
    with work.repo() as repo:
        repo.push()
    return work


def backend_of(repo: Repo) -> Backend:
    return repo.config.open_remote().backend


def keys(backend: Backend, prefix: str) -> list[str]:
    """Keys below a prefix, the largest object first."""
    found = sorted(backend.list(prefix), key=lambda info: (-info.size, info.key))
    return [info.key for info in found]


def flip(backend: Backend, key: str, at: int = 1_000) -> None:
    data = bytearray(backend.get(key, size_max=LIMIT))
    data[at % len(data)] ^= 0x55
    backend.put(key, bytes(data))


def flip_pack(backend: Backend) -> None:
    flip(backend, keys(backend, "packs/")[0])


def flip_every_frame(backend: Backend) -> None:
    key = keys(backend, "packs/")[0]
    data = backend.get(key, size_max=LIMIT)
    backend.put(key, bytes(byte ^ 0x55 for byte in data[:-600]) + data[-600:])


def flip_pack_index(backend: Backend) -> None:
    flip(backend, keys(backend, "packs/")[0], -45)


def cut_pack(backend: Backend) -> None:
    key = keys(backend, "packs/")[0]
    backend.put(key, backend.get(key, size_max=LIMIT)[:100_000])


def lose_packs(backend: Backend) -> None:
    for key in keys(backend, "packs/"):
        backend.delete(key)


def swap_packs(backend: Backend) -> None:
    first = keys(backend, "packs/")[0]
    buffer = io.BytesIO()
    writer = PackWriter(buffer)
    writer.add(digest_of(b"another"), b"another")
    writer.finish()
    backend.put(first, buffer.getvalue())


def flip_shards(backend: Backend) -> None:
    for key in keys(backend, "shards/"):
        flip(backend, key, 60)


def lose_shards(backend: Backend) -> None:
    for key in keys(backend, "shards/"):
        backend.delete(key)


def flip_root(backend: Backend) -> None:
    flip(backend, keys(backend, "roots/")[0], 40)


def cut_root(backend: Backend) -> None:
    key = keys(backend, "roots/")[0]
    backend.put(key, backend.get(key, size_max=LIMIT)[:-5])


def lose_mark(backend: Backend) -> None:
    backend.delete("dv.json")


def break_mark(backend: Backend) -> None:
    backend.put("dv.json", b"{}")


def _relocate(backend: Backend, change: Callable[[Located], Located]) -> None:
    """Let every shard say something else about where its content lies, in proper form."""
    for key in keys(backend, "shards/"):
        text, raw = split_object(backend.get(key, size_max=LIMIT), key)
        entries = decode_any_shard(text, bytes.fromhex(key[-64:]))
        locations = decode_locations(raw, entries, key)
        told = {file: [change(chunk) for chunk in chunks] for file, chunks in locations.items()}
        assert list(told) == list(contents_of(entries))
        backend.put(key, encode_object(text, told))


def lie_beyond_the_index(backend: Backend) -> None:
    """Point into the trailer: within the pack, behind its frames."""

    def change(chunk: Located) -> Located:
        place = chunk.placement
        end = chunk.pack.size
        return Located(chunk.pack, Placement(place.digest, end - 20, 20, place.start, place.size))

    _relocate(backend, change)


def lie_about_the_frame(backend: Backend) -> None:
    def change(chunk: Located) -> Located:
        place = chunk.placement
        return Located(
            chunk.pack,
            Placement(place.digest, place.frame_offset + 1, place.frame_size, 0, place.size),
        )

    _relocate(backend, change)


def lie_about_the_pack(backend: Backend) -> None:
    """Name a pack that is not there."""

    def change(chunk: Located) -> Located:
        return Located(RemotePack(digest_of(b"no pack"), 50_000_000), chunk.placement)

    _relocate(backend, change)


def lie_about_the_size(backend: Backend) -> None:
    def change(chunk: Located) -> Located:
        return Located(RemotePack(chunk.pack.digest, chunk.pack.size + 1), chunk.placement)

    _relocate(backend, change)


def _retell(
    backend: Backend, change: Callable[[dict[bytes, list[Located]]], dict[bytes, list[Located]]]
) -> None:
    """Let the shards say something else about which places make a file, in proper form."""
    for key in keys(backend, "shards/"):
        text, raw = split_object(backend.get(key, size_max=LIMIT), key)
        entries = decode_any_shard(text, bytes.fromhex(key[-64:]))
        locations = decode_locations(raw, entries, key)
        backend.put(key, encode_object(text, {f: change(locations)[f] for f in locations}))


def lie_about_the_order(backend: Backend) -> None:
    _retell(backend, lambda told: {file: chunks[::-1] for file, chunks in told.items()})


def lie_about_the_file(backend: Backend) -> None:
    """Give each large file the places of the next one, which is as large."""

    def change(told: dict[bytes, list[Located]]) -> dict[bytes, list[Located]]:
        large = [file for file, chunks in told.items() if len(chunks) > 1]
        return told | dict(zip(large, [told[file] for file in large[1:] + large[:1]], strict=True))

    _retell(backend, change)


Harm = Callable[[Backend], None]
MISPLACED: list[Harm] = [lie_about_the_order, lie_about_the_file]
"""Lies that only whoever puts the files together can see."""
DEEP_ONLY: list[Harm] = [flip_pack, flip_every_frame, flip_pack_index]
"""A store that states no MD5 shows these only to whoever reads the packs."""
HARMS: list[Harm] = [
    *DEEP_ONLY,
    *(cut_pack, lose_packs, swap_packs, flip_shards, lose_shards, flip_root, cut_root),
    *(lose_mark, break_mark),
    *(lie_beyond_the_index, lie_about_the_frame, lie_about_the_pack, lie_about_the_size),
    *MISPLACED,
]


def describe(report: FsckReport) -> str:
    return "\n".join(
        f"{one.place} {one.name}: {one.problem} | {one.repaired} | {one.failed}"
        for one in report.damage
    )


def check(work: Clone, *, deep: bool = False, repair: bool = False) -> FsckReport:
    with work.repo() as repo:
        return repo.fsck(remote="origin", deep=deep, repair=repair)


PLACES = [("folder", harm) for harm in HARMS] + [
    (server, harm)
    for server in ("rclone", "moto")
    for harm in (flip_every_frame, lose_packs, lose_shards, cut_root, *MISPLACED)
]


@pytest.mark.parametrize(("remote", "harm"), PLACES, indirect=["remote"])
def test_found_and_mended(work: Clone, remote: Remote, tmp_path: Path, harm: Harm) -> None:
    with work.repo() as repo:
        harm(backend_of(repo))
        before = objects(backend_of(repo))
        states_md5 = any(info.md5 for info in backend_of(repo).list(""))
    found = check(work, deep=harm in MISPLACED or (harm in DEEP_ONLY and not states_md5))
    assert not found.clean
    assert {one.place for one in found.damage} == {found.remote.url if found.remote else ""}
    with work.repo() as repo:
        assert objects(backend_of(repo)) == before, "a check changes nothing"
    mended = check(work, deep=True, repair=True)
    assert mended.clean, describe(mended)
    with work.repo() as repo:
        after = set(objects(backend_of(repo)).values())
        assert set(before.values()) <= after, "nothing is lost, damaged or not"
    again = check(work, deep=True)
    assert not again.damage, describe(again)
    clone = work.clone(tmp_path / "clone", remote)
    with clone.repo() as repo:
        repo.pull()
    assert clone.tree("data") == work.tree("data")
    with work.repo() as repo:
        pushed = repo.push().pushed
        assert pushed.packs == 0 and pushed.bytes < 1_000  # a root at most, for a new dv.json


def objects(backend: Backend) -> dict[str, bytes]:
    return {key: backend.get(key, size_max=LIMIT) for key in keys(backend, "")}


def test_md5_shows_damage_without_a_download(work: Clone) -> None:
    with work.repo() as repo:
        backend = backend_of(repo)
        if not any(info.md5 for info in backend.list("")):
            pytest.skip("this store states no MD5")
        assert check(work).remote.md5_equal == 2  # type: ignore[union-attr]
        flip_pack(backend)
    found = check(work)
    assert "MD5" in found.damage[0].problem


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
@pytest.mark.parametrize(
    "harm", [flip_every_frame, cut_pack, lose_packs, lose_shards, lie_about_the_order]
)
def test_what_no_good_copy_exists_of_is_said(
    work: Clone, remote: Remote, tmp_path: Path, harm: Harm
) -> None:
    """A clone without any data finds the damage, and makes nothing worse."""
    clone = work.clone(tmp_path / "clone", remote)
    with work.repo() as repo:
        harm(backend_of(repo))
        before = objects(backend_of(repo))
    found = check(clone, deep=True, repair=True)
    assert not found.clean
    assert any("no good copy of" in one.failed for one in found.damage), describe(found)
    with work.repo() as repo:
        after = objects(backend_of(repo))
        assert set(before.values()) <= set(after.values())
    assert not check(clone, deep=True).clean
    assert check(work, deep=True, repair=True).clean
    assert check(clone, deep=True).clean


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
@pytest.mark.parametrize("harm", MISPLACED)
def test_files_that_come_out_as_others(
    work: Clone, remote: Remote, tmp_path: Path, harm: Harm
) -> None:
    """Found by a clone that has nothing, which says which files; and mended from the workspace."""
    clone = work.clone(tmp_path / "clone", remote)
    with work.repo() as repo:
        harm(backend_of(repo))
    assert check(work).clean and check(clone).clean
    with clone.repo() as repo:  # of two packs one
        some = [repo.fsck(remote="origin", deep=Sample(0.01, seed)) for seed in range(6)]
    assert any(not one.clean for one in some)
    assert {one.remote.files_made for one in some if one.remote} == {1, 3}
    found = check(clone, deep=True)
    assert found.remote is not None and found.remote.files_made == 4
    assert {one.kind for one in found.damage} == {"shard", "content"}
    touched = {file.path for one in found.damage for file in one.files}
    assert touched >= {"data/0.bin", "data/1.bin", "data/2.bin"}
    shutil.rmtree(work.path / ".git/dv")
    assert check(work, deep=True, repair=True).clean
    assert not check(clone, deep=True).damage
    with clone.repo() as repo:
        repo.pull()
    assert clone.tree("data") == work.tree("data")


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
@pytest.mark.parametrize("harm", [flip_every_frame, cut_pack])
def test_damage_beside_a_sample_is_not_blamed_on_the_lists(
    tmp_path: Path, remote: Remote, harm: Harm
) -> None:
    """A file begins in one pack and ends in a larger one, which is harmed; one is in the sample."""
    work = Clone.new(tmp_path / "work", remote)
    for part in (noise(200_000, 1), noise(500_000, 2)):
        path = work.path / "data" / "grown.bin"
        work.write("data/grown.bin", (path.read_bytes() if path.exists() else b"") + part)
        work.add("data")
        work.git("add", "-A")
        work.commit("Grow")
        with work.repo() as repo:
            repo.push()
    clone = work.clone(tmp_path / "clone", remote)
    with work.repo() as repo:
        backend = backend_of(repo)
        packs = keys(backend, "packs/")
        assert len(packs) == 2
        harm(backend)
    with clone.repo() as repo:
        found = [repo.fsck(remote="origin", deep=Sample(0.01, seed)) for seed in range(6)]
    read = [one.remote.bytes_read for one in found if one.remote]
    assert len(set(read)) == 2, "one or the other, and of no other pack a part"
    for report, size in zip(found, read, strict=True):
        named = {(one.kind, one.name) for one in report.damage if one.kind != "content"}
        seen = harm is cut_pack or size == max(read)
        assert named == ({("pack", packs[0])} if seen else set())


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_damage_in_one_frame_costs_what_is_in_it(
    work: Clone, remote: Remote, tmp_path: Path
) -> None:
    """What is still good of a pack is kept, by a clone that has nothing of it."""
    clone = work.clone(tmp_path / "clone", remote)
    with work.repo() as repo:
        flip(backend_of(repo), keys(backend_of(repo), "packs/")[0], 30_000)
    found = check(clone, deep=True, repair=True)
    touched = {file.path for one in found.remaining for file in one.files}
    assert len(touched) == 1
    assert touched < {"data/0.bin", "data/1.bin", "data/2.bin", "other/x.bin"}
    with clone.repo() as repo:
        names = {"data/0.bin", "data/1.bin", "data/2.bin", "other/x.bin"} - touched
        repo.pull(paths=sorted(names))


def test_mending_from_another_remote(work: Clone, remote: Remote, tmp_path: Path) -> None:
    with work.repo() as repo:
        repo.config.set_remote("backup", str(tmp_path / "backup"), local=True)
        repo.push(remote="backup")
    clone = work.clone(tmp_path / "clone", remote)
    with clone.repo() as repo:
        repo.config.set_remote("backup", str(tmp_path / "backup"), local=True)
        flip_every_frame(backend_of(repo))
    shutil.rmtree(work.path)
    mended = check(clone, deep=True, repair=True)
    assert mended.clean, describe(mended)
    assert not check(clone, deep=True).damage


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_what_both_sides_lost_comes_from_the_workspace(work: Clone) -> None:
    with work.repo() as repo:
        lose_packs(backend_of(repo))
    shutil.rmtree(work.path / ".git/dv/packs")
    assert not check(work).clean
    mended = check(work, deep=True, repair=True)
    assert mended.clean, describe(mended)
    assert not check(work, deep=True).damage


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_what_is_neither_here_nor_there_is_missing(work: Clone, remote: Remote) -> None:
    work.write("data/new.bin", noise(100_000, 77))
    work.add("data")
    work.commit("never pushed")
    clone = work.clone(work.path.parent / "clone", remote)
    found = check(clone)
    assert found.exit_code == 4
    assert [file.path for file in found.damage[0].files] == ["data/new.bin"]
    assert found.remote is not None
    assert found.remote.not_pushed == ("data",)
    assert check(work).clean


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_few_requests(work: Clone, tmp_path: Path) -> None:
    from tests.faulty import Faulty

    with work.repo() as repo:
        store = repo.config.open_remote()
        store.backend = counting = Faulty(store.backend, on="nothing")
        repo.config.open_remote = lambda name=None: store  # type: ignore[method-assign]
        assert repo.fsck(remote="origin").clean
    assert counting.calls["read_into"] == 0
    assert counting.calls["get"] == 4  # dv.json, a root, two lists
    assert counting.calls["list"] + counting.calls["head"] <= 3


# --- beside a gc ------------------------------------------------------------------------------


def root_keys(work: Clone) -> set[str]:
    with work.repo() as repo:
        return set(keys(backend_of(repo), "roots/"))


def bury(work: Clone, doomed: list[str], *, roots: bool = False) -> tuple[Tombstones, str]:
    """Write a tombstone as a gc does, and the mark that what it names is being removed."""
    with work.repo() as repo:
        remote = repo.config.open_remote()
        tombstones = Tombstones(remote)
        repo_id = repo._project.config.text("core.repoid")
        tombstone = Tombstone(
            FORMAT,
            now_text(),
            [] if roots else doomed,
            roots=doomed if roots else [],
            repo=repo_id if roots else None,
        )
        return tombstones, tombstones.begin_sweep(tombstones.put(tombstone))


@pytest.mark.parametrize("remote", ["folder", "moto"], indirect=True)
def test_no_shard_is_mended_while_a_gc_removes_what_it_needs(
    work: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvtool.remotes.tombstones.WAIT_S", 0)
    with work.repo() as repo:
        packs = keys(backend_of(repo), "packs/")
        lose_shards(backend_of(repo))
    tombstones, mark = bury(work, packs)
    busy = check(work, repair=True)
    assert all("a gc is removing" in one.failed for one in busy.damage if one.kind == "shard")
    with work.repo() as repo:
        assert not keys(backend_of(repo), "shards/")
        assert not keys(backend_of(repo), "gc/claims/"), "a claim is let go in any case"
    tombstones.end_sweep(mark)
    assert check(work, repair=True).clean
    assert not check(work, deep=True).damage


@pytest.mark.parametrize("remote", ["folder", "moto"], indirect=True)
def test_what_a_gc_removed_just_before_is_not_pointed_to(work: Clone) -> None:
    with work.repo() as repo:
        lose_shards(backend_of(repo))
    wait = Tombstones.wait_until_clear

    def removed_meanwhile(self: Tombstones, needed: set[str], claim: str) -> None:
        lose_packs(self.remote.backend)
        wait(self, needed, claim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tombstones, "wait_until_clear", removed_meanwhile)
        assert not check(work, repair=True).clean
    with work.repo() as repo:
        assert not keys(backend_of(repo), "shards/")
    assert check(work, repair=True).clean
    assert not check(work, deep=True).damage


@pytest.mark.parametrize("remote", ["folder", "moto"], indirect=True)
def test_a_root_is_replaced_under_a_claim(
    work: Clone, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvtool.remotes.tombstones.WAIT_S", 0)
    before = root_keys(work)
    with work.repo() as repo:
        flip_root(backend_of(repo))
        tombstones, mark = bury(work, keys(backend_of(repo), "packs/"))
    with pytest.raises(BusyError):
        check(work, repair=True)
    assert root_keys(work) == before
    tombstones.end_sweep(mark)
    report = check(work, repair=True)
    assert report.clean, describe(report)
    assert len(root_keys(work)) == 1 and not root_keys(work) & before
    assert not check(work, deep=True).damage


@pytest.mark.parametrize("remote", ["folder", "moto"], indirect=True)
def test_a_root_that_is_to_go_stands_for_no_other(work: Clone, remote: Remote) -> None:
    with work.repo() as repo:
        store, repo_id = repo.config.open_remote(), repo._project.config.text("core.repoid") or ""
        first = store.root_names(repo_id)[0]
        doomed, _ = store.put_root(repo_id, store.get_root(repo_id, first)[0].manifests)
        flip(store.backend, root_key(repo_id, first), 40)
    bury(work, [root_key(repo_id, doomed)], roots=True)
    report = check(work, repair=True)
    assert report.clean, describe(report)
    with work.repo() as repo:
        backend_of(repo).delete(root_key(repo_id, doomed))
    after = check(work)
    assert not after.damage and after.remote is not None
    assert after.remote.manifests == 2 and not after.remote.not_pushed


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_a_new_root_names_nothing_that_is_not_whole(work: Clone, remote: Remote) -> None:
    with work.repo() as repo:
        backend = backend_of(repo)
        flip_root(backend)
        pack = keys(backend, "packs/")[0]
        held = backend.get(pack, size_max=LIMIT)
        backend.delete(pack)
    before = root_keys(work)
    assert not check(work, repair=True).clean
    assert before <= root_keys(work), "the damaged root stays while nothing else names it all"
    with work.repo() as repo:
        backend_of(repo).put(pack, held)
    assert check(work, repair=True).clean
    assert not check(work, deep=True).damage
