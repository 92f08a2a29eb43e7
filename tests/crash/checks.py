"""What must hold of a repository at any instant, found without trusting what dvtool says of it.

Packs and shards are read as the format describes them; store.db is then held against them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from dvtool.errors import DvError
from dvtool.format.digest import EMPTY, Digest, digest_of
from dvtool.format.locations import split_object
from dvtool.format.manifest import Entries, Manifest, decode, decode_shard
from dvtool.format.pack import Recipe, chunk_in, read_index, unpack_frame
from dvtool.format.paths import SUFFIX
from dvtool.remotes.objects import Root
from dvtool.remotes.tombstones import TOMBSTONES
from dvtool.repo import Repo
from dvtool.store.local import LocalStore
from dvtool.store.references import References
from dvtool.system.atomic import is_temp_name
from tests.scenario import tree

Objects = Mapping[str, bytes]
"""Key -> bytes: everything on a remote, or the same of a local store."""


@dataclass
class Report:
    """What was found: `problems`, and the contents that can be had, by where they are."""

    problems: list[str] = field(default_factory=list)
    workspace: set[Digest] = field(default_factory=set)
    store: set[Digest] = field(default_factory=set)
    remote: set[Digest] = field(default_factory=set)
    named: set[Digest] = field(default_factory=set)
    """The contents that manifests in worktree, index and commits name."""

    @property
    def saved(self) -> set[Digest]:
        return self.store | self.remote

    @property
    def every(self) -> set[Digest]:
        return self.saved | self.workspace


def check_repository(work: Path, remote: Objects) -> Report:
    """Check a clone and its remote; nothing may be at work there. What is off is in `problems`."""
    report = Report()
    report.workspace = contents_of_files(work)
    store = store_of(work)
    local = read_objects(store)
    report.store = _check_objects(report, "store", local)
    report.remote = _check_objects(report, "remote", remote)
    _check_index(report, store)
    record = work.parent / "record.json"
    if record.exists() and json.loads(record.read_text())["state"] not in ("running", "ended"):
        report.problems.append("a record of a run is of no state")
    shards = {**_shards(remote), **_shards(local)}
    for where, text in manifests(work):
        try:
            entries = entries_of(decode(text, where), shards)
        except DvError as error:
            report.problems.append(f"{where}: {error}")
            continue
        wanted = {entry.digest for entry in entries.values() if entry.size > 0}
        report.named |= wanted
        saved = report.saved | _at_sources(store, wanted - report.saved)
        if not wanted <= saved:
            lost = [p for p, e in entries.items() if e.size > 0 and e.digest not in saved]
            report.problems.append(f"{where} names what is in neither store nor remote: {lost}")
    return report


def _at_sources(store: Path, contents: set[Digest]) -> set[Digest]:
    """Return those of the contents that were imported by reference, and stay at a source."""
    if not contents or not (store / "references.db").exists():
        return set()
    with contextlib.closing(References(str(store), reading=True)) as references:
        return references.known(contents)


def store_of(work: Path) -> Path:
    """Return the store that a worktree shares with the others of its repository."""
    own = work / git(work, "rev-parse", "--git-common-dir").rstrip("\n") / "dv"
    return Path(git(work, "config", "--default", str(own), "dv.store.path").rstrip("\n"))


def check_remote(report: Report, name: str, remote: Objects) -> None:
    """Check one more remote by itself. It does not count as a place where content is."""
    _check_objects(report, name, remote)


def found_by_fsck(work: Path, remotes: Iterable[str], *, deep: bool = False) -> list[str]:
    """Return what `dv fsck` finds damaged or missing: in the store, and on remotes by name."""
    with Repo.open(str(work)) as repo:
        named = [name for name in remotes if name in repo.config.remotes()]
        damage = [one for name in named for one in repo.fsck(remote=name, deep=deep).damage]
        if not named:
            damage = repo.fsck().damage
    found = {f"fsck: {one.place}: {one.name} {one.problem}" for one in damage}
    # While a merge is open that is how it should be; all sides are in the index.
    return sorted(one for one in found if not one.endswith("conflict markers in it"))


def damaged_packs(top: Path) -> set[Digest]:
    """Return the hashes of the bytes of packs, in a store, that are not what their names say."""
    packs = {path.name: digest_of(path.read_bytes()) for path in _files(top / "packs")}
    return {digest for name, digest in packs.items() if digest.hex() != name}


def bytes_kept(top: Path) -> set[Digest]:
    """Return the hashes of the bytes of all packs in a store, and of what repairs set aside."""
    kept = (*_files(top / "packs"), *_files(top / "aside"))
    return {digest_of(path.read_bytes()) for path in kept}


def _files(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file() and not is_temp_name(path.name)]


def contents_of_files(work: Path) -> set[Digest]:
    """Return the contents of the files in a worktree, dvtool's and git's own left out."""
    found = set()
    for folder, folders, files in os.walk(work):
        folders[:] = [name for name in folders if name != ".git"]
        for name in files:
            path = Path(folder, name)
            ours = name.endswith(SUFFIX) or name.startswith((".git", ".dv"))
            if not ours and not path.is_symlink():
                found.add(digest_of(path.read_bytes()))
    return found - {EMPTY}


def read_objects(top: Path) -> dict[str, bytes]:
    """Return key -> bytes of the packs, shards, roots, graves and dv.json below a folder."""
    found = {}
    for kind in ("packs", "shards", "roots", TOMBSTONES, "dv.json"):
        place = top / kind
        for path in [place] if place.is_file() else place.rglob("*"):
            if path.is_file() and not is_temp_name(path.name):
                found[str(path.relative_to(top))] = path.read_bytes()
    return found


def manifests(work: Path) -> Iterable[tuple[str, bytes]]:
    """Yield (where, text) of the manifests in worktree, index, and all commits and stashes."""
    unmerged = git(work, "ls-files", "--unmerged", "-z")
    for path in sorted(work.rglob("*" + SUFFIX)):
        inner = path.relative_to(work)
        # While it is not merged, git may have put its markers there; all sides are in the index.
        if ".git" not in inner.parts and f"\t{inner}\0" not in unmerged:
            yield str(inner), path.read_bytes()
    for line in git(work, "ls-files", "--stage", "-z").split("\0"):
        if line.endswith(SUFFIX):
            mode_blob_stage, path = line.split("\t", 1)
            _, blob, stage = mode_blob_stage.split()
            yield f"index stage {stage} {path}", blob_text(work, blob)
    for commit in git(work, "rev-list", "--all", "--reflog").split():
        for path, blob in _manifests_at(str(work), commit):
            yield f"{commit[:8]}:{path}", blob_text(work, blob)


@functools.cache
def _manifests_at(work: str, commit: str) -> list[tuple[str, str]]:
    """Return the path and blob of each manifest of a commit."""
    found = []
    for line in git(Path(work), "ls-tree", "-r", "-z", commit).split("\0"):
        if line.endswith(SUFFIX):
            meta, path = line.split("\t", 1)
            found.append((path, meta.split()[2]))
    return found


def entries_of(manifest: Manifest, shards: Mapping[Digest, bytes]) -> Entries:
    """Return the entries of a manifest, those of its shards included."""
    if manifest.entries is not None:
        return manifest.entries
    entries: Entries = {}
    for ref in manifest.shards:
        if ref.digest not in shards:
            raise DvError(f"the shard {ref.blake3} is in neither store nor remote")
        entries.update(decode_shard(shards[ref.digest], ref))
    return entries


def git(work: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=work, capture_output=True, check=True)
    return os.fsdecode(done.stdout)


@functools.cache
def _blob(common: str, blob: str) -> bytes:
    return subprocess.run(
        ["git", "cat-file", "blob", blob], cwd=common, capture_output=True, check=True
    ).stdout


def blob_text(work: Path, blob: str) -> bytes:
    return _blob(str(work), blob)


def _shards(objects: Objects) -> dict[Digest, bytes]:
    found = {}
    for key, data in objects.items():
        if key.startswith("shards/"):
            text, _ = split_object(data, key)
            found[digest_of(text)] = text
    return found


def _check_objects(report: Report, where: str, objects: Objects) -> set[Digest]:
    """Check each object against its name; return the contents that the packs hold."""
    chunks: dict[Digest, bytes] = {}
    recipes: list[Recipe] = []
    for key, data in objects.items():
        try:
            if key.startswith("packs/"):
                pack_chunks, pack_recipes = _pack(key, data)
                chunks.update(pack_chunks)
                recipes.extend(pack_recipes)
            elif key.startswith("shards/"):
                text, _ = split_object(data, key)
                if digest_of(text).hex() != key.rpartition("/")[2]:
                    report.problems.append(f"{where}: {key} is not what its name says")
            elif key.startswith("roots/"):
                _check_root(report, key, data, objects)
        except (DvError, msgspec.MsgspecError) as error:
            report.problems.append(f"{where}: {key}: {error}")
    contents = set(chunks)
    for recipe in recipes:
        if chunks.keys() >= set(recipe.chunks):
            whole = b"".join(chunks[chunk] for chunk in recipe.chunks)
            if digest_of(whole) == recipe.digest:
                contents.add(recipe.digest)
    return contents


def contents_in(objects: Objects) -> set[Digest]:
    """Return the contents that the packs among these objects hold, verified."""
    return _check_objects(Report(), "", objects)


def _check_root(report: Report, key: str, data: bytes, objects: Objects) -> None:
    if digest_of(data).hex() != key.rpartition("/")[2].removesuffix(".json"):
        report.problems.append(f"remote: {key} is not what its name says")
    for manifest in msgspec.json.decode(data, type=Root).manifests:
        for shard in manifest.shards:
            if f"shards/{shard[:2]}/{shard}" not in objects:
                report.problems.append(f"remote: {key} names the shard {shard}, not there")


@functools.cache
def _pack(key: str, data: bytes) -> tuple[dict[Digest, bytes], tuple[Recipe, ...]]:
    if digest_of(data).hex() != key.rpartition("/")[2]:
        raise DvError("the pack is not what its name says")
    index = read_index(io.BytesIO(data), size=len(data), where=key)
    chunks = {}
    for place in index.placements():
        stored = data[place.frame_offset : place.frame_offset + place.frame_size]
        raw = unpack_frame(stored, where=key)
        chunk = chunk_in(raw, place.start, place.size, place.digest, where=key)
        chunks[place.digest] = bytes(chunk)
    return chunks, tuple(index.recipes)


def _check_index(report: Report, store: Path) -> None:
    """Hold store.db against the packs: what it says is here can be read, and is right."""
    if not (store / "store.db").exists():
        return
    db = sqlite3.connect(store / "store.db")
    try:
        answer = db.execute("PRAGMA integrity_check").fetchone()[0]
        if answer != "ok":
            report.problems.append(f"store.db: {answer}")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            return  # died while it was made: the next to open it makes the tables
    finally:
        db.close()
    for digest, problem in unreadable(store):
        report.problems.append(f"store.db promises {digest.hex()[:12]}, but: {problem}")


def unreadable(store: Path) -> list[tuple[Digest, str]]:
    """Return the contents that a store says it has and cannot give, and why."""
    found = []
    with LocalStore(str(store)) as local:
        for digest in held_contents(local):
            try:
                with local.reader() as reader:
                    reader.prepare([digest])
                    data = b"".join(reader.read(digest))
                if digest_of(data) != digest:
                    found.append((digest, "it has other bytes"))
            except DvError as error:
                found.append((digest, str(error)))
    return found


def held_contents(local: LocalStore) -> set[Digest]:
    """Return the contents, single chunks included, that the index of a store says are here."""
    local.db.complete  # noqa: B018  (opens it, which may make it again)
    db = sqlite3.connect(local.database_path)
    try:
        rows = db.execute("SELECT digest FROM chunks UNION SELECT digest FROM recipes").fetchall()
    finally:
        db.close()
    digests = {row[0] for row in rows}
    return digests - local.lacking(digests)


@dataclass(frozen=True)
class State:
    """What a command leaves behind, as far as it must be the same after any detour."""

    files: Mapping[str, str]
    index: str
    refs: str
    store: frozenset[Digest]
    remote: frozenset[str]
    backup: frozenset[str]

    def differences(self, other: State) -> list[str]:
        found = []
        if self.index != other.index:
            found.append(f"the index\n{self.index}is not\n{other.index}")
        if self.refs != other.refs:
            found.append(f"the refs\n{self.refs}are not\n{other.refs}")
        found += [
            f"{path}: {self.files.get(path)} is not {other.files.get(path)}"
            for path in sorted(self.files.keys() | other.files.keys())
            if self.files.get(path) != other.files.get(path)
        ]
        if self.store != other.store:
            more, less = self.store - other.store, other.store - self.store
            found.append(f"the store has {len(more)} contents more and {len(less)} fewer")
        if self.remote != other.remote:
            found.append(f"on the remote differ: {sorted(self.remote ^ other.remote)}")
        if self.backup != other.backup:
            found.append(f"on the backup differ: {sorted(self.backup ^ other.backup)}")
        return found


def state(work: Path, remote: Objects, backup: Objects) -> State:
    """Return the state of a clone and its remotes. Packs may differ, what is in them not."""
    files = {
        path: what
        for path, what in tree(work).items()
        if not path.startswith(".git/") and not is_temp_name(path.rpartition("/")[2])
    }
    index = git(work, "ls-files", "--stage")
    if ".dvconfig" in files:  # it has an id made at random
        text = (work / ".dvconfig").read_text()
        files[".dvconfig"] = re.sub("[0-9a-f]{32}", "ID", text)
        index = re.sub("[0-9a-f]{40}( 0\t.dvconfig\n)", r"BLOB\1", index)
    held: set[Digest] = set()
    if (store_of(work) / "store.db").exists():
        with LocalStore(str(store_of(work))) as local:
            held = held_contents(local)
    return State(
        files,
        index,
        git(work, "for-each-ref"),
        frozenset(held),
        frozenset(_things_on(remote)),
        frozenset(_things_on(backup)),
    )


def _things_on(remote: Objects) -> set[str]:
    """Return what a remote holds: contents, shards, what roots name, how much is buried."""
    there = {digest.hex() for digest in contents_in(remote)}
    for key, data in remote.items():
        if key.startswith("shards/"):
            there.add(key)
        elif key.startswith("roots/"):
            root = msgspec.json.decode(data, type=Root)
            there |= {f"root of {one.target} {one.manifest}" for one in root.manifests}
    buried = sum(key.startswith(TOMBSTONES) for key in remote)
    return there | ({f"{buried} tombstones"} if buried else set())


def leftovers(top: Path) -> list[str]:
    """Return the unfinished files below a folder, which a command that ended must not leave."""
    return sorted(
        str(path.relative_to(top)) for path in top.rglob(".dv-tmp-*") if is_temp_name(path.name)
    )
