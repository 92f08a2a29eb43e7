"""Paths, entries of targets and revisions that a user may be about to type. Nothing is fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dvtool.errors import DvError
from dvtool.format.manifest import Entries, Manifest
from dvtool.format.paths import SUFFIX
from dvtool.format.selection import Selection
from dvtool.project.arguments import Arguments
from dvtool.project.parts import Project

CANDIDATES_MAX = 500
"""More names help nobody."""


def path_candidates(
    project: Project, arguments: Arguments, begun: str, *, rev: str | None = None
) -> list[str]:
    """Return paths that begin as typed, one component further; folders end with a slash.

    These are files on the disk, targets, and entries of targets, be they here or not; with a
    revision those of its manifests, from the top of the worktree.
    """
    folder, slash, name = begun.rpartition("/")
    try:
        if rev is not None:
            top = folder.removeprefix("./")
            manifests = project.manifests_of(rev)
        else:
            top = arguments.relative(folder or (slash and "/") or ".")
            manifests = project.manifests_here()
    except DvError:
        return []
    names: dict[str, bool] = {}
    if rev is None:
        names.update(_on_disk(os.path.join(project.root, top)))
    for target, manifest in manifests.items():
        names.update(_of_target(project, target, manifest, top))
    return [
        f"{folder}{slash}{each}{'/' if is_folder else ''}"
        for each, is_folder in sorted(names.items())
        if each.startswith(name) and each.isprintable() and (name or not each.startswith("."))
    ][:CANDIDATES_MAX]


def _on_disk(folder: str) -> Iterator[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.endswith(SUFFIX) and entry.name != ".git":
                    yield entry.name, entry.is_dir()
    except OSError:
        return


def _of_target(
    project: Project, target: str, manifest: Manifest, top: str
) -> Iterator[tuple[str, bool]]:
    """Yield the names below the folder `top` that a target has there, and which are folders."""
    prefix = f"{top}/" if top else ""
    if f"{target}/".startswith(prefix) and target != top:
        rest = target[len(prefix) :]
        name, more, _ = rest.partition("/")
        yield name, bool(more) or manifest.kind == "dir"
        return
    if target != top and not top.startswith(target + "/"):
        return
    inner = top[len(target) + 1 :]
    start = f"{inner}/" if inner else ""
    for path, entry in _held(project, target, manifest, inner).items():
        if path.startswith(start) and path != ".":
            name, more, _ = path[len(start) :].partition("/")
            yield name, bool(more) or entry.dir


def _held(project: Project, target: str, manifest: Manifest, inner: str) -> Entries:
    """Return the entries below a folder of a target, as far as their shards are here."""
    if manifest.entries is not None:
        return manifest.entries
    held: Entries = {}
    selection = Selection(target, (inner,) if inner else ())
    for ref in project.selected_shards(manifest, selection):
        if project.store.has_shard(ref.digest):
            held.update(project.store.held_shard(ref))
    return held


def revision_candidates(project: Project) -> list[str]:
    """Return HEAD and the short names of branches, tags and remote branches."""
    kinds = ("refs/heads/", "refs/tags/", "refs/remotes/")
    refs = project.git.all_refs()
    names = [ref.removeprefix(kind) for ref in refs for kind in kinds if ref.startswith(kind)]
    return ["HEAD", *names][:CANDIDATES_MAX]
