"""Which manifests there are, in any commit, index or worktree, and what content they need."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from dvtool.errors import DvError, ManifestError, MissingError
from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import Entries, Manifest, ShardRef, decode
from dvtool.format.paths import SUFFIX
from dvtool.git import Git
from dvtool.project.parts import Project
from dvtool.project.preserve import FOLDER as SAVED
from dvtool.workspace.files import Workspace

_OTHER_SIDES = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD", "refs/stash")


@dataclass(frozen=True, slots=True)
class Version:
    """One manifest: of a target, as a git blob or (`blob` empty) as a file that is no blob yet.

    `target` is empty for a manifest of what a forced checkout saved. Where it lies is `where`.
    """

    target: str
    manifest: Manifest
    blob: str
    where: str


@dataclass(slots=True)
class Needed:
    """What the manifests need. Lists of files (shards) that are not here name nothing yet."""

    contents: dict[Digest, int] = field(default_factory=dict)
    shards: dict[Digest, ShardRef] = field(default_factory=dict)
    lists_not_here: set[Digest] = field(default_factory=set)
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Manifests in worktrees and below `saved/` that cannot be read: path, and why."""
    passed_over: int = 0


def needed(project: Project) -> Needed:
    """Return what the manifests of all refs, worktrees and indexes need together, and saved ones.

    What only a reflog still names is left out: others may have given it up with good reason.
    """
    found = Needed()
    done: set[Digest] = set()
    for version in versions(project, found, reflogs=False):
        for ref, entries in held_runs(project, version.manifest, done=done):
            if ref is not None:
                found.shards[ref.digest] = ref
            if entries is not None:
                found.contents.update(contents_of(entries))
            elif ref is not None:
                found.lists_not_here.add(ref.digest)
    return found


def held_runs(
    project: Project, manifest: Manifest, *, done: set[Digest] | None = None
) -> Iterator[tuple[ShardRef | None, Entries | None]]:
    """Yield the entries of a manifest, of a large one shard by shard; None for one not here.

    Shards in `done` are passed over, and those yielded go in.
    """
    if manifest.entries is not None:
        yield None, manifest.entries
        return
    for ref in manifest.shards:
        if done is not None and ref.digest in done:
            continue
        if done is not None:
            done.add(ref.digest)
        entries = None
        with contextlib.suppress(MissingError, DvError):
            entries = project.store.held_shard(ref)
        yield ref, entries


def versions(
    project: Project, notes: Needed | None = None, *, reflogs: bool = True
) -> Iterator[Version]:
    """Yield every distinct manifest that git, a worktree, an index or `saved/` has.

    What cannot be read is passed over, and noted.
    """
    notes = notes if notes is not None else Needed()
    git = project.git
    blobs = {(path, blob) for path, ids in _history(git, reflogs).items() for blob in ids}
    for top in git.worktrees():
        with contextlib.suppress(DvError), Git.discover(top) as other:
            blobs |= _of_index(other)
            yield from _of_worktree(other, top, notes)
    for path, blob in sorted(blobs):
        try:
            manifest = decode(git.read_blob(blob), path)
        except (ManifestError, MissingError):
            notes.passed_over += 1
            continue
        yield Version(path.removesuffix(SUFFIX), manifest, blob, "")
    yield from _saved(project, notes)


def _history(git: Git, reflogs: bool) -> dict[str, set[str]]:
    found = git.manifest_blobs_everywhere() if reflogs else {}
    # A merge, pick or rebase under way may follow a commit that no ref has.
    tips = [*git.parents_of_next(), *git.commits_in_between(), *git.all_refs().values()]
    for path, blobs in git.manifest_blobs_in(tips).items():
        found.setdefault(path, set()).update(blobs)
    return found


def _of_index(git: Git) -> set[tuple[str, str]]:
    if git.worktree is None:
        return set()
    sides = git.conflicts_in_index()
    staged = set(git.manifests_in_index().items())
    return staged | {(path, blob) for path, some in sides.items() for blob in some.values()}


def _of_worktree(git: Git, top: str, notes: Needed) -> Iterator[Version]:
    staged = git.manifests_in_index()
    with Workspace(top) as workspace:
        for path in git.manifest_paths():
            try:
                with open(workspace.open_file(path), "rb") as file:
                    text = file.read()
                if path in staged and git.read_blob(staged[path]) == text:
                    continue
                manifest = decode(text, path)
            except (ManifestError, OSError) as error:
                notes.faults.append((os.path.join(top, path), str(error)))
                continue
            yield Version(path.removesuffix(SUFFIX), manifest, "", os.path.join(top, path))


def _saved(project: Project, notes: Needed) -> Iterator[Version]:
    folder = os.path.join(project.store.path, SAVED)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if not name.endswith(SUFFIX):
            continue
        try:
            with open(path, "rb") as file:
                manifest = decode(file.read(), path)
        except (ManifestError, OSError) as error:
            notes.faults.append((path, str(error)))
            continue
        yield Version("", manifest, "", path)


def versions_behind(project: Project, target: str) -> Iterator[Manifest]:
    """Yield the versions of a manifest that commits behind HEAD have, newest first.

    Before those, the one of the commit that is being merged, picked or popped; last its past.
    """
    git = project.git
    tips = [rev for rev in _OTHER_SIDES if git.has_commit(rev)]
    heads = ["HEAD"] if git.head() else []
    for rev, limit in [(tip, 1) for tip in tips] + [(rev, None) for rev in (*heads, *tips)]:
        for commit in git.log(target + SUFFIX, rev=rev, limit=limit):
            with contextlib.suppress(ManifestError, MissingError):
                if commit.blob is not None:
                    yield decode(git.read_blob(commit.blob), target + SUFFIX)
