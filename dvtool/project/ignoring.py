"""Whether git passes over the data of a target, and seeing that it does."""

from __future__ import annotations

import os

from dvtool.errors import SetupError, printable
from dvtool.format.paths import SUFFIX
from dvtool.project.parts import Project
from dvtool.workspace.gitignore import ignore_file, ignore_target, names_target

NOT_KEPT_OUT = "is not kept out of git: no line in .gitignore names it (dv add writes one)"


def is_kept_out(project: Project, target: str) -> bool:
    """Whether git ignores a target: by the line that dv writes, or by another."""
    return names_target(project.workspace, target) or target in project.git.ignored([target])


def keep_out(project: Project, target: str) -> bool:
    """See that git ignores a target before its data is written; return whether a line was missing.

    A rename by ``git mv``, a merge or a checkout of single files can bring a manifest without it.
    """
    if is_kept_out(project, target):
        return False
    ignore_target(project.workspace, target)
    return True


def is_exposed(project: Project, target: str) -> bool:
    """Whether ``git add`` would take the data of a target that is in the workspace."""
    present = os.path.lexists(project.absolute(target))
    return present and not is_kept_out(project, target)


def needs_line(project: Project, target: str, *, is_new: bool) -> bool:
    """Whether a target needs a line of its own in the `.gitignore` beside it.

    A target needs none where git's rules ignore both the data and that file already, as where a
    team lets nothing but manifests in. SetupError, before anything is written, where the manifest
    or the line could not be committed.
    """
    if not is_new and names_target(project.workspace, target):
        return True
    manifest, file = target + SUFFIX, ignore_file(target)
    ignored = project.git.ignored([manifest, file, target])
    if manifest in ignored and not project.git.tracked_under(manifest):
        raise _unseen(manifest)
    if file not in ignored or project.git.tracked_under(file):
        return True
    if target not in ignored:
        raise _unseen(file)
    return False


def _unseen(path: str) -> SetupError:
    return SetupError(
        f"git ignores {printable(path)}, so that it could not be committed; nothing was changed",
        hint=f"see the rule: git check-ignore -v {printable(path)}; take it out, or add !/{path}",
    )
