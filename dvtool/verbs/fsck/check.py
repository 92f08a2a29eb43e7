"""The checks of fsck in their order: the local store, the workspace, a remote."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dvtool.errors import DvError, UsageError
from dvtool.format.digest import Digest
from dvtool.format.manifest import decode, manifest_digest
from dvtool.format.paths import SUFFIX
from dvtool.jobs.cluster import ClusterEngine
from dvtool.project.history import FOR_FSCK, NeededContent, needed_content
from dvtool.project.parts import Project
from dvtool.project.pushed import lost_targets
from dvtool.project.settings import Settings
from dvtool.remotes.known import Known
from dvtool.remotes.remote import RemoteStore
from dvtool.store.database import Database
from dvtool.verbs.fsck.far_packs import FarReading
from dvtool.verbs.fsck.findings import LOCAL, Damage, FsckReport, RemoteCheck, Sample
from dvtool.verbs.fsck.meaning import explain
from dvtool.verbs.fsck.remote import LocalEvidence, fsck_remote
from dvtool.verbs.fsck.store import StoreCheck, fsck_store, known_of_remotes, md5s_proven
from dvtool.verbs.fsck.workspace import fsck_workspace


@dataclass(frozen=True, slots=True)
class FsckRequest:
    """The checks besides the local store's. `remote`: a name, "" for the default one, or None.

    With `rebuild` store.db is made again before the check, with `repair` damage is mended after it.
    """

    workspace: bool = False
    remote: str | None = None
    deep: bool | Sample = False
    repair: bool = False
    rebuild: bool = False
    engine: ClusterEngine | None = None
    """The cluster whose workers read packs; None for this machine."""

    @property
    def depth(self) -> Sample | None:
        """The share of the remote's packs to read; None for none of them."""
        return self.deep if isinstance(self.deep, Sample) else Sample(1, 0) if self.deep else None

    def validate(self) -> None:
        """Raise a UsageError if the parts of the request do not fit together."""
        if self.deep and self.remote is None:
            raise UsageError(
                "only a remote is checked more or less deeply", hint="dv fsck --remote --deep"
            )
        if self.engine is not None and not self.deep:
            raise UsageError(
                "a cluster is for reading the packs of a remote",
                hint="dv fsck --remote --deep --engine dask; or leave --engine out",
            )
        if isinstance(self.deep, Sample) and not 0 < self.deep.share <= 1:
            raise UsageError(
                f"a sample of {self.deep.share:.2%} is none", hint="dv fsck --remote --sample 5%"
            )


class Checking:
    """One check of a repository; the findings of its parts stay for the repair."""

    def __init__(self, project: Project, settings: Settings, request: FsckRequest) -> None:
        self.project = project
        self.settings = settings
        self.request = request
        self.need = NeededContent()
        self.report = FsckReport()
        self.store = StoreCheck()
        self.remote: RemoteCheck | None = None

    def run(self) -> FsckReport:
        """Do the checks, the nearest data first."""
        self.project.store.refuse_if_away()
        self.need = needed_content(self.project, FOR_FSCK)
        self.store = fsck_store(self.project, self.need)
        self.report.store = self.store.counts
        self.report.damage = list(self.store.damage)
        if self.request.workspace:
            self.report.workspace, rotten = fsck_workspace(self.project)
            self.report.damage.extend(rotten)
        if self.request.remote is not None:
            self._check_remote(self.request.remote)
        explain(self.project, self.report.damage, self.store, self.remote)
        return self.report

    def _check_remote(self, name: str) -> None:
        self.settings.require_init()
        remote = self.settings.open_remote(name or None)
        sought = {content for damage in self.report.damage for content in damage.contents}
        sought |= self.store.lacking
        checked = fsck_remote(
            self.project,
            remote,
            self.project.config.text("core.repoid") or "",
            self.request.depth,
            LocalEvidence(self.store.sound, sought, self._md5s),
            self._far_reading(name, remote),
        )
        self.remote = checked
        self._name_lost(checked)
        checked.counts.not_pushed = tuple(self._not_pushed(checked.rooted))
        self._name_lost_versions(remote, checked)
        self.report.remote = checked.counts
        self.report.damage.extend(checked.damage)

    def _far_reading(self, name: str, remote: RemoteStore) -> FarReading | None:
        engine = self.request.engine
        if engine is None:
            return None
        mark = remote.required_mark()
        return FarReading(engine, self.settings.address_for_workers(name or None, mark.id))

    def _md5s(self, remote_id: str, keys: Collection[str]) -> Mapping[str, bytes]:
        if not self.store.usable:
            return {}
        return md5s_proven(self.project, remote_id, keys)

    def _name_lost(self, checked: RemoteCheck) -> None:
        """Name content that is neither here nor there, nor known to be on another remote."""
        lost = self.store.lacking - self.store.unlisted - checked.held
        if lost and len(self.project.config.remotes()) > 1 and self.store.usable:
            lost -= known_of_remotes(self.project, lost)
        if lost:
            problem = f"is neither here nor on {checked.counts.url}"
            self.report.damage.append(
                Damage(LOCAL, "content", "", problem, missing=True, contents=frozenset(lost))
            )

        lists = self.need.lists_not_here - (checked.shards.keys() - checked.bad_shards)
        if lists and len(self.project.config.remotes()) <= 1:
            problem = f"of {len(lists):,} shards is neither here nor on {checked.counts.url}"
            self.report.damage.append(
                Damage(LOCAL, "content", "", problem, missing=True, shards=frozenset(lists))
            )

    def _name_lost_versions(self, remote: RemoteStore, checked: RemoteCheck) -> None:
        """Name versions that a push proved there and that no root there names any more."""
        if checked.mark_lost or checked.bad_roots or not self.store.usable:
            return
        with contextlib.closing(Database(self.project.store.database_path)) as db:
            known = Known(db, remote.required_mark().id)
            lost = lost_targets(self.project, known, checked.rooted)
        if lost:
            problem = (
                f"named {sum(lost.values()):,} manifests more, as a push proved; the remote was "
                "rolled back, or somebody removed them (dv push sends what is still here)"
            )
            self.report.damage.append(
                Damage(
                    checked.counts.url, "root", "roots", problem, missing=True, targets=tuple(lost)
                )
            )

    def _not_pushed(self, rooted: Collection[Digest]) -> list[str]:
        """Return the targets of which a ref, or HEAD, has a manifest that no root there names."""
        git = self.project.git
        head = git.head()
        blobs: set[tuple[str, str]] = set()
        for tip in {*git.all_refs().values(), *([head] if head else [])}:
            blobs.update(git.manifests_at(tip).items())
        targets = set()
        for path, blob in blobs:
            with contextlib.suppress(DvError):
                if manifest_digest(decode(git.read_blob(blob), path)) not in rooted:
                    targets.add(path.removesuffix(SUFFIX))
        return sorted(targets)
