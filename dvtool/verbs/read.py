"""ls and cat: the entries of manifests, and the content of one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from dvtool.errors import UsageError, printable
from dvtool.format.digest import Digest, parse_hex
from dvtool.format.paths import workspace_path
from dvtool.format.selection import Selection
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.snapshots.listed import Listed
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.verbs.fetch import download, request as fetch_requests
else:
    download = later("dvtool.verbs.fetch.download")
    fetch_requests = later("dvtool.verbs.fetch.request")


def ls(
    project: Project, arguments: Arguments, paths: Paths, *, rev: str | None = None
) -> Iterator[Listed]:
    """Yield the entries of the manifests in the worktree or (with `rev`) of a revision."""
    manifests = project.manifests_of(rev)
    for selection in arguments.selections(sorted(manifests), paths):
        for path, entry in project.entries(manifests[selection.target], selection).items():
            target, shown = selection.target, entry.json_value
            yield Listed(
                path=workspace_path(target, path), target=target, **msgspec.structs.asdict(shown)
            )


def cat(
    project: Project,
    settings: Settings,
    arguments: Arguments,
    path: str | os.PathLike[str],
    *,
    rev: str | None = None,
) -> Iterator[memoryview]:
    """Yield the bytes of one tracked file, from the store or else from the default remote."""
    inner = arguments.relative(path)
    listed = [
        one
        for one in ls(project, arguments, path, rev=rev)
        if one.type == "file" and one.path == inner
    ]
    if len(listed) != 1:
        raise UsageError(
            f"{printable(os.fspath(path))} is not one tracked file",
            hint="see what there is: dv ls",
        )
    file = listed[0]
    digest = parse_hex(file.blake3 or "")
    if project.store.lacking([digest]):
        inside = file.path[len(file.target) + 1 :]
        selection = Selection(file.target, (inside,) if inside else ())
        manifest = project.manifests_of(rev)[file.target]
        request = fetch_requests.fetch_request(project, manifest, selection)
        download.fetch(project, settings.open_remotes(), [request])
    return _content(project, digest)


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
