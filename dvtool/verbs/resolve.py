"""resolve: what conflicts in manifests that a merge left, and settling it.

git keeps an unmerged manifest with all three versions in its index. From those the conflicts are
worked out whenever they are asked for, so a merge made without the driver is settled in the same
way. What was settled while others stay open is recorded below the git folder.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Collection, Mapping
from typing import Literal, TypeAlias

import msgspec

from dvtool.errors import ManifestError, UsageError, printable
from dvtool.format.digest import digest_of
from dvtool.format.manifest import Built, Entry, Manifest, decode, encode, update
from dvtool.format.merge import Changes, Conflict, merge, parents, shards_needed
from dvtool.format.paths import SELF, SUFFIX
from dvtool.format.selection import Selection
from dvtool.project.parts import Project
from dvtool.system.atomic import write_bytes
from dvtool.workspace.gitignore import ignore_target

Side: TypeAlias = Literal["ours", "theirs", "both"]
BASE, OURS, THEIRS = 1, 2, 3
"""git's stages of an unmerged path."""


class Unmerged(msgspec.Struct, frozen=True):
    """A manifest that git has as unmerged. A side that removed the target is None.

    `stages` tells to which merge it belongs; `damage` says why a side cannot be read, and is then
    None here too.
    """

    target: str
    base: Manifest | None
    ours: Manifest | None
    theirs: Manifest | None
    stages: tuple[str, ...]
    damage: str | None = None

    @property
    def whole(self) -> bool:
        """Whether the target is settled as one: a side lacks it, or it is a file on a side."""
        if self.ours is None or self.theirs is None:
            return True
        return self.ours.kind != self.theirs.kind or self.ours.kind == "file"


class Resolved(msgspec.Struct, frozen=True):
    """What `resolve` did to one target: entries settled now, and still open.

    `before` and `after` are our manifest before the merge and the one that is there now (None:
    the target is gone). `kept` is the target made to keep the other side of a whole one.
    """

    target: str
    settled: tuple[str, ...]
    left: tuple[str, ...]
    before: Manifest | None
    after: Manifest | None
    kept: str | None = None


# --- what a merge left ----------------------------------------------------------------------


def unmerged(project: Project, conflicts: Mapping[str, Mapping[int, str]]) -> list[Unmerged]:
    """Return what a merge, rebase, cherry-pick or stash left unmerged, from git's `conflicts`."""
    found = []
    for path, blobs in sorted(conflicts.items()):
        texts = {stage: project.git.read_blob(blob) for stage, blob in blobs.items()}
        stages = tuple(f"{stage}:{blob}" for stage, blob in sorted(blobs.items()))
        found.append(_unmerged(path.removesuffix(SUFFIX), texts, stages))
    return found


def _unmerged(target: str, texts: dict[int, bytes], stages: tuple[str, ...]) -> Unmerged:
    sides: dict[int, Manifest] = {}
    damage = None
    for stage, text in texts.items():
        try:
            sides[stage] = decode(text, f"{target + SUFFIX} (stage {stage})")
        except ManifestError as error:
            # Without a base, whatever the sides do not have alike conflicts: nothing is lost.
            damage = damage if stage == BASE else str(error)
    return Unmerged(
        target, sides.get(BASE), sides.get(OURS), sides.get(THEIRS), stages, damage=damage
    )


def mismerged(project: Project) -> list[Unmerged]:
    """Return the manifests that git merged as text into something that is no manifest.

    Of the merge that is under way, or that HEAD is; with those that were settled in part since.
    """
    damaged = {target for target in project.targets() if not _sound(project, target)}
    recorded = {target for target in project.targets() if _is_recorded(project, target)}
    sides = project.git.merge_sides() if damaged or recorded else None
    found = []
    for target in sorted(damaged | recorded) if sides else ():
        texts = {
            stage: text
            for stage, commit in zip((BASE, OURS, THEIRS), sides or (), strict=True)
            if commit and (text := project.git.blob_at(commit, target + SUFFIX)) is not None
        }
        one = _unmerged(target, texts, tuple(side or "" for side in sides or ()))
        ours = target in damaged or _read_record(project, one) is not None
        if ours and one.ours is not None and one.theirs is not None:
            found.append(one)
    return found


def any_recorded(project: Project) -> bool:
    """Whether conflicts of any target are recorded as left open."""
    with contextlib.suppress(FileNotFoundError):
        return bool(os.listdir(os.path.dirname(_record_path(project, ""))))
    return False


def forget_others(project: Project, targets: Collection[str]) -> None:
    """Drop what is recorded of merges that are over: of all but these targets."""
    kept = {os.path.basename(_record_path(project, target)) for target in targets}
    folder = os.path.dirname(_record_path(project, ""))
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if name not in kept:
                os.unlink(os.path.join(folder, name))


def _is_recorded(project: Project, target: str) -> bool:
    return os.path.exists(_record_path(project, target))


def _sound(project: Project, target: str) -> bool:
    try:
        project.manifest(target)
    except ManifestError:
        return False
    return True


def conflicts(project: Project, one: Unmerged) -> list[Conflict]:
    """Return the entries of an unmerged manifest that are still to be settled."""
    if one.ours is None or one.theirs is None or one.whole:
        return _whole_conflict(one)
    record = _read_record(project, one)
    if record is not None:
        return record.conflicts
    return _merged(project, one, one.ours, one.theirs)[1]


def _whole_conflict(one: Unmerged) -> list[Conflict]:
    sides = (one.base, one.ours, one.theirs)
    if one.damage is None and _decided(one) is not None:
        return []
    base, ours, theirs = (_as_entry(side) for side in sides)
    return [Conflict(SELF, base, ours, theirs)]


def _decided(one: Unmerged) -> Manifest | None:
    """Return what two whole sides come to where only one of them changed, or both alike."""
    if one.ours == one.theirs or one.base == one.theirs:
        return one.ours
    return one.theirs if one.base == one.ours else None


def _as_entry(manifest: Manifest | None) -> Entry | None:
    if manifest is None:
        return None
    return (manifest.entries or {}).get(SELF, Entry(dir=True))


def _merged(
    project: Project, one: Unmerged, ours: Manifest, theirs: Manifest
) -> tuple[Built, list[Conflict]]:
    project.store.need_shards(shards_needed(one.base, ours, theirs))
    return merge(one.base, ours, theirs, project.store.load_shard)


# --- settling -------------------------------------------------------------------------------


def resolve(project: Project, one: Unmerged, selection: Selection, side: Side | None) -> Resolved:
    """Settle the selected conflicts of a target for one side, for `stage` to tell git of.

    Without a side only what does not truly conflict is settled.
    """
    if one.ours is None or one.theirs is None or one.whole:
        return _resolve_whole(project, one, side)
    record = _read_record(project, one)
    if record is not None:
        manifest, open_before = project.manifest(one.target), record.conflicts
    else:
        built, open_before = _merged(project, one, one.ours, one.theirs)
        project.store.put_shards(built.shards)
        manifest = built.manifest
    chosen = [c for c in open_before if side is not None and selection.matches(c.path)]
    if side is not None and not chosen and open_before and not selection.whole:
        raise UsageError(
            f"no conflict in {printable(one.target)} matches", hint="dv status lists the conflicts"
        )
    changes: Changes = {}
    for conflict in chosen:
        _settle(project, manifest, changes, conflict, side)
    built = update(manifest, changes, project.store.load_shard)
    project.store.put_shards(built.shards)
    project.write_manifest(one.target, built.manifest)
    left = [conflict for conflict in open_before if conflict not in chosen]
    _record(project, one, built.manifest, left)
    return Resolved(
        one.target,
        tuple(conflict.path for conflict in chosen),
        tuple(conflict.path for conflict in left),
        one.ours,
        built.manifest,
    )


def _record(
    project: Project, one: Unmerged, manifest: Manifest, left: Collection[Conflict]
) -> None:
    """Record which conflicts are left in a manifest."""
    if left:
        path = _record_path(project, one.target)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        text = digest_of(encode(manifest)).hex()
        record = _Record(one.target, list(one.stages), text, list(left))
        write_bytes(path, msgspec.json.encode(record))


def stage(project: Project, done: Resolved) -> None:
    """Tell git that a target is settled, if it is; its files are in step by then.

    Until then git has all sides, so that what ended in between can be repeated.
    """
    if done.left:
        return
    for target in (done.kept, done.target):
        if target is None:
            continue
        if project.manifest_text(target) is None:
            project.git.remove_staged([target + SUFFIX])
        else:
            ignored = ignore_target(project.workspace, target)
            project.git.stage([target + SUFFIX, *ignored])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_record_path(project, done.target))


def _resolve_whole(project: Project, one: Unmerged, side: Side | None) -> Resolved:
    settled: tuple[str, ...] = ()
    if not _whole_conflict(one):
        chosen = _decided(one)
    elif side is None:
        return Resolved(one.target, (), (SELF,), one.ours, one.ours)
    else:
        chosen, settled = (one.theirs if side == "theirs" else one.ours), (SELF,)
        if side == "both":
            chosen = one.ours or one.theirs
        if one.damage is not None and (chosen is None or side == "both"):
            raise ManifestError(one.damage, hint="take the side that can be read")
    kept = None
    if side == "both" and settled and one.ours is not None and one.theirs is not None:
        kept = _keep_beside(project, one.target, one.theirs)
    if chosen is None:
        project.workspace.remove(one.target + SUFFIX)
    else:
        project.write_manifest(one.target, chosen)
    return Resolved(one.target, settled, (), one.ours, chosen, kept)


def _keep_beside(project: Project, target: str, manifest: Manifest) -> str:
    """Make a target of the other side, beside this one."""

    def taken(path: str) -> bool:
        if project.manifest_text(path) == encode(manifest):
            return False  # by this, before it was interrupted
        return any(project.workspace.stat(name) is not None for name in (path, path + SUFFIX))

    beside = name_for_other(target, taken)
    project.write_manifest(beside, manifest)
    return beside


def _settle(
    project: Project, manifest: Manifest, changes: Changes, conflict: Conflict, side: Side | None
) -> None:
    """Add to `changes` what settles a conflict; ours is in place, unless it was pushed out."""
    path = conflict.path

    def there(name: str) -> bool:
        if name in changes:
            return changes[name] is not None
        return name in project.entries_near(manifest, [name])

    if side == "ours":
        _put(project, manifest, changes, path, conflict.ours)
    elif side == "theirs":
        _put(project, manifest, changes, path, conflict.theirs)
    elif conflict.theirs is not None:
        in_the_way = _in_the_way(project, manifest, changes, path)
        if conflict.ours is None and not in_the_way:
            _put(project, manifest, changes, path, conflict.theirs)
        else:
            changes[name_for_other(path, there)] = conflict.theirs


def _put(
    project: Project, manifest: Manifest, changes: Changes, path: str, entry: Entry | None
) -> None:
    if entry is not None:
        in_the_way = _in_the_way(project, manifest, changes, path)
        if entry.dir and any(name.startswith(path + "/") for name in in_the_way):
            return  # the folder is there, and not empty
        changes.update(dict.fromkeys(in_the_way))
    changes[path] = entry


def _in_the_way(project: Project, manifest: Manifest, changes: Changes, path: str) -> list[str]:
    """Return the entries above and below a path, of which none can be when a file is there."""
    above = list(parents(path))
    now = project.entries_near(manifest, [path, *above], above=[path]) | changes
    return [
        name
        for name, entry in now.items()
        if entry is not None and (name in above or name.startswith(path + "/"))
    ]


def name_for_other(path: str, taken: Callable[[str], bool]) -> str:
    """Return a free name for their version of a file: ``cat.theirs.jpg``."""
    stem, extension = posixpath.splitext(path)
    candidate, number = f"{stem}.theirs{extension}", 2
    while taken(candidate):
        candidate, number = f"{stem}.theirs-{number}{extension}", number + 1
    return candidate


# --- manifests in another form than dvtool gives them ---------------------------------------


def normalise(project: Project, target: str) -> bool:
    """Give a manifest that git merged as text its one form, staged; return if it had another.

    It may have too many entries to stand inline, or too few to be in shards.
    """
    manifest = project.manifest(target)
    built = update(manifest, {}, project.store.load_shard)
    project.store.put_shards(built.shards)
    if not project.write_manifest(target, built.manifest):
        return False
    project.git.stage([target + SUFFIX])
    return True


# --- what is recorded -----------------------------------------------------------------------


class _Record(msgspec.Struct):
    """The conflicts still open in one manifest, of the text with this BLAKE3."""

    target: str
    stages: list[str]
    manifest: str
    conflicts: list[Conflict]


def _record_path(project: Project, target: str) -> str:
    name = digest_of(target.encode("utf-8", "surrogateescape")).hex()[:32]
    return os.path.join(project.git.git_dir, "dv", "conflicts", name + ".json")


def _read_record(project: Project, one: Unmerged) -> _Record | None:
    """Return what is recorded of this very merge and of the manifest as it is, else None."""
    try:
        with open(_record_path(project, one.target), "rb") as file:
            record = msgspec.json.decode(file.read(), type=_Record)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    text = project.manifest_text(one.target)
    same = text is not None and digest_of(text).hex() == record.manifest
    return record if same and record.stages == list(one.stages) else None
