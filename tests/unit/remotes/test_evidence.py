"""What counts as evidence that a remote holds the very bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.format.digest import digest_of
from dvtool.format.locations import Located, RemotePack
from dvtool.format.pack import PackWriter
from dvtool.remotes import evidence
from dvtool.remotes.known import Known
from dvtool.remotes.objects import pack_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.store.local import LocalStore
from tests.scenario import noise

PARTS = [noise(40_000, number) for number in range(6)]


@pytest.fixture
def remote(tmp_path: Path) -> RemoteStore:
    (tmp_path / "remote").mkdir()
    remote = RemoteStore(LocalBackend(str(tmp_path / "remote")))
    remote.initialise()
    return remote


@pytest.fixture
def places(tmp_path: Path, remote: RemoteStore) -> dict[bytes, list[Located]]:
    """Two packs there: a file of the first four chunks, one of the others in reverse, the last."""
    located: list[Located] = []
    for some in (PARTS[:3], PARTS[3:]):
        path = tmp_path / "pack"
        with open(path, "w+b") as file:
            writer = PackWriter(file)
            for part in some:
                writer.add(digest_of(part), part)
            info = writer.finish()
            remote.put_pack(info.digest, file)
        pack = RemotePack(info.digest, info.size)
        located += [Located(pack, place) for place in info.index.placements()]
    return {
        digest_of(b"".join(PARTS[:4])): located[:4],
        digest_of(b"".join(PARTS[:3:-1])): located[:3:-1],
        digest_of(PARTS[5]): [located[5]],
    }


def rot(remote: RemoteStore, pack: bytes, at: int) -> None:
    data = bytearray(remote.backend.get(pack_key(pack), size_max=1 << 30))
    data[at] ^= 1
    remote.backend.put(pack_key(pack), bytes(data))


@pytest.mark.parametrize("batch", [1, 50_000, 100_000, 1 << 30])
def test_all_that_is_sound_is_found_so_much_at_a_time(
    remote: RemoteStore,
    places: dict[bytes, list[Located]],
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evidence, "BATCH_RAW_BYTES", batch)
    assert evidence.read_back(remote, places) == places.keys()
    assert evidence.reading_of(remote, places).bytes >= 6 * 40_000


@pytest.mark.parametrize("batch", [1, 1 << 30])
def test_one_bit_costs_what_is_made_of_it(
    remote: RemoteStore,
    places: dict[bytes, list[Located]],
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evidence, "BATCH_RAW_BYTES", batch)
    first, backwards, last = places
    rot(remote, places[first][0].pack.digest, 20_000)
    assert evidence.read_back(remote, places) == {backwards, last}
    remote.backend.delete(pack_key(places[last][0].pack.digest))
    assert evidence.read_back(remote, places) == set()


def test_chunks_in_another_order_are_not_the_content(
    remote: RemoteStore, places: dict[bytes, list[Located]]
) -> None:
    first, *_ = places
    mixed = {first: [places[first][1], places[first][0], *places[first][2:]]}
    assert evidence.read_back(remote, mixed) == set()


@pytest.fixture
def known(tmp_path: Path, remote: RemoteStore) -> Iterator[Known]:
    with LocalStore(str(tmp_path / "dv")) as store:
        yield Known(store.db, remote.required_mark().id)


def test_a_size_is_no_statement_and_neither_is_another_md5(known: Known) -> None:
    ours, other = b"\1" * 16, b"\2" * 16
    known.add_objects(
        [ObjectInfo("same", 7, ours), ObjectInfo("other", 7, ours), ObjectInfo("size", 7)]
    )
    there = {
        "same": ObjectInfo("same", 7, ours),
        "other": ObjectInfo("other", 7, other),
        "size": ObjectInfo("size", 7, ours),
        "unknown": ObjectInfo("unknown", 7, ours),
    }
    assert evidence.stated(known, there) == {"same"}
    silent = {key: ObjectInfo(key, 7) for key in there}
    assert evidence.stated(known, silent) == set()
