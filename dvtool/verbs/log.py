"""log: the commits that changed a target."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dvtool.errors import MissingError, SetupError, UsageError, printable
from dvtool.format.compare import differences, differing
from dvtool.format.manifest import Manifest, decode, manifest_digest
from dvtool.format.paths import SUFFIX
from dvtool.git import Commit
from dvtool.project.arguments import Arguments
from dvtool.project.parts import Project


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
    path: str | os.PathLike[str],
    *,
    rev: str | None = None,
    limit: int | None = None,
) -> Iterator[LogEntry]:
    """Yield the commits that changed a target, newest first, with counts against the one before.

    The log begins at a revision, or at HEAD. SetupError if there is no commit; UsageError if none
    of the commits has the target.
    """
    target = arguments.relative(path).removesuffix(SUFFIX)
    if project.git.head() is None:
        raise SetupError("there are no commits yet", hint="git commit the manifests first")
    # One more than asked for: the last shown is compared with the one before it.
    more = None if limit is None else limit + 1
    commits = list(project.git.log(target + SUFFIX, rev=rev or "HEAD", limit=more))
    if not commits:
        raise _no_commit(project, arguments, os.fspath(path))
    return _log_entries(project, target, commits, limit)


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
    project: Project, target: str, commits: Sequence[Commit], limit: int | None
) -> Iterator[LogEntry]:
    manifests = [_manifest_of(project, target, commit) for commit in commits]
    for number, (commit, manifest) in enumerate(zip(commits, manifests, strict=True)):
        if limit is not None and number == limit:
            return
        before = manifests[number + 1] if number + 1 < len(manifests) else None
        yield _log_entry(project, commit, before, manifest)


def _manifest_of(project: Project, target: str, commit: Commit) -> Manifest | None:
    if commit.blob is None:
        return None
    text = project.git.read_blob(commit.blob)
    return decode(text, f"{commit.short}:{target + SUFFIX}")


def _log_entry(
    project: Project, commit: Commit, old: Manifest | None, new: Manifest | None
) -> LogEntry:
    entry = LogEntry(
        commit=commit.id,
        author=commit.author,
        date=commit.date_iso,
        subject=commit.subject,
        blake3=manifest_digest(new).hex() if new else None,
        files=new.files if new else 0,
        bytes=new.bytes if new else 0,
    )
    try:
        changes = differences(*differing(old, new, project.store.held_shard))
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
