"""Which folders of a large target are as its manifest says, without a look at their entries.

Whoever finds that a folder has exactly what the manifest has there, remembers a glance of it: what
the folder looked like, and how many entries each shard has in it. As long as the folder looks the
same and the manifest has the same shards, its entries need not be known. A shard all of whose
entries lie in such folders is not loaded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dvtool.look import looks_at
from dvtool.manifest import Entries, Manifest, ShardRef
from dvtool.project import Project
from dvtool.scan import Scan
from dvtool.statcache import Glance

KEY_SIZE_BYTES = 16


@dataclass(slots=True)
class Agreement:
    """What of a target is as the manifest says. Folders are relative to the target, "" itself."""

    target: str
    manifest: Manifest
    same: dict[str, Glance] = field(default_factory=dict)
    """The folders whose own entries are as the manifest says."""
    loaded: dict[bytes, Entries] = field(default_factory=dict)
    """The shards that have entries elsewhere too, by `key_of`."""

    @property
    def wanted(self) -> Entries:
        """The entries that are not in folders known to be the same."""
        return {
            path: entry
            for entries in self.loaded.values()
            for path, entry in entries.items()
            if folder_of(path) not in self.same
        }

    def starts(self) -> Iterator[str]:
        """Yield the folders from which the rest of the target is to be walked."""
        if "" not in self.same:
            yield ""
        for folder in sorted(self.same):
            prefix = folder + "/" if folder else ""
            for name in self.same[folder].folders:
                if prefix + name not in self.same:
                    yield prefix + name


def agree(project: Project, target: str, manifest: Manifest, *, tracked: bool = False) -> Agreement:
    """Work out what of a target is as its manifest (one of shards) says; with one look at it.

    With `tracked`, only folders count all of whose entries are tracked.
    """
    shards = {key_of(ref): ref for ref in manifest.shards}
    known = {
        folder[len(target) + 1 :]: glance
        for folder, glance in project.statcache.glances(target).items()
        if shards.keys() >= glance.entries.keys() and (glance.tracked or not tracked)
    }
    folders = sorted(known)
    places = [f"{target}/{folder}" if folder else target for folder in folders]
    sizes = [sum(known[one].entries.values()) + len(known[one].folders) + 1 for one in folders]
    looks = looks_at(project.root, places, sizes)
    found = Agreement(target, manifest)
    found.same = {
        one: known[one] for one, look in zip(folders, looks, strict=True) if look == known[one].look
    }
    _settle(project, found, shards)
    return found


def _settle(project: Project, found: Agreement, shards: Mapping[bytes, ShardRef]) -> None:
    """Load the shards that have entries elsewhere, until nothing contradicts what is the same."""
    while True:
        inside: Counter[bytes] = Counter()
        for glance in found.same.values():
            inside.update(glance.entries)
        short = {
            key: ref
            for key, ref in shards.items()
            if inside[key] != ref.files and key not in found.loaded
        }
        if not short:
            return
        project.store.need_shards(short.values())
        for key, ref in short.items():
            entries = found.loaded[key] = project.store.load_shard(ref)
            for folder in {folder_of(path) for path in entries}:
                here = found.same.get(folder)
                if here is not None and key not in here.entries:
                    del found.same[folder]


def remember(
    project: Project, scan: Scan, entries: Entries, manifest: Manifest, doubtful: Iterable[str]
) -> None:
    """Remember the folders of a scan in which everything is as the manifest says.

    `entries` are all that the manifest has in the folders of the scan, as found there; `doubtful`
    are the paths of which that is not known.
    """
    out = {folder_of(path) for path in doubtful}
    tracked = dict.fromkeys(scan.looks, True)
    for path, found in scan.files.items():
        seen = scan.seen.get(path)
        if seen is None or not seen.matches(found) or path not in entries:
            out.add(folder_of(path))
        elif not seen.tracked:
            tracked[folder_of(path)] = False
    for path in (*scan.links, *scan.empty_folders):
        seen = scan.seen.get(path)
        if path not in entries:
            out.add(folder_of(path))
        elif seen is None or not seen.tracked:
            tracked[folder_of(path)] = False
    counts = entries_by_folder(entries, manifest)
    glances = {
        folder: Glance(look, dict(counts.get(folder, {})), names, tracked[folder])
        for folder, (look, names) in scan.looks.items()
        if folder not in out
    }
    save(project, scan.target, glances)


def save(project: Project, target: str, glances: Mapping[str, Glance]) -> None:
    """Remember folders of a target, given by their paths in it."""
    if glances:
        project.statcache.save_glances(
            {f"{target}/{folder}" if folder else target: one for folder, one in glances.items()}
        )


def entries_by_folder(paths: Collection[str], manifest: Manifest) -> dict[str, Counter[bytes]]:
    """Return folder -> how many of the paths, all entries of the manifest, each shard has there."""
    firsts = [ref.first for ref in manifest.shards]
    keys = [key_of(ref) for ref in manifest.shards]
    counts: dict[str, Counter[bytes]] = {}
    for path in paths:
        key = keys[bisect_right(firsts, path) - 1]
        counts.setdefault(folder_of(path), Counter())[key] += 1
    return counts


def key_of(ref: ShardRef) -> bytes:
    """Return what stands for a shard in a glance."""
    return ref.digest[:KEY_SIZE_BYTES]


def folder_of(path: str) -> str:
    """Return the folder of the target in which an entry lies."""
    return path.rpartition("/")[0]
