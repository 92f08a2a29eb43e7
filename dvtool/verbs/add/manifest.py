"""The manifest that a target gets by an add, out of a scan and the manifest before."""

from __future__ import annotations

import contextlib
import errno
import os
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, takewhile
from typing import cast

import msgspec

from dvtool.errors import UnsavedError, listing, printable
from dvtool.format.file_shards import cut_file_shards
from dvtool.format.manifest import (
    INLINE_ENTRIES_MAX,
    Built,
    Entries,
    Entry,
    Kind,
    Manifest,
    ShardRef,
    ShardText,
    build,
    cut_shards,
    decode,
    encode,
    update,
)
from dvtool.format.merge import edited, merge, shards_needed
from dvtool.format.paths import SUFFIX, folder_of, folders_above, workspace_path
from dvtool.project.parts import Project
from dvtool.system.decoders import msgpack_decoder
from dvtool.system.stat import is_executable
from dvtool.system.workers import beside
from dvtool.verbs.add.plan import AddRequest
from dvtool.workspace.agreement import Agreement
from dvtool.workspace.folder_state import may_fork
from dvtool.workspace.scan import Scan, file_entry

BESIDE_MIN_FILES = 50_000
"""Below this a second process costs more than it saves."""


class _StoredBeside(msgspec.Struct):
    """The answer of the process that stored shards: their refs, or the error that ended it."""

    refs: list[ShardRef] = []
    errno: int = 0
    path: bytes = b""


_stored_decoder = msgpack_decoder(_StoredBeside)


@dataclass(slots=True)
class NextManifest:
    """The next manifest, and what is to be remembered of it; paths are of entries.

    `added` and `modified` count entries. Entries that are `left` are as they were, unlike the
    workspace; `changed` are folders with changes.
    """

    built: Built
    added: int = 0
    modified: int = 0
    left: Sequence[str] = ()
    removed: Sequence[str] = ()
    changed: Collection[str] = ()


def first_manifest(
    project: Project, kind: Kind, scan: Scan, meanwhile: Callable[[], object]
) -> NextManifest:
    """Make the first manifest of a target; of a large one, each shard is stored as it is cut.

    `meanwhile` is called once, while a second process makes the shards of very many files.
    """
    stored = _StoredBeside()
    if scan.read is not None and len(scan.read) >= BESIDE_MIN_FILES and may_fork():
        with beside(partial(_put_beside, project, scan, os.getpid())) as answer:
            meanwhile()
            with contextlib.suppress(msgspec.DecodeError):  # it failed, or was killed
                stored = _stored_decoder.decode(answer.read())
        if stored.errno:  # a disk says once that it lost something: do not try again
            path = os.fsdecode(stored.path) or None
            raise OSError(stored.errno, os.strerror(stored.errno), path)
        if sum(ref.files for ref in stored.refs) == len(scan.read):
            manifest = Manifest(kind, None, tuple(stored.refs))
            return NextManifest(Built(manifest, ()), added=manifest.files)
    else:
        meanwhile()
    if scan.read is not None:
        paths = scan.read.paths
    else:
        paths = sorted(chain(scan.files, scan.links, scan.empty_folders))
    entries = _entries_of(scan, paths)
    if len(paths) <= INLINE_ENTRIES_MAX:
        return NextManifest(build(kind, dict(entries)), added=len(paths))
    files_alone = len(paths) == len(scan.files) and scan.recorded is None
    refs = _put_lists(project, _file_shards(scan, paths) if files_alone else cut_shards(entries))
    return NextManifest(Built(Manifest(kind, None, tuple(refs)), ()), added=len(paths))


def _put_lists(project: Project, shards: Iterable[ShardText]) -> list[ShardRef]:
    refs: list[ShardRef] = []

    def noted() -> Iterator[ShardText]:
        for shard in shards:
            refs.append(shard.ref)
            yield shard

    project.store.put_shards(noted())
    return refs


def _put_beside(project: Project, scan: Scan, parent: int) -> bytes:
    """Store the shards of what was read; return how a manifest refers to them, encoded."""
    assert scan.read is not None
    shards = _file_shards(scan, scan.read.paths)
    # Without who began it, it ends soon: it holds the lock too.
    wanted = takewhile(lambda _: os.getppid() == parent, shards)
    try:
        stored = _StoredBeside(_put_lists(project, wanted))
    except OSError as error:
        path = error.filename if isinstance(error.filename, str) else ""
        stored = _StoredBeside(errno=error.errno or errno.EIO, path=os.fsencode(path))
    return msgspec.msgpack.encode(stored)


def _file_shards(scan: Scan, paths: Sequence[str]) -> Iterator[ShardText]:
    if scan.read is not None:
        read = scan.read
        return cut_file_shards(paths, bytes(read.joined), read.sizes(), read.executable())
    digests = b"".join(map(scan.digests.__getitem__, paths))
    sizes = array("Q", [scan.files[path].st_size for path in paths])
    executable = bytes([is_executable(scan.files[path]) for path in paths])
    return cut_file_shards(paths, digests, sizes, executable)


def _entries_of(scan: Scan, paths: Sequence[str]) -> Iterator[tuple[str, Entry]]:
    for path, digest, file_stat in scan.read or ():
        executable = is_executable(file_stat)
        yield path, Entry(blake3=digest.hex(), size=file_stat.st_size, exec=executable)
    for path in paths if scan.read is None else ():
        if path in scan.files:
            yield path, file_entry(scan, path)
        else:
            link = scan.links.get(path)
            yield path, Entry(dir=True) if link is None else Entry(symlink=link)


def next_manifest(
    project: Project,
    scan: Scan,
    before: Manifest,
    request: AddRequest,
    known: Agreement | None,
) -> NextManifest:
    """Make the manifest that follows another."""
    changes, old = _changes(project, scan, before, request, known)
    new = sum(entry is not None and path not in old for path, entry in changes.items())
    removed = [path for path, entry in changes.items() if entry is None]
    built = update(before, changes, project.shards.load)
    return NextManifest(
        edited(built) if changes else built,
        left=[path for path in old if path not in changes and not _is_there(scan, path)],
        added=new,
        modified=len(changes) - new - len(removed),
        removed=removed,
        changed={folder_of(path) for path in changes},
    )


def merge_meanwhile(
    project: Project, target: str, read: bytes | None, built: Built, now: bytes | None
) -> Built:
    """Merge a manifest that was built from the bytes `read` with that which is there `now`.

    UnsavedError, naming the entries, if both changed the same ones; nothing is written then, and
    the contents stay in the store.
    """
    name = printable(target + SUFFIX)
    hint = f"the contents are stored already; to make it a target: dv add {printable(target)}"
    if now is None:
        raise UnsavedError(f"{name} was removed while dvtool was at work", hint=hint)
    if now == encode(built.manifest):
        return built
    theirs = decode(now, target + SUFFIX)
    base = None if read is None else decode(read, target + SUFFIX)
    if theirs.kind != built.manifest.kind:
        raise UnsavedError(f"{name} became that of a {theirs.kind} meanwhile", hint=hint)
    project.shards.need(shards_needed(base, built.manifest, theirs))
    merged, conflicts = merge(base, built.manifest, theirs, project.shards.load)
    if conflicts:
        raise UnsavedError(
            f"{name} changed while dvtool was at work, in entries that it would change too; "
            "it was left as it is:\n"
            + listing(workspace_path(target, conflict.path) for conflict in conflicts),
            hint="the contents are stored already; keep yours: dv add --ours PATH; take the "
            "manifest's: dv checkout --force -- PATH (which saves yours first)",
        )
    return merged


def _changes(
    project: Project,
    scan: Scan,
    before: Manifest,
    request: AddRequest,
    known: Agreement | None,
) -> tuple[dict[str, Entry | None], Entries]:
    """Return the entries to set or remove, and entries that were there, all that these concern."""
    now: Entries = {path: file_entry(scan, path) for path in sorted(scan.files)}
    now.update({path: Entry(symlink=link) for path, link in scan.links.items()})
    now.update({path: Entry(dir=True) for path in scan.empty_folders})
    covering = folders_above([*now, request.inner] if request.inner else now) - now.keys()
    old: Entries = {}
    if known is not None:
        old = known.wanted | dict.fromkeys(known.empty, Entry(dir=True))
        # Above something new there may be an entry that was an empty folder, or a file.
        above = covering - folders_above(old)
        near = project.entries_near(known.manifest, above) if above else {}
        old |= {path: near[path] for path in above & near.keys()}
    else:
        # A shard that was never fetched and has no file of now in its range stays as it is, unread.
        concerned = (*now, *scan.seen, *scan.folders, *covering)
        old = project.entries_near(before, concerned, above=now)
    scan.leave_unfilled(old)
    left = set(scan.empty_folders)
    if len(left) < sum(one.dir for one in now.values()):
        now = {path: one for path, one in now.items() if not one.dir or path in left}
    changes = cast("dict[str, Entry | None]", now)
    if old:
        changes = {path: entry for path, entry in now.items() if old.get(path) != entry}
    for path in old:
        if path in now:
            continue
        # Never fetched is not deleted; but what now has something above or below it is replaced.
        if scan.vanished(path) or path in covering or path in scan.folders or _below(path, now):
            changes[path] = None
    return changes, old


def _is_there(scan: Scan, path: str) -> bool:
    return path in scan.files or path in scan.links or path in scan.folders


def _below(path: str, now: Entries) -> bool:
    parent = path.rpartition("/")[0]
    while parent:
        if parent in now:
            return True
        parent = parent.rpartition("/")[0]
    return False
