"""Giving data another place in the worktree: by a rename or, on another disk, by a copy.

A copy takes time, and while it lasts both places have something. A note in the worktree's git
folder says so until it is done: by it a repeated command knows that the destination is its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dvtool.system import atomic
from dvtool.system.decoders import json_decoder
from dvtool.workspace.across import move_across

if TYPE_CHECKING:
    from dvtool.project.parts import Project

NOTE = "relocation"


class Relocation(NamedTuple):
    """Where data was, and where it is to be, from the top of the worktree."""

    source: str
    destination: str


def relocate(project: Project, source: str, destination: str) -> None:
    """Move a file or folder; UnsavedError if something is at the destination.

    A move to another disk that was cut off goes on if it is repeated.
    """
    wanted = Relocation(source, destination)
    if unfinished_relocation(project) != wanted:
        try:
            project.workspace.rename(source, destination)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        path = _note_path(project)
        atomic.make_folders(os.path.dirname(path))
        atomic.write_bytes(path, msgspec.json.encode(wanted))
    move_across(project.workspace, source, destination)
    forget_relocation(project)


def unfinished_relocation(project: Project) -> Relocation | None:
    """Return the move to another disk that was cut off, None if there is none."""
    try:
        with open(_note_path(project), "rb") as file:
            return json_decoder(Relocation).decode(file.read())
    except (OSError, msgspec.MsgspecError):
        return None


def forget_relocation(project: Project) -> None:
    """Forget a move that is done."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_note_path(project))


def _note_path(project: Project) -> str:
    return os.path.join(project.git.git_dir, "dv", NOTE)
