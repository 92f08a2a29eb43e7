"""The changes of an add, done or planned, and the litter that hardly anybody means to keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from dvtool.format.manifest import Entries, Manifest
from dvtool.format.selection import Selection
from dvtool.project.parts import Project
from dvtool.verbs.add.plan import AddRequest
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import Scan, file_entry

LITTER_NAMES = frozenset(
    {
        *(".DS_Store", "Thumbs.db", "desktop.ini", ".directory", ".Trashes", ".Spotlight-V100"),
        *("__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache", ".ruff_cache"),
        *("__MACOSX", ".idea", ".vscode", ".cache", "lost+found"),
    }
)
"""Names of files and folders that programs leave behind."""
LITTER_ENDINGS = (".pyc", ".swp", ".swo", "~", ".crdownload", ".part.tmp")


@dataclass(slots=True)
class Added:
    """The result of `add` for one target."""

    target: str
    """The target, as a path from the top of the worktree."""
    files: int = 0
    """How many entries its manifest has now."""
    bytes: int = 0
    """Bytes of all its files together."""
    added: int = 0
    """How many entries are new in the manifest."""
    modified: int = 0
    """How many entries changed."""
    removed: int = 0
    """How many entries went."""
    stored_bytes: int = 0
    """Bytes that the local store grew by."""
    outdated: list[str] = field(default_factory=list)
    """Paths that the manifest changed since they were put here; their entries stay."""
    left_new: list[str] = field(default_factory=list)
    """Paths that are new in the workspace and were left, as --update takes only known ones."""
    warnings: list[str] = field(default_factory=list)
    """Sentences for people, such as names that collide on other systems."""
    litter: list[str] = field(default_factory=list)
    """Paths among what is new that programs left behind and hardly anybody means to keep, such as
    `.DS_Store`."""

    @property
    def litter_rules(self) -> list[str]:
        """The lines of `.dvignore` that keep such paths out, sorted."""
        rules = set()
        for path in self.litter:
            name = path.rpartition("/")[2]
            endings = (ending for ending in LITTER_ENDINGS if name.endswith(ending))
            rules.add(name if name in LITTER_NAMES else f"*{next(endings, name)}")
        return sorted(rules)

    @property
    def changed(self) -> bool:
        """Whether the manifest is another now."""
        return bool(self.added or self.modified or self.removed)


def joined(project: Project, parts: Iterable[Added], *, planned: bool) -> list[Added]:
    """Return one result for each target, of the parts of it that were added one by one.

    The result of a part that is only `planned` counts from the manifest that there is.
    """
    results: dict[str, Added] = {}
    for part in parts:
        whole = results.setdefault(part.target, part)
        if whole is part:
            continue
        before = project.manifest(part.target) if planned else whole
        whole.files += part.files - before.files
        whole.bytes += part.bytes - before.bytes
        whole.added += part.added
        whole.modified += part.modified
        whole.removed += part.removed
        whole.stored_bytes += part.stored_bytes
        whole.outdated += part.outdated
        whole.left_new += part.left_new
        whole.warnings += [text for text in part.warnings if text not in whole.warnings]
        whole.litter += part.litter
    return list(results.values())


def litter_in(scan: Scan, before: Manifest | None) -> list[str]:
    """Return what in a target looks like litter, each folder of it once, sorted.

    Of a target that has a manifest only files that were not seen there before count.
    """
    found = set()
    clean: set[str] = set()
    """Folders with no such name on the way to them."""
    for path in chain(scan.files, scan.links):
        if before is not None and path in scan.seen and scan.seen[path].tracked:
            continue
        folder, _, own = path.rpartition("/")
        if folder in clean and own not in LITTER_NAMES and not own.endswith(LITTER_ENDINGS):
            continue
        parts = path.split("/")
        for depth, name in enumerate(parts, 1):
            if name in LITTER_NAMES or name.endswith(LITTER_ENDINGS):
                found.add("/".join(parts[:depth]))
                break
        else:
            clean.add(folder)
    return sorted(found)


def foresee(
    project: Project, request: AddRequest, before: Manifest | None, scan: Scan, result: Added
) -> Added:
    """Fill in what an add of what was scanned would change; files that may have are read."""
    selection = Selection(request.target, (request.inner,) if request.inner else ())
    entries: Entries = project.entries(before, selection) if before is not None else {}
    sized = [
        p for p, found in scan.files.items() if p in entries and found.st_size == entries[p].size
    ]
    hash_files(project, scan, sized)
    new = [path for path in (*scan.files, *scan.links) if path not in entries]
    changed = [path for path in scan.files if path in entries and not _is_as(scan, path, entries)]
    changed += [p for p in scan.links if p in entries and scan.links[p] != entries[p].symlink]
    files = [path for path, entry in entries.items() if not entry.dir]
    gone = [path for path in files if scan.vanished(path) or path in scan.folders]
    result.added, result.modified, result.removed = len(new), len(changed), len(gone)
    sizes = {path: found.st_size for path, found in scan.files.items()}
    left = set(entries) - set(gone) | set(new)
    outside = before.files - len(entries) if before is not None else 0
    result.files = outside + len(left)
    result.bytes = (before.bytes if before is not None else 0) + sum(
        sizes.get(path, 0) - (entries[path].bytes if path in entries else 0)
        for path in (*new, *changed, *gone)
    )
    return result


def _is_as(scan: Scan, path: str, entries: Entries) -> bool:
    return path in scan.digests and file_entry(scan, path) == entries[path]
