"""A folder of hooks for one repository, where git has one for all repositories of a user.

A hook that is put into that one would run in each of them, and taking it out would take it from
each. So `.git/config` names a folder of this repository to git, whose hooks run the user's.
"""

from __future__ import annotations

import os
import shlex
import shutil

from dvtool.git import Git
from dvtool.hooks.scripts import KEPT_SUFFIX, NAMES, version_of
from dvtool.system import atomic

KEY = "core.hooksPath"
OWN_FOLDER = "githooks"
HOOK_SIZE_MAX_BYTES = 1 << 20


def path_of(git: Git) -> str:
    """Return the folder for this repository alone."""
    return os.path.join(git.common_dir, "dv", OWN_FOLDER)


def in_use(git: Git) -> bool:
    """Whether git looks for hooks in the folder for this repository alone."""
    return git.config.get(KEY) == path_of(git)


def shared_folder(git: Git) -> str:
    """Return the folder in which git looks for the hooks of other repositories too, "" if none.

    Such a folder is outside of the repository, and no setting of the repository itself names it.
    """
    if git.config.get(KEY) is not None:
        return ""
    folder = os.path.realpath(git.hooks_folder())
    for top in filter(None, (git.worktree, git.common_dir, git.git_dir)):
        if (folder + os.sep).startswith(os.path.realpath(top) + os.sep):
            return ""
    return folder


def make(folder: str, shared: str) -> None:
    """Make the folder, with hooks that run the user's; ours come beside them."""
    os.makedirs(folder, exist_ok=True)
    present = [entry.name for entry in os.scandir(shared)] if os.path.isdir(shared) else []
    for name in sorted({*NAMES, *present}):
        theirs = os.path.join(shared, name)
        if name.endswith((KEPT_SUFFIX, ".sample")) or _is_own_hook(theirs):
            continue
        quoted = shlex.quote(theirs)
        script = f'#!/bin/sh\n[ ! -x {quoted} ] || exec {quoted} "$@"\n'
        path = os.path.join(folder, name + (KEPT_SUFFIX if name in NAMES else ""))
        with atomic.replacing(path) as file:
            file.write(script.encode("utf-8", "surrogateescape"))
            os.fchmod(file.fileno(), 0o755)


def _is_own_hook(path: str) -> bool:
    """Whether a hook is one that an earlier version of dvtool put there."""
    try:
        with open(path, "rb") as file:
            return version_of(file.read(HOOK_SIZE_MAX_BYTES)) is not None
    except OSError:
        return False


def remove_own_folder(git: Git) -> None:
    """Have git look where it did before, and remove the folder."""
    git.config.unset(None, KEY)
    shutil.rmtree(path_of(git), ignore_errors=True)
