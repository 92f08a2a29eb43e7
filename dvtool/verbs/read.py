"""ls and cat: the entries of manifests, and the content of one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

from dvtool.errors import MissingError, PathFault, SetupError, UsageError, printable
from dvtool.format.digest import Digest, parse_hex
from dvtool.format.manifest import Manifest
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.snapshots.listed import Listed
from dvtool.snapshots.shards import lists_needed
from dvtool.snapshots.snapshot import snapshot_within

BLOCK_BYTES = 4 << 20
"""How much of a file is written at a time."""


def ls(
    project: Project,
    settings: Settings,
    arguments: Arguments,
    paths: Paths,
    *,
    rev: str | None = None,
) -> Iterator[Listed]:
    """Yield the entries of the manifests in the worktree or (with `rev`) of a revision.

    Nothing is put into the store.
    """
    commit, manifests = _manifests_at(project, rev)
    selections = arguments.selections(sorted(manifests), paths)
    data = snapshot_within(project, settings, commit, manifests)
    with lists_needed():
        yield from data.entries_selected(selections)


def cat(
    project: Project,
    settings: Settings,
    arguments: Arguments,
    path: str | os.PathLike[str],
    *,
    rev: str | None = None,
) -> Iterator[memoryview]:
    """Yield the bytes of one tracked file, from the local store or else from a remote.

    Nothing is put into the store. Symlinks are followed within the data.
    """
    commit, manifests = _manifests_at(project, rev)
    arguments.selections(sorted(manifests), path)  # UsageError for what is in no target
    data = snapshot_within(project, settings, commit, manifests)
    try:
        file = data.open(arguments.relative(path), "rb")
    except PathFault as error:
        raise UsageError(
            f"{printable(os.fspath(path))} is not one tracked file",
            hint="see what there is: dv ls",
        ) from error
    return _blocks(file, settings)


def _manifests_at(project: Project, rev: str | None) -> tuple[str | None, dict[str, Manifest]]:
    """Return the commit of a revision, None for the worktree, and its manifests."""
    if rev is None:
        return None, project.manifests_of(None)
    commit = project.git.resolve(rev)
    return commit, project.manifests_at(commit)


def _blocks(file: IO[bytes], settings: Settings) -> Iterator[memoryview]:
    with file:
        try:
            while data := file.read(BLOCK_BYTES):
                yield memoryview(data)
        except MissingError as error:
            if not settings.remotes():
                raise SetupError(str(error), hint=error.hint) from error
            raise


def cat_content(project: Project, blake3: str) -> Iterator[memoryview]:
    """Yield the bytes of content in the local store, by its BLAKE3 in hex."""
    try:
        digest = parse_hex(blake3)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return _content(project, digest)


def _content(project: Project, digest: Digest) -> Iterator[memoryview]:
    with project.store.reader() as reader:
        reader.prepare([digest])
        yield from reader.read(digest)
