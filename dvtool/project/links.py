"""The symlinks to folders of data that this worktree follows: those that `add --dereference` took.

A link may come with a branch from anybody, so it takes a person to have it followed. The record
says for each link which folder it led to then; if it leads elsewhere, it is not followed any more
(decision 042). It lies in the worktree's git folder, and is no part of what git shares.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from dvtool.errors import UsageError, printable
from dvtool.system import atomic
from dvtool.system.decoders import json_decoder
from dvtool.workspace.opener import NO_LINKS, Links

if TYPE_CHECKING:
    from dvtool.project.parts import Project

LINKS = "links"
"""The file of the record, which the hooks' scripts look for."""


def read_links(git_dir: str) -> Links:
    """Return the links that a worktree follows; none where the record cannot be read."""
    try:
        with open(_links_file(git_dir), "rb") as file:
            return json_decoder(dict[str, str]).decode(file.read())
    except (OSError, msgspec.MsgspecError):
        return NO_LINKS


def follow_links(project: Project, paths: Mapping[str, str]) -> None:
    """Have links, by their paths from the top of the worktree, followed to these folders.

    Links that are in no target any more are forgotten.
    """
    links = {**project.workspace.links, **paths}
    targets = project.targets()
    _set_links(project, {path: links[path] for path in links if _lies_in(path, targets)})


def forget_led_elsewhere(project: Project) -> None:
    """Follow no link that leads elsewhere by now, so that `add --dereference` takes it anew.

    The record is not changed by this alone.
    """
    workspace = project.workspace
    left = {
        path: folder
        for path, folder in workspace.links.items()
        if os.path.realpath(workspace.absolute(path)) == folder and os.path.isdir(folder)
    }
    if left != workspace.links:
        workspace.follow(left)


def refuse_misled(project: Project, source: str, destination: str) -> None:
    """Raise a UsageError for links that would lead elsewhere from where a move takes them."""
    for path, folder in project.workspace.links.items():
        new = project.absolute(destination + path[len(source) :])
        if not _lies_in(path, [source]) or not os.path.islink(project.absolute(path)):
            continue
        leads_to = os.path.join(os.path.dirname(new), os.readlink(project.absolute(path)))
        if os.path.realpath(leads_to) != folder:
            raise UsageError(
                f"{printable(path)} is a relative symlink, and would not lead to "
                f"{printable(folder)} from there",
                hint=f"make it absolute first: ln -sfn {shlex.quote(folder)} {shlex.quote(path)}",
            )


def move_links(project: Project, source: str, destination: str) -> None:
    """Let the links at and below a path go with it to another name."""
    links = project.workspace.links
    moved = {
        destination + path[len(source) :] if _lies_in(path, [source]) else path: folder
        for path, folder in links.items()
    }
    if moved.keys() != links.keys():
        _set_links(project, moved)


def forget_links(project: Project, target: str) -> None:
    """Forget the links of a target that is a target no more."""
    links = project.workspace.links
    left = {path: folder for path, folder in links.items() if not _lies_in(path, [target])}
    if left != links:
        _set_links(project, left)


def _lies_in(path: str, targets: list[str]) -> bool:
    return any(path == target or path.startswith(target + "/") for target in targets)


def _links_file(git_dir: str) -> str:
    return os.path.join(git_dir, "dv", LINKS)


def _set_links(project: Project, links: Links) -> None:
    path = _links_file(project.git.git_dir)
    project.workspace.follow(links)
    if links:
        atomic.make_folders(os.path.dirname(path))
        atomic.write_bytes(path, msgspec.json.encode(links, order="sorted"))
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
