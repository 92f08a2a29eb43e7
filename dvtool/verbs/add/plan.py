"""Planning to add: which targets paths mean, and what cannot be versioned."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass

from dvtool.errors import InputError, UsageError, listing, printable
from dvtool.format.manifest import Kind, Manifest
from dvtool.format.paths import SELF, SUFFIX, link_fault, path_faults, workspace_path
from dvtool.format.selection import has_wildcards, select
from dvtool.format.spelling import distinct_folded, folded
from dvtool.project.arguments import Arguments, Paths, each_path
from dvtool.project.parts import Project, refuse_place
from dvtool.workspace.rules import Ignore
from dvtool.workspace.scan import Scan, link_above
from dvtool.workspace.walk import refuse_faults

_OURS_AND_GITS = frozenset({".git", ".gitignore", ".gitattributes", ".dvignore", ".dvconfig"})
"""Names that a glob passes over."""


@dataclass(frozen=True, slots=True)
class AddRequest:
    """One path to add: a target, new or not, and the part of it that is added ("" for all)."""

    target: str
    inner: str


def paths_to_add(
    project: Project, arguments: Arguments, typed: Paths, *, update: bool = False
) -> list[str]:
    """Return what paths, as typed, mean to `dv add`, from the top of the worktree.

    A glob is what it matches on the disk and in targets, without what git keeps. ``.`` in a folder
    that holds targets is these. With `update` only targets and paths in them are meant, and all
    targets by no path at all; a target that is not in the workspace is passed over. UsageError for
    a glob that matches nothing.
    """
    targets = project.targets()
    if update:
        return _paths_to_update(project, arguments, targets, typed)
    paths: list[str] = []
    for path in each_path(typed):
        inner = arguments.relative(path)
        below = [t for t in targets if not inner or t == inner or t.startswith(inner + "/")]
        is_there = os.path.lexists(project.absolute(inner))
        if os.path.normpath(path) == "." and below and inner not in below:
            chosen_targets = arguments.selections(targets, path)
            paths.extend(one.target for one in chosen_targets)
        elif has_wildcards(inner) and not is_there:
            paths.extend(_paths_matching(project, targets, inner))
        else:
            if not is_there:
                arguments.refuse_in_revision(path)
            paths.append(inner)
    return list(dict.fromkeys(paths))


def _paths_to_update(
    project: Project, arguments: Arguments, targets: Sequence[str], typed: Paths
) -> list[str]:
    whole: list[str] = [] if each_path(typed) else list(targets)
    inside: list[str] = []
    for path in each_path(typed):
        inner = arguments.relative(path)
        parts: list[str] = []
        for selection in arguments.selections(targets, path):
            (whole if selection.whole else parts).append(selection.target)
        if parts and has_wildcards(inner) and not os.path.lexists(project.absolute(inner)):
            matching = _paths_matching(project, targets, inner)
            inside.extend(p for p in matching if any(p.startswith(t + "/") for t in parts))
        elif parts:
            inside.append(inner)
    here = (target for target in whole if os.path.lexists(project.absolute(target)))
    return list(dict.fromkeys([*here, *inside]))


def _paths_matching(project: Project, targets: Sequence[str], pattern: str) -> list[str]:
    """Return what a glob matches on the disk, and in targets; UsageError if that is nothing."""
    matches = glob.glob(pattern, root_dir=project.root, recursive=True, include_hidden=True)
    tracked = {path for path in project.git.tracked_under(".") if not path.endswith(SUFFIX)}
    found: list[str] = []
    for path in sorted(path.rstrip("/").replace(os.sep, "/") for path in matches):
        name = path.rpartition("/")[2]
        if name in _OURS_AND_GITS or name.endswith(SUFFIX) or path in tracked or not path:
            continue
        if not any(path.startswith(above + "/") for above in found):
            found.append(path)
    for selection in select(targets, [pattern])[0]:
        known = project.entries(project.manifest(selection.target), selection)
        found.extend(
            workspace_path(selection.target, path)
            for path, entry in known.items()
            if not entry.dir
            and not os.path.lexists(_path_of(project, selection.target, path))
            and not selection.whole
        )
    if not found:
        raise UsageError(
            f"{printable(pattern)} matches nothing that could be added",
            hint="in quotes dv expands it, without them the shell does; see what is there: ls",
        )
    return found


def _path_of(project: Project, target: str, path: str) -> str:
    return project.absolute(workspace_path(target, path))


def plan_add(project: Project, paths: Sequence[str]) -> list[AddRequest]:
    """Say what adding these paths (from the top of the worktree) means; UsageError if nothing."""
    targets = project.targets()
    project.refuse_left_out(paths)
    requests = []
    for path in paths:
        refuse_place(path)
        _refuse_nested_repository(project, path)
        owner = next((t for t in targets if path == t or path.startswith(t + "/")), None)
        if owner is None:
            _refuse_behind_folder_link(project, path)
        inside = [t for t in targets if t.startswith(path + "/")]
        if owner is None and inside:
            raise UsageError(
                f"{printable(path)} holds targets of its own:\n{listing(inside)}",
                hint="add those, or take them out first: dv rm TARGET",
            )
        requests.append(AddRequest(owner or path, path[len(owner) + 1 :] if owner else ""))
    every = [request.target for request in requests]
    for target in every:
        above = next((other for other in every if target.startswith(other + "/")), None)
        if above is not None:
            raise UsageError(
                f"{printable(target)} is in {printable(above)}, which is added too",
                hint=f"add {printable(above)} alone",
            )
    return list(dict.fromkeys(requests))


def _refuse_nested_repository(project: Project, path: str) -> None:
    """Refuse a path in a submodule or clone inside this worktree: git keeps it apart too."""
    folder = path
    while folder:
        if project.workspace.stat(f"{folder}/.git") is not None:
            if folder == path and _leaves_out_git(project, path):
                return
            rest = path[len(folder) + 1 :] or "PATH"
            raise UsageError(
                f"{printable(path)} is in a git repository of its own, {printable(folder)}",
                hint=f"add it there: dv -C {printable(folder)} add {printable(rest)}"
                + (
                    "; or as data here, without its history: echo .git >> .dvignore, then repeat "
                    "the command"
                    if folder == path
                    else ""
                ),
            )
        folder = folder.rpartition("/")[0]


def _leaves_out_git(project: Project, path: str) -> bool:
    return Ignore(project.root, f"{path}/.git", links=project.workspace.links).excluded


def _refuse_behind_folder_link(project: Project, path: str) -> None:
    """Refuse a new target behind a symlink: git keeps nothing there, so no manifest either."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        link = "/".join(parts[:depth])
        if project.workspace.read_link(link) is None:
            continue
        real = os.path.realpath(project.absolute(path))
        inside = os.path.relpath(real, os.path.realpath(project.root))
        raise UsageError(
            f"{printable(path)} is behind the symlink {printable(link)}: git keeps nothing there, "
            "so no manifest either",
            hint=f"add all that the link leads to: dv add --dereference {printable(link)}"
            if inside.startswith("..")
            else f"add it by its own path: dv add {printable(inside)}",
        )


def refuse_tracked(project: Project, request: AddRequest, *, untrack: bool) -> None:
    """Raise a UsageError for files that git tracks, unless it is to give them up."""
    tracked = project.git.tracked_under(workspace_path(request.target, request.inner or SELF))
    if tracked and not untrack:
        raise UsageError(
            f"git tracks what should come under dv:\n{listing(tracked)}",
            hint="take it out of git's index (the files stay, and so does git's history): "
            f"dv add --untrack {printable(request.target)}",
        )


def target_kind(project: Project, scan: Scan, before: Manifest | None, request: AddRequest) -> Kind:
    """Return whether a target is a file or a folder; an error if it cannot be what it is now."""
    single = SELF in scan.files
    _refuse_behind_link(project, scan, request)
    place = workspace_path(request.target, request.inner or SELF)
    if SELF in scan.links:
        raise InputError(
            f"{printable(place)} is a symlink",
            hint="to keep the content that it leads to, and read and write it there from now on: "
            f"dv add --dereference {printable(place)}"
            if os.path.isdir(project.absolute(place))
            else "add what it points to, or repeat with --dereference to keep the content",
        )
    missing = project.workspace.stat(place) is None and not scan.behind_link(request.inner)
    if missing and request.inner and before is not None and before.kind == "file":
        raise UsageError(
            f"{printable(place)} would lie in the target {printable(request.target)}, which is one "
            "file",
            hint=f"to have a folder there instead: dv rm {printable(request.target)}, then move "
            "the file away",
        )
    if missing and not (request.inner and scan.seen):
        raise UsageError(
            f"there is nothing at {printable(place)}",
            hint=f"to get it back: dv checkout -- {printable(place)}; to untrack it: "
            f"dv rm {printable(place)}"
            if before is not None
            else "see what is there: ls; to take a path of another folder: dv -C FOLDER add PATH",
        )
    if before is not None and request.inner:
        return before.kind
    if before is not None and (before.kind == "file") != single:
        raise UsageError(
            f"{printable(request.target)} was a {before.kind} when it was added and is not now",
            hint=f"take it out first: dv rm {printable(request.target)}",
        )
    return "file" if single else "dir"


def _refuse_behind_link(project: Project, scan: Scan, request: AddRequest) -> None:
    """Raise a UsageError for a path behind a symlink, unless that is followed and it is there.

    A file that cannot be seen through a link is not known to be gone, so its entry stays.
    """
    link = link_above(project, request.target, request.inner)
    if link is None:
        return
    place = printable(workspace_path(request.target, request.inner))
    shown_path = workspace_path(request.target, link)
    shown = printable(shown_path)
    if link not in scan.followed:
        leads_out = link == SELF or link_fault(link, project.workspace.read_link(shown_path) or "")
        raise UsageError(
            f"{place} is behind the symlink {shown}",
            hint=f"to add what the link leads to: dv add --dereference {place}"
            if leads_out
            else "add what the link leads to by its own path",
        )
    inner = request.inner
    if not (inner in scan.files or inner in scan.links or _has_below(scan, inner)):
        raise UsageError(
            f"there is nothing at {place}, behind the symlink {shown}",
            hint=f"to take its entries out: dv rm {place}",
        )


def _has_below(scan: Scan, folder: str) -> bool:
    every = (*scan.files, *scan.links, *scan.folders)
    return any(path == folder or path.startswith(folder + "/") for path in every)


def refuse_unversionable(scan: Scan, request: AddRequest) -> None:
    """Refuse, all at once, everything that cannot be versioned."""
    faults = list(scan.faults)
    for path, link in scan.links.items():
        fault = link_fault(path, link)
        if fault:
            faults.append((path, f"is a symlink that {fault}; --dereference takes its content"))
    for paths in (scan.files, scan.links, scan.empty_folders):
        faults.extend((path, fault) for path, fault in path_faults(paths) if path != SELF)
    refuse_faults(faults, request.target)


def ambiguity_warnings(scan: Scan) -> list[str]:
    """Warn of names that are one and the same on filesystems that fold case or Unicode forms."""
    every = (*scan.files, *scan.links, *scan.folders)
    if distinct_folded(every):
        return []
    groups: dict[str, list[str]] = {}
    for path in every:
        groups.setdefault(folded(path), []).append(path)
    return [
        "these differ only in case or Unicode form, and collide on macOS and Windows:\n"
        + listing(workspace_path(scan.target, path) for path in sorted(group))
        for group in groups.values()
        if len(group) > 1
    ]
