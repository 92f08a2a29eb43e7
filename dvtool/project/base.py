"""The base of each target: the manifest that was last put into the workspace, or added from there.

A record for each worktree and target is below the git folder. The record is a manifest, or a
mixture of two where files were left as they were. A record that is lost, damaged or stale is no
error: then the earlier versions of the manifest in git's history are asked instead (decision 022).
"""

from __future__ import annotations

import contextlib
import os
import shlex
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from dvtool.errors import DvError, ManifestError
from dvtool.format.compare import differing
from dvtool.format.manifest import (
    MANIFEST_SIZE_MAX_BYTES,
    Entries,
    Entry,
    Manifest,
    ShardRef,
    decode,
    encode,
    update,
)
from dvtool.format.paths import SUFFIX
from dvtool.format.selection import Selection
from dvtool.format.standing import Standing, standing
from dvtool.project.history import versions_anywhere
from dvtool.project.parts import Project
from dvtool.system.atomic import is_temp_name, make_folders, read_own_file, write_bytes

BASE_FOLDER = "base"
LIST = "followed.sh"
"""The file that gives the hooks' scripts the manifests which have a base, as shell code."""
VERSIONS_ASKED_MAX = 1_000
"""The number of earlier versions of a manifest that are asked where no base is recorded."""


class Drift(msgspec.Struct):
    """The changes of a target's manifest since its base: the entries of each that differ.

    Without a record nothing is known of the base, and both are empty.
    """

    target: str
    recorded: bool
    old: Entries = msgspec.field(default_factory=dict)
    new: Entries = msgspec.field(default_factory=dict)

    @property
    def none(self) -> bool:
        """Whether the manifest is known to be the base."""
        return self.recorded and not self.old and not self.new

    @property
    def paths(self) -> set[str]:
        """The paths of the entries that differ."""
        return self.old.keys() | self.new.keys()


def base_path(git_dir: str, target: str) -> str:
    """Return where the base of a target is recorded."""
    return os.path.join(git_dir, "dv", BASE_FOLDER, target + SUFFIX)


def read_base(project: Project, target: str) -> Manifest | None:
    """Return the base of a target; None if there is no record that can be read, shards and all."""
    text = _read_record(base_path(project.git.git_dir, target))
    if text is not None:
        with contextlib.suppress(ManifestError):
            manifest = decode(text, target + SUFFIX)
            if all(project.store.has_shard(ref.digest) for ref in manifest.shards):
                return manifest
    return None


def drift_of(project: Project, target: str, manifest: Manifest) -> Drift:
    """Return what a manifest changed since the target's base. No shard is fetched."""
    text = _read_record(base_path(project.git.git_dir, target))
    if text is not None and text == encode(manifest):
        return Drift(target, True)
    base = read_base(project, target)
    if base is None or base.kind != manifest.kind:
        return Drift(target, False)
    try:
        old, new = differing(base, manifest, project.store.load_shard)
    except DvError:
        return Drift(target, False)  # a shard of the base is not here
    paths = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    return Drift(
        target,
        True,
        {path: entry for path, entry in old.items() if path in paths},
        {path: entry for path, entry in new.items() if path in paths},
    )


def standings(
    project: Project, drift: Drift, files: Mapping[str, Entry | None]
) -> dict[str, Standing]:
    """Say of files that are not as the manifest has them how they stand to it.

    `files` are the entries that they would have now (None: removed here). Without a record, a
    file that is as an earlier version of its entry is outdated, and any other is modified.
    """
    if drift.recorded:
        return {
            path: standing(drift.old.get(path), drift.new.get(path), file)
            if path in drift.old or path in drift.new
            else "modified"
            for path, file in files.items()
        }
    earlier = _as_earlier(project, drift.target, files)
    return {path: "outdated" if path in earlier else "modified" for path in files}


def put_here(project: Project, target: str, files: Mapping[str, Entry]) -> set[str]:
    """Return the paths of files that dvtool put there, or that were added: nobody's edits.

    They are as the base or the manifest has them; without a record, as any earlier version has.
    """
    base = read_base(project, target)
    now = None
    with contextlib.suppress(DvError):
        now = project.manifest(target)
    ours: set[str] = set()
    for manifest in (base, now):
        entries = _held_at(project, manifest, files, {}) if manifest is not None else {}
        ours.update(path for path, file in files.items() if entries.get(path) == file)
    if base is None:
        ours |= _as_earlier(project, target, {p: f for p, f in files.items() if p not in ours})
    return ours


def taken_out(drift: Drift, selection: Selection) -> Entries:
    """Return the selected entries of a base that its manifest has no more."""
    return {
        path: entry
        for path, entry in drift.old.items()
        if path not in drift.new and selection.matches(path)
    }


def _as_earlier(project: Project, target: str, files: Mapping[str, Entry | None]) -> set[str]:
    """Return the paths of the files that are as another version of the manifest has them."""
    left = {path: file for path, file in files.items() if file is not None}
    matching: set[str] = set()
    loaded: dict[str, Entries] = {}
    if not left:
        return matching
    with contextlib.suppress(DvError):
        for version in islice(versions_anywhere(project, target), VERSIONS_ASKED_MAX):
            entries = _held_at(project, version, left.keys() - matching, loaded)
            matching.update(path for path, file in left.items() if entries.get(path) == file)
            if len(matching) == len(left):
                break
    return matching


def _held_at(
    project: Project, manifest: Manifest, paths: Iterable[str], loaded: dict[str, Entries]
) -> Entries:
    """Return at least the entries at these paths, as far as their shards are here.

    Each shard is loaded once for all versions that have it.
    """
    if manifest.entries is not None:
        return manifest.entries
    firsts = [ref.first for ref in manifest.shards]
    entries: Entries = {}
    for number in sorted({bisect_right(firsts, path) - 1 for path in paths} - {-1}):
        ref = manifest.shards[number]
        if ref.blake3 not in loaded:
            here = project.store.has_shard(ref.digest)
            loaded[ref.blake3] = project.store.held_shard(ref) if here else {}
        entries.update(loaded[ref.blake3])
    return entries


# --- recording ------------------------------------------------------------------------------


def record_base(
    project: Project,
    target: str,
    manifest: Manifest,
    kept: Mapping[str, Entry | None] | None = None,
) -> None:
    """Record that a target's files follow a manifest, but for the entries `kept`.

    The record is replaced as a whole and not flushed. If that fails, there is no record.
    """
    try:
        if kept:
            built = update(manifest, kept, project.shards.load)
            project.store.put_shards(built.shards)
            manifest = built.manifest
        _write_record(project, target, encode(manifest))
    except (DvError, OSError):
        forget_base(project, target)


def record_part(
    project: Project,
    target: str,
    manifest: Manifest,
    followed: Callable[[str], bool],
    kept: Mapping[str, Entry | None] | None = None,
) -> None:
    """As `record_base`, if only some paths follow the manifest now, and others another one.

    Without a record of the others there is none of the target.
    """
    drift = drift_of(project, target, manifest)
    if drift.recorded:
        others = {path: drift.old.get(path) for path in drift.paths if not followed(path)}
        record_base(project, target, manifest, others | dict(kept or {}))


def forget_base(project: Project, target: str) -> None:
    """Drop the record of a target."""
    path = base_path(project.git.git_dir, target)
    with contextlib.suppress(OSError):
        os.unlink(path)
        _list_bases(project)
        folder, top = os.path.dirname(path), os.path.join(project.git.git_dir, "dv", BASE_FOLDER)
        while folder != top:
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def move_base(project: Project, target: str, destination: str) -> None:
    """Let the record of a target go with it to another name."""
    base = read_base(project, target)
    if base is None:
        forget_base(project, destination)  # of a target that once had the name
    else:
        record_base(project, destination, base)
    forget_base(project, target)


def based_targets(git_dir: str) -> list[str]:
    """Return the targets that have a record in a worktree's git folder, sorted."""
    top = os.path.join(git_dir, "dv", BASE_FOLDER)
    return sorted(
        os.path.relpath(os.path.join(folder, name), top).removesuffix(SUFFIX)
        for folder, _, names in os.walk(top)
        for name in names
        if name.endswith(SUFFIX) and not is_temp_name(name)
    )


def shards_of_bases(git_dirs: Iterable[str]) -> list[ShardRef]:
    """Return the shards that the records of worktrees name; an unreadable record names none."""
    refs: dict[str, ShardRef] = {}
    for git_dir in git_dirs:
        for _, manifest in bases_of(git_dir):
            refs.update((ref.blake3, ref) for ref in manifest.shards)
    return list(refs.values())


def bases_of(git_dir: str) -> Iterator[tuple[str, Manifest]]:
    """Yield the targets of a worktree with their bases; an unreadable record is passed over."""
    for target in based_targets(git_dir):
        try:
            manifest = decode(_read_record(base_path(git_dir, target)) or b"", target + SUFFIX)
        except ManifestError:
            continue
        yield target, manifest


def is_settled(project: Project, target: str) -> bool:
    """Whether a target was followed since its manifest was written, as its record's time says.

    The hooks' scripts ask the same; see `dvtool.hooks.scripts`.
    """
    path = base_path(project.git.git_dir, target)
    with contextlib.suppress(OSError):
        written = os.stat(project.absolute(target + SUFFIX)).st_mtime_ns
        if os.stat(path).st_mtime_ns > written:
            return True
        return _read_record(path) == project.manifest_text(target)
    return False


def _read_record(path: str) -> bytes | None:
    return read_own_file(path, size_max_bytes=MANIFEST_SIZE_MAX_BYTES)


def _write_record(project: Project, target: str, text: bytes) -> None:
    path = base_path(project.git.git_dir, target)
    if _read_record(path) == text:
        os.utime(path)  # the scripts compare its time with the manifest's
        return
    fresh = not os.path.exists(path)
    make_folders(os.path.dirname(path))
    write_bytes(path, text, durable=False)
    if fresh:
        _list_bases(project)


def _list_bases(project: Project) -> None:
    names: Collection[str] = based_targets(project.git.git_dir)
    words = " ".join(shlex.quote(name + SUFFIX) for name in names)
    path = os.path.join(project.git.git_dir, "dv", LIST)
    write_bytes(path, os.fsencode(f"set -- {words}\n"), durable=False)
