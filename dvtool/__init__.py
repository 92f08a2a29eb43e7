"""Git-integrated data versioning.

Large files live as content-addressed packs in object storage; small JSON manifests stand next
to the code in git. A git commit therefore fixes a model's code and its data.

The names in `__all__` are the library: a repository, the results of its methods, and the errors.
Each is imported when it is first used. Every other name and module is private.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "dvtool.errors": (
        *("BusyError", "CorruptError", "DvError", "InputError", "ManifestError", "ManifestNewer"),
        *("MarkMissing", "MissingError", "ObjectMissing", "PathFault", "PathIsFolder"),
        *("PathMissing", "PathNotFolder", "RemoteBusy", "RemoteError"),
        *(
            "RemoteForbidden",
            "RemoteStalled",
            "RemoteTransient",
            "SetupError",
            "UnsavedError",
            "UsageError",
        ),
    ),
    "dvtool.format.compare": ("Difference",),
    "dvtool.format.manifest": ("Entry", "Manifest"),
    "dvtool.format.merge": ("Conflict",),
    "dvtool.format.shown": ("ShownEntry",),
    "dvtool.format.source": ("DataSource",),
    "dvtool.format.split": ("split",),
    "dvtool.jobs.cluster": ("ClusterEngine", "open_engine"),
    "dvtool.project.ledger": ("ReadEntry",),
    "dvtool.project.preserve": ("Saved",),
    "dvtool.remotes.estimate": ("Estimate", "Requests"),
    "dvtool.remotes.examine": ("Examination",),
    "dvtool.repo": ("Repo",),
    "dvtool.reports.facade": ("Reports",),
    "dvtool.reports.row_diff": ("ChangedCell", "ChangedRow", "ColumnChange", "TableDiff"),
    "dvtool.reports.sides": ("Report",),
    "dvtool.reports.tables": ("RowDiff", "UnreadTable"),
    "dvtool.serve.options": ("ServeOptions", "Serving"),
    "dvtool.snapshots.file": ("SnapshotFile",),
    "dvtool.snapshots.listed": ("Listed",),
    "dvtool.snapshots.reading": ("ls", "open", "read", "snapshot"),
    "dvtool.snapshots.snapshot": ("Snapshot",),
    "dvtool.system.progress": ("Progress",),
    "dvtool.verbs.add.foresee": ("Added",),
    "dvtool.verbs.checkout.follow": ("Followed",),
    "dvtool.verbs.checkout.restore": ("Restored",),
    "dvtool.verbs.checkout.write": ("CheckedOut",),
    "dvtool.verbs.cache": ("CacheStatus", "cache_status", "clean_cache"),
    "dvtool.verbs.clone": ("clone",),
    "dvtool.verbs.copy": ("Copied",),
    "dvtool.verbs.describe": ("Description", "TargetDescription"),
    "dvtool.verbs.diff": ("TargetDiff", "Total", "Totals"),
    "dvtool.verbs.doctor": ("Check",),
    "dvtool.verbs.drop": ("Dropped", "DroppedTarget"),
    "dvtool.verbs.edit.move": ("Renamed",),
    "dvtool.verbs.edit.remove": ("Removed",),
    "dvtool.verbs.export.entries": ("Exported",),
    "dvtool.verbs.fetch.request": ("Fetched",),
    "dvtool.verbs.fsck.findings": ("Damage", "FsckReport", "Sample"),
    "dvtool.verbs.gc.bury": ("RemoteGcPlan",),
    "dvtool.verbs.gc.local": ("GcResult",),
    "dvtool.verbs.gc.remote": ("RemoteGcResult",),
    "dvtool.verbs.gc.roots": ("RepoThere",),
    "dvtool.verbs.imports.facade": ("Imports",),
    "dvtool.verbs.imports.import_data": ("ImportRequest",),
    "dvtool.verbs.imports.import_sql": ("SqlRequest",),
    "dvtool.verbs.imports.reference": ("Materialised", "ReferencedSource"),
    "dvtool.verbs.imports.results": ("Imported", "SourceStatus", "SqlPlan"),
    "dvtool.verbs.log": ("LogEntry",),
    "dvtool.verbs.overlap.check": (
        *("OverlapReport", "PairOverlap", "SharedPlace", "Shared", "SharedPart", "SplitSize"),
    ),
    "dvtool.verbs.plans": ("Plans",),
    "dvtool.verbs.push.commits": ("PushPlan", "PushReport"),
    "dvtool.verbs.push.plan": ("Pushed",),
    "dvtool.verbs.record.facade": ("Runs",),
    "dvtool.verbs.record.records": ("Packages", "Reads", "RunList", "RunOutput", "RunRecord"),
    "dvtool.verbs.record.reproduce": ("OutputComparison", "Reproduction"),
    "dvtool.verbs.remotes": ("Remotes",),
    "dvtool.verbs.resolve.settle": ("Resolved", "Settled"),
    "dvtool.verbs.sparse": ("Sparse", "SparseResult"),
    "dvtool.verbs.status": ("Fault", "TargetStatus"),
}
"""Where each public name is; the same names are imported below for type checkers."""

_PACKAGES = ("stream",)
"""Packages that are public, with the names of their own `__all__`."""

_HOMES = {name: module for module, names in _EXPORTS.items() for name in names}

if TYPE_CHECKING:
    from dvtool.errors import (
        BusyError,
        CorruptError,
        DvError,
        InputError,
        ManifestError,
        ManifestNewer,
        MarkMissing,
        MissingError,
        ObjectMissing,
        PathFault,
        PathIsFolder,
        PathMissing,
        PathNotFolder,
        RemoteBusy,
        RemoteError,
        RemoteForbidden,
        RemoteStalled,
        RemoteTransient,
        SetupError,
        UnsavedError,
        UsageError,
    )
    from dvtool.format.compare import Difference
    from dvtool.format.manifest import Entry, Manifest
    from dvtool.format.merge import Conflict
    from dvtool.format.shown import ShownEntry
    from dvtool.format.source import DataSource
    from dvtool.format.split import split
    from dvtool.jobs.cluster import ClusterEngine, open_engine
    from dvtool.project.ledger import ReadEntry
    from dvtool.project.preserve import Saved
    from dvtool.remotes.estimate import Estimate, Requests
    from dvtool.remotes.examine import Examination
    from dvtool.repo import Repo
    from dvtool.reports.facade import Reports
    from dvtool.reports.row_diff import ChangedCell, ChangedRow, ColumnChange, TableDiff
    from dvtool.reports.sides import Report
    from dvtool.reports.tables import RowDiff, UnreadTable
    from dvtool.serve.options import ServeOptions, Serving
    from dvtool.snapshots.file import SnapshotFile
    from dvtool.snapshots.listed import Listed
    from dvtool.snapshots.reading import ls, open, read, snapshot
    from dvtool.snapshots.snapshot import Snapshot
    from dvtool.system.progress import Progress
    from dvtool.verbs.add.foresee import Added
    from dvtool.verbs.cache import CacheStatus, cache_status, clean_cache
    from dvtool.verbs.checkout.follow import Followed
    from dvtool.verbs.checkout.restore import Restored
    from dvtool.verbs.checkout.write import CheckedOut
    from dvtool.verbs.clone import clone
    from dvtool.verbs.copy import Copied
    from dvtool.verbs.describe import Description, TargetDescription
    from dvtool.verbs.diff import TargetDiff, Total, Totals
    from dvtool.verbs.doctor import Check
    from dvtool.verbs.drop import Dropped, DroppedTarget
    from dvtool.verbs.edit.move import Renamed
    from dvtool.verbs.edit.remove import Removed
    from dvtool.verbs.export.entries import Exported
    from dvtool.verbs.fetch.request import Fetched
    from dvtool.verbs.fsck.findings import Damage, FsckReport, Sample
    from dvtool.verbs.gc.bury import RemoteGcPlan
    from dvtool.verbs.gc.local import GcResult
    from dvtool.verbs.gc.remote import RemoteGcResult
    from dvtool.verbs.gc.roots import RepoThere
    from dvtool.verbs.imports.facade import Imports
    from dvtool.verbs.imports.import_data import ImportRequest
    from dvtool.verbs.imports.import_sql import SqlRequest
    from dvtool.verbs.imports.reference import Materialised, ReferencedSource
    from dvtool.verbs.imports.results import Imported, SourceStatus, SqlPlan
    from dvtool.verbs.log import LogEntry
    from dvtool.verbs.overlap.check import (
        OverlapReport,
        PairOverlap,
        Shared,
        SharedPart,
        SharedPlace,
        SplitSize,
    )
    from dvtool.verbs.plans import Plans
    from dvtool.verbs.push.commits import PushPlan, PushReport
    from dvtool.verbs.push.plan import Pushed
    from dvtool.verbs.record.facade import Runs
    from dvtool.verbs.record.records import Packages, Reads, RunList, RunOutput, RunRecord
    from dvtool.verbs.record.reproduce import OutputComparison, Reproduction
    from dvtool.verbs.remotes import Remotes
    from dvtool.verbs.resolve.settle import Resolved, Settled
    from dvtool.verbs.sparse import Sparse, SparseResult
    from dvtool.verbs.status import Fault, TargetStatus

__all__ = [
    "Added",
    "BusyError",
    "CacheStatus",
    "ChangedCell",
    "ChangedRow",
    "Check",
    "CheckedOut",
    "ClusterEngine",
    "ColumnChange",
    "Conflict",
    "Copied",
    "CorruptError",
    "Damage",
    "DataSource",
    "Description",
    "Difference",
    "Dropped",
    "DroppedTarget",
    "DvError",
    "Entry",
    "Estimate",
    "Examination",
    "Exported",
    "Fault",
    "Fetched",
    "Followed",
    "FsckReport",
    "GcResult",
    "ImportRequest",
    "Imported",
    "Imports",
    "InputError",
    "Listed",
    "LogEntry",
    "Manifest",
    "ManifestError",
    "ManifestNewer",
    "MarkMissing",
    "Materialised",
    "MissingError",
    "ObjectMissing",
    "OutputComparison",
    "OverlapReport",
    "Packages",
    "PairOverlap",
    "PathFault",
    "PathIsFolder",
    "PathMissing",
    "PathNotFolder",
    "Plans",
    "Progress",
    "PushPlan",
    "PushReport",
    "Pushed",
    "ReadEntry",
    "Reads",
    "ReferencedSource",
    "RemoteBusy",
    "RemoteError",
    "RemoteForbidden",
    "RemoteGcPlan",
    "RemoteGcResult",
    "RemoteStalled",
    "RemoteTransient",
    "Remotes",
    "Removed",
    "Renamed",
    "Repo",
    "RepoThere",
    "Report",
    "Reports",
    "Reproduction",
    "Requests",
    "Resolved",
    "Restored",
    "RowDiff",
    "RunList",
    "RunOutput",
    "RunRecord",
    "Runs",
    "Sample",
    "Saved",
    "ServeOptions",
    "Serving",
    "Settled",
    "SetupError",
    "Shared",
    "SharedPart",
    "SharedPlace",
    "ShownEntry",
    "Snapshot",
    "SnapshotFile",
    "SourceStatus",
    "Sparse",
    "SparseResult",
    "SplitSize",
    "SqlPlan",
    "SqlRequest",
    "TableDiff",
    "TargetDescription",
    "TargetDiff",
    "TargetStatus",
    "Total",
    "Totals",
    "UnreadTable",
    "UnsavedError",
    "UsageError",
    "__version__",
    "cache_status",
    "clean_cache",
    "clone",
    "ls",
    "open",
    "open_engine",
    "read",
    "snapshot",
    "split",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
