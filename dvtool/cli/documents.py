"""The documents that commands print with --json beyond single results, and a list of them all.

`python -m tests.json_reference` makes docs/reference/ and the keys in the help texts from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dvtool.cli.failures import Failure
    from dvtool.hooks.install import Hook
    from dvtool.project.config import RemoteConfig, Setting
    from dvtool.remotes.estimate import Requests
    from dvtool.remotes.transports.base import Features
    from dvtool.remotes.transports.declaration import Value
    from dvtool.snapshots.listed import Listed
    from dvtool.verbs.add.foresee import Added
    from dvtool.verbs.diff import TargetDiff, Totals
    from dvtool.verbs.doctor import Check
    from dvtool.verbs.edit.remove import Removed
    from dvtool.verbs.gc.roots import RepoThere
    from dvtool.verbs.imports.reference import Materialised, ReferencedSource
    from dvtool.verbs.imports.results import Imported, SourceStatus
    from dvtool.verbs.log import LogEntry
    from dvtool.verbs.push.plan import Pushed
    from dvtool.verbs.resolve.settle import Settled
    from dvtool.verbs.status import TargetStatus


class AddDocument(msgspec.Struct):
    """The result of `dv add`."""

    targets: Sequence[Added]
    """Each target that was named, or that has a named path in it."""


class StatusDocument(msgspec.Struct):
    """The differences between workspace, manifests and HEAD."""

    clean: bool
    """Whether nothing differs in any target."""
    targets: Sequence[TargetStatus]
    """The targets, sorted."""
    sources: Sequence[SourceStatus] | None = None
    """With --sources: how imported targets stand to their sources; null if nobody was asked."""


class MaterialisedDocument(msgspec.Struct):
    """The copies of data that was imported by reference."""

    targets: Sequence[Materialised]
    """The work done, by target."""


class UpdateDocument(msgspec.Struct):
    """The result of `dv update`."""

    targets: Sequence[Imported]
    """Each target that was imported, as far as named."""


class UpdatePlanDocument(msgspec.Struct):
    """The changes that `dv update` would bring."""

    targets: Sequence[SourceStatus]
    """How each target that was imported, as far as named, stands to its source."""


class RmDocument(msgspec.Struct):
    """The result of `dv rm`."""

    targets: Sequence[Removed]
    """The result for each target."""


class ResolveDocument(msgspec.Struct):
    """The result of `dv resolve`."""

    targets: Sequence[Settled]
    """The result for each target that was in conflict."""


class DiffDocument(msgspec.Struct):
    """Which files changed."""

    targets: Sequence[TargetDiff]
    """The targets in which something changed, sorted."""
    totals: Totals
    """The changes of all targets, added up."""


class TargetTotals(msgspec.Struct):
    """How much changed in one target."""

    target: str
    """The target, as a path from the top of the worktree."""
    totals: Totals
    """Its changes, added up."""


class DiffStatDocument(msgspec.Struct):
    """How much changed."""

    targets: Sequence[TargetTotals]
    """The targets in which something changed, sorted."""
    totals: Totals
    """The changes of all targets, added up."""


class LogDocument(msgspec.Struct):
    """The commits that changed a target."""

    commits: Sequence[LogEntry]
    """The commits, newest first."""


class LsDocument(msgspec.Struct, omit_defaults=True):
    """Tracked files. The document is written an entry a line."""

    entries: Sequence[Listed]
    """The entries, by target and path."""
    error: Failure | None = None
    """Why the list breaks off, if it does."""


class TransferPlan(msgspec.Struct):
    """About what a transfer would take."""

    remote: str
    """URL of the remote."""
    files: int
    """How many files (of a copy: manifests) it is about."""
    objects: int
    """How many objects would move."""
    bytes: int
    """Bytes of these objects."""
    requests: Requests
    """How many requests that takes, with those of the proof."""
    request_cost_usd: float
    """The cost of the requests by the provider's list prices, in US dollars; traffic is extra."""
    seconds: float | None
    """How long it takes, in seconds; null as long as the link was not measured."""


class FailedPush(msgspec.Struct):
    """A remote that could not be pushed to."""

    remote: str | None
    """Its name; null for the default remote."""
    message: str
    """The problem, in words."""
    hint: str | None
    """The next step; null if none is known."""
    exit_code: int
    """The exit code of `dv push` to this remote alone."""


class PushDocument(msgspec.Struct):
    """The result of `dv push`, printed if one of the remotes was pushed to."""

    pushes: Sequence[Pushed]
    """The result for each remote that was pushed to."""
    failed: Sequence[FailedPush]
    """The remotes that could not be pushed to."""
    uncommitted: Sequence[str]
    """Targets whose manifests are not in HEAD; they were not pushed."""


class PushPlanDocument(msgspec.Struct):
    """The plan of `dv push`."""

    plans: Sequence[TransferPlan]
    """The cost, for each remote."""
    uncommitted: Sequence[str]
    """Targets whose manifests are not in HEAD; they would not be pushed."""


class UndoneDocument(msgspec.Struct):
    """The result of `dv gc --remote --undo`."""

    undone: int
    """How many tombstones were taken back."""


class DoctorDocument(msgspec.Struct):
    """Whether everything that dv needs is there and works."""

    ok: bool
    """Whether no check failed."""
    checks: Sequence[Check]
    """The things that were looked at."""


class RemoteDoctorDocument(msgspec.Struct):
    """The result of trying a remote out."""

    ok: bool
    """Whether no check failed."""
    checks: Sequence[Check]
    """The things that were looked at."""
    features: Features | None
    """The powers of the store; null if there is no answer."""


class ConfigDocument(msgspec.Struct):
    """Settings: all of them, or the one that was asked for or changed, as it is in force now."""

    settings: Sequence[Setting]
    """The settings."""


class RemoteRow(msgspec.Struct):
    """One remote."""

    name: str
    """Its name."""
    url: str
    """Its URL, or the path of a folder."""
    default: bool
    """Whether it is the default remote."""
    source: str
    """Where its URL comes from: .dvconfig, .git/config or environment."""
    trusted: bool
    """Whether requests may go there from this clone."""
    options: Mapping[str, Value]
    """Its other settings by name, null where nothing is set; the value of a secret is not told."""

    @classmethod
    def of(cls, remote: RemoteConfig, default: str | None, *, trusted: bool) -> RemoteRow:
        """Return a remote as it is shown; `default` is the name of the default one."""
        is_default, options = remote.name == default, remote.shown_options()
        return cls(remote.name, remote.url, is_default, remote.source, trusted, options)


class RemotesDocument(msgspec.Struct):
    """The remotes."""

    remotes: Sequence[RemoteRow]
    """The remotes, sorted by name."""
    sources: Sequence[ReferencedSource]
    """The sources at which data stays that was imported by reference, sorted by address."""


class RootsDocument(msgspec.Struct):
    """The repositories that keep data on a remote."""

    remote: str
    """URL of the remote."""
    repositories: Sequence[RepoThere]
    """The repositories, sorted by id."""


class RetiredDocument(msgspec.Struct):
    """The objects that were buried of a repository that is gone for good."""

    repo: str
    """Its id."""
    dead: int
    """How many objects were buried."""
    dead_bytes: int
    """Bytes of these objects."""


class HooksDocument(msgspec.Struct):
    """Which git hooks are in place."""

    folder: str
    """The folder where git looks for hooks."""
    complete: bool
    """Whether every hook of ours runs, in this version."""
    drivers: bool
    """Whether the merge and diff drivers are in place."""
    hooks: Sequence[Hook]
    """The hooks."""


ANSWERS: dict[str, dict[str, str]] = {
    "add": {"": "AddDocument"},
    "status": {"": "StatusDocument"},
    "import": {"": "Imported", "--plan": "TransferPlan", "--materialise": "MaterialisedDocument"},
    "import-sql": {"": "Imported", "--plan": "SqlPlan"},
    "update": {"": "UpdateDocument", "--plan": "UpdatePlanDocument"},
    "checkout": {"": "Restored"},
    "rm": {"": "RmDocument"},
    "mv": {"": "Renamed"},
    "resolve": {"": "ResolveDocument"},
    "restore": {"": "Restored"},
    "sparse list": {"": "SparseResult"},
    "sparse set": {"": "SparseResult"},
    "sparse add": {"": "SparseResult"},
    "sparse disable": {"": "SparseResult"},
    "push": {"": "PushDocument", "--plan": "PushPlanDocument", "--check": "PushPlanDocument"},
    "fetch": {"": "Fetched", "--plan": "TransferPlan"},
    "pull": {"": "Restored", "--plan": "TransferPlan"},
    "clone": {"": "Restored"},
    "drop": {"": "Dropped"},
    "gc": {"": "GcResult", "--remote": "RemoteGcResult", "--undo": "UndoneDocument"},
    "fsck": {"": "FsckReport"},
    "run": {"": "RunRecord"},
    "runs list": {"": "RunList"},
    "runs show": {"": "RunRecord"},
    "runs reproduce": {"": "Reproduction"},
    "check-overlap": {"": "OverlapReport"},
    "diff": {"": "DiffDocument", "--stat": "DiffStatDocument", "--rows": "RowDiff"},
    "show": {"": "DiffDocument"},
    "log": {"": "LogDocument"},
    "ls": {"": "LsDocument"},
    "export": {"": "Exported"},
    "get": {"": "Exported"},
    "describe": {"": "Description"},
    "serve": {"": "Serving"},
    "cache show": {"": "CacheStatus"},
    "cache clean": {"": "CacheStatus"},
    "doctor": {"": "DoctorDocument", "--remote": "RemoteDoctorDocument"},
    "config": {"": "ConfigDocument"},
    "remote list": {"": "RemotesDocument"},
    "remote copy": {"": "Copied", "--plan": "TransferPlan"},
    "remote roots": {"": "RootsDocument", "--retire": "RetiredDocument"},
    "hooks status": {"": "HooksDocument"},
}
"""Command -> option -> the class of its document, one of these or a public name of dvtool."""
