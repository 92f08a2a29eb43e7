"""The class of `Repo.remotes`: a method for each act on a whole remote."""

from __future__ import annotations

from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.remotes import examine
from dvtool.remotes.estimate import Estimate
from dvtool.verbs.copy import Copied, copy_remote, plan_copy
from dvtool.verbs.gc.bury import RemoteGcPlan
from dvtool.verbs.gc.remote import RemoteGcRequest, RemoteGcResult, gc_remote, undo_gc
from dvtool.verbs.gc.roots import RepoThere, repositories, retire


class Remotes:
    """Remotes as a whole: tried out, copied, and given space back. Methods raise `DvError`.

    A remote is a name or a URL; without one it is the default remote.
    """

    def __init__(self, project: Project, settings: Settings) -> None:
        self._project = project
        self._settings = settings

    def examine(self, remote: str | None = None) -> tuple[str, examine.Examination]:
        """Try a remote out; return its URL, and what was found."""
        backend = self._settings.open_plain(remote)
        return backend.url, examine.examine(backend)

    def copy(self, source: str, destination: str, *, every: bool = False) -> Copied:
        """Copy what this repository (or `every` one) pushed to a remote to another one."""
        return copy_remote(self._project, self._settings, source, destination, every=every)

    def plan_copy(
        self, source: str, destination: str, *, every: bool = False
    ) -> tuple[Copied, Estimate]:
        """Plan a `copy`; nothing is written."""
        return plan_copy(self._project, self._settings, source, destination, every=every)

    def gc(
        self,
        remote: str | None = None,
        *,
        expire: bool = False,
        dry_run: bool = False,
        grace_s: float | None = None,
    ) -> RemoteGcResult:
        """Bury what no root on a remote names, and remove what was buried `grace_s` seconds ago.

        `expire` lets go, too, what earlier pushes needed and nobody can ask for any more.
        """
        request = RemoteGcRequest(remote, expire, dry_run, grace_s)
        return gc_remote(self._project, self._settings, request)

    def undo_gc(self, remote: str | None = None) -> int:
        """Take back what `gc` buried on a remote; return the number of tombstones."""
        return undo_gc(self._settings.open_remote(remote))

    def roots(self, remote: str | None = None) -> list[RepoThere]:
        """Return the repositories that keep data on a remote."""
        return repositories(self._settings.open_remote(remote), self._settings.repo_id)

    def retire(
        self, repo_id: str, remote: str | None = None, *, plan_only: bool = False
    ) -> RemoteGcPlan:
        """Bury, on a remote, all that a repository which is gone for good has there."""
        return retire(self._settings.open_remote(remote), repo_id, plan_only=plan_only)
