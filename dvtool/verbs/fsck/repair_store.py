"""What `fsck --repair` does: brings back what a check found damaged, from wherever it is good.

The order is: what is still good here, then the workspace, then remotes. What was damaged is set
aside, never deleted. Each damage that is mended says so; a check that is repeated finds it gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from functools import partial

from dvtool.errors import DvError, size_text
from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import Entry, Manifest, ShardRef, in_order, shard_refs
from dvtool.format.pack import PACK_SIZE_MAX_BYTES, PackInfo
from dvtool.format.paths import SELF, workspace_path
from dvtool.format.selection import Selection
from dvtool.jobs.ingest import FileSource, ingest, ingest_batches
from dvtool.project.history import Version, held_runs, versions
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.remotes.remote import RemoteStore, pack_key
from dvtool.store import mending
from dvtool.store.freeing import drop_chunks
from dvtool.store.local import SHARDS, LocalStore
from dvtool.store.packcheck import check_pack
from dvtool.system.atomic import flush_to_disk
from dvtool.verbs.fetch import download as fetch_ops
from dvtool.verbs.fetch.request import FetchRequest
from dvtool.verbs.fsck import repair_remote as mend_ops
from dvtool.verbs.fsck import store as store_ops
from dvtool.verbs.fsck.findings import LOCAL, WORKSPACE, Damage, Report
from dvtool.verbs.fsck.meaning import Asked, Checking, file_has
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.remembered import save_seen
from dvtool.workspace.scan import file_entry, scan_target


def fsck(
    project: Project, settings: Settings, asked: Asked, *, repair: bool, rebuild: bool
) -> Report:
    """Check; with `rebuild` after store.db was made again, with `repair` mend what can be."""
    checking = Checking(project, settings, asked)
    aside = None
    if rebuild:
        usable = store_ops.index_is_usable(project)
        aside = mending.rebuild(project.store, usable=usable)
    report = checking.run()
    if aside is not None:
        report.done.append(_rebuilt(project.store, aside))
    if repair:
        repair_store(checking)
        if checking.remote is not None and checking.remote.damage:
            repair_remote(checking)
    return report


def repair_remote(checking: Checking) -> None:
    """Mend what the check found on the remote; content comes from here and other remotes."""
    found = checking.remote
    assert found is not None
    remote = checking.settings.open_remote(checking.asked.remote or None)
    copies = _Copies(checking)

    def bring(contents: Collection[Digest]) -> None:
        copies.bring(contents, but=remote.url)

    repo_id = checking.project.config.text("core.repoid") or ""
    mend_ops.mend_remote(checking.project, remote, repo_id, found, bring)
    for one in found.damage:
        if one.failed:
            one.failed = "; ".join([one.failed, *copies.failures])


def restorable(project: Project, report: Report) -> Iterator[Damage]:
    """Yield the rotten files that a checkout can bring back; the others get to know why not.

    The statcache is made to forget them, so that the checkout sees what they are now.
    """
    for one in report.damage:
        if one.kind != "file":
            continue
        target = next(t for t in project.targets() if f"{one.name}/".startswith(f"{t}/"))
        path = one.name[len(target) + 1 :] or SELF
        save_seen(project, target, {path: None})
        entry = project.entries_near(project.manifest(target), [path]).get(path)
        if entry is None or entry.digest not in one.contents:
            one.failed = "its good content was never added, so that nothing else has it"
        elif any(char in one.name for char in "*?["):
            one.failed = "its name is a glob; put it back with dv checkout --force"
        else:
            yield one


def _rebuilt(store: LocalStore, aside: str) -> str:
    name = os.path.relpath(aside, store.path)
    return f"store.db was made again from the packs; the old one is {name}"


def repair_store(checking: Checking) -> None:
    """Mend what the check found in the local store, as far as good copies can be reached."""
    _StoreRepair(checking).run()


class _Copies:
    """Brings content into the local store: from the workspace, then from remotes."""

    def __init__(self, checking: Checking) -> None:
        self.checking = checking
        self.project: Project = checking.project
        self.store = checking.project.store
        self.failures: list[str] = []
        """Why remotes could not help, a line each."""

    def bring(self, wanted: Collection[Digest], *, but: str = "") -> set[Digest]:
        """See that the store has contents; return those that are good nowhere.

        The remote with the URL `but` is asked last.
        """
        left = self.store.lacking(wanted)
        if left:
            self.from_workspace(left)
            left = self.store.lacking(left)
        remotes = self.remotes() if left else ()
        for remote in sorted(remotes, key=lambda one: one.url == but):
            self._from_remote(remote, left)
            left = self.store.lacking(left)
            if not left:
                break
        return left

    def from_workspace(self, wanted: Collection[Digest]) -> None:
        """Take in the files of the workspace that have wanted content, by reading them."""
        files = {
            file.path: (file.digest, file.size)
            for one in self.checking.report.damage
            for file in one.files
            if file.digest in wanted and WORKSPACE in file.copies
        }
        for target in () if self.project.git.worktree is None else self.project.targets():
            with contextlib.suppress(DvError):
                for path, entry in self.project.held_entries(self.project.manifest(target)).items():
                    if entry.size > 0 and entry.digest in wanted:
                        files[workspace_path(target, path)] = (entry.digest, entry.size)
        sources = [
            FileSource(path, size)
            for path, (digest, size) in sorted(files.items())
            if file_has(self.project, path, digest)
        ]
        for batch in ingest_batches(self.project.root, self.store.path, sources):
            self.store.adopt(ingest(batch).packs)

    def _from_remote(self, remote: RemoteStore, wanted: Collection[Digest]) -> None:
        """Fetch contents from a remote, as many of them as it has sound."""
        with self.noting():
            fetch_ops.fetch(self.project, [remote], list(self._wanted(wanted)))

    def _wanted(self, contents: Collection[Digest]) -> Iterator[FetchRequest]:
        """Yield manifests that name the contents, of each content one that git has newest.

        That one need not be pushed: the others that name the same content follow as its past.
        """
        left = set(contents)
        for version, named in self._naming(contents):
            names = frozenset(named & left)
            if names:
                left -= names
                yield FetchRequest(
                    version.manifest,
                    Selection(version.target),
                    only=names,
                    past=partial(self._others, names),
                )
            if not left:
                return

    def _naming(self, contents: Collection[Digest]) -> Iterator[tuple[Version, set[Digest]]]:
        """Yield the versions that name some of the contents, by the lists that are here."""
        for version in versions(self.project):
            names: set[Digest] = set()
            for _, entries in held_runs(self.project, version.manifest):
                names |= contents_of(entries or {}).keys() & contents
            if names and version.target:
                yield version, names

    def _others(self, contents: Collection[Digest]) -> Iterator[Manifest]:
        for version, _ in self._naming(contents):
            yield version.manifest

    def remotes(self) -> Iterator[RemoteStore]:
        """Yield the configured remotes, the default one first; what cannot be opened is noted."""
        config = self.project.config
        default = config.default_remote()
        first = [default.name] if default else []
        for name in dict.fromkeys([*first, *sorted(config.remotes())]):
            try:
                yield self.checking.settings.open_remote(name)
            except DvError as error:
                self._note(f"{name}: {error}")

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        try:
            yield
        except DvError as error:
            self._note(str(error))

    def _note(self, text: str) -> None:
        line = text.partition("\n")[0]
        if line not in self.failures:
            self.failures.append(line)

    def get_pack(self, remote: RemoteStore, digest: Digest) -> bool:
        """Fetch a whole pack by its id; return False if the remote has no such sound pack."""
        info = remote.backend.head(pack_key(digest))
        if info is None or info.size > PACK_SIZE_MAX_BYTES:
            return False
        temp = self.store.temp_path()
        try:
            with open(temp, "xb") as file:
                remote.read_pack(digest, file, offset=0, size=info.size)
                file.flush()
                flush_to_disk(file.fileno())
            check = check_pack(temp, digest)
            if not check.sound or check.index is None:
                return False
            recipes, check.index.recipes = check.index.recipes, []
            self.store.adopt([(temp, PackInfo(digest, check.size, check.index))])
            self.store.add_tried(recipes)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)
        return True


class _StoreRepair:
    def __init__(self, checking: Checking) -> None:
        self.checking = checking
        self.project: Project = checking.project
        self.store = checking.project.store
        self.found = checking.store
        self.report = checking.report
        self.mine = [one for one in self.report.damage if one.place == LOCAL]
        self.copies = _Copies(checking)
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
        wanted = {content for one in self.mine for content in one.contents}
        lost = self.copies.bring(wanted)
        mending.forget_found(self.store)
        self._judge(lost)

    # --- what is here ---------------------------------------------------------------------

    def _rebuild(self) -> None:
        aside = mending.rebuild(self.store, usable=self.found.usable)
        if aside is not None:
            self.report.done.append(_rebuilt(self.store, aside))

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
        mending.index_packs(self.store, {one: self.found.sound[one] for one in others})
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
        """Mend packs of which nobody here knows what they held.

        What the workspace has and the store lacks is taken in, be it from these or not; then the
        very packs are looked for on remotes.
        """
        unknown = {d for d, check in self.found.packs.items() if not (check.places or check.newer)}
        if not unknown:
            return
        # First, since the workspace may give the very same pack again, in the same place.
        mending.set_packs_aside(self.store, [self.found.packs[one] for one in sorted(unknown)])
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

    # --- lists of files -------------------------------------------------------------------

    def _mend_shards(self) -> None:
        bad = {digest for one in self.mine if one.kind == "shard" for digest in one.shards}
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

    # --- what is mended -------------------------------------------------------------------

    def _judge(self, lacking: Collection[Digest]) -> None:
        for one in self.mine:
            lost = one.contents & set(lacking)
            absent = one.shards & self.lists_lost
            if lost or absent:
                one.failed = self._why(one, lost, absent)
            elif one.kind == "pack" and _pack_of(one) in self.unknown:
                one.failed = "; ".join(["what it held was not found out", *self.copies.failures])
            elif one.kind == "pack" and self.found.packs[_pack_of(one)].newer:
                one.failed = "it is of a later format: use a later version of dvtool"
            elif one.kind in ("saved", "manifest"):
                one.failed = "nothing but you knows what it should say"
            else:
                one.repaired = _what_was_done(one)

    def _why(self, one: Damage, lost: Collection[Digest], absent: Collection[Digest]) -> str:
        parts = []
        if lost:
            size = sum(self.checking.need.contents.get(content, 0) for content in lost)
            parts.append(f"no good copy of {len(lost):,} contents ({size_text(size)}) was found")
        if absent:
            parts.append("the list of files was found nowhere")
        return "; ".join([*parts, *self.copies.failures])


def _pack_of(one: Damage) -> Digest:
    return bytes.fromhex(os.path.basename(one.name))


def _what_was_done(one: Damage) -> str:
    if one.kind == "pack":
        return "its content is in sound packs now" + ("" if one.missing else ", the file in aside/")
    if one.kind in ("index", "recipe"):
        return "store.db is right now"
    if one.kind == "shard":
        return "it is whole again, the damaged file in aside/"
    return "it is here again"
