"""The lines in .gitignore that keep git from tracking a target's data itself."""

from __future__ import annotations

import os

from dvtool.atomic import write_bytes
from dvtool.workspace import Workspace

FILE = ".gitignore"


def ignore_file(target: str) -> str:
    """Return the `.gitignore` in which a target stands."""
    return _place(target)[0]


def ignore_target(workspace: Workspace, target: str) -> list[str]:
    """See that the `.gitignore` beside a target names it; return that file's path."""
    path, line = _place(target)
    lines = _read(workspace, path)
    if not any(_same(line, other) for other in lines):
        _write(workspace, path, [*lines, line])
    return [path]


def unignore_target(workspace: Workspace, target: str) -> list[str]:
    """Take a target's line out again, and an emptied file away; return what was touched."""
    path, line = _place(target)
    lines = _read(workspace, path)
    rest = [other for other in lines if not _same(line, other)]
    if len(rest) == len(lines):
        return []
    if rest:
        _write(workspace, path, rest)
    else:
        workspace.remove(path)
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


def _read(workspace: Workspace, path: str) -> list[str]:
    full = workspace.absolute(path)
    if not os.path.lexists(full):
        return []
    with open(full, encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read()
    # Only "\n" ends a line for git; str.splitlines would cut a name at other characters too.
    return text.removesuffix("\n").split("\n") if text else []


def _write(workspace: Workspace, path: str, lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    write_bytes(workspace.absolute(path), text.encode("utf-8", "surrogateescape"))
