"""Finding programs to start: by absolute folders of the PATH only.

A relative folder of the PATH, or an empty one, is the current folder: a repository's, often.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache


def absolute_folders(path: str) -> str:
    """Return a PATH without the folders that are relative to the current one."""
    folders = path.split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if os.path.isabs(folder))


@lru_cache(maxsize=8)
def find_program(name: str, path: str) -> str:
    """Return the absolute path of a program; FileNotFoundError if no folder of `path` has it."""
    for folder in absolute_folders(path).split(os.pathsep):
        program = os.path.join(folder, name)
        try:
            is_file = stat.S_ISREG(os.stat(program).st_mode)
        except OSError:
            continue
        if folder and is_file and os.access(program, os.X_OK):
            return program
    raise FileNotFoundError(f"there is no program {name} in the absolute folders of the PATH")
