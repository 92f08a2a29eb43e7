"""Taking chunks out of the local store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dvtool.errors import BusyError, MissingError
from dvtool.format.digest import Digest, digest_of
from dvtool.format.pack import PackInfo, Recipe
from dvtool.store import lock
from dvtool.store.freeing import drop_chunks, finish_drops, rewrite_packs, sweep_temp
from dvtool.store.local import LocalStore
from dvtool.store.lock import drop_lock
from dvtool.system.locking import locked
from tests.unit.store.packs import new_pack, noise


def put_pack(store: LocalStore, *chunks: bytes, recipes: tuple[Recipe, ...] = ()) -> PackInfo:
    """Put a pack of chunks, in this order, into the store."""
    temp, info = new_pack(store, chunks, recipes)
    store.adopt([(temp, info)])
    return info


def read(store: LocalStore, digest: Digest) -> bytes:
    with store.reader() as reader:
        reader.prepare([digest])
        return b"".join(reader.read(digest))


def on_disk(store: LocalStore) -> set[str]:
    return {path.name for path in Path(store.path, "packs").rglob("*") if path.is_file()}


A, B, C = noise(1, 50_000), noise(2, 50_000), b"small"


def test_a_pack_goes_when_nothing_of_it_stays(store: LocalStore) -> None:
    info = put_pack(store, A, B)
    kept = put_pack(store, C)
    assert drop_chunks(store, {digest_of(A), digest_of(B)}) == info.size
    assert on_disk(store) == {kept.digest.hex()}
    assert store.lacking([digest_of(A), digest_of(C)]) == {digest_of(A)}
    assert drop_chunks(store, {digest_of(A)}) == 0


def test_what_stays_is_written_anew(store: LocalStore) -> None:
    info = put_pack(store, A, C, B)
    freed = drop_chunks(store, {digest_of(A)})
    assert 50_000 < freed < info.size
    assert read(store, digest_of(B)) == B
    assert read(store, digest_of(C)) == C
    with pytest.raises(MissingError):
        read(store, digest_of(A))


def test_recipes_of_what_stays_are_kept_with_it(store: LocalStore, tmp_path: Path) -> None:
    whole = Recipe(digest_of(B + C), len(B + C), (digest_of(B), digest_of(C)))
    broken = Recipe(digest_of(A + C), len(A + C), (digest_of(A), digest_of(C)))
    put_pack(store, A, B, C, recipes=(whole, broken))
    drop_chunks(store, {digest_of(A)})
    assert read(store, whole.digest) == B + C
    shutil.copytree(Path(store.path, "packs"), tmp_path / "again/packs")
    with LocalStore(str(tmp_path / "again")) as again:
        assert read(again, whole.digest) == B + C
        assert again.lacking([broken.digest]) == {broken.digest}


def test_a_chunk_in_two_packs_goes_from_the_index(store: LocalStore) -> None:
    put_pack(store, A, B)
    put_pack(store, B, C)
    drop_chunks(store, {digest_of(B)})
    assert store.lacking([digest_of(B)]) == {digest_of(B)}
    assert read(store, digest_of(A)) == A
    assert read(store, digest_of(C)) == C


def test_a_pack_that_comes_again_is_not_doomed(store: LocalStore) -> None:
    info = put_pack(store, A)
    marker = Path(store.path, "doomed", info.digest.hex())
    marker.parent.mkdir()
    marker.touch()
    put_pack(store, A)
    assert not marker.exists()
    finish_drops(store)
    assert read(store, digest_of(A)) == A


def test_leftovers_are_removed_only_if_not_indexed(store: LocalStore) -> None:
    kept, gone = put_pack(store, A), put_pack(store, B)
    doomed = Path(store.path, "doomed")
    doomed.mkdir()
    for name in (kept.digest.hex(), gone.digest.hex(), digest_of(C).hex(), "stray"):
        (doomed / name).touch()
    store.db.replace_packs({gone.digest: list(gone.index.placements())}, [])
    finish_drops(store)
    assert on_disk(store) == {kept.digest.hex()}
    assert not list(doomed.iterdir())


def test_two_drops_at_once_wait(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put_pack(store, A)
    monkeypatch.setattr(lock, "STORE_LOCK_WAIT_S", 0.05)
    with locked(f"{store.path}/drop.lock", wait_s=0, busy=""), pytest.raises(BusyError):
        drop_chunks(store, {digest_of(A)})
    assert read(store, digest_of(A)) == A


def test_a_reader_finds_what_was_put_into_another_pack_meanwhile(store: LocalStore) -> None:
    whole = Recipe(digest_of(A + B), len(A + B), (digest_of(A), digest_of(B)))
    put_pack(store, A)
    put_pack(store, B, recipes=(whole,))
    put_pack(store, C)
    with store.reader() as reader, LocalStore(store.path) as other:
        reader.prepare([whole.digest, digest_of(C)])
        with drop_lock(other.path):
            assert rewrite_packs(other, list(other.db.packs()), set()) > 0
        assert len(on_disk(store)) == 1
        assert b"".join(reader.read(whole.digest)) == A + B
        assert b"".join(reader.read(digest_of(C))) == C
        drop_chunks(other, {digest_of(A), digest_of(B), digest_of(C)})
    with store.reader() as reader, pytest.raises(MissingError):
        reader.prepare([digest_of(C)])


def test_merging_leaves_a_pack_alone_that_would_come_out_the_same(store: LocalStore) -> None:
    info = put_pack(store, A, B)
    (number,) = store.db.packs()
    assert rewrite_packs(store, [number], set()) == 0
    assert on_disk(store) == {info.digest.hex()}
    assert read(store, digest_of(A)) == A


def test_unfinished_files_are_swept_after_some_days(store: LocalStore) -> None:
    old, new = Path(store.temp_path()), Path(store.temp_path())
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    sweep_temp(store)
    assert not old.exists()
    assert new.exists()
