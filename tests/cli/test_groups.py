"""Large targets are fetched and checked out in groups of files: here with groups made small."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from dvtool.errors import ManifestError
from dvtool.format import pack
from dvtool.format.digest import digest_of
from dvtool.format.locations import without_locations
from dvtool.format.manifest import Entries, build, decode, encode
from dvtool.format.packing import FinishedPack
from dvtool.format.paths import SUFFIX
from dvtool.remotes.remote import RemoteStore
from dvtool.store.local import LocalStore
from dvtool.verbs.checkout import plan as checkout, write
from dvtool.verbs.fetch import download, lists, plan
from tests.cli.conftest import Work

FILES = 12_000
"""Several shards, of 4,096 entries on average."""


def _name(number: int) -> str:
    return f"data/{number // 500:02d}/{number:05d}"


def _text(number: int) -> str:
    # Nothing that could be compressed, and every tenth file has what another one, far away, has.
    same = number % 1000 if number % 10 == 0 else number
    return "".join(digest_of(b"%d %d" % (same, part)).hex() for part in range(5))


@pytest.fixture
def large(work: Work, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Many files in a few packs, one of which goes on from one group of shards into the next."""
    monkeypatch.setattr(pack, "PACK_SIZE_AIM_BYTES", 1 << 20)
    for number in range(FILES):
        work.write(_name(number), _text(number))
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    return work


def _in_groups(monkeypatch: pytest.MonkeyPatch, *, at_hand_bytes: int = 0) -> None:
    # With nothing at hand an empty store is filled in groups too, as others always are.
    monkeypatch.setattr("dvtool.project.shards.AT_HAND_MAX_BYTES", at_hand_bytes)
    monkeypatch.setattr(lists, "GROUP_FILES", 9_000)
    for module in (checkout, write):
        monkeypatch.setattr(module, "RUN_FILES_MAX", 1_000)
    monkeypatch.setattr(write, "NEXT_RUN_FILES_MAX", 300)
    monkeypatch.setattr(checkout, "PROBE_MIN_FILES", 1_000)


def _packs(work: Work) -> list[Path]:
    return sorted(path for path in (work.root / "../remote/packs").rglob("*") if path.is_file())


def _right(clone: Work) -> None:
    status = clone.dv("status", "--json").json["targets"][0]
    assert not any(status[how] for how in ("added", "modified", "deleted", "absent"))
    for number in range(0, FILES, 7):
        assert clone.read(_name(number)) == _text(number).encode()


def test_groups_bring_the_same(large: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(_packs(large)) > 2
    clone = large.clone()
    at_once = clone.dv("pull", "--json").json
    _right(clone)
    shutil.rmtree(clone.root)
    _in_groups(monkeypatch)
    clone = large.clone()
    planned = clone.dv("pull", "--plan", "--json").json
    in_groups = clone.dv("pull", "--json").json
    _right(clone)
    assert in_groups["targets"] == at_once["targets"]
    for count in ("files", "bytes", "found"):
        assert in_groups["fetched"][count] == at_once["fetched"][count], count
    assert planned["files"] == in_groups["fetched"]["files"]
    # No pack was read twice, or in ranges and then whole.
    assert in_groups["fetched"]["transferred_bytes"] == at_once["fetched"]["transferred_bytes"]
    assert clone.dv("fetch").out == "nothing to fetch: the local store has it all\n"
    assert clone.dv("push", "--json").json


def test_an_empty_store_gets_whole_packs(large: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    _in_groups(monkeypatch, at_hand_bytes=1 << 20)
    monkeypatch.setattr(plan.FetchPlanner, "portions", None)
    packs = _packs(large)
    clone = large.clone()
    fetched = clone.dv("fetch", "--json").json
    assert fetched["files"] == len({_text(number) for number in range(FILES)})
    shards = [path for path in (large.root / "../remote/shards").rglob("*") if path.is_file()]
    assert fetched["transferred_bytes"] == sum(p.stat().st_size for p in (*packs, *shards))
    here = (clone.root / ".git/dv/packs").rglob("*")
    assert {path.name for path in here if path.is_file()} == {path.name for path in packs}
    # A list of files is kept as it came, without the places in it.
    kept = {p.name: p.read_bytes() for p in (clone.root / ".git/dv/shards").rglob("?" * 64)}
    assert kept == {path.name: without_locations(path.read_bytes(), "") for path in shards}
    clone.dv("checkout")
    _right(clone)
    # What the shards say of the remote is known as well: a push reads none of them again.
    monkeypatch.setattr(RemoteStore, "get_shard", None)
    clone.write("data/new", "new")
    clone.dv("add", "data")
    clone.commit()
    assert clone.dv("push", "--json").json


def test_an_empty_store_gets_what_can_be_had_and_what_is_needed(large: Work) -> None:
    packs = _packs(large)
    every = sum(path.stat().st_size for path in packs)
    text = packs[0].read_bytes()
    packs[0].unlink()
    clone = large.clone()
    assert packs[0].name in clone.dv("pull", code=4).err
    assert not (clone.root / "data").exists()
    packs[0].write_bytes(text)
    # All that could be had came the first time.
    assert 0 < clone.dv("pull", "--json").json["fetched"]["files"] < FILES // 2
    _right(clone)
    shutil.rmtree(clone.root)
    large.dv("rm", *(f"data/{number:02d}" for number in range(6, 24)))
    large.commit()
    large.dv("push")
    clone = large.clone()
    fetched = clone.dv("pull", "--json").json["fetched"]
    assert fetched["files"] == len({_text(number) for number in range(3_000)})
    assert fetched["transferred_bytes"] < every * 0.6


@pytest.mark.parametrize("chunks_max", [1, 1 << 17])
def test_packs_that_came_meanwhile_go_into_the_store_together(
    large: Work, monkeypatch: pytest.MonkeyPatch, chunks_max: int
) -> None:
    """Each once, and none of them is left out; here all have come when the first one is taken."""
    groups: list[int] = []
    adopt = LocalStore.adopt

    def noted_adopt(store: LocalStore, packs: Iterable[FinishedPack]) -> None:
        taken = list(packs)
        groups.append(len(taken))
        adopt(store, taken)

    def all_at_first(
        work: Callable[[object], object], items: Iterable[object], **_: object
    ) -> Iterator[tuple[object, object]]:
        yield from [(item, work(item)) for item in items]

    monkeypatch.setattr(download, "run_bounded", all_at_first)
    monkeypatch.setattr(download, "ADOPTED_CHUNKS_MAX", chunks_max)
    monkeypatch.setattr(LocalStore, "adopt", noted_adopt)
    clone = large.clone()
    fetched = clone.dv("fetch", "--json").json
    packs = len(_packs(large))
    assert groups == ([packs] if chunks_max > FILES else [1] * packs)
    assert fetched["files"] == len({_text(number) for number in range(FILES)})
    clone.dv("checkout")
    _right(clone)
    assert not list((clone.root / ".git/dv/tmp").iterdir())


def test_fetch_in_groups(large: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    _in_groups(monkeypatch)
    clone = large.clone()
    fetched = clone.dv("fetch", "--json").json
    assert fetched["files"] == len({_text(number) for number in range(FILES)})
    shutil.rmtree(large.root.parent / "remote")
    clone.dv("checkout")
    _right(clone)


def test_what_another_target_wants_of_a_list_does_not_wait_for_it(
    large: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A content that lies in a large target too, but there in a part that is not asked for."""
    large.write("a/x", _text(3))
    large.dv("add", "a")
    large.commit()
    large.dv("push")
    _in_groups(monkeypatch)
    clone = large.clone()
    parts = [f"data/{number:02d}" for number in range(12, 21)]
    fetched = clone.dv("fetch", "a", *parts, "--json").json
    expected = {_text(number) for number in range(6_000, 10_500)} | {_text(3)}
    assert fetched["files"] == len(expected)
    clone.dv("checkout", "--", "a", *parts)
    assert clone.read("a/x") == _text(3).encode()


def test_what_a_group_lacks_is_named(large: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    _in_groups(monkeypatch)
    packs = _packs(large)
    lost = packs[len(packs) // 2]
    text = lost.read_bytes()
    lost.unlink()
    clone = large.clone()
    assert lost.name in clone.dv("pull", code=4).err
    assert not (clone.root / "data").exists()
    lost.write_bytes(text)
    fetched = clone.dv("pull", "--json").json["fetched"]
    # All that could be had came the first time.
    assert 0 < fetched["files"] < FILES // 2
    _right(clone)


def test_runs_replace_and_remove(large: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(0, FILES, 3):
        large.write(_name(number), f"other {number}")
    shutil.rmtree(large.root / "data/07")
    large.write("data/new/file", "new")
    large.dv("add", "data")
    large.commit("second")
    _in_groups(monkeypatch)
    large.dv("checkout", "HEAD~1")
    _right(large)
    assert not (large.root / "data/new").exists()
    large.dv("checkout", "HEAD")
    assert large.read(_name(3)) == b"other 3"
    assert not (large.root / "data/07").exists()


def test_no_run_is_written_if_a_size_is_false(large: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last file, and of one of two in one run with the same content."""
    _in_groups(monkeypatch)
    clone = large.clone()
    clone.dv("fetch")
    manifest = clone.root / f"data{SUFFIX}"
    store = LocalStore(str(clone.root / ".git/dv"))
    true: Entries = {}
    for ref in decode(manifest.read_bytes(), "data").shards:
        true.update(store.held_shard(ref))
    paths = list(true)
    same = structs.replace(true[paths[5]], size=true[paths[5]].size + 1)
    for path, entry in (
        (paths[-1], structs.replace(true[paths[-1]], size=1)),
        (paths[6], same),
    ):
        built = build("dir", true | {path: entry})
        store.put_shards(built.shards)
        manifest.write_bytes(encode(built.manifest))
        said = clone.dv("checkout", code=ManifestError.exit_code).err
        assert f"data/{path}: the manifest says {entry.size:,} bytes" in said
        assert not (clone.root / "data").exists()
    store.close()


def test_no_run_is_written_if_one_would_lose(large: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    _in_groups(monkeypatch)
    clone = large.clone()
    clone.dv("fetch")
    clone.write(_name(FILES - 1), "precious")
    assert _name(FILES - 1) in clone.dv("checkout", code=5).err
    assert [path.name for path in (clone.root / "data").iterdir()] == [
        _name(FILES - 1).split("/")[1]
    ]
    assert clone.read(_name(FILES - 1)) == b"precious"
