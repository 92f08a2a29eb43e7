"""Files of an import that are written while others are read, beside git's own data.

They take their place as one folder, by one rename, once the manifest has its place. So a run that
ends before has put nothing in the workspace. Where that cannot be, checkout writes the files as
ever, and so it does with each file that was left out here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from array import array
from collections.abc import Iterator
from dataclasses import replace

from dvtool.errors import UnsavedError
from dvtool.format.manifest import Manifest
from dvtool.format.source import DataSource
from dvtool.jobs.take import TakeBatch, TakeResult
from dvtool.project.base import record_base
from dvtool.project.ignoring import keep_out
from dvtool.project.parts import Project
from dvtool.project.taken import TakenObjects
from dvtool.remotes.origins.registry import entry_paths
from dvtool.system.atomic import make_folders, temp_name
from dvtool.system.stat import Stamp
from dvtool.verbs.imports.bring import TargetThere
from dvtool.verbs.imports.listing import Listing
from dvtool.workspace.remembered import save_each_seen
from dvtool.workspace.staged import STAGED, makes_alike, staging_place
from dvtool.workspace.statcache import Seen, seen_written

STAGED_FILES_MAX = 1_000_000
"""Up to here the stamps of the files, 32 bytes each, are held."""
_LEFT_OUT = (0, 0, 0, 0)
_FIELDS = len(Stamp._fields)


class Staging:
    """The files of one target, in the order in which its objects are listed and read."""

    def __init__(self, project: Project, target: str, source: DataSource, folder: str) -> None:
        self.folder = folder
        self._project = project
        self._target = target
        self._path_of = entry_paths(source)
        self._stamps = array("q")

    def batch(self, batch: TakeBatch) -> TakeBatch:
        """Return a batch whose objects a worker also writes as files."""
        paths = tuple(self._path_of(described.key) for described in batch.objects)
        return replace(batch, staged_in=self.folder, paths=paths)

    def keep(self, result: TakeResult) -> None:
        """Take the stamps of a batch; batches come in their order."""
        for stamp in result.stamps:
            self._stamps.extend(stamp or _LEFT_OUT)

    def put_in_place(self, taken: TakenObjects, manifest: Manifest) -> int:
        """Give the files their place, if nothing is there by now; return how many there are.

        To be called once the manifest is in its place. Where all files are there, the workspace
        follows the manifest then; else a checkout has to write the others.
        """
        written = sum(1 for inode in self._stamps[_FIELDS - 1 :: _FIELDS] if inode)
        if not written or len(self._stamps) != _FIELDS * taken.total()[0]:
            return 0
        keep_out(self._project, self._target)  # before there is data that git could take
        try:
            self._project.workspace.bring_in(self.folder, self._target)
        except (OSError, UnsavedError):
            return 0  # checkout says what is in the way
        save_each_seen(self._project, self._target, self._seen(taken))
        if written == manifest.files:
            record_base(self._project, self._target, manifest)
        return written

    def _seen(self, taken: TakenObjects) -> Iterator[tuple[str, Seen]]:
        rows = zip(*[iter(self._stamps)] * _FIELDS, strict=True)
        for run in taken.known():
            for file in run:
                stamp = Stamp._make(next(rows))
                if stamp.st_ino:
                    yield file.path, seen_written(stamp, file.digest, executable=False)


@contextlib.contextmanager
def staging_files(
    project: Project, there: TargetThere, found: Listing, taken: TakenObjects
) -> Iterator[Staging | None]:
    """Yield what stages the files of an import; None where they are not to be staged.

    That is for the keys below a prefix of a bucket, none of which was taken before, into a target
    of which there is nothing yet. A folder that did not take its place is removed.
    """
    above = staging_place(project.git.git_dir)
    make_folders(above)
    staging = None
    if _can_be_staged(project, there, found, taken) and makes_alike(
        above, _folder_above(project, there.target)
    ):
        folder = os.path.join(above, f"{STAGED}-{temp_name().strip('.')}")
        os.mkdir(folder)
        staging = Staging(project, there.target, found.source, folder)
    try:
        yield staging
    finally:
        if staging is not None:
            shutil.rmtree(staging.folder, ignore_errors=True)


def _can_be_staged(
    project: Project, there: TargetThere, found: Listing, taken: TakenObjects
) -> bool:
    source = found.source
    return (
        found.to_disk
        and source.kind == "s3"
        and source.url.endswith("/")
        and there.manifest is None
        and found.objects <= STAGED_FILES_MAX
        and not project.workspace.links
        and project.workspace.stat(there.target) is None
        and taken.unknown_total()[0] == found.objects
    )


def _folder_above(project: Project, target: str) -> str:
    """Return the folder that is there now of those above a target."""
    folder = target.rpartition("/")[0]
    while folder and project.workspace.stat(folder) is None:
        folder = folder.rpartition("/")[0]
    return project.absolute(folder)
