"""The lines in .gitignore that keep git from tracking a target's data itself."""

from __future__ import annotations

import contextlib
import os

from dvtool.errors import SetupError, printable
from dvtool.system.atomic import TEMP_PREFIX, make_folders
from dvtool.workspace.files import Workspace
from dvtool.workspace.last_look import text_there
from dvtool.workspace.opener import reason

FILE = ".gitignore"
GITIGNORE_SIZE_MAX_BYTES = 64 << 20
UNFINISHED = f"{TEMP_PREFIX}[0-9]*-" + "[0-9a-f]" * 12
"""The pattern of git that matches the names of unfinished files."""


def ignore_file(target: str) -> str:
    """Return the `.gitignore` that has the line of a target."""
    return _place(target)[0]


def ignore_target(workspace: Workspace, target: str) -> list[str]:
    """See that the `.gitignore` beside a target names it; return that file's path."""
    path, line = _place(target)
    text = _read_ignore_file(workspace, path)
    lines = _lines(text)
    if not any(_same(line, other) for other in lines):
        _write(workspace, path, [*lines, line], instead_of=text)
    return [path]


def names_target(workspace: Workspace, target: str) -> bool:
    """Whether the `.gitignore` beside a target names it in the line that `ignore_target` writes."""
    path, line = _place(target)
    return any(_same(line, other) for other in _lines(_read_ignore_file(workspace, path)))


def refuse_unusable(workspace: Workspace, target: str) -> None:
    """Raise the SetupError that `ignore_target` would, before anything else is written."""
    _read_ignore_file(workspace, _place(target)[0])


def hide_unfinished(git_dir: str) -> None:
    """See that git, whose common folder this is, passes over what a crash leaves in worktrees.

    A line in this clone's `info/exclude` does it. Where that cannot be written, git shows such
    files.
    """
    path = os.path.join(git_dir, "info", "exclude")
    line = UNFINISHED.encode()
    text = b""
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            text = file.read()
        if line not in text.split(b"\n"):
            make_folders(os.path.dirname(path))
            # Added to, not replaced: it is the user's, and may be a link.
            with open(path, "ab") as file:
                file.write((b"" if text.endswith(b"\n") or not text else b"\n") + line + b"\n")


def unignore_target(workspace: Workspace, target: str) -> list[str]:
    """Take a target's line out again, and an emptied file away; return what was touched."""
    path, line = _place(target)
    text = _read_ignore_file(workspace, path)
    lines = _lines(text)
    rest = [other for other in lines if not _same(line, other)]
    if len(rest) == len(lines):
        return []
    if rest:
        _write(workspace, path, rest, instead_of=text)
    else:
        workspace.remove(path, believed=text_there(text))
    return [path]


def escape(name: str) -> str:
    """Return a gitignore pattern that matches exactly this name."""
    escaped = "".join("\\" + char if char in "\\*?[" else char for char in name)
    return escaped[:-1] + "\\ " if escaped.endswith(" ") else escaped


def _place(target: str) -> tuple[str, str]:
    folder, _, name = target.rpartition("/")
    return (f"{folder}/{FILE}" if folder else FILE), "/" + escape(name)


def _same(line: str, other: str) -> bool:
    return line == other.removesuffix("\r")


def _read_ignore_file(workspace: Workspace, path: str) -> bytes | None:
    """Return the bytes of a `.gitignore`, None if there is none.

    The file may come with the repository from anybody, and its lines are staged: were a symlink
    followed, the lines could be those of any file of the user's.
    """
    try:
        return workspace.read_bytes(path, size_max=GITIGNORE_SIZE_MAX_BYTES)
    except OSError as error:
        raise SetupError(
            f"{printable(path)} cannot be used: {reason(error)}",
            hint="put a file in its place, then repeat the command",
        ) from error


def _lines(data: bytes | None) -> list[str]:
    text = (data or b"").decode("utf-8", "surrogateescape")
    # Only "\n" ends a line for git; str.splitlines would cut a name at other characters too.
    return text.removesuffix("\n").split("\n") if text else []


def _write(workspace: Workspace, path: str, lines: list[str], *, instead_of: bytes | None) -> None:
    text = "\n".join(lines) + "\n"
    data = text.encode("utf-8", "surrogateescape")
    workspace.write_bytes(path, data, believed=text_there(instead_of))
