"""The other clones that use this one's store, and the manifests that they need."""

from __future__ import annotations

import os
from collections.abc import Iterator

from msgspec import structs

from dvtool.errors import DvError, SetupError, printable
from dvtool.git import Git
from dvtool.project.history import FOR_NEIGHBOURS, Version, versions
from dvtool.project.parts import Project
from dvtool.store.clones import clone_id, notes, owner_of


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


def _neighbours(store_path: str) -> Iterator[tuple[str, str, str | None]]:
    """Yield the git folder of each clone, the path of its note and its id; the owner has none."""
    owner = owner_of(store_path)
    if owner is not None:
        yield owner, "", None
    for path, note in notes(store_path):
        yield note.git_dir, path, note.id
