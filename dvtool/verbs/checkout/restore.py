"""checkout, restore and pull: manifests, of the worktree or of a commit, restored in the workspace.

First all that could forbid it is looked at; then content that the store lacks is fetched; then the
files are written, and last the manifests of the commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from dvtool.errors import MissingError, count_text, listing, size_text
from dvtool.format.manifest import Entry, Manifest, decode, update
from dvtool.format.paths import SUFFIX, workspace_path
from dvtool.format.selection import Selection
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.base import read_base, record_base, record_part
from dvtool.project.parts import Project, refuse_overlap
from dvtool.project.preserve import Saved, keep_uncommitted
from dvtool.project.settings import Settings
from dvtool.remotes.estimate import Estimate
from dvtool.system.lazy import later
from dvtool.verbs.checkout.plan import (
    CheckoutPlan,
    heed_rules,
    lacks_content,
    plan_checkout,
    refuse_losses,
    save_unsaved,
)
from dvtool.verbs.checkout.write import CheckedOut, apply_checkout, foreseen
from dvtool.workspace.gitignore import ignore_target

if TYPE_CHECKING:
    from dvtool.verbs.fetch import download, plan as fetch_plan, request as fetch_requests
    from dvtool.verbs.fetch.request import Fetched, FetchRequest
else:
    download = later("dvtool.verbs.fetch.download")
    fetch_plan = later("dvtool.verbs.fetch.plan")
    fetch_requests = later("dvtool.verbs.fetch.request")


class RestoreRequest(msgspec.Struct, frozen=True):
    """A request to restore manifests of a revision, or (None) of the worktree, as paths select.

    Content that the store lacks is fetched from the default remotes, unless one is named, or not at
    all without `fetch`. With `force` files with unsaved changes are replaced too, and saved first.
    Without `manifests` those in the worktree stay, also those of a revision that is restored. With
    `plan_only` nothing is changed.
    """

    rev: str | None = None
    paths: Paths = ()
    force: bool = False
    remote: str | None = None
    fetch: bool = True
    manifests: bool = True
    plan_only: bool = False


class Restored(msgspec.Struct, frozen=True):
    """The result of a checkout or pull."""

    targets: tuple[CheckedOut, ...]
    """The result for each target."""
    saved: tuple[Saved, ...] = ()
    """The content that --force copied into the store before it was replaced."""
    fetched: Fetched | None = None
    """The result of the fetch that was needed; null if no remote was asked."""


class _Part(msgspec.Struct, frozen=True):
    """A manifest, as far as it is selected, and what checking that out will do."""

    manifest: Manifest
    selection: Selection
    plan: CheckoutPlan
    text: bytes | None
    """The bytes of the manifest in the worktree, None if there is none."""


def checkout(
    project: Project, settings: Settings, arguments: Arguments, request: RestoreRequest
) -> Restored:
    """Give the workspace the content of manifests, which for a revision go there too, staged."""
    project = project.with_shards_from(request.remote, fetch=request.fetch)
    if not request.plan_only:
        project = structs.replace(project, shards=project.shards.without_places())
        project.shards.listed.wanted = not request.paths
    with project.lock():
        try:
            return restore(project, settings, arguments, request)
        finally:
            project.shards.let_go()


def estimate_pull(
    project: Project, settings: Settings, arguments: Arguments, request: RestoreRequest
) -> tuple[Fetched, Estimate]:
    """Return what a pull would fetch, and what that takes; the workspace stays as it is."""
    project = project.with_shards_from(request.remote)
    _, parts = _plan_parts(project, arguments, request)
    wanted = list(_to_fetch(project, parts))
    return fetch_plan.plan_fetch(project, settings.open_remote(request.remote), wanted)


def restore(
    project: Project, settings: Settings, arguments: Arguments, request: RestoreRequest
) -> Restored:
    """Do as `checkout`, for a caller who has locked the worktree."""
    commit, parts = _plan_parts(project, arguments, request)
    project.shards.listed.entries.clear()
    if request.plan_only:
        return Restored(tuple(foreseen(part.plan) for part in parts))
    if not request.manifests:
        commit = None
        for part in parts:
            part.plan.stays_tracked = True
    if commit is not None:
        project.git.refuse_if_index_is_locked()
    fetched = _fetch_content(project, settings, parts, request)
    plans = [part.plan for part in parts]
    saved = save_unsaved(project, plans)
    targets = []
    for part in parts:
        targets.append(apply_checkout(project, part.plan))
        if commit is not None:
            _put_manifest(project, commit, part)
        if request.manifests or request.rev is None:
            _record_base(project, part)
    return Restored(tuple(targets), tuple(saved), fetched)


def _plan_parts(
    project: Project, arguments: Arguments, request: RestoreRequest
) -> tuple[str | None, list[_Part]]:
    """Return the commit and what to do for each target; raise what forbids to do it."""
    commit = project.git.resolve(request.rev) if request.rev else None
    project.refuse_left_out(arguments.all_relative(request.paths))
    manifests = project.manifests_at(commit) if commit else project.manifests_here()
    for path in project.git.sparse_manifests():
        manifests.pop(path.removesuffix(SUFFIX), None)
    selections = arguments.selections(sorted(manifests), request.paths)
    refuse_overlap([*project.targets(), *(selection.target for selection in selections)])
    parts = []
    for selection in selections:
        manifest = manifests[selection.target]
        text = project.manifest_text(selection.target)
        before = read_base(project, selection.target)
        if before is None and commit is not None and text is not None:
            before = decode(text, selection.target + SUFFIX)
        checkout_plan = plan_checkout(project, selection, manifest, before=before)
        if not request.paths:  # what is named is wanted, whatever the standing rules say
            heed_rules(checkout_plan, project.sparse_rules())
        parts.append(_Part(manifest, selection, checkout_plan, text))
    refuse_losses([part.plan for part in parts], force=request.force)
    return commit, parts


def _fetch_content(
    project: Project, settings: Settings, parts: Sequence[_Part], request: RestoreRequest
) -> Fetched | None:
    """Get the content that the plans need and the store lacks."""
    wanted = list(_to_fetch(project, parts))
    if not wanted:
        return None
    configured = request.remote or project.config.remotes()
    if not request.fetch or not (configured or _is_at_sources(project, parts)):
        missing = _missing_files(project, parts)
        raise MissingError(
            f"the content of {count_text(len(missing), 'file')} "
            f"({size_text(sum(missing.values()))}) is "
            f"not in the local store; nothing was changed:\n{listing(sorted(missing))}",
            hint="run: dv pull" if configured else "add the remote that has it: dv remote add",
        )
    remotes = settings.open_remotes(request.remote) if configured else []
    return download.fetch(project, remotes, wanted)


def _is_at_sources(project: Project, parts: Sequence[_Part]) -> bool:
    """Whether all that the plans need and the store lacks is known to be at sources."""
    lacking = {digest for part in parts for digest in project.store.lacking(part.plan.needed())}
    return lacking <= project.store.db.references.known(lacking)


def _to_fetch(project: Project, parts: Sequence[_Part]) -> Iterator[FetchRequest]:
    """Yield what to fetch for plans that the store lacks content for."""
    for part in parts:
        if lacks_content(project, part.plan):
            yield fetch_requests.fetch_request(
                project, part.manifest, part.selection, part.plan.only, part.plan.sizes()
            )


def _missing_files(project: Project, parts: Sequence[_Part]) -> dict[str, int]:
    """Return path -> size for each content that plans need and the store lacks."""
    missing = {}
    for part in parts:
        needed = part.plan.needed()
        for digest in project.store.lacking(needed):
            path = needed[digest]
            missing[workspace_path(part.plan.target, path)] = part.plan.write[path].size
    return missing


def _record_base(project: Project, part: _Part) -> None:
    """Record that what was selected follows the manifest now."""
    selection = part.selection
    if selection.whole:
        record_base(project, selection.target, part.manifest)
    else:
        now = project.manifest(selection.target)
        record_part(project, selection.target, now, selection.matches)


def _put_manifest(project: Project, commit: str, part: _Part) -> None:
    """Put a commit's manifest, or the selected entries of it, into worktree and index."""
    target = part.selection.target
    project.refuse_changed(target, part.text)
    keep_uncommitted(project, target)
    if part.selection.whole or project.manifest_text(target) is None:
        project.git.restore(commit, [target + SUFFIX])
        project.git.stage(ignore_target(project.workspace, target))
        return
    now = project.manifest(target)
    old = project.entries(now, part.selection)
    new = project.entries(part.manifest, part.selection)
    changes: dict[str, Entry | None] = dict.fromkeys(old)
    changes.update(new)
    built = update(now, changes, project.shards.load)
    project.store.put_shards(built.shards)
    project.write_manifest(target, built.manifest, instead_of=part.text)
    # The manifest is staged even if it is unchanged: a command may have ended before staging it.
    project.git.stage([target + SUFFIX])
