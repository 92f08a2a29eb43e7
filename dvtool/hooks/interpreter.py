"""How git's hooks and drivers start Python: isolated, so that nothing of a repository is imported.

Git runs them in the worktree, with the environment of whoever called it. ``-I`` keeps the current
folder, PYTHONPATH and the other PYTHON* variables out. ``-I`` also keeps out the user's own
packages and the folders of PYTHONPATH when dvtool was set up, so these folders are written down and
come last.
"""

from __future__ import annotations

import os
import sys

import msgspec

from dvtool.system.workers import PACKAGE_FOLDER

MISSING_STATUS = 125
"""The exit code of the started code where there is no dvtool any more."""

_CODE = """\
import sys
sys.path += {folders!r}
try:
    from dvtool import cli
except ImportError:
    sys.exit({missing})
cli.main()"""


class Interpreter(msgspec.Struct, frozen=True):
    """A Python and the folders that it has to search besides its own; absolute paths."""

    path: str
    folders: tuple[str, ...] = ()

    @property
    def flags(self) -> str:
        """The options before ``-c``."""
        return "-I"

    @property
    def code(self) -> str:
        """The code that ``-c`` runs: `dv` with the arguments behind it."""
        return _CODE.format(folders=list(self.folders), missing=MISSING_STATUS)


def this_interpreter(worktree: str) -> Interpreter:
    """Return the Python that runs this, for the hooks of one repository."""
    folders = dict.fromkeys([PACKAGE_FOLDER, *sys.path])
    return Interpreter(
        sys.executable or "",
        tuple(folder for folder in folders if _is_extra(folder, os.path.realpath(worktree))),
    )


def _is_extra(folder: str, worktree: str) -> bool:
    """Tell whether only this process searches a folder, which is none of the repository's."""
    if not os.path.isabs(folder) or not os.path.isdir(folder):
        return False
    of_python = (os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix))
    real = os.path.realpath(folder)
    return not any(_is_in_folder(real, top) for top in (worktree, *of_python))


def _is_in_folder(path: str, top: str) -> bool:
    return os.path.commonpath([path, top]) == top
