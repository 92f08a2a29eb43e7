"""drivers: what lets git merge manifests by entry, and show them as files and sizes.

A line in `.gitattributes`, for every clone, names the drivers; what they run stands in this
clone's `.git/config`, since git takes no program from a committed file. Where that is not set up,
git merges and shows manifests as text, which they are made for.
"""

from __future__ import annotations

import re
import shlex

from dvtool.errors import SetupError
from dvtool.format.paths import SUFFIX
from dvtool.git import Git
from dvtool.hooks.interpreter import Interpreter, this_interpreter
from dvtool.project.parts import Project
from dvtool.workspace.opener import reason

ATTRIBUTES_FILE = ".gitattributes"
LINE = f"*{SUFFIX} merge=dv diff=dv"
SIZE_MAX_BYTES = 64 << 20
NAME = "merge dvtool manifests by entry"
_ANOTHER_DV = "PYTHONPATH= PYTHONHOME="
"""Before a `dv` of the PATH, whose Python is not isolated; one that is not absolute is not run."""
_MISSING = "dvtool is not installed here: pip install dvtool, then dv resolve"


def install(project: Project) -> bool:
    """Set the drivers up; return whether that changed anything. Safe to repeat."""
    changed = _add_line(project)
    for key, value in _settings(project).items():
        if project.git.config.get(key) != value:
            project.git.config.set(None, key, value)
            changed = True
    return changed


def uninstall(project: Project) -> bool:
    """Undo `install`; return whether that changed anything.

    A line that is committed stays: it is every clone's, and without settings git passes it over.
    """
    changed = False
    for section in ("merge.dv", "diff.dv"):
        changed = project.git.config.remove_section(None, section) or changed
    head = project.git.head()
    committed = (project.git.blob_at(head, ATTRIBUTES_FILE) if head else None) or b""
    if LINE.encode() not in _lines(committed):
        changed = _remove_line(project) or changed
    return changed


def installed(project: Project) -> bool:
    """Whether git uses the drivers, and with the interpreter that runs this."""
    settings = _settings(project).items()
    here = all(_program(project.git.config.get(key)) == _program(value) for key, value in settings)
    return here and LINE.encode() in _lines(_read(project))


def _program(setting: str | None) -> str | None:
    """Return a setting without the folders that Python searches, which differ by environment."""
    return None if setting is None else re.sub(r"sys\.path \+= \[.*\]\n", "", setting)


def _settings(project: Project) -> dict[str, str]:
    python = this_interpreter(project.root)
    return {
        "merge.dv.name": NAME,
        "merge.dv.driver": merge_command(python),
        "diff.dv.textconv": textconv_command(python),
        # Kept from what older settings said: what shards show depends on whether they are here.
        "diff.dv.cachetextconv": "false",
    }


def merge_command(python: Interpreter) -> str:
    """Return the shell command that git runs to merge; `python` is the interpreter to run it."""
    files = "%O %A %B %P"
    # git replaces %O and its like; a percent sign of ours is doubled.
    path, start = (text.replace("%", "%%") for text in (shlex.quote(python.path), _start(python)))
    return (
        f"if test -x {path}; then {start} merge-driver {files}; "
        f'else dv=$(command -v dv); case $dv in /*) {_ANOTHER_DV} "$dv" merge-driver {files};; '
        f"*) echo '{_MISSING}' >&2; exit 127;; esac; fi"
    )


def textconv_command(python: Interpreter) -> str:
    """Return the shell command that git runs, with a file's name behind it, to show a manifest.

    It ends well in any case, with the manifest as it is if need be: else there is no diff at all.
    """
    return (
        f'f() {{ if test -x {shlex.quote(python.path)}; then {_start(python)} textconv "$1"; '
        f'else dv=$(command -v dv); case $dv in /*) {_ANOTHER_DV} "$dv" textconv "$1";; '
        '*) false;; esac; fi 2>/dev/null || cat "$1"; }; f'
    )


def _start(python: Interpreter) -> str:
    return f"{shlex.quote(python.path)} {python.flags} -c {shlex.quote(python.code)}"


# --- the line -------------------------------------------------------------------------------


def _add_line(project: Project) -> bool:
    text = _read(project)
    if LINE.encode() in _lines(text):
        if project.git.tracked_under(ATTRIBUTES_FILE):
            return False
        _stage(project.git)  # what made it ended before it could
        return True
    end = b"\r\n" if b"\r\n" in text else b"\n"
    if text and not text.endswith(b"\n"):
        text += end
    project.workspace.write_bytes(ATTRIBUTES_FILE, text + LINE.encode() + end)
    _stage(project.git)
    return True


def _remove_line(project: Project) -> bool:
    text = _read(project)
    kept = [
        line for line in text.splitlines(keepends=True) if line.rstrip(b"\r\n") != LINE.encode()
    ]
    rest = b"".join(kept)
    if rest == text:
        return False
    if rest:
        project.workspace.write_bytes(ATTRIBUTES_FILE, rest)
        _stage(project.git)
    else:
        project.workspace.remove(ATTRIBUTES_FILE)
        project.git.remove_staged([ATTRIBUTES_FILE])
    return True


def _stage(git: Git) -> None:
    # Forced: whoever ignores dot files means others.
    git.stage([ATTRIBUTES_FILE], force=True)


def _read(project: Project) -> bytes:
    try:
        return project.workspace.read_bytes(ATTRIBUTES_FILE, size_max=SIZE_MAX_BYTES) or b""
    except OSError as error:
        raise SetupError(
            f"{ATTRIBUTES_FILE} cannot be used: {reason(error)}",
            hint="put a file in its place, then repeat the command",
        ) from error


def _lines(text: bytes) -> list[bytes]:
    return [line.rstrip(b"\r") for line in text.split(b"\n")]
