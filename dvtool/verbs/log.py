"""log: the commits that changed a target, or any."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dvtool.errors import MissingError, SetupError, UsageError, printable
from dvtool.format.compare import differences, differing
from dvtool.format.manifest import Entries, Manifest, ShardRef, decode, manifest_digest
from dvtool.format.paths import SUFFIX
from dvtool.git import Commit
from dvtool.project.arguments import Arguments
from dvtool.project.parts import Project
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.snapshots import shards
else:
    shards = later("dvtool.snapshots.shards")

_ReadShard: TypeAlias = Callable[[ShardRef], Entries]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A commit that changed a target. `author` and `subject` are foreign text: escape to print."""

    commit: str
    """The commit, in hex."""
    author: str
    """The author of the commit."""
    date: str
    """When that was, in ISO 8601 with its offset."""
    subject: str
    """The first line of the commit's message."""
    target: str
    """The target by its name in that commit, as a path from the top of the worktree."""
    renamed_from: str | None
    """Its name in the commit before, if this one gave it another; or null."""
    blake3: str | None
    """The manifest hash, in hex; null where the commit removed the target."""
    files: int
    """How many entries the manifest has."""
    bytes: int
    """Bytes of all its files together."""
    added: int | None = None
    """How many entries are new since the commit before; null where the shards to compare
    are not here, as of the next three (`dv fetch COMMIT` gets them)."""
    modified: int | None = None
    """How many entries changed."""
    removed: int | None = None
    """How many entries went."""
    renamed: int | None = None
    """How many files got another path."""


def log(
    project: Project,
    arguments: Arguments,
    path: str | os.PathLike[str] | None,
    *,
    rev: str | None = None,
    limit: int | None = None,
    environ: Mapping[str, str],
) -> Iterator[LogEntry]:
    """Yield the commits that changed a target, newest first, with counts against the one before.

        The log begins at a revision, at HEAD, or is of a range of commits. Where a commit gave the
    target its name, the target is followed by its name before. Without a path, commits that changed
    any target; one that changed several is yielded for each. SetupError if there is no commit;
    UsageError if none of the commits has the target. Shards are read from this disk alone.
    """
    if project.git.head() is None:
        raise SetupError("there are no commits yet", hint="git commit the manifests first")
    read_shard = shards.shards_here(project, environ).read_here
    if path is None:
        return _log_of_all(project, rev or "HEAD", limit, read_shard)
    target = arguments.relative(path).removesuffix(SUFFIX)
    # One more than asked for: the last shown is compared with the one before it.
    commits = _followed(project, target, rev or "HEAD", None if limit is None else limit + 1)
    if not commits and _has_target(project, arguments, path, rev):
        return iter(())
    if not commits:
        raise _no_commit(project, arguments, os.fspath(path))
    return _log_entries(project, commits, limit, read_shard)


def _has_target(
    project: Project, arguments: Arguments, path: str | os.PathLike[str], rev: str | None
) -> bool:
    """Whether there is nothing wrong with a log without commits: a range may have none."""
    if rev is None or ".." not in rev:
        return False
    target = arguments.relative(path).removesuffix(SUFFIX)
    return bool(list(project.git.log(target + SUFFIX, limit=1)))


class _CommitOf(NamedTuple):
    """A commit that changed a target, under the name that it had there."""

    target: str
    commit: Commit
    renamed_from: str | None = None


def _followed(project: Project, target: str, rev: str, limit: int | None) -> list[_CommitOf]:
    """Return the commits that changed a target, newest first, under each name that it had."""
    steps: list[_CommitOf] = []
    names: set[str] = set()
    until = rev.partition("..")[0] if ".." in rev else ""
    while limit is None or len(steps) < limit:
        left = None if limit is None else limit - len(steps)
        commits = list(project.git.log(target + SUFFIX, rev=rev, limit=left))
        steps.extend(_CommitOf(target, commit) for commit in commits)
        names.add(target)
        if not commits or (left is not None and len(commits) >= left):
            break
        oldest = commits[-1].id
        before = project.git.manifest_renamed_in(oldest, target + SUFFIX)
        if before is None or before.removesuffix(SUFFIX) in names:
            break
        steps[-1] = steps[-1]._replace(renamed_from=before.removesuffix(SUFFIX))
        target = before.removesuffix(SUFFIX)
        rev = f"{until}..{oldest}^" if until else f"{oldest}^"
    return steps


def _log_of_all(
    project: Project, rev: str, limit: int | None, read_shard: _ReadShard
) -> Iterator[LogEntry]:
    """Yield the commits that changed any target, a limited number of them."""
    commits = 0
    last = None
    for change in project.git.log_manifests(rev):
        if change.commit.id != last:
            commits += 1
            last = change.commit.id
        if limit is not None and commits > limit:
            return
        target = change.path.removesuffix(SUFFIX)
        before = change.old_path.removesuffix(SUFFIX)
        renamed_from = before if before != target else None
        old = _decoded(project, change.old_blob, f"{change.commit.short}^:{change.old_path}")
        new = _decoded(project, change.commit.blob, f"{change.commit.short}:{change.path}")
        yield _log_entry(read_shard, _CommitOf(target, change.commit, renamed_from), old, new)


def _no_commit(project: Project, arguments: Arguments, path: str) -> UsageError:
    """Say why there is nothing to show."""
    inner = arguments.relative(path)
    owners = [t for t in project.targets() if inner == t or inner.startswith(t + "/")]
    if not owners:
        return UsageError(
            f"{printable(path)} is not a target of dvtool, and was none in these commits",
            hint="`dv status` lists the targets",
        )
    if owners[0] == inner:
        return UsageError(f"no commit has {printable(path)} yet", hint="run: git commit")
    owner = printable(arguments.shown(owners[0]))
    return UsageError(f"{printable(path)} is a part of {owner}", hint=f"run: dv log {owner}")


def _log_entries(
    project: Project, steps: Sequence[_CommitOf], limit: int | None, read_shard: _ReadShard
) -> Iterator[LogEntry]:
    manifests = [
        _decoded(project, step.commit.blob, f"{step.commit.short}:{step.target + SUFFIX}")
        for step in steps
    ]
    for number, (step, manifest) in enumerate(zip(steps, manifests, strict=True)):
        if limit is not None and number == limit:
            return
        before = manifests[number + 1] if number + 1 < len(manifests) else None
        yield _log_entry(read_shard, step, before, manifest)


def _decoded(project: Project, blob: str | None, name: str) -> Manifest | None:
    return None if blob is None else decode(project.git.read_blob(blob), name)


def _log_entry(
    read_shard: _ReadShard, step: _CommitOf, old: Manifest | None, new: Manifest | None
) -> LogEntry:
    commit = step.commit
    entry = LogEntry(
        commit=commit.id,
        author=commit.author,
        date=commit.date_iso,
        subject=commit.subject,
        target=step.target,
        renamed_from=step.renamed_from,
        blake3=manifest_digest(new).hex() if new else None,
        files=new.files if new else 0,
        bytes=new.bytes if new else 0,
    )
    try:
        changes = differences(*differing(old, new, read_shard))
    except MissingError:
        return entry
    counts = Counter(change.change for change in changes)
    return replace(
        entry,
        added=counts["added"],
        modified=counts["modified"],
        removed=counts["removed"],
        renamed=counts["renamed"],
    )
