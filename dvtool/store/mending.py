"""Repairs inside the local store: keeps the good chunks of damaged packs, makes store.db again.

Nothing is deleted. A damaged file gets a second name below `aside/` first; only then may the store
give it up. Each step can be repeated: the next check finds the files that an interruption leaves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping

from dvtool.errors import CorruptError
from dvtool.format.digest import Digest, split_digests
from dvtool.format.pack import PackInfo, Recipe, read_index
from dvtool.format.packing import FinishedPack, write_packs
from dvtool.store.database import Database
from dvtool.store.local import ASIDE, LOST, LocalStore
from dvtool.store.lock import drop_lock
from dvtool.store.packcheck import PackCheck, read_chunks
from dvtool.system.atomic import (
    flush_to_disk,
    make_folders,
    share,
    sync_folder,
    temp_name,
    unfinished,
)

BESIDE_INDEX = ("-wal", "-shm")
"""Suffixes of the files that SQLite keeps beside store.db."""


def set_aside(store: LocalStore, path: str) -> str:
    """Give a file a second name below `aside/`, or a copy where there are no links; return it."""
    folder = os.path.join(store.path, ASIDE)
    make_folders(folder)
    name_aside = os.path.join(folder, os.path.basename(path))
    number = 1
    while os.path.lexists(name_aside):
        if os.path.samefile(name_aside, path):
            return name_aside
        number += 1
        name_aside = os.path.join(folder, f"{os.path.basename(path)}.{number}")
    try:
        os.link(path, name_aside)
    except OSError:
        temp = os.path.join(folder, temp_name())
        with open(path, "rb") as source, unfinished(temp) as file:
            shutil.copyfileobj(source, file)
            share(temp)
        os.replace(temp, name_aside)
    sync_folder(folder)
    return name_aside


def set_packs_aside(store: LocalStore, checks: Iterable[PackCheck]) -> dict[Digest, str]:
    """Set the files of damaged packs aside; return where each is now."""
    places: dict[Digest, str] = {}
    for check in checks:
        path = store.pack_path(check.digest)
        if os.path.lexists(path):
            places[check.digest] = set_aside(store, path)
    return places


def keep_good_chunks(
    store: LocalStore, check: PackCheck, aside: str | None, lost: Collection[Digest]
) -> int:
    """Put the good chunks of a damaged pack into sound packs and the index; return their number.

    `aside` is where the damaged file is now, if there is one. `lost` are the chunks that no local
    pack has any more; they are noted.
    """
    store.note_lost(check.digest, lost)
    fresh: list[tuple[str, PackInfo]] = []
    if aside is not None and check.misnamed and check.found is not None:
        fresh = [_copied(store, aside, check)]
    elif aside is not None:
        good = [placement for placement in check.places if placement.digest not in check.bad]
        recipes = check.index.recipes if check.index is not None else []
        fresh = list(packs_of(store, read_chunks(aside, good), recipes))
    recipes = [recipe for _, info in fresh for recipe in info.index.recipes]
    for _, info in fresh:
        info.index.recipes = []
    if fresh:
        store.adopt(fresh)
    rows = store.db.rows_of(check.digest)
    known = check.places if check.index is not None and not check.misnamed else tuple(rows)
    store.db.forget_chunks({row.digest for row in rows} - {placement.digest for placement in known})
    store.db.replace_packs({check.digest: known}, [info for _, info in fresh])
    store.add_tried(recipes)
    return sum(len(info.index.chunk_digests) for _, info in fresh)


def give_up_file(store: LocalStore, digest: Digest) -> None:
    """Take a damaged pack, which was set aside, out of the packs."""
    if digest not in {pack.digest for pack in store.db.packs().values()}:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(store.pack_path(digest))


def _copied(store: LocalStore, path: str, check: PackCheck) -> tuple[str, PackInfo]:
    assert check.found is not None and check.index is not None
    temp = store.temp_path()
    with open(path, "rb") as source, unfinished(temp) as file:
        shutil.copyfileobj(source, file)
    return temp, PackInfo(check.found, check.size, check.index)


def packs_of(
    store: LocalStore, chunks: Iterable[tuple[Digest, bytes]], recipes: Iterable[Recipe] = ()
) -> Iterator[FinishedPack]:
    """Yield new packs of chunks, each chunk once, then recipes: see `write_packs`."""
    return write_packs(store.temp_path, _once(chunks), reversed(list(recipes)))


def _once(chunks: Iterable[tuple[Digest, bytes]]) -> Iterator[tuple[Digest, bytes]]:
    seen: set[Digest] = set()
    for digest, data in chunks:
        if digest not in seen:
            seen.add(digest)
            yield digest, data


def index_packs(store: LocalStore, packs: Mapping[Digest, int]) -> None:
    """Index sound packs, id -> size, that are in place; their recipes once they were tried."""
    for digest, size in packs.items():
        path = store.pack_path(digest)
        with open(path, "rb") as file:
            index = read_index(file, size=size, where=path)
        recipes, index.recipes = index.recipes, []
        store.db.add_packs([PackInfo(digest, size, index)])
        store.add_tried(recipes)


# --- store.db -------------------------------------------------------------------------------


def rebuild(store: LocalStore, *, usable: bool) -> str | None:
    """Make store.db again from the packs; return where a copy of the old one is now.

    If the old one is `usable`, others may go on using it meanwhile, and its rows about remotes
    stay. Otherwise nobody should use it: hold the locks of all worktrees.
    """
    with drop_lock(store.path):
        if not os.path.exists(store.database_path):
            open_index(store)
            return None
        fresh = store.temp_path()
        try:
            before = _index_aside(store, usable=usable)
            store.make_index(fresh)
            if usable:
                open_index(store)
                store.db.take_over(fresh, before, store.packs_besides)
                _try_again(store, before)
            else:
                os.replace(fresh, store.database_path)
                sync_folder(store.path)
        finally:
            store.close()
            for suffix in ("", *BESIDE_INDEX):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(fresh + suffix)
    return before


def _try_again(store: LocalStore, before: str) -> None:
    """Try the recipes of the old index that no pack has, or whose chunks have come since."""
    with contextlib.closing(Database(before)) as old:
        store.add_tried(
            recipe for recipe in old.every_recipe() if not store.db.recipes([recipe.digest])
        )


def _index_aside(store: LocalStore, *, usable: bool) -> str:
    """Put a copy of store.db aside, durably; return its path."""
    store.close()
    folder = os.path.join(store.path, ASIDE)
    make_folders(folder)
    name_aside = os.path.join(folder, f"store-{time.time_ns()}.db")
    temp = os.path.join(folder, temp_name())
    try:
        if usable:
            with contextlib.closing(Database(store.database_path)) as db:
                db.copy_to(temp)
        else:
            shutil.copyfile(store.database_path, temp)
        with open(temp, "rb+") as file:
            flush_to_disk(file.fileno())
        share(temp)
        os.replace(temp, name_aside)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
        raise
    for suffix in () if usable else BESIDE_INDEX:
        # A log that stays would be taken for the log of the new index.
        with contextlib.suppress(FileNotFoundError):
            os.replace(store.database_path + suffix, name_aside + suffix)
    sync_folder(folder)
    return name_aside


def open_index(store: LocalStore) -> None:
    """Open store.db. Where it has to be made from packs, damaged packs are no error."""
    with contextlib.suppress(CorruptError):
        store.db.packs()


# --- what was lost --------------------------------------------------------------------------


def noted_lost(store: LocalStore) -> set[Digest]:
    """Return every chunk that was noted as lost; some may be back by now."""
    return {chunk for _, chunks in _notes(store) for chunk in chunks}


def take_from_aside(store: LocalStore) -> None:
    """Put lost chunks back into packs that are good in the files set aside.

    An interrupted repair may have left them only there.
    """
    lost = noted_lost(store)
    lost -= store.db.held_chunks(lost)
    folder = os.path.join(store.path, ASIDE)
    for name in sorted(os.listdir(folder)) if lost else ():
        path = os.path.join(folder, name)
        with contextlib.suppress(CorruptError), open(path, "rb") as file:
            index = read_index(file, size=os.path.getsize(path), where=path)
            placements = [placement for placement in index.placements() if placement.digest in lost]
            fresh = list(packs_of(store, read_chunks(path, placements)))
            if fresh:
                store.adopt(fresh)
            store.add_tried(index.recipes)
            lost -= store.db.held_chunks(lost)


def forget_found(store: LocalStore) -> None:
    """Drop the notes of which every chunk is back."""
    for path, chunks in _notes(store):
        if store.db.held_chunks(chunks) == chunks:
            os.unlink(path)


def _notes(store: LocalStore) -> Iterator[tuple[str, set[Digest]]]:
    folder = os.path.join(store.path, ASIDE)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name.endswith(LOST):
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                data = file.read()
            yield path, set(split_digests(data))
