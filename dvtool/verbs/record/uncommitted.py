"""Code and data that are not committed, and keeping them for a run all the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from dvtool.errors import DvError, InputError, UsageError, listing, printable, size_text
from dvtool.format.manifest import Entry, Manifest, build, encode
from dvtool.format.paths import RUNS_FOLDER, SUFFIX, workspace_path
from dvtool.git.saving import FileChange
from dvtool.project import preserve
from dvtool.project.ignoring import NOT_KEPT_OUT
from dvtool.project.parts import Project
from dvtool.verbs.diff import workspace_entries
from dvtool.verbs.status import TargetStatus

RUN_REFS = "refs/dv/runs/"
"""Below it, the refs of commits that were made for runs: what they need, nobody frees."""


@dataclass(frozen=True, slots=True)
class Uncommitted:
    """Paths that are not as HEAD has them: files of git, and targets."""

    code: list[FileChange]
    data: list[TargetStatus]

    def __bool__(self) -> bool:
        return bool(self.code or self.data)


def find_uncommitted(
    project: Project, statuses: Iterable[TargetStatus], out: Sequence[str]
) -> Uncommitted:
    """Return what a run could use and no commit has.

    Records of runs are none, nor are untracked files that are, or are below, what the run is to
    write (`out`).
    """
    return Uncommitted(
        [
            change
            for change in project.git.changes(exclude=[RUNS_FOLDER])
            if not change.path.endswith(SUFFIX)
            and not (change.kind == "untracked" and _lies_below(change.path, out))
        ],
        [status for status in statuses if not status.clean],
    )


def _lies_below(path: str, tops: Iterable[str]) -> bool:
    return any(path == top or path.startswith(top + "/") for top in tops)


def refused(uncommitted: Uncommitted) -> DvError:
    """Return an error that names what is not committed."""
    code = [f"{change.path} (untracked)" for change in uncommitted.code if _is_new(change)]
    code += [change.path for change in uncommitted.code if not _is_new(change)]
    data = [f"{status.target} (data)" for status in uncommitted.data]
    return DvError(
        f"not all of code and data is committed; nothing was run:\n{listing([*code, *data])}",
        hint="commit it (dv status, git status), or name what is no part of the run in .gitignore; "
        "or keep it for this run alone: dv run --allow-dirty",
    )


def _is_new(change: FileChange) -> bool:
    return change.kind in ("untracked", "repository")


# --- keeping it -----------------------------------------------------------------------------


def save_uncommitted(
    project: Project, run_id: str, uncommitted: Uncommitted, out: Sequence[str]
) -> tuple[str, str]:
    """Keep code and data as they are in a commit on no branch; return it, and the ref to it.

    Contents come first, then shards, git's objects, and last the ref, by which gc keeps all of it.
    The worktree, git's index and the branch stay as they are.
    """
    _refuse_unsavable(project, uncommitted)
    with project.lock():
        manifests: dict[str, bytes] = {}
        for status in uncommitted.data:
            if status.changed and status.manifest != "deleted":
                manifest = _manifest_now(project, status.target)
                manifests[status.target + SUFFIX] = encode(manifest)
        exclude = [RUNS_FOLDER, *project.targets(), *_untracked_below(project, out)]
        message = f"dv run {run_id}: code and data as they were, with what was not committed"
        commit = project.git.commit_worktree(message, exclude=exclude, instead=manifests)
        ref = RUN_REFS + run_id
        project.git.make_ref(ref, commit)
    return commit, ref


def _untracked_below(project: Project, out: Sequence[str]) -> list[str]:
    return [path for path in out if not project.git.tracked_under(path)]


def _manifest_now(project: Project, target: str) -> Manifest:
    """Return the manifest of a target as the workspace has it; its contents are stored then."""
    manifest = project.manifest(target)
    entries = dict(workspace_entries(project, target, manifest))
    lacking = project.store.lacking(entry.digest for entry in entries.values() if entry.size > 0)
    paths = {
        workspace_path(target, path): path
        for path, entry in entries.items()
        if entry.is_file and entry.digest in lacking
    }
    here = [full for full in paths if project.workspace.stat(full) is not None]
    for full, stored in preserve.store_contents(project, here).items():
        path = paths[full]
        entries[path] = Entry(blake3=stored.blake3, size=stored.size, exec=entries[path].exec)
    built = build(manifest.kind, entries)
    project.store.put_shards(built.shards)
    return built.manifest


def _refuse_unsavable(project: Project, uncommitted: Uncommitted) -> None:
    """Raise an error for what a commit for a run cannot hold."""
    by_kind: dict[str, list[str]] = {}
    for change in uncommitted.code:
        by_kind.setdefault(change.kind, []).append(change.path)
    conflicted = by_kind.get("conflicted", [])
    conflicted += [status.target for status in uncommitted.data if status.manifest == "conflicted"]
    if conflicted:
        raise UsageError(
            f"a merge left conflicts in:\n{listing(conflicted)}",
            hint="settle them first: dv resolve, git mergetool",
        )
    for kind, what in (("submodule", "submodules have"), ("repository", "repositories are")):
        if kind in by_kind:
            raise UsageError(
                f"these {what} not in any commit of this repository:\n{listing(by_kind[kind])}",
                hint="commit what is in the submodule; or name the folder in .gitignore",
            )
    faults = [
        f"{workspace_path(status.target, fault.path)}: {fault.problem}"
        for status in uncommitted.data
        for fault in status.faults
        if fault.problem != NOT_KEPT_OUT
    ]
    if faults:
        raise InputError(f"this cannot be kept:\n{listing(faults)}", hint="run: dv status")
    _refuse_large(project, by_kind)


def _refuse_large(project: Project, by_kind: Mapping[str, Sequence[str]]) -> None:
    size_max = project.config.number("hooks.maxfilesize")
    large = []
    for path in chain(by_kind.get("tracked", ()), by_kind.get("untracked", ())):
        status = project.workspace.stat(path)
        if size_max and status is not None and status.st_size > size_max:
            large.append(f"{printable(path)} ({size_text(status.st_size)})")
    if large:
        raise InputError(
            f"these files are too large for git:\n{listing(large)}",
            hint="put them under dv: dv add PATH; or name them in .gitignore; or allow it: "
            "dv config hooks.maxfilesize SIZE",
        )
