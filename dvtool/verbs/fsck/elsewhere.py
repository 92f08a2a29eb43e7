"""Contents that are not here: whether a remote is known to have them, without asking it."""

from __future__ import annotations

from collections.abc import Collection

from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import shard_refs
from dvtool.project.history import FOR_FSCK, held_runs, versions
from dvtool.project.parts import Project
from dvtool.remotes.objects import pack_key, shard_key
from dvtool.store.database import Database


def known_on_remotes(project: Project, db: Database, contents: Collection[Digest]) -> set[Digest]:
    """Return those of the contents that some remote is known to have: a hint, nobody is asked."""
    known = known_by_chunks(db, contents)
    left = set(contents) - known
    return known | (_in_proven_shards(project, db, left) if left else set())


def known_by_chunks(db: Database, contents: Collection[Digest]) -> set[Digest]:
    """Return those of the contents of which some remote is known to have every chunk."""
    known: set[Digest] = set()
    for number in db.remotes.numbers():
        known |= db.known_on(number, contents)
    return known


def _in_proven_shards(project: Project, db: Database, contents: set[Digest]) -> set[Digest]:
    """Return those of the contents that a shard names which a remote was proven to have whole.

    Of packs that the workers of an import put there nothing else is known here: no chunk of them.
    """
    proven: set[Digest] = set()
    done: set[Digest] = set()
    for version in versions(project, FOR_FSCK):
        for ref, entries in held_runs(project, version.manifest, done=done):
            if entries is None:
                continue
            named = contents_of(entries).keys() & contents
            if named <= proven:
                continue
            cuts = [ref] if ref is not None else [cut.ref for cut in shard_refs(entries)]
            if _whole_somewhere(db, {cut.digest for cut in cuts}):
                proven |= named
    return proven


def _whole_somewhere(db: Database, shards: Collection[Digest]) -> bool:
    """Whether one remote has the shards, as far as is known, and every pack they point into."""
    for number in db.remotes.numbers():
        pointed = db.remotes.shards(number, shards)
        if pointed.keys() != set(shards) or db.remotes.referring(number, shards):
            continue
        keys = {shard_key(shard) for shard in shards}
        keys.update(pack_key(pack) for packs in pointed.values() for pack in packs)
        if len(db.remotes.objects(number, keys)) == len(keys):
            return True
    return False
