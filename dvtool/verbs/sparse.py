"""sparse: the standing rules of a worktree, and taking out of it what they leave out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dvtool.errors import UsageError
from dvtool.format.paths import folders_above, workspace_path
from dvtool.project.arguments import Arguments, Paths, each_path
from dvtool.project.parts import Project, require_worktree
from dvtool.project.sparse import NOT, SparseRules, write_rules
from dvtool.verbs.checkout.plan import CheckoutPlan
from dvtool.verbs.checkout.write import apply_checkout
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import content_of, file_entry, find_left_out, scan_target


@dataclass(slots=True)
class SparseResult:
    """The rules of a worktree, and what was taken out of it."""

    rules: list[str] = field(default_factory=list)
    """The rules, in their order; none take everything."""
    removed: int = 0
    """How many files were removed from the workspace; the local store has their content."""
    removed_bytes: int = 0
    """Bytes of these files."""
    kept: list[str] = field(default_factory=list)
    """Files that the rules leave out and that stay: they were changed, or are in no store."""


class Sparse:
    """The standing rules of a worktree, as `dv sparse` shows and changes them."""

    def __init__(self, project: Project, arguments: Arguments) -> None:
        self._project = project
        self._arguments = arguments

    def rules(self) -> SparseResult:
        """Return the rules."""
        return SparseResult(list(self._project.sparse_rules().lines))

    def set(
        self,
        paths: Paths = (),
        *,
        exclude: Paths = (),
        keep: bool = False,
        plan_only: bool = False,
    ) -> SparseResult:
        """Take only `paths`, without what `exclude` says; with `keep` the rules before stay.

        A file that is left out is removed from the workspace, if it is as its manifest says and
        the local store has it. The next pull gets files that are taken and not there.
        """
        lines = [*self._lines(paths), *(NOT + line for line in self._lines(exclude))]
        if not lines:
            raise UsageError("name what to take, or what to leave out: --exclude PATH")
        before = self._project.sparse_rules().lines if keep else ()
        return self._put(SparseRules(tuple(dict.fromkeys([*before, *lines]))), plan_only=plan_only)

    def disable(self, *, plan_only: bool = False) -> SparseResult:
        """Take everything again; it comes with the next pull."""
        return self._put(SparseRules(), plan_only=plan_only)

    def _lines(self, paths: Paths) -> Iterable[str]:
        for path in each_path(paths):
            negated = path.startswith(NOT)
            self._arguments.refuse_in_revision(path.removeprefix(NOT))
            line = self._arguments.relative(path.removeprefix(NOT)) or "**"
            yield f"{NOT}{line}" if negated else line

    def _put(self, rules: SparseRules, *, plan_only: bool) -> SparseResult:
        project = self._project
        require_worktree(project.git)
        result = SparseResult(list(rules.lines))
        with project.lock():
            plans = [
                _plan_taking_out(project, target, rules, result) for target in project.targets()
            ]
            if plan_only:
                return result
            write_rules(project.git.git_dir, rules)
            for plan in plans:
                if plan is not None:
                    apply_checkout(project, plan)
        return result


def _plan_taking_out(
    project: Project, target: str, rules: SparseRules, result: SparseResult
) -> CheckoutPlan | None:
    """Plan to remove what the rules leave out of a target; None if nothing of it is here."""
    if project.workspace.stat(target) is None or not rules.lines:
        return None
    every = project.held_entries(project.manifest(target))
    out = {path: entry for path, entry in every.items() if not rules.takes(target, path)}
    if not out:
        return None
    scan = scan_target(project, target, content_at=content_of(every))
    find_left_out(project, scan, out)
    here: Sequence[str] = [path for path in out if path in scan.files]
    hash_files(project, scan, here, tolerant=True)
    lacking = project.store.lacking(scan.digests[path] for path in here if path in scan.digests)
    plan = CheckoutPlan(target, scan, keep_folders=folders_above(every.keys() - out.keys()))
    for path in here:
        digest = scan.digests.get(path)
        if digest is None or digest in lacking or file_entry(scan, path) != out[path]:
            result.kept.append(workspace_path(target, path))
        else:
            plan.remove.append(path)
            result.removed += 1
            result.removed_bytes += out[path].bytes
    links = (path for path in out if scan.links.get(path, "") == out[path].symlink)
    plan.remove.extend(path for path in links if path in scan.links)
    return plan
