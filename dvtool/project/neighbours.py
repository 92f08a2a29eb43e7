"""The other clones and worktrees that use this one's store, and the data that they need."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from msgspec import structs

from dvtool.errors import DvError, ManifestError, SetupError, printable
from dvtool.format.digest import Digest
from dvtool.format.manifest import Manifest
from dvtool.format.paths import workspace_path
from dvtool.git import Git
from dvtool.project.base import bases_of
from dvtool.project.history import FOR_NEIGHBOURS, Version, versions
from dvtool.project.parts import Project
from dvtool.store.clones import clone_id, notes, owner_of
from dvtool.workspace.files import Workspace


def versions_of_neighbours(project: Project) -> Iterator[Version]:
    """Yield every manifest that counts in another clone which uses this store.

    SetupError, naming the clone, if one of them cannot be read in full: what it needs is not known.
    """
    own = project.clone_name
    for folder, note, wanted_id in _neighbours(project.store.path):
        if folder == own and (wanted_id is None or wanted_id == clone_id(own)):
            continue
        try:
            if wanted_id is not None and clone_id(folder) != wanted_id:
                raise SetupError("it is not there now")
            with Git.discover(folder) as git:
                if os.path.realpath(git.common_dir) != os.path.realpath(folder):
                    raise SetupError("it is no git folder any more")
                yield from versions(structs.replace(project, git=git), FOR_NEIGHBOURS)
        except (DvError, OSError) as error:
            gone = f" If it is gone for good: rm {printable(note)}" if note else ""
            raise SetupError(
                f"the clone {printable(folder)} uses this store too, and what it needs is not "
                f"known, so nothing was freed: {error}",
                hint=f"mount it, or let a user who may read it run the command.{gone}",
            ) from error


def contents_in_other_worktrees(project: Project, contents: Collection[Digest]) -> set[Digest]:
    """Return those of the contents of which another worktree of this repository has a file.

    Of a worktree whose folder is not there now, all that was put into it counts.
    """
    wanted, in_use = set(contents), set[Digest]()
    for git_dir, top in project.git.worktree_git_dirs().items() if wanted else ():
        if os.path.realpath(git_dir) == os.path.realpath(project.git.git_dir):
            continue
        for target, manifest in _followed(project, git_dir, top):
            for path, entry in project.held_entries(manifest).items():
                if (
                    entry.is_file
                    and entry.digest in wanted
                    and (
                        top is None
                        or os.path.lexists(os.path.join(top, workspace_path(target, path)))
                    )
                ):
                    in_use.add(entry.digest)
    return in_use


def _followed(project: Project, git_dir: str, top: str | None) -> Iterator[tuple[str, Manifest]]:
    """Yield the manifests that the files of another worktree may be from, with their targets."""
    yield from bases_of(git_dir)
    if top is None:
        return
    common_dir = project.git.common_dir
    with (
        Git(worktree=top, git_dir=git_dir, common_dir=common_dir) as git,
        Workspace(top) as workspace,
    ):
        tree_project = structs.replace(project, git=git, workspace=workspace)
        for target in tree_project.targets():
            try:
                manifest = tree_project.manifest(target)
            except ManifestError:
                continue
            yield target, manifest


def _neighbours(store_path: str) -> Iterator[tuple[str, str, str | None]]:
    """Yield the git folder of each clone, the path of its note and its id; the owner has none."""
    owner = owner_of(store_path)
    if owner is not None:
        yield owner, "", None
    for path, note in notes(store_path):
        yield note.git_dir, path, note.id
