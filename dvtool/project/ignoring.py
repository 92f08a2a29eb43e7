"""Whether git passes over the data of a target, and seeing that it does."""

from __future__ import annotations

import os

from dvtool.project.parts import Project
from dvtool.workspace.gitignore import ignore_target, names_target

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
    there = os.path.lexists(project.absolute(target))
    return there and not is_kept_out(project, target)
