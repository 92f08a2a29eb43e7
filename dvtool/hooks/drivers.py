"""drivers: what lets git merge manifests by entry, and show them as files and sizes.

Lines in `.gitattributes`, for every clone, name the drivers; the programs are in this clone's
`.git/config`, since git takes none from a committed file. Where the programs are not set up, git
merges and shows manifests as text, which they are made for. The lines also keep git from changing
manifests on their way to and from the disk, and let it merge the files in which each target has a
line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence

from dvtool.errors import SetupError, printable
from dvtool.format.paths import SUFFIX
from dvtool.git import Git
from dvtool.hooks.interpreter import Interpreter, this_interpreter
from dvtool.project.parts import Project
from dvtool.workspace.last_look import text_there
from dvtool.workspace.opener import reason

ATTRIBUTES_FILE = ".gitattributes"
LINE = f"*{SUFFIX} merge=dv diff=dv -text -filter -ident -working-tree-encoding"
LINES = (
    LINE,
    ".gitignore merge=union",
    f"/{ATTRIBUTES_FILE} merge=union",
    "/.dvconfig merge=dv",
)
"""Of `.gitignore` both sides' lines stay, as two branches that each add a target need it."""
OLD_LINES = (f"*{SUFFIX} merge=dv diff=dv",)
HARMLESS = ("unspecified", "unset")
CHANGING = ("filter", "ident", "working-tree-encoding")
"""Attributes by which git changes files on their way to and from the disk."""
ATTRIBUTES_SIZE_MAX_BYTES = 64 << 20
NAME = "merge dvtool manifests by entry"
_ANOTHER_DV = "PYTHONPATH= PYTHONHOME="
"""Before a `dv` of the PATH, whose Python is not isolated; one that is not absolute is not run."""
_MISSING = "dvtool is not installed here: see docs/install.md of it, then run dv resolve"


def install(project: Project) -> bool:
    """Set the drivers up; return whether that changed anything. Safe to repeat."""
    changed = _add_lines(project)
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
    gone = {line.encode() for line in LINES} - set(_attribute_lines(committed))
    return _remove_lines(project, gone) or changed


def installed(project: Project) -> bool:
    """Whether git uses the drivers, and with the interpreter that runs this."""
    settings = _settings(project).items()
    here = all(_program(project.git.config.get(key)) == _program(value) for key, value in settings)
    return here and _has_lines(_read_attributes(project))


def overriding(project: Project, manifests: Sequence[str]) -> list[str]:
    """Say, a sentence each, by which attributes git changes manifests (paths) on their way.

    A line behind ours, or in a `.gitattributes` further down, can set them again.
    """
    names = ("text", *CHANGING)
    warnings = []
    for path, states in project.git.attributes(names, manifests).items():
        bad = [f"{name}={states[name]}" for name in CHANGING if states[name] not in HARMLESS]
        bad += [f"text={states['text']}"] if states["text"] not in HARMLESS else []
        if bad:
            warnings.append(
                f"git changes {printable(path)} by its attributes ({', '.join(bad)}): see `git "
                f"check-attr -a {printable(path)}`, and put `{LINE}` behind the line that does it"
            )
    return warnings


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
    path, start = (
        text.replace("%", "%%") for text in (shlex.quote(python.path), _start_of(python))
    )
    return (
        f"if test -x {path}; then {start} merge-driver {files}; "
        f'else dv=$(command -v dv); case $dv in /*) {_ANOTHER_DV} "$dv" merge-driver {files};; '
        f"*) echo '{_MISSING}' >&2; exit 127;; esac; fi"
    )


def textconv_command(python: Interpreter) -> str:
    """Return the shell command that git runs, with a file's name behind it, to show a manifest.

    The command ends well in any case, with the manifest as it is if need be: else git shows no
    diff.
    """
    return (
        f'f() {{ if test -x {shlex.quote(python.path)}; then {_start_of(python)} textconv "$1"; '
        f'else dv=$(command -v dv); case $dv in /*) {_ANOTHER_DV} "$dv" textconv "$1";; '
        '*) false;; esac; fi 2>/dev/null || cat "$1"; }; f'
    )


def _start_of(python: Interpreter) -> str:
    return f"{shlex.quote(python.path)} {python.flags} -c {shlex.quote(python.code)}"


# --- the line -------------------------------------------------------------------------------


def _add_lines(project: Project) -> bool:
    text = _read_attributes(project)
    believed = text_there(text) if text else None
    if _has_lines(text):
        if project.git.tracked_under(ATTRIBUTES_FILE):
            return False
        _stage_attributes(project.git)  # what made it ended before it could
        return True
    end = b"\r\n" if b"\r\n" in text else b"\n"
    old = {line.encode() for line in OLD_LINES}
    text = b"".join(
        line for line in text.splitlines(keepends=True) if line.rstrip(b"\r\n") not in old
    )
    if text and not text.endswith(b"\n"):
        text += end
    present = set(_attribute_lines(text))
    fresh = [line.encode() + end for line in LINES if line.encode() not in present]
    text += b"".join(fresh)
    project.workspace.write_bytes(ATTRIBUTES_FILE, text, believed=believed)
    _stage_attributes(project.git)
    _restore_line_ends(project)
    return True


def _has_lines(text: bytes) -> bool:
    return {line.encode() for line in LINES} <= set(_attribute_lines(text))


def _restore_line_ends(project: Project) -> None:
    """Undo what core.autocrlf did to manifests before the line kept it from them."""
    staged = project.git.manifests_in_index()
    for target in project.targets():
        text = project.manifest_text(target)
        blob = staged.get(target + SUFFIX)
        if text is None or blob is None or b"\r\n" not in text:
            continue
        if project.git.read_blob(blob) == (plain := text.replace(b"\r\n", b"\n")):
            project.workspace.write_bytes(target + SUFFIX, plain, believed=text_there(text))


def _remove_lines(project: Project, gone: Collection[bytes]) -> bool:
    text = _read_attributes(project)
    kept = [line for line in text.splitlines(keepends=True) if line.rstrip(b"\r\n") not in gone]
    rest = b"".join(kept)
    if rest == text:
        return False
    if rest:
        project.workspace.write_bytes(ATTRIBUTES_FILE, rest, believed=text_there(text))
        _stage_attributes(project.git)
    else:
        project.workspace.remove(ATTRIBUTES_FILE, believed=text_there(text))
        project.git.remove_staged([ATTRIBUTES_FILE])
    return True


def _stage_attributes(git: Git) -> None:
    # Forced: a user who ignores dot files means other files.
    git.stage([ATTRIBUTES_FILE], force=True)


def _read_attributes(project: Project) -> bytes:
    try:
        return (
            project.workspace.read_bytes(ATTRIBUTES_FILE, size_max=ATTRIBUTES_SIZE_MAX_BYTES) or b""
        )
    except OSError as error:
        raise SetupError(
            f"{ATTRIBUTES_FILE} cannot be used: {reason(error)}",
            hint="put a file in its place, then repeat the command",
        ) from error


def _attribute_lines(text: bytes) -> list[bytes]:
    return [line.rstrip(b"\r") for line in text.split(b"\n")]
