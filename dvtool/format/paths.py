"""Paths of entries and targets: the folders they are in, and which ones are refused.

All is text; "" is the top, which counts as no folder.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby

from dvtool.errors import ManifestError, printable

SUFFIX = ".dv.json"
"""The suffix of a manifest's name, after the name of its target."""
RUNS_FOLDER = ".dv-runs"
"""The folder, at the top of a worktree, of the records of runs."""
SELF = "."
"""The path of the one entry of a target that is a single file: the target itself."""
SOURCE_PATH = "/source"
"""The path of a conflict about where the data comes from; no entry can have it."""

_AFTER_SLASH = "0"

# A path with none of these is plain; only the others are looked at one component at a time.
_SUSPECT = re.compile(
    r"(?:^|/)(?:\.|/|$)|\x00|\\|git~1|^[a-z]:|[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]",
    re.IGNORECASE | re.MULTILINE,
)
_UNUSUAL = ("\x00", "\\", "\n\n", "\n.", ":", "~")
"""Names between newlines without these, in ASCII, have nothing suspect: far quicker to see."""
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


def folder_of(path: str) -> str:
    """Return the folder that a path is in."""
    return path.rpartition("/")[0]


def folders_above(paths: Iterable[str]) -> set[str]:
    """Return all folders that the paths are in, up to the top."""
    folders: set[str] = set()
    before = ""
    for path in paths:
        parent = path.rpartition("/")[0]
        if parent == before:  # as of most neighbours
            continue
        before = parent
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return folders


def joined(folder: str, name: str) -> str:
    """Return the path of a name in a folder; either may be "", which adds nothing."""
    return f"{folder}/{name}" if folder and name else folder or name


def is_utf8(text: str) -> bool:
    """Whether a name, as the system gave it, can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def workspace_path(target: str, entry_path: str) -> str:
    """Return where an entry of a target is, from the top of the worktree."""
    return target if entry_path == SELF else f"{target}/{entry_path}"


# --- paths that are refused -----------------------------------------------------------------


def path_faults(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the paths that cannot be entries, each with the reason; see `path_fault`."""
    all_paths = list(paths)
    joined_paths = "\n".join(["", *all_paths, ""])
    names = joined_paths.replace("/", "\n")
    plain = names.isascii() and not any(text in names for text in _UNUSUAL)
    if not plain and (_SUSPECT.search(joined_paths[1:-1]) or not is_utf8(joined_paths)):
        for path in all_paths:
            fault = path_fault(path)
            if fault:
                yield path, fault


def path_fault(path: str) -> str | None:
    """Say why a path cannot be an entry ('is absolute', …); None if it can.

    These are refused on every system, so that a manifest made on one can be checked out on all:
    absolute paths, empty, ``.`` and ``..`` components, NUL, what is no UTF-8, and every spelling
    that some filesystem takes for ``.git`` (git itself refuses them in its trees).
    """
    if path.startswith("/"):
        return "is absolute"
    if "\x00" in path:
        return "has a NUL in it"
    if re.match(r"[A-Za-z]:", path):
        return "begins like a drive letter"
    if not path.isascii() and not is_utf8(path):
        return "has a name that is not valid UTF-8"
    for component in re.split(r"[/\\]", path):
        if component in ("", ".", ".."):
            return "has an empty, '.' or '..' component"
        # NTFS takes the text after a colon for a stream of the file, and drops dots and spaces.
        plain = _HFS_IGNORED.sub("", component).lower().partition(":")[0].rstrip(" .")
        if plain in (".git", "git~1"):
            return "has a component that stands for git's own folder"
    return None


def target_fault(target: str) -> str | None:
    """Say why a path cannot name a target ('is absolute', …); None if it can.

    A manifest's name is that of its target and a suffix, so `...dv.json` would be that of `..`.
    """
    if "\n" in target or "\r" in target:
        return "has a newline in it"
    if target.endswith(SUFFIX):
        return "would be a manifest"
    return path_fault(target)


def link_fault(path: str, target: str) -> str | None:
    """Say why the symlink at `path` may not point at `target` ('is absolute', …), None if it may.

    A link is kept only if its text stays within its dvtool target. Links on the way are not
    followed.
    """
    if target.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", target):
        return f"is absolute (-> {printable(target)})"
    if "\x00" in target:
        return "has a NUL in it"
    if not is_utf8(target):
        return "points at a name that is not valid UTF-8"
    # The link is read as Windows would, too: there a backslash separates folders.
    target = target.replace("\\", "/")
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if resolved == ".." or resolved.startswith("../"):
        return f"leads outside of its folder (-> {printable(target)})"
    return None


def check_nesting(entries: Collection[str], name: str) -> None:
    """Refuse a path below another entry: below a file, a symlink or an 'empty' folder."""
    refuse_nested({path.rpartition("/")[0] for path in entries}, entries, name)


def refuse_nested(parents: Collection[str], entries: Collection[str], name: str) -> None:
    """Refuse entries of which one is the parent of another, or above it."""
    for parent in sorted(parents):
        while parent:
            if parent in entries:
                raise nested(name, parent)
            parent = parent.rpartition("/")[0]


def parents_sorted(paths: Sequence[str]) -> set[str]:
    """Return the folders that sorted paths are directly in; of a flat folder one look is enough."""
    return {folder for folder, _, _ in folder_runs(paths)}


def folder_runs(paths: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield the stretches of sorted paths that are directly in one folder: folder, begin, end.

    A folder with others in it may have several. Of a flat folder one look is enough.
    """
    begin = 0
    while begin < len(paths):
        parent, slash, _ = paths[begin].rpartition("/")
        end = bisect_left(paths, parent + _AFTER_SLASH, begin) if slash else len(paths)
        run = paths[begin:end]
        if "\0".join(run).count("/") == len(run) * (parent + slash).count("/"):
            yield parent, begin, end
        else:
            at = begin
            for folder, inside in groupby(run, folder_of):
                after = at + sum(1 for _ in inside)
                yield folder, at, after
                at = after
        begin = end


def nested(name: str, above: str) -> ManifestError:
    """Return the error for entries below another one, `above`, of the manifest `name`."""
    return ManifestError(
        f"{name}: has paths below {above!r}, which is no folder",
        hint="dvtool writes no such manifest: get an earlier version of it from git, or a sound "
        "one from who made it",
    )
