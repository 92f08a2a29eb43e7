"""Frees space of the local store: takes chunks out of packs and removes unfinished files."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from dvtool.format.digest import Digest
from dvtool.format.locations import RemotePack
from dvtool.format.pack import PackInfo, Placement, Recipe, read_index
from dvtool.format.packing import FinishedPack, write_packs
from dvtool.store.local import DOOMED, TEMP, LocalStore
from dvtool.store.lock import drop_lock
from dvtool.system.atomic import is_temp_name, make_folders, write_bytes

STALE_TEMP_S = 2 * 24 * 3600


def drop_chunks(store: LocalStore, chunks: Collection[Digest]) -> int:
    """Give up chunks; return by how many bytes the packs became smaller.

    Each pack that has any of them is written anew without them: see `rewrite_packs`.
    """
    with drop_lock(store.path):
        finish_drops(store)
        gone = set(chunks)
        numbers = {number for number, _ in store.db.places(gone).values()}
        return sum(rewrite_packs(store, [number], gone) for number in sorted(numbers))


def finish_drops(store: LocalStore) -> None:
    """Remove the packs that an interrupted drop or gc had already removed from the index."""
    folder = os.path.join(store.path, DOOMED)
    if not os.path.isdir(folder) or not os.listdir(folder):
        return
    indexed = {pack.digest for pack in store.db.packs().values()}
    for name in os.listdir(folder):
        with contextlib.suppress(ValueError, FileNotFoundError):
            digest = bytes.fromhex(name)
            if digest not in indexed:
                os.unlink(store.pack_path(digest))
        os.unlink(os.path.join(folder, name))


def rewrite_packs(store: LocalStore, numbers: Iterable[int], gone: Collection[Digest]) -> int:
    """Replace packs by new ones with the same chunks, without the chunks `gone`.

    Return how many bytes that frees. Hold the `drop_lock`. The steps are: new packs, durable and
    indexed; a marker; the index; the old files. So a crash loses no chunk that was to stay;
    `finish_drops` then frees what the crash left.
    """
    packs = store.db.packs()
    olds = {packs[number].digest: packs[number].size for number in numbers}
    places: dict[Digest, list[Placement]] = {}
    kept: dict[Digest, None] = {}
    recipes: dict[Digest, Recipe] = {}
    for digest, size in olds.items():
        path = store.pack_path(digest)
        with open(path, "rb") as file:
            index = read_index(file, size=size, where=path)
        places[digest] = list(index.placements())
        kept |= _kept_of(store, packs, digest, places[digest], gone)
        recipes |= {recipe.digest: recipe for recipe in _recipes_kept(store, index.recipes, gone)}
    written_s = max((os.path.getmtime(store.pack_path(digest)) for digest in olds), default=0)
    fresh = _rewritten(store, list(kept), recipes.values())
    for temp, _ in fresh:
        os.utime(temp, (written_s, written_s))  # the chunks did not become any younger
    store.adopt(fresh)
    infos = [info for _, info in fresh]
    names = {info.digest for info in infos}
    _remove_packs(store, {d: old for d, old in places.items() if d not in names}, infos)
    return sum(olds.values()) - sum(info.size for info in infos)


def _kept_of(
    store: LocalStore,
    packs: Mapping[int, RemotePack],
    pack: Digest,
    places: Iterable[Placement],
    gone: Collection[Digest],
) -> dict[Digest, None]:
    """Return, in order, the chunks that are read from this pack and are to stay."""
    order = [placement.digest for placement in places]
    owners = store.db.places(order)
    return {
        digest: None
        for digest in order
        if digest not in gone and digest in owners and packs[owners[digest][0]].digest == pack
    }


def _remove_packs(
    store: LocalStore, olds: Mapping[Digest, Sequence[Placement]], infos: Sequence[PackInfo]
) -> None:
    make_folders(os.path.join(store.path, DOOMED))
    for digest in olds:
        write_bytes(store.doomed_path(digest), b"")
    store.db.replace_packs(olds, infos)
    for digest in olds:
        os.unlink(store.pack_path(digest))
        os.unlink(store.doomed_path(digest))


def _recipes_kept(
    store: LocalStore, recipes: Iterable[Recipe], gone: Collection[Digest]
) -> list[Recipe]:
    """Return the recipes of files that stay here whole."""
    all_recipes = list(recipes)
    held = store.db.held_chunks(chunk for recipe in all_recipes for chunk in recipe.chunks)
    return [recipe for recipe in all_recipes if (held - set(gone)).issuperset(recipe.chunks)]


def _rewritten(
    store: LocalStore, chunks: Sequence[Digest], recipes: Iterable[Recipe]
) -> list[FinishedPack]:
    """Write chunks and recipes into new packs under temporary paths, flushed.

    On an error no file is left behind.
    """
    with store.reader() as reader:
        reader.prepare_chunks(chunks)
        data = ((digest, bytes(reader.chunk(digest))) for digest in chunks)
        return list(write_packs(store.temp_path, data, recipes))


def sweep_temp(store: LocalStore) -> None:
    """Remove files that interrupted commands left unfinished some days ago."""
    folder = os.path.join(store.path, TEMP)
    names = os.listdir(folder) if os.path.isdir(folder) else ()
    remove_unfinished(os.path.join(folder, name) for name in names)


def sweep_unfinished(store: LocalStore) -> int:
    """Remove unfinished files everywhere in the store; return how many bytes they had."""
    return remove_unfinished(
        [
            os.path.join(folder, name)
            for folder, _, names in os.walk(store.path)
            for name in names
            if is_temp_name(name)
        ]
    )


def remove_unfinished(paths: Iterable[str]) -> int:
    """Remove those of these files that are some days old; return how many bytes they had."""
    size = 0
    for path in paths:
        with contextlib.suppress(OSError):
            stat = os.lstat(path)
            if stat.st_mtime < time.time() - STALE_TEMP_S:
                os.unlink(path)
                size += stat.st_size
    return size
