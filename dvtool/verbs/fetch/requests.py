"""What a fetch is to bring, from the paths and revisions that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dvtool.format.digest import Digest
from dvtool.format.manifest import Manifest
from dvtool.format.selection import Selection
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.history import versions_behind
from dvtool.project.parts import Project
from dvtool.verbs.fetch.download import Wanted


def fetch_request(
    project: Project,
    manifest: Manifest,
    selection: Selection,
    only: frozenset[Digest] | None = None,
) -> Wanted:
    """Ask for the selected content of a manifest, or of that for these contents only."""
    past = partial(versions_behind, project, selection.target)
    return Wanted(manifest, selection, only, past)


def fetch_requests(
    project: Project, arguments: Arguments, revs: Sequence[str], paths: Paths
) -> list[Wanted]:
    """Ask for what paths select in the manifests of revisions; without any, of the worktree."""
    return [
        fetch_request(project, manifests[selection.target], selection)
        for manifests in map(project.manifests_of, revs or (None,))
        for selection in arguments.selections(sorted(manifests), paths)
    ]
