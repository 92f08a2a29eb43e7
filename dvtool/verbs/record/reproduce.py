"""runs reproduce: the code and data of a run in a worktree of their own, run again and compared."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, Self

from dvtool.errors import CorruptError, DvError, MissingError, UsageError, printable
from dvtool.format.compare import Difference, differences
from dvtool.format.manifest import Manifest, manifest_digest
from dvtool.project.arguments import OnePath
from dvtool.project.history import versions_anywhere
from dvtool.project.parts import Project, require_worktree
from dvtool.verbs.record.records import RunOutput, RunRecord, find_run
from dvtool.verbs.record.run import KEPT_VARIABLES

OF_THIS_PLACE = ("CONDA_", "PYTHONPATH", "SLURM_", "VIRTUAL_ENV")
"""How variables begin that say where a Python, code or a job is."""


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """A target that the run wrote, then and now."""

    target: str
    """The target, as a path from the top of the worktree."""
    before: str | None
    """Its manifest hash after the run; null if that did not write it."""
    now: str | None
    """Its manifest hash after running again; null if that did not write it."""
    changes: list[Difference]
    """Which files differ, as far as the manifest of the run is still in git."""

    @property
    def same(self) -> bool:
        """Whether it has the same content."""
        return self.before == self.now


@dataclass(slots=True)
class Reproduction:
    """A run that was run again, and what differs."""

    json_keys: ClassVar = (
        *("same", "run", "worktree", "exit_statuses", "roots", "outputs", "packages", "again"),
    )

    run: str
    """The id of the run."""
    worktree: str
    """The worktree, absolute, in which it was run again; it stays."""
    exit_statuses: tuple[int | None, int | None]
    """The exit status of the run, and that of running again."""
    roots: tuple[str | None, str | None]
    """The Merkle root over what was read, then and now."""
    again: RunRecord
    """The record of running again, which is in that worktree."""
    outputs: list[OutputComparison] = field(default_factory=list)
    """The targets that it wrote."""
    packages: list[str] = field(default_factory=list)
    """Packages that have another version now, `numpy 1.26.4 -> 2.1.0`; they do not count by
    themselves."""

    @property
    def same(self) -> bool:
        """Whether exit status, what was read, and all outputs are the same."""
        (before, now), (root, root_now) = self.exit_statuses, self.roots
        return before == now and root == root_now and all(output.same for output in self.outputs)


class OpenWorktree(Protocol):
    """A worktree, open for its verbs; `Repo` is one."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """Release it."""

    def checkout(self) -> object:
        """Put the data of the manifests into the workspace, fetched where it is not here."""

    def run(
        self,
        command: list[str],
        *,
        out: list[str],
        environ: Mapping[str, str],
        stdout: int | None,
        reproduces: str,
    ) -> RunRecord:
        """Run a command."""


class ReproduceRequest(NamedTuple):
    """Which run to repeat, and where; see the options of `dv runs reproduce`."""

    run: str
    worktree: OnePath | None = None
    """A folder for the worktree that is not there yet, absolute; None for one beside this one."""
    environ: Mapping[str, str] = {}
    stdout: int | None = None


def reproduce(
    project: Project,
    open_worktree: Callable[[str], OpenWorktree],
    request: ReproduceRequest,
) -> Reproduction:
    """Make a worktree with the code and data of a run, run its command there, and compare.

    The environment is that of `request`, with the variables that the record has. MissingError if
    git does not have the commit any more. If the data cannot be put there, the worktree goes again.
    """
    require_worktree(project.git)
    record = find_run(project, request.run)
    if not project.git.has_commit(record.commit):
        raise MissingError(
            f"git does not have the commit of run {record.id}: {printable(record.commit)}",
            hint=f"get it from where the run was made: git fetch REMOTE {record.ref or 'BRANCH'}",
        )
    chosen = request.worktree or f"{project.root}-run-{record.id}"
    folder = os.path.abspath(os.fspath(chosen))
    if os.path.lexists(folder):
        raise UsageError(
            f"{printable(folder)} is there already",
            hint="remove it (git worktree remove), or name another place: --worktree FOLDER",
        )
    _folder_within(folder, record)
    project.git.add_worktree(folder, project.git.resolve(record.commit))
    try:
        with open_worktree(folder) as worktree:
            worktree.checkout()
    except BaseException:
        with contextlib.suppress(DvError):
            project.git.remove_worktree(folder)
        raise
    inner = _folder_within(folder, record)
    os.makedirs(inner, exist_ok=True)  # of a folder that has ignored files alone, no commit knows
    with open_worktree(inner) as worktree:
        again = worktree.run(
            record.command,
            out=[os.path.join(folder, path) for path in record.out],
            environ=_environment_again(project.root, folder, request.environ, record),
            stdout=request.stdout,
            reproduces=record.id,
        )
    return compare_runs(project, record, again, folder)


def _folder_within(worktree: str, record: RunRecord) -> str:
    """Return the folder in which a run was started, in a worktree; records are foreign."""
    inner = os.path.normpath(os.path.join(worktree, record.folder))
    if not (inner + os.sep).startswith(worktree + os.sep):
        raise CorruptError(
            f"run {record.id} says that it was started outside of the worktree: "
            f"{printable(record.folder)}",
            hint="see what changed the record: git log -- .dv-runs",
        )
    return inner


def _environment_again(
    root: str, worktree: str, environ: Mapping[str, str], record: RunRecord
) -> dict[str, str]:
    """Return the environment for running again: that of now, with the variables of the record.

    Only variables that `dv run` records, since anybody may have written the record, and none that
    say where things are. Folders of this worktree in PYTHONPATH become those of the new one: else
    another version of the code would run.
    """
    recorded = {
        name: text
        for name, text in record.environment.items()
        if name in KEPT_VARIABLES and not name.startswith(OF_THIS_PLACE)
    }
    again = {**environ, **recorded}
    if again.get("PYTHONPATH"):
        folders = again["PYTHONPATH"].split(os.pathsep)
        again["PYTHONPATH"] = os.pathsep.join(
            worktree + folder[len(root) :]
            if folder == root or folder.startswith(root + os.sep)
            else folder
            for folder in folders
        )
    return again


def compare_runs(project: Project, before: RunRecord, now: RunRecord, folder: str) -> Reproduction:
    """Say what differs between two records of one command."""
    old = {output.target: output for output in before.outputs}
    new = {output.target: output for output in now.outputs}
    outputs = []
    for target in sorted(old.keys() | new.keys()):
        sides = old.get(target), new.get(target)
        then, again = (side.blake3 if side else None for side in sides)
        changes = _file_changes(project, *sides) if then != again else []
        outputs.append(OutputComparison(target, then, again, changes))
    return Reproduction(
        before.id,
        folder,
        (before.exit_status, now.exit_status),
        (before.reads.root, now.reads.root),
        now,
        outputs,
        _package_changes(before, now),
    )


def _file_changes(
    project: Project, before: RunOutput | None, now: RunOutput | None
) -> list[Difference]:
    """Return what differs between two outputs whose manifests are known here."""
    if before is None or now is None:
        return []
    wanted = {before.blake3, now.blake3}
    manifests: dict[str, Manifest] = {}
    for manifest in versions_anywhere(project, now.target):
        name = manifest_digest(manifest).hex()
        if name in wanted:
            manifests[name] = manifest
        if len(manifests) == len(wanted):
            return differences(
                project.entries(manifests[before.blake3]), project.entries(manifests[now.blake3])
            )
    return []


def _package_changes(before: RunRecord, now: RunRecord) -> list[str]:
    if before.packages is None or now.packages is None:
        return []
    old = {"python": before.packages.python, **before.packages.distributions}
    new = {"python": now.packages.python, **now.packages.distributions}
    return [
        f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
