"""The class of `Repo.plans`: what push, fetch and pull would do, and what that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.remotes.estimate import Estimate
from dvtool.system.lazy import later, later_in

if TYPE_CHECKING:
    from dvtool.verbs.checkout import restore
    from dvtool.verbs.fetch import plan as fetch_plan, request as fetch_request
    from dvtool.verbs.push import commits
else:
    restore = later("dvtool.verbs.checkout.restore")
    fetch_plan, fetch_request = later_in("dvtool.verbs.fetch", "plan", "request")
    commits = later("dvtool.verbs.push.commits")


class Plans:
    """Verbs on remotes, planned: the options are those of the verb, and methods raise `DvError`.

    The remote is asked, and nothing is written but shards into the local store.
    """

    def __init__(self, project: Project, settings: Settings, arguments: Arguments) -> None:
        self._project = project
        self._settings = settings
        self._arguments = arguments

    def push(
        self,
        *,
        remote: str | None = None,
        revs: Sequence[str] = (),
        every: bool = False,
        paths: Paths = (),
        tips_only: bool = False,
    ) -> commits.PushPlan:
        """Plan a `push`, with `tips_only` of the revisions alone."""
        self._settings.trust_first_use()
        select = self._arguments.selecting(paths) if paths else None
        request = commits.PushRequest(remote, revs, every, select)
        return commits.plan_push(self._project, self._settings, request, tips_only=tips_only)

    def fetch(
        self, *, remote: str | None = None, revs: Sequence[str] = (), paths: Paths = ()
    ) -> tuple[fetch_request.Fetched, Estimate]:
        """Plan a `fetch`."""
        self._settings.trust_first_use()
        wanted = fetch_request.fetch_requests(self._project, self._arguments, revs, paths)
        return fetch_plan.plan_fetch(self._project, self._settings.open_remote(remote), wanted)

    def pull(
        self,
        *,
        remote: str | None = None,
        rev: str | None = None,
        paths: Paths = (),
        force: bool = False,
    ) -> tuple[fetch_request.Fetched, Estimate]:
        """Plan a `pull`."""
        self._settings.trust_first_use()
        request = restore.RestoreRequest(rev, paths, force=force, remote=remote)
        return restore.estimate_pull(self._project, self._settings, self._arguments, request)
