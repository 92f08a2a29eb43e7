"""export and get: the data of a commit to a folder, an archive or a bucket."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from dvtool.errors import UnsavedError, UsageError, printable
from dvtool.remotes.transports.declaration import Value
from dvtool.snapshots import foreign
from dvtool.snapshots.reading import snapshot
from dvtool.snapshots.snapshot import Snapshot
from dvtool.system.atomic import replacing
from dvtool.system.progress import SILENT, Progress
from dvtool.verbs.describe import Description, describe_snapshot
from dvtool.verbs.export.archive import export_to_tar
from dvtool.verbs.export.bucket import export_to_bucket
from dvtool.verbs.export.entries import Exported, entries_below
from dvtool.verbs.export.folder import export_to_folder, exported

if TYPE_CHECKING:
    from dvtool.jobs.cluster import ClusterEngine

TAR_PREFIX = "tar:"


class ExportRequest(msgspec.Struct, frozen=True):
    """The data to export, and where to.

    `destination` is a folder, ``tar:FILE`` (``tar:-`` is `out`), or ``s3://bucket/prefix``, for
    which `options` are those of a remote.
    """

    path: str
    destination: str
    options: Mapping[str, Value] = {}
    force: bool = False
    out: Any = None
    plan_only: bool = False


class GetRequest(msgspec.Struct, frozen=True):
    """The data to get, its repository, and the folder for it.

    Without `folder` it is one in `cwd`, named as the path's last part; of a file, `cwd` itself.
    """

    url: str
    path: str
    folder: str | None = None
    cwd: str = "."
    rev: str | None = None
    force: bool = False
    plan_only: bool = False


def export_snapshot(
    source: Snapshot,
    request: ExportRequest,
    progress: Progress = SILENT,
    engine: ClusterEngine | None = None,
) -> Exported:
    """Write the files at or below a path of a commit, as ordinary files under their names.

    Every byte is checked. It can be repeated after an interruption: files that are there are kept.
    Errors are those of `Snapshot.read` and of each kind of destination. With `plan_only` nothing is
    written.
    """
    path, destination = request.path, request.destination
    if destination.startswith(TAR_PREFIX) and destination != TAR_PREFIX:
        if engine is not None:
            raise UsageError("one archive is written by one machine", hint="leave --engine out")
        return _export_archive(source, request, progress)
    if destination.startswith("s3://"):
        return export_to_bucket(
            *(source, path, destination, request.options),
            force=request.force,
            plan_only=request.plan_only,
            progress=progress,
            engine=engine,
        )
    if "://" in destination or destination in ("", TAR_PREFIX):
        raise UsageError(
            f"cannot export to {printable(destination)!r}",
            hint="name a folder, tar:FILE, tar:- or s3://bucket/prefix",
        )
    return export_to_folder(
        *(source, path, destination),
        force=request.force,
        plan_only=request.plan_only,
        progress=progress,
        engine=engine,
    )


def _export_archive(source: Snapshot, request: ExportRequest, progress: Progress) -> Exported:
    name = request.destination.removeprefix(TAR_PREFIX)
    if name != "-":
        _refuse_taken(name, force=request.force)
    if request.plan_only:
        return exported(source, list(entries_below(source, request.path)), kept=0)
    if name != "-":
        with replacing(name, durable=False) as file:
            return export_to_tar(source, request.path, file, progress=progress)
    if request.out is None:
        raise UsageError("there is no output for tar:-")
    return export_to_tar(source, request.path, request.out, progress=progress)


def _refuse_taken(name: str, *, force: bool) -> None:
    """Raise for a file that is there, unless `force` may replace it, and for what is no file."""
    if not os.path.lexists(name):
        return
    if os.path.islink(name) or not os.path.isfile(name):
        raise UsageError(
            f"{printable(name)} is no regular file, and an archive would take its place",
            hint="write the archive to standard output: --to tar:-",
        )
    if not force:
        raise UnsavedError(
            f"{printable(name)} is there already",
            hint="name another file, or --force to replace it",
        )


def get(request: GetRequest, environ: Mapping[str, str], progress: Progress = SILENT) -> Exported:
    """Write the data at or below a path of a repository into a folder; no clone is kept."""
    with passing_snapshot(request.url, request.rev, environ) as source:
        is_folder = source.info(source.followed(request.path)).type == "folder"
        name = os.path.basename(request.path.rstrip("/")) if is_folder else ""
        folder = os.path.join(request.cwd, request.folder if request.folder is not None else name)
        return export_to_folder(
            *(source, request.path, folder),
            force=request.force,
            plan_only=request.plan_only,
            progress=progress,
        )


@contextmanager
def passing_snapshot(repo: str, rev: str | None, environ: Mapping[str, str]) -> Iterator[Snapshot]:
    """Yield a snapshot of a repository; of a URL, its clone is gone afterwards."""
    if not foreign.is_url(repo):
        with snapshot(rev, repo, environ=environ) as opened:
            yield opened
        return
    with (
        tempfile.TemporaryDirectory(prefix="dv-get-") as cache,
        snapshot(rev, repo, environ={**environ, "DV_CACHE_PATH": cache}) as opened,
    ):
        yield opened


def describe_url(url: str, rev: str | None, environ: Mapping[str, str]) -> Description:
    """Describe a commit of a repository that a git URL names, of which no clone is kept."""
    with passing_snapshot(url, rev, environ) as source:
        return describe_snapshot(source)
