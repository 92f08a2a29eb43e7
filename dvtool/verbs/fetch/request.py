"""The request for a fetch, made from paths and revisions, and the result of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dvtool.format.digest import Digest
from dvtool.format.manifest import Entries, Manifest
from dvtool.format.selection import Selection
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.history import versions_behind
from dvtool.project.parts import Project


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A request to fetch a manifest, as far as selected, and of that only some contents if given.

    `past` gives earlier versions of the manifest, newest first. A manifest that was changed here
    and not pushed is not on the remote; earlier versions that are there say where the unchanged
    content is.
    """

    manifest: Manifest
    selection: Selection
    only: frozenset[Digest] | None = None
    past: Callable[[], Iterator[Manifest]] | None = None
    sizes: Mapping[Digest, int] | None = None
    """The sizes of all requested contents, if they are known: the shards need not be read."""

    def contents(self, entries: Entries) -> Iterator[tuple[Digest, int]]:
        """Yield digest and size of the requested contents among some entries of the manifest."""
        only = self.only
        for entry in entries.values():
            if entry.size > 0 and (only is None or entry.digest in only):
                yield entry.digest, entry.size


@dataclass(slots=True)
class Fetched:
    """The result of a fetch."""

    remote: str
    """URL of the remote that was asked first."""
    files: int = 0
    """How many files are here now that were not before."""
    bytes: int = 0
    """Bytes of these files together."""
    transferred_bytes: int = 0
    """Bytes that came from remotes."""
    found: int = 0
    """How many files were wanted too and here already, as by a fetch that was interrupted."""
    warnings: tuple[str, ...] = ()
    """Sentences for people: what a remote lacked that another one had."""
    sources: tuple[str, ...] = ()
    """URLs of the remotes that files came from."""


def fetch_request(
    project: Project,
    manifest: Manifest,
    selection: Selection,
    only: frozenset[Digest] | None = None,
    sizes: Mapping[Digest, int] | None = None,
) -> FetchRequest:
    """Ask for the selected content of a manifest, or of that for these contents only.

    `sizes`, if given, has each of these contents; see `FetchRequest`.
    """
    past = partial(versions_behind, project, selection.target)
    return FetchRequest(manifest, selection, only, past, sizes)


def fetch_requests(
    project: Project, arguments: Arguments, revs: Sequence[str], paths: Paths
) -> list[FetchRequest]:
    """Ask for what paths select in the manifests of revisions; without any, of the worktree."""
    return [
        fetch_request(project, manifests[selection.target], selection)
        for manifests in (map(project.manifests_of, revs) if revs else (project.manifests_here(),))
        for selection in arguments.selections(sorted(manifests), paths)
    ]
