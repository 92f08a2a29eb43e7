"""gc for the facade: what git and the worktrees need, what remotes hold, and the locks."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import filelock

from dvtool.errors import (
    BusyError,
    CorruptError,
    DvError,
    ManifestNewer,
    MissingError,
    SetupError,
    UsageError,
    listing,
)
from dvtool.format.manifest import MANIFEST_SIZE_MAX_BYTES, Manifest, decode, manifest_digest
from dvtool.format.paths import SUFFIX
from dvtool.git import Git
from dvtool.project.locks import LOCK_WAIT_S
from dvtool.project.parts import Project
from dvtool.project.preserve import FOLDER as SAVED
from dvtool.project.settings import Settings
from dvtool.remotes.known import Known
from dvtool.remotes.proof import Kept, kept_chunks
from dvtool.remotes.repack import GcSide
from dvtool.system.atomic import make_folders, share
from dvtool.verbs.gc import local as gc_ops
from dvtool.verbs.gc import remote as remote_ops
from dvtool.workspace.files import Workspace
from dvtool.workspace.gitignore import UNFINISHED, hide_unfinished

_OBJECT_ID = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b")
_STATE_FOLDERS = ("rebase-merge", "rebase-apply", "sequencer")
STATE_SIZE_MAX_BYTES = 4 << 20


# --- what is needed -------------------------------------------------------------------------


def every_manifest(project: Project, *, complete: bool) -> Iterator[Manifest]:
    """Yield every manifest that somebody here can still ask for, repeatedly perhaps.

    That is: of the history of all refs, stashes and reflogs; of commits that a merge, rebase or
    the like under way goes by; of the index, conflicts included, and the files of each worktree;
    and those kept below `saved/`. What is no manifest any more names nothing.

    One that git has lost, and may get back, or that is of a later format, is passed over; with
    `complete` that is a MissingError or ManifestNewer.
    """
    texts: set[tuple[str, str]] = set()
    git = project.git
    for path, blobs in git.manifest_blobs_everywhere().items():
        texts.update((path, blob) for blob in blobs)
    for git_dir, top in git.worktree_git_dirs().items():
        # Of a worktree that is gone, or not mounted, the index is still to be read.
        stand_in = None if git_dir == git.common_dir and top is None else git_dir
        with Git(worktree=top or stand_in, git_dir=git_dir, common_dir=git.common_dir) as tree:
            tips = tree.commits_among(sorted(set(_ids_in_state(git_dir))))
            for path, blobs in tree.manifest_blobs_in(tips).items():
                texts.update((path, blob) for blob in blobs)
            if tree.worktree is not None:
                texts.update(_in_index(tree))
            if top is not None:
                for path in tree.manifest_paths():
                    yield from _manifest_in(os.path.join(top, path), complete=complete)
    for path, blob in sorted(texts):
        with _passing_over(complete=complete):
            yield decode(git.read_blob(blob), path)
    yield from _saved(project, complete=complete)


@contextlib.contextmanager
def _passing_over(*, complete: bool) -> Iterator[None]:
    """Go on after what is no manifest, and unless `complete` after what only may be one."""
    try:
        yield
    except (MissingError, ManifestNewer):
        if complete:
            raise
    except CorruptError:
        pass


def _in_index(tree: Git) -> Iterator[tuple[str, str]]:
    yield from tree.manifests_in_index().items()
    for path, stages in tree.conflicts_in_index().items():
        yield from ((path, blob) for blob in stages.values())


def _manifest_in(path: str, *, complete: bool) -> Iterator[Manifest]:
    try:
        with open(path, "rb") as file:
            text = file.read(MANIFEST_SIZE_MAX_BYTES + 1)
    except FileNotFoundError:
        return
    with _passing_over(complete=complete):
        yield decode(text, path)


def _saved(project: Project, *, complete: bool) -> Iterator[Manifest]:
    folder = os.path.join(project.store.path, SAVED)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if name.endswith(SUFFIX):
            yield from _manifest_in(os.path.join(folder, name), complete=complete)


def _ids_in_state(git_dir: str) -> Iterator[str]:
    """Yield the object ids that stand in git's files about merges, rebases and the like.

    HEAD and the refs are not among them.
    """
    places = [
        os.path.join(git_dir, name) for name in os.listdir(git_dir) if re.fullmatch("[A-Z_]+", name)
    ]
    for name in _STATE_FOLDERS:
        for folder, _, names in os.walk(os.path.join(git_dir, name)):
            places.extend(os.path.join(folder, one) for one in names)
    for path in places:
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode) and found.st_size <= STATE_SIZE_MAX_BYTES:
                with open(path, encoding="utf-8", errors="replace") as file:
                    yield from _OBJECT_ID.findall(file.read())


# --- the local store ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalRequest:
    """What the user wants of a gc of the local store."""

    unpushed: bool = False
    dry_run: bool = False
    grace_s: float = remote_ops.GRACE_S


def collect_local(project: Project, settings: Settings, request: LocalRequest) -> gc_ops.Collected:
    """Free the local store of what nothing here needs; see `dvtool.verbs.gc.local`."""
    _refuse_shared(project, request)
    rule = gc_ops.Rule(
        unpushed=request.unpushed,
        used=project.config.text("store.keep") == "unpushed",
        grace_s=request.grace_s,
    )
    manifests = every_manifest(project, complete=request.unpushed)
    needed = gc_ops.needed_by(project, manifests, complete=request.unpushed)
    asked = gc_ops.candidates(project, needed, rule)
    held, remotes, warnings = _held(project, settings, asked)
    todo = gc_ops.plan(project, needed, held, rule, gc_ops.now_s())
    result = gc_ops.Collected(todo)
    if request.dry_run:
        result.losing, result.unread = _losing(project, todo.chunks.difference(held.chunks))
    else:
        with all_worktrees_locked(project.git):
            fresh = [
                one
                for one in every_manifest(project, complete=request.unpushed)
                if manifest_digest(one) not in needed.manifests
            ]
            since = gc_ops.needed_by(project, fresh, complete=False)
            result = gc_ops.apply(project, todo, since)
            result.temp_bytes += _sweep_worktrees(project.git)
    result.remotes, result.warnings = tuple(remotes), warnings
    going = todo.chunks if request.dry_run else frozenset()
    result.kept_unpushed_bytes = gc_ops.unheld_bytes(project, needed, held, going)
    return result


def _losing(project: Project, chunks: Collection[bytes]) -> tuple[list[str], list[str]]:
    """Return the commits that name any of these chunks, and those of which that is not known.

    All of them are commits that nothing refers to: what others name is needed, and does not go.
    """
    losing: list[str] = []
    unread: list[str] = []
    verdicts: dict[str, bool | None] = {}
    git = project.git
    for commit, blobs in git.manifest_blobs_of_each(git.commits_beside_refs() if chunks else ()):
        for blob in (blobs or frozenset()) - verdicts.keys():
            verdicts[blob] = _names_any(project, blob, chunks)
        found = {None} if blobs is None else {verdicts[blob] for blob in blobs}
        if True in found:
            losing.append(commit)
        elif None in found:
            unread.append(commit)
    return losing, unread


def _names_any(project: Project, blob: str, chunks: Collection[bytes]) -> bool | None:
    """Tell whether a manifest names any of the chunks; None if it cannot be read."""
    try:
        one = decode(project.git.read_blob(blob), blob)
    except ManifestNewer:
        return None
    except CorruptError:  # it is no manifest, and names nothing
        return False
    except SetupError:
        raise
    except DvError:
        return None
    return not gc_ops.needed_by(project, [one], complete=False).chunks.isdisjoint(chunks)


def _refuse_shared(project: Project, request: LocalRequest) -> None:
    own = os.path.join(project.git.common_dir, "dv")
    if request.unpushed and os.path.realpath(project.store.path) != os.path.realpath(own):
        raise UsageError(
            f"the store {project.store.path} may serve other repositories too (store.path), and "
            "what they need is not known here",
            hint="leave --unpushed out, which frees what a remote holds: dv push, then dv gc; or, "
            "if no other repository uses this store, move it to .git/dv and unset store.path",
        )


def _held(
    project: Project, settings: Settings, asked: set[bytes]
) -> tuple[gc_ops.Held, list[str], list[str]]:
    """Ask every remote what it holds; return that, the remotes that answered, and warnings."""
    repo_id = project.config.text("core.repoid") or ""
    chunks: set[bytes] = set()
    kept = Kept(set(), set())
    answered: list[str] = []
    warnings: list[str] = []
    for name in sorted(settings.remotes()) if asked and repo_id else ():
        try:
            remote = settings.open_remote(name)
            mark = remote.mark()
            if mark is None:
                continue
            known = Known(project.store.db, mark.id)
            found, there = kept_chunks(remote, known, repo_id, asked - chunks)
        except DvError as error:
            warnings.append(
                f"remote {name} was not asked, what it has counts as not there: {error}"
            )
            continue
        chunks |= found
        kept.manifests.update(there.manifests)
        kept.shards.update(there.shards)
        answered.append(name)
    return gc_ops.Held(chunks, kept), answered, warnings


@contextlib.contextmanager
def all_worktrees_locked(git: Git) -> Iterator[None]:
    """Keep every command that relies on the store's content from running meanwhile.

    They write a manifest for it only at their end, so nobody could tell that they need it.
    """
    paths = {os.path.join(place, "dv", "worktree.lock") for place in git.worktree_git_dirs()}
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):
            make_folders(os.path.dirname(path))
            try:
                stack.enter_context(filelock.FileLock(path, timeout=LOCK_WAIT_S))
                share(path)
            except filelock.Timeout as error:
                raise BusyError(
                    f"another dv command has been changing a worktree for {LOCK_WAIT_S} s ({path})",
                    hint="wait for it to end, then repeat the command",
                ) from error
        hide_unfinished(git.common_dir)
        yield


def _sweep_worktrees(git: Git) -> int:
    """Remove the unfinished files that crashes left in any worktree; return their bytes.

    Hold the locks of all worktrees.
    """
    size = 0
    for top in git.worktrees():
        with contextlib.suppress(DvError), Git.discover(top) as tree, Workspace(top) as workspace:
            size += workspace.sweep(tree.untracked(UNFINISHED))
    return size


# --- remotes --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """What the user wants of a gc of a remote."""

    remote: str | None = None
    expire: bool = False
    dry_run: bool = False
    grace_s: float = remote_ops.GRACE_S


def collect_remote(
    project: Project, settings: Settings, request: RemoteRequest
) -> remote_ops.Collected:
    """Free a remote of what no root there names; see `dvtool.verbs.gc.remote`."""
    settings.require_init()
    remote = settings.open_remote(request.remote)
    repo_id = project.config.text("core.repoid") or ""
    expiry = None
    if request.expire:
        expiry = remote_ops.Expiry(repo_id, _needed_hashes(project), request.grace_s)
    return remote_ops.collect(
        remote,
        repo=repo_id,
        expiry=expiry,
        grace_s=request.grace_s,
        dry_run=request.dry_run,
        here=GcSide(project.store.temp_path, project.progress),
    )


def _needed_hashes(project: Project) -> frozenset[str]:
    """Return the hashes of all manifests that anybody can ask for, as far as git's remotes tell.

    SetupError if this clone does not have all that they have.
    """
    git = project.git
    if git.is_shallow():
        raise SetupError(
            "this clone is shallow: what older commits need is not known here",
            hint="run it in a full clone, or: git fetch --unshallow",
        )
    theirs = git.refs_of_remotes()
    here = git.object_sizes(sorted(set(theirs.values())))
    missing = sorted(name for name, object_id in theirs.items() if object_id not in here)
    if missing:
        raise SetupError(
            "git's remotes have commits that are not here, so what they need is not known:\n"
            + listing(missing),
            hint="run: git fetch --all --tags (with all branches: see remote.NAME.fetch)",
        )
    found = {manifest_digest(one).hex() for one in every_manifest(project, complete=True)}
    tips = git.commits_among(sorted(set(theirs.values())))
    for path, blobs in git.manifest_blobs_in(tips).items():
        for blob in blobs:
            with _passing_over(complete=True):
                found.add(manifest_digest(decode(git.read_blob(blob), path)).hex())
    return frozenset(found)
