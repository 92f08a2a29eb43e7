"""The record of a merge that left conflicts: these outlive `git add -A` and a commit.

git keeps the sides of an unmerged manifest in its index, until somebody stages the file. The record
names them too, and the commit on which they were merged, so that it is in force as long as that
merge is under way, or is what HEAD is, and the manifest is the one that the merge left. The record
is below the git folder of the worktree and is not flushed (decision 023).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence

import msgspec
from msgspec import structs

from dvtool.format.digest import digest_of
from dvtool.format.merge import Conflict
from dvtool.format.paths import SUFFIX
from dvtool.project.parts import Project
from dvtool.system.atomic import make_folders, read_own_file, write_bytes
from dvtool.system.decoders import json_decoder

THEIRS_PREFIX = "3:"
RECORD_SIZE_MAX_BYTES = 256 << 20


class OpenConflicts(msgspec.Struct):
    """The conflicts still open in one manifest, of the text with this BLAKE3 ("": there is none).

    `stages` are git's, as ``number:blob``. `conflicts` is None until they were worked out, and
    `head` the commit that was checked out. `before` is what was recorded of the text before, until
    the manifest is written: so that a crash in between leaves one of the two.
    """

    target: str
    stages: list[str]
    manifest: str
    conflicts: list[Conflict] | None
    head: str | None = None
    before: OpenConflicts | None = None


def keep_record(
    project: Project,
    target: str,
    stages: Sequence[str],
    manifest: bytes | None,
    conflicts: Collection[Conflict] | None,
) -> None:
    """Record which conflicts are left in the manifest of this text; None: not worked out yet."""
    _write_record(project, _record(project, target, stages, manifest, conflicts), durable=False)


def keep_settled(
    project: Project,
    target: str,
    stages: Sequence[str],
    manifest: bytes,
    conflicts: Collection[Conflict],
) -> None:
    """As `keep_record`, durably and before the manifest of this text is written.

    Until then, what was recorded of the one that is there counts.
    """
    before = find_record(project, target, stages)
    if before is None:
        before = _record(project, target, stages, project.manifest_text(target), None)
    record = _record(project, target, stages, manifest, conflicts)
    # A commit made of both sides keeps the commit that they were merged on.
    head = before.head or record.head
    _write_record(project, structs.replace(record, head=head, before=before), durable=True)


def note_unmerged(project: Project, target: str, stages: Sequence[str]) -> None:
    """Record that git has a manifest as unmerged, unless that is recorded."""
    record = _read_record(_record_path(project, target))
    if record is None or record.stages != list(stages):
        keep_record(project, target, stages, project.manifest_text(target), None)


def find_record(project: Project, target: str, stages: Sequence[str]) -> OpenConflicts | None:
    """Return what is recorded of this very merge and of the manifest as it is, else None."""
    record = _read_record(_record_path(project, target))
    if record is None or record.stages != list(stages):
        return None
    return _as_left(project, record)


def records_in_force(project: Project) -> Iterator[OpenConflicts]:
    """Yield what is recorded of merges that are under way, or that HEAD is, and not settled."""
    for every in _every(project):
        record = _as_left(project, every)
        if record is not None and _is_of_now(project, record):
            yield record


def is_any_recorded(project: Project) -> bool:
    """Whether anything is recorded, in force or not."""
    return next(_every(project), None) is not None


def is_recorded(project: Project, target: str) -> bool:
    """Whether anything is recorded of a target, in force or not."""
    return os.path.exists(_record_path(project, target))


def forget_record(project: Project, target: str) -> None:
    """Drop what is recorded of a target."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_record_path(project, target))


def forget_other_records(project: Project, targets: Collection[str]) -> None:
    """Drop what is recorded of merges that are over: of all but these targets."""
    kept = {os.path.basename(_record_path(project, target)) for target in targets}
    folder = _folder(project)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if name not in kept:
                os.unlink(os.path.join(folder, name))


def _as_left(project: Project, record: OpenConflicts) -> OpenConflicts | None:
    """Return what the record says of the manifest as it is; None: it is of another text."""
    text = _digest_text(project.manifest_text(record.target))
    both = (record, record.before)
    return next(
        (candidate for candidate in both if candidate is not None and candidate.manifest == text),
        None,
    )


def _digest_text(manifest: bytes | None) -> str:
    return "" if manifest is None else digest_of(manifest).hex()


def _record(
    project: Project,
    target: str,
    stages: Sequence[str],
    manifest: bytes | None,
    conflicts: Collection[Conflict] | None,
) -> OpenConflicts:
    left = None if conflicts is None else list(conflicts)
    return OpenConflicts(target, list(stages), _digest_text(manifest), left, project.git.head())


def _write_record(project: Project, record: OpenConflicts, *, durable: bool) -> None:
    path = _record_path(project, record.target)
    make_folders(os.path.dirname(path))
    write_bytes(path, msgspec.json.encode(record), durable=durable)


def _is_of_now(project: Project, record: OpenConflicts) -> bool:
    """Whether the merge is under way, or HEAD is it: by the other side's version and the commit."""
    git = project.git
    path = record.target + SUFFIX
    if not all(":" in stage for stage in record.stages):
        return False  # of what git merged as text, told by the commits: see `conflicts`
    stages = (stage for stage in record.stages if stage.startswith(THEIRS_PREFIX))
    theirs = next(stages, THEIRS_PREFIX).removeprefix(THEIRS_PREFIX) or None
    others: list[str] = []
    if git.head() == record.head:
        others += git.other_sides()
    sides = git.merge_sides()
    if sides is not None and sides[1] == record.head:
        others.append(sides[2])
    return any(git.blobs_at(commit, [path]).get(path) == theirs for commit in others)


def _every(project: Project) -> Iterator[OpenConflicts]:
    folder = _folder(project)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        record = _read_record(os.path.join(folder, name))
        if record is not None:
            yield record


def _read_record(path: str) -> OpenConflicts | None:
    text = read_own_file(path, size_max_bytes=RECORD_SIZE_MAX_BYTES)
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return None if text is None else json_decoder(OpenConflicts).decode(text)
    return None


def _folder(project: Project) -> str:
    return os.path.join(project.git.git_dir, "dv", "conflicts")


def _record_path(project: Project, target: str) -> str:
    name = digest_of(target.encode("utf-8", "surrogateescape")).hex()[:32]
    return os.path.join(_folder(project), name + ".json")
