"""Listing an origin: what there is, whether it can be a target, and which state that is.

The listing goes to the disk, a page at a time, so that memory does not grow with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import structs

from dvtool.errors import InputError, MissingError, listing, printable, size_text
from dvtool.format.chunker import FILE_SIZE_MAX_BYTES
from dvtool.format.paths import SELF, link_fault, path_faults
from dvtool.format.selection import Selection
from dvtool.format.source import DataSource
from dvtool.format.spelling import too_long
from dvtool.project.taken import TakenObjects
from dvtool.remotes.origins.base import FORM_LINK, Origin, OriginObject
from dvtool.remotes.origins.registry import entry_paths
from dvtool.system.progress import Progress
from dvtool.verbs.imports.leftovers import TAKE_ALL, Leftovers

NAMES_MAX = 10


@dataclass(slots=True)
class Listing:
    """The data of a source: `source` with the state that was found, and the totals."""

    source: DataSource
    leftovers: Leftovers
    """Objects that jobs left there beside their data; not taken."""
    objects: int = 0
    bytes: int = 0
    pages: int = 0
    markers: int = 0
    """Empty objects that stand for folders; not taken."""
    more: bool = False
    """Whether there are more objects than the limit allows."""
    faults: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    """Sentences on what is there and was not listed."""
    to_disk: bool = False
    """Whether what is taken is to be files of the workspace too."""
    is_on_disk: bool = False
    """Whether all of that is files by now."""


class Opened(NamedTuple):
    """A source, its origin, and its listing, of which no page is asked twice."""

    source: DataSource
    origin: Origin
    batches: Iterator[list[OriginObject]]
    commit: str = ""
    """The state that is listed, where that is a commit."""
    notes: tuple[str, ...] = ()
    """Sentences on what is there and is not listed."""


def list_source(
    taken: TakenObjects, opened: Opened, progress: Progress, *, to_disk: bool
) -> Listing:
    """List what a source has, filtered, into `taken`.

    MissingError if that is nothing. InputError, naming the keys, if something there can be no
    entry, or (`to_disk`) no file.
    """
    source = opened.source
    found = Listing(source, Leftovers.of(source), notes=opened.notes, to_disk=to_disk)
    progress.start("listing")
    for batch in opened.batches:
        found.pages += 1
        room = source.limit - found.objects if source.limit else len(batch)
        passed = list(_chosen(found, batch))
        faults = dict(path_faults(path for path, _ in passed if path != SELF))
        chosen = [pair for pair in passed if _is_sound(found, *pair, faults, to_disk)]
        found.more = bool(source.limit) and len(chosen) > room
        taken.list_objects(chosen[:room] if source.limit else chosen)
        found.objects += min(len(chosen), room) if source.limit else len(chosen)
        if found.more or len(found.faults) > NAMES_MAX:
            break
    progress.finish()
    _refuse_keys(taken, found)
    found.objects, found.bytes = taken.total()
    if not found.objects:
        raise MissingError(
            f"there is nothing to take at {opened.origin.url}", hint=_hint_of_nothing(found)
        )
    found.source = structs.replace(source, state=opened.commit or taken.state())
    return found


def _hint_of_nothing(found: Listing) -> str:
    if found.leftovers.objects:
        names = found.leftovers.names_text()
        return f"only what jobs leave beside their data is there: {names}; to take it: {TAKE_ALL}"
    if found.source.include or found.source.exclude:
        return "check the address; --include and --exclude leave out what they do not match"
    return "check the address: an S3 prefix means the keys below PREFIX/"


def _chosen(found: Listing, batch: list[OriginObject]) -> Iterator[tuple[str, OriginObject]]:
    """Yield the objects that the filters let pass, with their paths."""
    source, leftovers = found.source, found.leftovers
    # The filters of an archive are for its members.
    passes = (lambda _: True) if source.unpack else filters_of(source)
    # Also a leftover that no --include takes may say that a job is not done.
    is_looked_at = filters_of(structs.replace(source, include=()))
    markers, path_of = leftovers.folder_suffixes, entry_paths(source)
    for described in batch:
        path = path_of(described.key)
        left = leftovers.look_at(path) if is_looked_at(path) else ""
        if described.size == 0 and described.key.endswith(markers):
            found.markers += 1
        elif passes(path) and not (left and leftovers.leaves_out(left)):
            yield path, described


def filters_of(source: DataSource) -> Callable[[str], bool]:
    """Return what tells whether the filters of a source let a path pass."""
    include, exclude = (_globs(globs) for globs in (source.include, source.exclude))

    def passes(path: str) -> bool:
        if include is not None and not include.matches(path):
            return False
        return exclude is None or not exclude.matches(path)

    return passes


def _globs(globs: tuple[str, ...]) -> Selection | None:
    """Return what globs select; one without a slash selects at any depth, as in .gitignore."""
    if not globs:
        return None
    return Selection("", tuple(one if "/" in one else f"**/{one}" for one in globs))


def _is_sound(
    found: Listing, path: str, described: OriginObject, faults: Mapping[str, str], to_disk: bool
) -> bool:
    fault = faults.get(path)
    if described.form == FORM_LINK:
        fault = fault or _fault_of_link(path, described.version)
    elif described.key.endswith("/"):
        fault = "ends in a slash and is not empty"
    elif described.size > FILE_SIZE_MAX_BYTES:
        fault = f"has {size_text(described.size)}, more than the 1 TiB that a file may have"
    elif to_disk and fault is None and too_long(path):
        fault = "has a name that is too long for a file (--no-checkout keeps it out of here)"
    if fault is not None:
        found.faults.append(f"{described.key} {fault}")
    return fault is None


def _fault_of_link(path: str, target: str) -> str | None:
    if path == SELF:
        return f"is a symlink (-> {printable(target)}): name the path that it leads to"
    return link_fault(path, target)


def _refuse_keys(taken: TakenObjects, found: Listing) -> None:
    """Raise an InputError for keys that can be no entries, alone or together."""
    if found.faults:
        raise InputError(
            f"these keys of {printable(found.source.url)} can be no files; nothing was recorded:\n"
            f"{listing(found.faults)}",
            hint="leave them out, repeating the command: --exclude GLOB",
        )
    pairs = taken.one_for_another(NAMES_MAX)
    if pairs:
        names = [f"{first}  and  {second}" for first, second in pairs]
        raise InputError(
            f"these keys of {printable(found.source.url)} would be one name on many disks, or a "
            f"file and a folder of one name; nothing was recorded:\n{listing(names)}",
            hint="leave one of each out, repeating the command: --exclude GLOB",
        )
