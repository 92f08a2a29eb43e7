"""The parts of one opened repository, as every verb receives them, and its targets.

A target is named by its path from the top of the worktree; its manifest is beside it.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec import structs

from dvtool.errors import ManifestError, SetupError, UsageError, listing, printable
from dvtool.format.digest import Digest, digest_of
from dvtool.format.manifest import (
    MANIFEST_SIZE_MAX_BYTES,
    Entries,
    Manifest,
    ShardRef,
    decode,
    encode,
    manifest_digest,
)
from dvtool.format.paths import SUFFIX, target_fault
from dvtool.format.selection import AFTER_SLASH, Selection, select
from dvtool.git import Git
from dvtool.project.config import Config
from dvtool.project.locks import worktree_lock
from dvtool.project.shards import ShardSource
from dvtool.project.sparse import SparseRules, read_rules
from dvtool.store.local import LocalStore
from dvtool.system.progress import SILENT, Progress
from dvtool.workspace.files import Workspace
from dvtool.workspace.last_look import changed, text_there
from dvtool.workspace.opener import reason
from dvtool.workspace.statcache import StatCache


class Project(msgspec.Struct):
    """Everything that a verb works with. `root` is the top of the worktree.

    Shards that the store may lack are asked of `shards`.
    """

    git: Git
    config: Config
    workspace: Workspace
    store: LocalStore
    statcache: StatCache
    shards: ShardSource
    progress: Progress = msgspec.field(default=SILENT)

    @property
    def root(self) -> str:
        """The top of the worktree."""
        return self.workspace.root

    @property
    def clone_name(self) -> str:
        """The name of this clone among those that use its store: the path of its git folder."""
        return os.path.realpath(self.git.common_dir)

    def sparse_rules(self) -> SparseRules:
        """Return the standing rules that say which data this worktree takes."""
        return read_rules(self.git.git_dir)

    def absolute(self, path: str) -> str:
        """Return a path from the top of the worktree as an absolute one."""
        return self.workspace.absolute(path)

    def with_shards_from(self, remote: str | None, *, fetch: bool = True) -> Project:
        """Return the same project whose missing shards come from this remote, None for the default.

        Without `fetch` none is fetched: a verb that needs one gets a MissingError.
        """
        source = self.shards.at(remote) if fetch else self.shards.nowhere()
        return structs.replace(self, shards=source)

    @contextlib.contextmanager
    def lock(self, *, store: bool = True) -> Iterator[None]:
        """Keep other dvtool processes from changing this worktree's targets meanwhile.

        With `store`, other clones that use the store are also kept from freeing data in it.
        SetupError in a bare repository, which has nothing to change.
        """
        require_worktree(self.git)
        with (
            worktree_lock(self.git),
            self.store.used() if store else contextlib.nullcontext(),
        ):
            yield

    # --- manifests in the worktree --------------------------------------------------------

    def targets(self) -> list[str]:
        """Return the targets whose manifests are in the worktree, sorted.

        For a bare repository this and the methods below take HEAD's manifests.
        """
        if self.git.worktree is None:
            head = self.git.head()
            blobs = self.git.manifests_at(head) if head else {}
            return sorted(path.removesuffix(SUFFIX) for path in blobs)
        return [path.removesuffix(SUFFIX) for path in self.git.manifest_paths()]

    def manifest(self, target: str) -> Manifest:
        """Return a target's manifest as it is in the worktree."""
        return self.read_manifest(target)[0]

    def read_manifest(self, target: str) -> tuple[Manifest, bytes]:
        """Return a target's manifest and its bytes, which `write_manifest` has to be given."""
        text = self.manifest_text(target)
        if text is None:
            raise UsageError(
                f"{printable(target)} is not a target of dvtool", hint="see what is: dv status"
            )
        return decode(text, target + SUFFIX), text

    def manifest_text(self, target: str) -> bytes | None:
        """Return the bytes of a target's manifest in the worktree, None if there is none."""
        if self.git.worktree is None:
            head = self.git.head()
            return self.git.blob_at(head, target + SUFFIX) if head else None
        try:
            return self.workspace.read_bytes(target + SUFFIX, size_max=MANIFEST_SIZE_MAX_BYTES)
        except OSError as error:
            raise ManifestError(
                f"{printable(target + SUFFIX)} cannot be read: {reason(error)}"
            ) from error

    def manifests_here(self) -> dict[str, Manifest]:
        """Return target -> manifest of the targets that the worktree has."""
        return {target: self.manifest(target) for target in self.targets()}

    def manifests_left_out(self) -> dict[str, Manifest]:
        """Return target -> manifest of the targets that sparse checkout leaves out of here."""
        blobs = self.git.sparse_manifests() if self.git.worktree is not None else {}
        return {
            path.removesuffix(SUFFIX): decode(self.git.read_blob(blob), path)
            for path, blob in sorted(blobs.items())
        }

    def refuse_left_out(self, paths: Iterable[str]) -> None:
        """Raise a UsageError for paths of targets that sparse checkout leaves out of here."""
        left_out = [path.removesuffix(SUFFIX) for path in self.git.sparse_manifests()]
        for path in paths if left_out else ():
            selections, _ = select(left_out, [path.removesuffix(SUFFIX)])
            if selections:
                raise UsageError(
                    f"{printable(path)}: sparse checkout leaves this target out of the worktree",
                    hint="to have it: git sparse-checkout add FOLDER",
                )

    def write_manifest(self, target: str, manifest: Manifest, *, instead_of: bytes | None) -> bool:
        """Put a manifest into the worktree, durably; return whether it changed anything.

        `instead_of` are the bytes that the new manifest was made from, None if there were none.
        UnsavedError if the manifest has other bytes by now, as after a `git pull`: those stay.
        """
        text = encode(manifest)
        if self.manifest_text(target) == text:
            return False
        self.workspace.sweep_beside(target)
        self.workspace.write_bytes(target + SUFFIX, text, believed=text_there(instead_of))
        return True

    def remove_manifest(self, target: str, *, instead_of: bytes | None) -> None:
        """Remove a manifest from the worktree; `instead_of` is as in `write_manifest`."""
        self.workspace.remove(target + SUFFIX, believed=text_there(instead_of))

    def refuse_changed(self, target: str, read: bytes | None) -> None:
        """Raise an UnsavedError if a target's manifest is not the one that was read."""
        if self.manifest_text(target) != read:
            raise changed(target + SUFFIX)

    # --- manifests in git -----------------------------------------------------------------

    def manifests_at(self, commit: str) -> dict[str, Manifest]:
        """Return target -> manifest of a commit; ManifestError if one has an impossible name."""
        blobs = self.git.manifests_at(commit, strict=True)
        texts = self.git.read_blobs(blobs.values())
        return {
            path.removesuffix(SUFFIX): decode(text, f"{commit[:10]}:{path}")
            for path, text in zip(blobs, texts, strict=True)
        }

    def manifest_at(self, commit: str, target: str) -> Manifest | None:
        """Return one target's manifest at a commit, None if it is not there."""
        text = self.git.blob_at(commit, target + SUFFIX)
        return None if text is None else decode(text, f"{commit[:10]}:{target + SUFFIX}")

    def manifests_of(self, rev: str | None) -> dict[str, Manifest]:
        """Return target -> manifest of a revision, or (None) of the worktree.

        With the worktree's come the manifests that sparse checkout leaves out, from git's index.
        """
        if rev is None:
            return self.manifests_here() | self.manifests_left_out()
        return self.manifests_at(self.git.resolve(rev))

    # --- entries --------------------------------------------------------------------------

    def entries(self, manifest: Manifest, selection: Selection | None = None) -> Entries:
        """Return the entries of a manifest, of a large one only from the shards selected."""
        if manifest.entries is not None:
            entries = manifest.entries
            if selection is None or selection.whole:
                return entries
            return {path: entry for path, entry in entries.items() if selection.matches(path)}
        entries = {}
        for run in self.runs(manifest, selection):
            entries.update(run)
        return entries

    def runs(self, manifest: Manifest, selection: Selection | None = None) -> Iterator[Entries]:
        """Yield the entries of a manifest as `entries` returns them, of one shard at a time."""
        if manifest.entries is not None:
            yield self.entries(manifest, selection)
            return
        before = ""
        refs = self.selected_shards(manifest, selection)
        self.shards.need(refs)
        for ref in refs:
            if ref.first <= before:
                raise ManifestError(f"shard {ref.blake3}: overlaps the one before it")
            entries = self.shards.load(ref)
            before = next(reversed(entries))
            if selection is None or selection.whole:
                yield entries
            else:
                yield {path: entry for path, entry in entries.items() if selection.matches(path)}

    def selected_shards(
        self, manifest: Manifest, selection: Selection | None = None
    ) -> list[ShardRef]:
        """Return the shards of a large manifest that may hold something selected."""
        if selection is None or selection.whole or not manifest.shards:
            return list(manifest.shards)
        following = [*(ref.first for ref in manifest.shards[1:]), None]
        return [
            ref
            for ref, end in zip(manifest.shards, following, strict=True)
            if selection.may_match_between(ref.first, end)
        ]

    def held_entries(self, manifest: Manifest) -> Entries:
        """Return the entries of a manifest, of a large one only those whose shards are here."""
        if manifest.entries is not None:
            return manifest.entries
        held: Entries = {}
        for ref in manifest.shards:
            if self.store.has_shard(ref.digest):
                held.update(self.store.held_shard(ref))
        return held

    def entries_near(
        self, manifest: Manifest, paths: Iterable[str], *, above: Iterable[str] = ()
    ) -> Entries:
        """Return at least the entries at `paths`, and those below any of `above`, that there are.

        Of a large manifest these are the entries of the shards in which such paths belong.
        """
        if manifest.entries is not None:
            return manifest.entries
        firsts = [ref.first for ref in manifest.shards]
        numbers = {bisect_right(firsts, path) - 1 for path in paths}
        for path in above:
            first = bisect_right(firsts, path + "/") - 1
            numbers.update(range(first, bisect_left(firsts, path + AFTER_SLASH)))
        refs = [manifest.shards[number] for number in sorted(numbers) if number >= 0]
        self.shards.need(refs)
        near: Entries = {}
        for ref in refs:
            near.update(self.shards.load(ref))
        return near

    def describe_targets(self, manifests: dict[str, Manifest]) -> Digest:
        """Return the one id of a set of manifests: a BLAKE3 over target names and hashes."""
        lines = [
            f"{manifest_digest(manifest).hex()}  {target}\n"
            for target, manifest in sorted(manifests.items())
        ]
        return digest_of("".join(lines).encode())


def chosen(
    targets: Sequence[str], paths: Sequence[str], *, noun: str = "target"
) -> list[Selection]:
    """Return what `paths` (from the top of the worktree, globs allowed) select of the targets.

    No path selects every target whole. UsageError for a path that selects nothing.
    """
    if not paths:
        return [Selection(target) for target in targets]
    selections, unmatched = select(targets, paths)
    if unmatched:
        names = listing(unmatched)
        raise UsageError(
            f"no {noun} of dvtool is or holds:\n{names}",
            hint="`dv status` lists the targets, `dv add PATH` makes one",
        )
    return selections


def refuse_place(path: str) -> None:
    """Raise a UsageError if a path (from the top of the worktree) cannot name a target."""
    if path in ("", "."):
        raise UsageError(
            "the whole repository cannot be one target",
            hint="add the folders and files that hold data: dv add data",
        )
    if path.endswith(SUFFIX):
        raise UsageError(
            f"{printable(path)} is a manifest; git keeps it", hint=f"git add {printable(path)}"
        )
    fault = target_fault(path)
    if fault:
        raise UsageError(f"{printable(path)} cannot be a target: it {fault}")


def refuse_overlap(targets: Iterable[str]) -> None:
    """Raise a UsageError if one target is inside another: both would own the same files."""
    all_targets = set(targets)
    for target in sorted(all_targets):
        parent = target
        while parent := parent.rpartition("/")[0]:
            if parent in all_targets:
                raise UsageError(
                    f"the target {printable(target)} is inside the target {printable(parent)}; "
                    "nothing was changed",
                    hint=f"take one of them out first: dv rm {printable(parent)} (its files stay)",
                )


def require_worktree(git: Git) -> str:
    """Return the top of the worktree; SetupError in a bare repository."""
    if git.worktree is None:
        raise SetupError(
            "this is a bare repository: it has no working tree",
            hint="run the command in a clone or in a worktree (git worktree add); here only ls, "
            "cat, log, describe, fetch and diff of two revisions work",
        )
    return git.worktree
