"""fsck's repair of the local store, from every place with good content.

The order is: what is still good here, then the workspace, then remotes. Damaged packs and shards
are set aside, never deleted. Each damage that is mended says so; a check that is repeated finds it
gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection

from dvtool.errors import DvError, size_text
from dvtool.format.digest import Digest
from dvtool.format.manifest import Entry, ShardRef, in_order, shard_refs
from dvtool.project.parts import Project
from dvtool.store import mending
from dvtool.store.freeing import drop_chunks
from dvtool.store.local import SHARDS, LocalStore
from dvtool.verbs.fetch import download as fetch_ops
from dvtool.verbs.fsck.check import Checking
from dvtool.verbs.fsck.copies import Copies
from dvtool.verbs.fsck.findings import LOCAL, Damage
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import file_entry, scan_target


def repair_store(checking: Checking) -> None:
    """Mend what the check found in the local store, as far as good copies can be reached."""
    _StoreRepair(checking).run()


def rebuilt_note(store: LocalStore, aside: str) -> str:
    """Say that store.db was made again, and where the old one is."""
    name = os.path.relpath(aside, store.path)
    return f"store.db was made again from the packs; the old one is {name}"


class _StoreRepair:
    def __init__(self, checking: Checking) -> None:
        self.checking = checking
        self.project: Project = checking.project
        self.store = checking.project.store
        self.found = checking.store
        self.report = checking.report
        self.mine = [damage for damage in self.report.damage if damage.place == LOCAL]
        self.copies = Copies(checking)
        self.unknown: set[Digest] = set()
        """Packs of which it could not be found out what they held."""
        self.lists_lost: set[Digest] = set()

    def run(self) -> None:
        if self.found.rebuild:
            self._rebuild()
        mending.open_index(self.store)
        self._mend_packs()
        self._finish_leftovers()
        self._mend_unknown()
        self._mend_shards()
        wanted = {content for damage in self.mine for content in damage.contents}
        lost = self.copies.bring(wanted)
        mending.forget_found(self.store)
        self._judge(lost)

    # --- what is here ---------------------------------------------------------------------

    def _rebuild(self) -> None:
        aside = mending.rebuild(self.store, usable=self.found.usable)
        if aside is not None:
            self.report.done.append(rebuilt_note(self.store, aside))

    def _mend_packs(self) -> None:
        checks = [c for c in self.found.packs.values() if c.places and not c.newer]
        places = mending.set_packs_aside(self.store, checks)
        for check in checks:
            lost = self.found.bad_in.get(check.digest, set()) | check.bad
            lost -= self.found.elsewhere.keys()
            aside = places.get(check.digest)
            count = mending.keep_good_chunks(self.store, check, aside, lost)
            if count:
                self.report.done.append(
                    f"{count:,} good chunks of pack {check.digest.hex()[:12]}… were kept"
                )
        others = {self.found.elsewhere[c] for c in self.found.bad & self.found.elsewhere.keys()}
        mending.index_packs(self.store, {digest: self.found.sound[digest] for digest in others})
        for check in checks:
            mending.give_up_file(self.store, check.digest)
        mending.take_from_aside(self.store)

    def _finish_leftovers(self) -> None:
        """Finish interrupted drops, then list the packs and files that commands did not list."""
        drop_chunks(self.store, ())
        indexed = {pack.digest for pack in self.store.db.packs().values()}
        stray = {
            digest: size
            for digest, size in self.found.sound.items()
            if digest not in indexed and os.path.exists(self.store.pack_path(digest))
        }
        if stray:
            mending.index_packs(self.store, stray)
        if self.found.untried:
            self.store.add_tried(self.found.untried)

    def _mend_unknown(self) -> None:
        """Mend packs whose content nobody here knows.

        Content that the workspace has and the store lacks is stored, be it of these packs or not;
        then the packs themselves are looked for on remotes.
        """
        unknown = {d for d, check in self.found.packs.items() if not (check.places or check.newer)}
        if not unknown:
            return
        # First, since the workspace may give the very same pack again, in the same place.
        mending.set_packs_aside(
            self.store, [self.found.packs[digest] for digest in sorted(unknown)]
        )
        lacking = self.store.lacking(self.checking.need.contents)
        self.copies.from_workspace(lacking)
        for remote in self.copies.remotes():
            for digest in sorted(unknown):
                with self.copies.noting():
                    if self.copies.get_pack(remote, digest):
                        unknown.discard(digest)
        if self.store.lacking(self.checking.need.contents):
            self.unknown = unknown  # their files stay, so that later checks go on telling of them
            return
        for digest in unknown:
            mending.give_up_file(self.store, digest)

    # --- shards ---------------------------------------------------------------------------

    def _mend_shards(self) -> None:
        bad = {digest for damage in self.mine if damage.kind == "shard" for digest in damage.shards}
        aside = {d: mending.set_aside(self.store, p) for p, d in self._files_of(bad)}
        refs = {d: ref for d, ref in self.checking.need.shards.items() if d in bad}
        self._shards_from_workspace(refs)
        left = [ref for ref in refs.values() if not self._is_whole(ref)]
        for digest in bad - refs.keys() | {ref.digest for ref in left}:
            os.unlink(self.store.shard_path(digest))  # a fetch passes over what is there
        for remote in self.copies.remotes() if left else ():
            with self.copies.noting():
                fetch_ops.fetch_shards(self.project, [remote], left)
            left = [ref for ref in left if not self.store.has_shard(ref.digest)]
        for ref in left:
            # Back in its place, so that later checks go on telling of it.
            self.lists_lost.add(ref.digest)
            shutil.copyfile(aside[ref.digest], self.store.shard_path(ref.digest))

    def _files_of(self, shards: Collection[Digest]) -> list[tuple[str, Digest]]:
        return [(path, digest) for path, digest in self.store.files(SHARDS) if digest in shards]

    def _is_whole(self, ref: ShardRef) -> bool:
        with contextlib.suppress(DvError):
            self.store.held_shard(ref)
            return True
        return False

    def _shards_from_workspace(self, refs: dict[Digest, ShardRef]) -> None:
        """Make lists again from the files that they list, where these are as they were."""
        if not refs or self.project.git.worktree is None:
            return
        for target in self.project.targets():
            with contextlib.suppress(DvError):
                manifest = self.project.manifest(target)
                if not any(ref.digest in refs for ref in manifest.shards):
                    continue
                scan = scan_target(self.project, target)
                hash_files(self.project, scan, scan.files, tolerant=True)
                entries = {p: file_entry(scan, p) for p in scan.files if p in scan.digests}
                entries |= {path: Entry(symlink=link) for path, link in scan.links.items()}
                entries |= {path: Entry(dir=True) for path in scan.empty_folders}
                texts = shard_refs(in_order(entries))
                self.store.put_shards(text for text in texts if text.ref.digest in refs)

    # --- content --------------------------------------------------------------------------

    # --- the repairs -------------------------------------------------------------------

    def _judge(self, lacking: Collection[Digest]) -> None:
        for damage in self.mine:
            lost = damage.contents & set(lacking)
            absent = damage.shards & self.lists_lost
            if lost or absent:
                damage.failed = self._why(damage, lost, absent)
            elif damage.kind == "pack" and _pack_of(damage) in self.unknown:
                damage.failed = "; ".join(["what it held was not found out", *self.copies.failures])
            elif damage.kind == "pack" and self.found.packs[_pack_of(damage)].newer:
                damage.failed = "it is of a later format: use a later version of dvtool"
            elif damage.kind in ("saved", "manifest"):
                damage.failed = "nothing but you knows what it should say"
            else:
                damage.repaired = _what_was_done(damage)

    def _why(self, damage: Damage, lost: Collection[Digest], absent: Collection[Digest]) -> str:
        parts = []
        if lost:
            size = sum(self.checking.need.contents.get(content, 0) for content in lost)
            parts.append(f"no good copy of {len(lost):,} contents ({size_text(size)}) was found")
        if absent:
            parts.append("the shard was found nowhere")
        return "; ".join([*parts, *self.copies.failures])


def _pack_of(damage: Damage) -> Digest:
    return bytes.fromhex(os.path.basename(damage.name))


def _what_was_done(damage: Damage) -> str:
    if damage.kind == "pack":
        return "its content is in sound packs now" + (
            "" if damage.missing else ", the file in aside/"
        )
    if damage.kind in ("index", "recipe"):
        return "store.db is right now"
    if damage.kind == "shard":
        return "it is whole again, the damaged file in aside/"
    return "it is here again"
