"""The meaning of damage to the user of a repository.

The checks name packs, shards and contents; this module names the targets, files and commits
concerned, and where a good copy is.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import Entries, ShardRef, shard_refs
from dvtool.format.paths import SUFFIX, workspace_path
from dvtool.project.history import FOR_NAMING, Version, held_runs, versions
from dvtool.project.parts import Project
from dvtool.verbs.fsck.findings import LOCAL, WORKSPACE, CommitNote, Damage, File, RemoteCheck
from dvtool.verbs.fsck.store import StoreCheck, known_of_remotes
from dvtool.workspace.hashing import read_digest

COMMITS_SHOWN_MAX = 3


def explain(
    project: Project, damage: Sequence[Damage], store: StoreCheck, remote: RemoteCheck | None
) -> None:
    """Fill in which targets, files and commits each damage touches, and where good copies are."""
    _Meaning(project, damage, store, remote).run()


class _Meaning:
    """Works out which targets, files and commits each damage touches, and where good copies are."""

    def __init__(
        self,
        project: Project,
        damage: Sequence[Damage],
        store: StoreCheck,
        remote: RemoteCheck | None,
    ) -> None:
        self.project = project
        self.damage = damage
        self.store = store
        self.remote = remote
        self.by_content: dict[Digest, list[int]] = defaultdict(list)
        self.by_shard: dict[Digest, list[int]] = defaultdict(list)
        self.files: dict[int, dict[tuple[str, Digest], File]] = defaultdict(dict)
        self.targets: dict[int, set[str]] = defaultdict(set)
        self.blobs: dict[int, set[tuple[str, str]]] = defaultdict(set)

    def run(self) -> None:
        for number, damage in enumerate(self.damage):
            for digest in damage.contents:
                self.by_content[digest].append(number)
            for digest in damage.shards:
                self.by_shard[digest].append(number)
        if self.by_content or self.by_shard:
            for version in versions(self.project, FOR_NAMING):
                self._look_at(version)
        copies = self._copies()
        for number, damage in enumerate(self.damage):
            damage.targets = tuple(sorted(self.targets[number].union(damage.targets)))
            some = sorted(self.files[number].values(), key=lambda file: file.path)
            damage.files = tuple(
                replace(file, copies=tuple(_seen_from(damage.place, copies[file.digest])))
                for file in some
            )
        self._name_commits()

    def _look_at(self, version: Version) -> None:
        for ref, entries in held_runs(self.project, version.manifest):
            if entries is not None and self.by_content:
                self._match_contents(version, entries)
            if self.by_shard:
                self._match_shards(version, ref, entries)

    def _match_contents(self, version: Version, entries: Entries) -> None:
        for path, entry in entries.items():
            if entry.size > 0 and entry.digest in self.by_content:
                for number in self.by_content[entry.digest]:
                    self._touch(number, version)
                    self._touch_file(number, version.target, path, entry.digest, entry.size)

    def _match_shards(
        self, version: Version, ref: ShardRef | None, entries: Entries | None
    ) -> None:
        """Match shards; those of a small manifest, which a remote has too, are cut for that."""
        cuts = (
            [(ref.digest, entries or {})] if ref is not None else list(_content_runs(entries or {}))
        )
        for digest, some in cuts:
            for number in self.by_shard.get(digest, ()):
                self._touch(number, version)
                damage = self.damage[number]
                if damage.kind == "shard":
                    damage.contents |= contents_of(some).keys()
                    for path, entry in some.items():
                        if entry.size > 0:
                            self._touch_file(number, version.target, path, entry.digest, entry.size)

    def _touch(self, number: int, version: Version) -> None:
        if version.target:
            self.targets[number].add(version.target)
        if version.blob:
            self.blobs[number].add((version.target + SUFFIX, version.blob))

    def _touch_file(self, number: int, target: str, path: str, digest: Digest, size: int) -> None:
        full = workspace_path(target, path) if target else path
        self.files[number].setdefault((full, digest), File(full, digest, size))

    # --- good copies ----------------------------------------------------------------------

    def _copies(self) -> Mapping[Digest, list[str]]:
        """Return for each content that is touched the places that have, or should have, it."""
        copies: dict[Digest, list[str]] = defaultdict(list)
        paths: dict[Digest, set[str]] = defaultdict(set)
        for files in self.files.values():
            for file in files.values():
                paths[file.digest].add(file.path)
        for digest, some in paths.items():
            if any(file_has(self.project, path, digest) for path in sorted(some)):
                copies[digest].append(WORKSPACE)
        for digest in self._held_here(paths.keys()):
            copies[digest].append(LOCAL)
        for digest, name in self._on_remotes(paths.keys()):
            copies[digest].append(name)
        return copies

    def _held_here(self, contents: Collection[Digest]) -> set[Digest]:
        """Return the contents that the packs here have whole, whatever place the index gives."""
        return set(contents) - self.store.lacking - self.store.lost if self.store.usable else set()

    def _on_remotes(self, contents: Set[Digest]) -> Iterator[tuple[Digest, str]]:
        """Yield contents with the remote that has them: as just seen, or else as is known."""
        seen = set()
        if self.remote is not None:
            seen = self.remote.held & contents
            yield from ((digest, self.remote.counts.url) for digest in seen)
        urls = [remote.url for remote in self.project.config.remotes().values()]
        if self.remote is not None:
            urls = [url for url in urls if url != self.remote.counts.url]
        if urls and self.store.usable:
            name = urls[0] if len(urls) == 1 else "one of the remotes"
            for digest in known_of_remotes(self.project, contents - seen):
                yield digest, f"{name} (not asked)"

    # --- commits --------------------------------------------------------------------------

    def _name_commits(self) -> None:
        wanted: dict[str, set[str]] = defaultdict(set)
        for path, blob in set().union(*self.blobs.values()):
            wanted[path].add(blob)
        if not wanted:
            return
        git = self.project.git
        commits = git.commits_with(wanted)
        shown: dict[int, list[str]] = {}
        for number, blobs in self.blobs.items():
            every = dict.fromkeys(c for blob in sorted(blobs) for c in commits.get(blob, ()))
            self.damage[number].commits = len(every)
            shown[number] = list(every)[:COMMITS_SHOWN_MAX]
        subjects = git.subjects(sorted({c for some in shown.values() for c in some}))
        for number, some in shown.items():
            notes = tuple(CommitNote(commit, subjects.get(commit, "")) for commit in some)
            self.damage[number].commits_shown = notes


def file_has(project: Project, path: str, digest: Digest) -> bool:
    """Whether a file of the workspace has this content, by reading it now."""
    if project.git.worktree is None:
        return False
    with contextlib.suppress(DvError, OSError):
        return read_digest(project, path) == digest
    return False


def _content_runs(entries: Entries) -> Iterator[tuple[Digest, Entries]]:
    """Yield the shards that the entries of a small manifest make: hash, and the entries of it."""
    left = iter(entries.items())
    for text in shard_refs(entries):
        yield text.ref.digest, dict(islice(left, text.ref.files))


def _seen_from(damaged_at: str, copies: Iterable[str]) -> Iterator[str]:
    """Yield the places of copies; where the local store is damaged, it has the others elsewhere."""
    for copy in copies:
        yield "another pack" if copy == damaged_at == LOCAL else copy
