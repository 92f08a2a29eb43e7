"""Carrying out a checkout: each file is written beside its place, verified, and renamed into it.

A file that somebody changes meanwhile stays: only files as planned are replaced or removed.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from operator import sub
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import structs

from dvtool.errors import ManifestError, count_text, printable
from dvtool.format.digest import EMPTY, Digest
from dvtool.format.manifest import Entry
from dvtool.format.paths import SELF, folders_above, workspace_path
from dvtool.jobs.engine import LOCAL_POOL, Engine, engine_for
from dvtool.jobs.unpack import Piece, write_pieces
from dvtool.project.ignoring import keep_out
from dvtool.project.parts import Project
from dvtool.store.reader import ContentReader
from dvtool.system.atomic import naming_full_disk
from dvtool.system.stat import Stamp
from dvtool.verbs.checkout.plan import (
    NEXT_RUN_FILES_MAX,
    RUN_FILES_MAX,
    CheckoutPlan,
    FilesByContent,
    content_runs,
    is_one_run,
)
from dvtool.workspace.agreement import entries_by_folder, remember
from dvtool.workspace.last_look import There, same_content
from dvtool.workspace.remembered import save_each_seen
from dvtool.workspace.scan import sweep
from dvtool.workspace.sparse import write_sparse
from dvtool.workspace.statcache import Seen, seen_other
from dvtool.workspace.unnamed import UNKNOWN_SIZE

_Written: TypeAlias = dict[str, tuple[int, int, int, int]]
"""The fields of the `Stamp` of the files that were written, by path."""
_ToWrite: TypeAlias = Sequence[tuple[Digest, Sequence[tuple[str, Entry]]]]
"""Contents in the order in which they are best read, each with the files that have it."""


class _Runs(NamedTuple):
    """The files to write, in runs: the contents of each are prepared until the next is asked for.

    `look_up` prepares those of a run once more.
    """

    fresh: Iterable[_ToWrite]
    """Files in whose place nothing was when the checkout was planned."""
    others: Iterable[_ToWrite]
    look_up: Callable[[FilesByContent], _ToWrite]


class CheckedOut(msgspec.Struct, frozen=True):
    """The result for one target."""

    target: str
    """The target, as a path from the top of the worktree."""
    written: int
    """How many files, links and folders were written."""
    written_bytes: int
    """Bytes of the files that were written."""
    removed: int
    """How many files, links and folders were removed."""


def foreseen(plan: CheckoutPlan) -> CheckedOut:
    """Return what carrying out a plan would do."""
    return CheckedOut(plan.target, len(plan.write), plan.write_bytes, len(plan.remove))


def apply_checkout(
    project: Project, plan: CheckoutPlan, *, engine: Engine = LOCAL_POOL
) -> CheckedOut:
    """Carry out a plan: remove, then write, then remember what is now on the disk.

    Of many files a run is looked up while the one before is written, once the sizes of all contents
    were looked up.
    """
    if plan.write:
        keep_out(project, plan.target)  # before there is data that git could take
    scan = plan.scan
    there = scan.files.keys() | scan.links.keys() | scan.folders
    with naming_full_disk(project.root, plan.write_bytes), project.store.reader() as reader:
        if is_one_run(plan):
            # One run, looked up once.
            every = [_looked_up(reader, run) for run in content_runs(plan.write.items())]
            _refuse_false_size(plan, chain.from_iterable(every), reader.prepared_size)
            fresh = [_among(run, there, False) for run in every] if there else every
            others = [_among(run, there, True) for run in every] if there else []
            runs = _Runs(fresh, others, lambda run: tuple(run.items()))
        else:
            runs = _many_runs(plan, there, reader)
        return _apply(project, plan, reader, runs, engine)


def _among(files: _ToWrite, paths: Container[str], is_in: bool) -> _ToWrite:
    """Return the files at these paths, if `is_in`, else all others."""
    some = (
        (digest, [place for place in places if (place[0] in paths) is is_in])
        for digest, places in files
    )
    return [(digest, places) for digest, places in some if places]


def _looked_up(reader: ContentReader, run: FilesByContent) -> _ToWrite:
    """Prepare to read contents; return them in the order in which they are best read."""
    return _in_order(reader.prepare(run), run)


def _in_order(order: Sequence[Digest], run: FilesByContent) -> _ToWrite:
    """Return the files of a run, those with content in this order."""
    return [(digest, run[digest]) for digest in (*order, EMPTY) if digest in run]


def _many_runs(plan: CheckoutPlan, there: Container[str], reader: ContentReader) -> _Runs:
    """Return the runs of more files than are looked up at a time.

    For new files there is one look at the index, in columns: it says all sizes, before all else,
    and where the contents of each run are.
    """
    items = plan.write.items()

    def new_runs() -> Iterator[FilesByContent]:
        absent = (item for item in items if item[0] not in there) if there else items
        return content_runs(absent, NEXT_RUN_FILES_MAX)

    def present_runs() -> Iterator[FilesByContent]:
        return content_runs(item for item in items if item[0] in there) if there else iter(())

    digests: list[bytes] = []
    sizes = array("q")
    for run in new_runs():
        digests.append(b"".join(run))
        sizes.extend(map(_only_size, run.values()))
    joined = b"".join(digests)
    digests.clear()
    columns = reader.look_up(joined)
    del joined
    # A content that no pack has by its own name, as the empty one, has the size 0 in the columns.
    doubtful = {at for at, size in enumerate(map(sub, columns.sizes, sizes)) if size != 0}
    if doubtful:
        at = count()
        for run in new_runs():
            # As many numbers are taken as the run has contents.
            some = {d: places for d, places in run.items() if next(at) in doubtful}
            _refuse_false_sizes(plan, [some], reader)
    _refuse_false_sizes(plan, present_runs(), reader)

    def prepared() -> Iterator[_ToWrite]:
        first = 0
        for run in new_runs():
            order = reader.prepare_from(columns, first, tuple(run))
            first += len(run)
            yield _in_order(order, run)

    look_up = partial(_looked_up, reader)
    return _Runs(prepared(), map(look_up, present_runs()), look_up)


def _refuse_false_sizes(
    plan: CheckoutPlan, runs: Iterable[FilesByContent], reader: ContentReader
) -> None:
    """Do as `_refuse_false_size` for runs of files, of which only the sizes are looked up."""
    for run in runs:
        sizes = {EMPTY: 0, **reader.sizes(run)}
        _refuse_false_size(plan, run.items(), sizes.__getitem__)


def _only_size(places: Sequence[tuple[str, Entry]]) -> int:
    """Return the size that the entries of a content have, -1 if they differ."""
    size = places[0][1].size
    same = len(places) == 1 or all(entry.size == size for _, entry in places)
    return size if same else -1


def _refuse_false_size(
    plan: CheckoutPlan,
    files: Iterable[tuple[Digest, Sequence[tuple[str, Entry]]]],
    size_of: Callable[[Digest], int],
) -> None:
    """Raise a ManifestError if an entry has another size than its content, before all else."""
    for digest, places in files:
        size = size_of(digest)
        for path, entry in places:
            if entry.size != size:
                raise ManifestError(
                    f"{printable(workspace_path(plan.target, path))}: the manifest says "
                    f"{entry.size:,} bytes, the content has {size:,}; nothing was changed"
                )


def _apply(
    project: Project,
    plan: CheckoutPlan,
    reader: ContentReader,
    runs: _Runs,
    engine: Engine,
) -> CheckedOut:
    sweep(project, plan.scan)
    for path in plan.remove:
        place = workspace_path(plan.target, path)
        if path in plan.scan.folders:
            project.workspace.remove_empty_folder(place)
        else:
            project.workspace.remove(place, believed=plan.scan.believed(path))
    _prune(project, plan)
    if plan.make_target:
        project.workspace.make_folder(plan.target)
    count = count_text(len(plan.write), "file")
    project.progress.start(f"writing {count} of {plan.target}", total_bytes=plan.write_bytes)
    _write_files(project, plan, reader, runs, engine)
    project.progress.finish()
    for path, entry in plan.write.items():
        place = workspace_path(plan.target, path)
        believed = plan.scan.believed(path)
        if entry.symlink:
            project.workspace.write_link(place, entry.symlink, believed=believed)
        elif entry.dir:
            if believed is not There.FOLDER:
                # A file or link that became an empty folder: its content was seen to be saved.
                project.workspace.remove(place, believed=believed)
            project.workspace.make_folder(place)
    changed: _Written = {}
    for path, entry in plan.chmod.items():
        place = workspace_path(plan.target, path)
        found = project.workspace.set_executable(
            place, entry.exec, believed=plan.scan.believed(path)
        )
        known = plan.scan.seen.get(path)
        if same_content(plan.scan.files[path], found) and known is not None:
            # The bits moved the ctime; what its other stamps prove, they prove still.
            sure = known.matches(plan.scan.files[path])
            size = found.st_size if sure else UNKNOWN_SIZE
            changed[path] = Stamp(found.st_mtime_ns, found.st_ctime_ns, size, found.st_ino)
    seen = chain(_seen_written(plan, changed), _seen_besides(plan, changed))
    save_each_seen(project, plan.target, seen)
    _remember_same(project, plan)
    return CheckedOut(
        plan.target, len(plan.write) + len(plan.chmod), plan.write_bytes, len(plan.remove)
    )


def _write_files(
    project: Project, plan: CheckoutPlan, reader: ContentReader, runs: _Runs, engine: Engine
) -> None:
    """Write what is new first, then, one by one, what has to be looked at before it is replaced."""
    failed = dict(_write_new(project, plan, reader, runs.fresh, engine))
    again = map(runs.look_up, content_runs(failed.items()))
    for files in chain(runs.others, again):
        written: _Written = {}
        for path, entry in chain.from_iterable(places for _, places in files):
            place = workspace_path(plan.target, path)
            written[path] = project.workspace.write_data(
                place,
                _filler(reader, place, entry),
                executable=entry.exec,
                believed=plan.scan.believed(path),
            )
            project.progress.advance(entry.size)
        save_each_seen(project, plan.target, _seen_written(plan, written))


def _write_new(
    project: Project,
    plan: CheckoutPlan,
    reader: ContentReader,
    runs: Iterable[_ToWrite],
    engine: Engine,
) -> Iterator[tuple[str, Entry]]:
    """Write the files that nothing was in the place of, and remember them; yield those that failed.

    The sizes in the entries were compared with the contents' before.
    """
    prefix = plan.target + "/"

    def pieces_of(files: _ToWrite) -> list[Piece]:
        return [
            (plan.target if path == SELF else prefix + path, digest, entry.size, entry.exec)
            for digest, places in files
            for path, entry in places
        ]

    skip = len(prefix)
    tell = project.progress.advance
    engine = engine_for(engine, files=len(plan.write), size_bytes=plan.write_bytes)
    pieces = map(pieces_of, runs)
    written: _Written = {}
    for batch, stamps in write_pieces(
        engine, project.workspace, project.store, reader, pieces, tell
    ):
        for (place, _, size, _), stamp in zip(batch, stamps, strict=True):
            path = place[skip:] or SELF
            if stamp is None:
                tell(-size)  # it is written in another way
                yield path, plan.write[path]
            else:
                written[path] = stamp
        if len(written) >= RUN_FILES_MAX:
            save_each_seen(project, plan.target, _seen_written(plan, written))
            written = {}
    save_each_seen(project, plan.target, _seen_written(plan, written))


def _filler(reader: ContentReader, place: str, entry: Entry) -> Callable[[int], None]:
    def fill(fd: int) -> None:
        size = write_sparse(fd, reader.read(entry.digest))
        if size != entry.size:
            raise ManifestError(
                f"{printable(place)}: the manifest says {entry.size:,} bytes, "
                f"the content has {size:,}"
            )

    return fill


def _prune(project: Project, plan: CheckoutPlan) -> None:
    """Remove the folders that the removals emptied, deepest first."""
    replaced = {path for path in plan.write if path in plan.scan.folders}
    candidates = folders_above(plan.remove) | replaced | plan.emptied
    wanted = {path for path, entry in (*plan.write.items(), *plan.settled.items()) if entry.dir}
    for folder in sorted(candidates - plan.keep_folders - wanted, key=len, reverse=True):
        if folder in plan.scan.folders:
            project.workspace.remove_empty_folder(workspace_path(plan.target, folder))


def _remember_same(project: Project, plan: CheckoutPlan) -> None:
    """Remember the folders in which all was as the manifest says, and still is."""
    scan = plan.scan
    if plan.manifest is None or not scan.states:
        return
    empty = set(scan.empty_folders)
    doubtful = {*plan.write, *plan.chmod, *plan.remove}
    doubtful.update(chain(scan.files, scan.links, empty))
    doubtful -= plan.settled.keys()
    doubtful.update(p for p, entry in plan.settled.items() if entry.dir and p not in empty)
    counts = entries_by_folder(chain(plan.settled, plan.write, plan.chmod), plan.manifest)
    remember(project, scan, counts, doubtful, stored=plan.settled)


def _seen_written(plan: CheckoutPlan, written: _Written) -> Iterator[tuple[str, Seen]]:
    """Yield what to remember of files that were written, or made executable, by now."""
    for path, stamp in sorted(written.items()):
        entry = plan.write.get(path) or plan.chmod[path]
        # The fields of `seen_written`, whose call would double the time of a million files.
        yield path, Seen(*stamp, entry.exec, bytes.fromhex(entry.blake3), True)


def _seen_besides(plan: CheckoutPlan, changed: _Written) -> Iterator[tuple[str, Seen | None]]:
    """Yield what to remember of all that no file was written for, and what to forget."""
    for path in () if plan.stays_tracked else plan.remove:
        yield path, None
    others = ((path, entry) for path, entry in plan.write.items() if not entry.is_file)
    for path, entry in chain(others, plan.chmod.items(), plan.settled.items()):
        known = plan.scan.seen.get(path)
        if path in changed or (known is not None and known.tracked):
            continue
        if known is not None and entry.is_file and path in plan.scan.files:
            yield path, structs.replace(known, tracked=True)
        else:
            yield path, seen_other(entry.symlink, tracked=True)
