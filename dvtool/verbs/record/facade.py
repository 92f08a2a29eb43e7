"""The class of `Repo.runs`: the records of runs, and running one again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from dvtool.project.arguments import OnePath
from dvtool.project.opening import environment
from dvtool.project.parts import Project
from dvtool.verbs.record import records, reproduce


class Runs:
    """The runs that have a record in this worktree. Every method raises `DvError`."""

    def __init__(
        self, project: Project, open_worktree: Callable[..., reproduce.OpenWorktree]
    ) -> None:
        self._project = project
        self._open_worktree = open_worktree

    def list(self) -> records.RunList:
        """Return the runs, newest first."""
        return records.list_runs(self._project)

    def show(self, run_id: str) -> records.RunRecord:
        """Return a record, by id, beginning of an id, `last`, or path of the file."""
        return records.find_run(self._project, run_id)

    def reproduce(
        self,
        run_id: str,
        *,
        worktree: OnePath | None = None,
        environ: Mapping[str, str] | None = None,
        stdout: int | None = None,
    ) -> reproduce.Reproduction:
        """Run a run again, in a new worktree with its code and data, and say what differs."""
        environ = environment(environ)
        request = reproduce.ReproduceRequest(run_id, worktree, environ, stdout)
        opened = partial(self._open_worktree, environ=environ, progress=self._project.progress)
        return reproduce.reproduce(self._project, opened, request)
