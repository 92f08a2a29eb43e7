"""Parsing git's output and composing its input. No git runs here."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from dvtool.errors import CorruptError, ManifestError, UsageError, printable
from dvtool.format.paths import SUFFIX, target_fault

FILE_MODES = frozenset({b"100644", b"100755"})
EXECUTABLE_MODE, LINK_MODE, SUBMODULE_MODE = b"100755", b"120000", b"160000"
OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
SHORT_ID_LENGTH = 10
SPARSE_TAG = b"S"
"""How ``ls-files -t`` marks what sparse checkout leaves out."""


class TreeEntry(NamedTuple):
    """The entry of a commit at a path: git's mode, and the id of the object."""

    mode: bytes
    id: str


class Commit(msgspec.Struct, frozen=True):
    """A commit that changed a path. `author` and `subject` are foreign text: escape to print."""

    id: str
    author: str
    date_iso: str
    subject: str
    blob: str | None
    """The file at that path as of this commit; None where the commit removed it."""

    @property
    def short(self) -> str:
        """The id as people write it: its first digits."""
        return self.id[:SHORT_ID_LENGTH]


class Staged(msgspec.Struct, frozen=True):
    """A file as it is in the index: its path and the blob that holds its content."""

    path: str
    blob: str


class Overview(msgspec.Struct, frozen=True):
    """The manifests of a repository, as `status` needs them: one look at all of them."""

    worktree: tuple[str, ...]
    """The paths of the manifests in the working tree; see `Git.manifest_paths`."""
    committed: Mapping[str, str]
    """Path and blob id of the manifests of HEAD."""
    conflicts: Mapping[str, Mapping[int, str]]
    """See `Git.conflicts_in_index`."""
    left_out: frozenset[str] = frozenset()
    """The paths of those that sparse checkout leaves out of the working tree."""


def parse_log(output: bytes, path: bytes) -> Iterator[Commit]:
    """Yield commits from four fields each, then their raw diff entries (with ``-z``)."""
    fields = iter(output.split(b"\0")[:-1])
    commit: Commit | None = None
    for field in fields:
        if commit is not None and field.startswith((b":", b"\n:")):
            mode, blob = new_side(field)
            if next(fields) == path and mode in FILE_MODES:
                commit = msgspec.structs.replace(commit, blob=blob)
            continue
        if commit is not None:
            yield commit
        texts = (next(fields).decode("utf-8", "replace") for _ in range(3))
        author, date_iso, subject = texts
        commit = Commit(field.decode("ascii"), author, date_iso, subject, blob=None)
    if commit is not None:
        yield commit


class ManifestChange(msgspec.Struct, frozen=True):
    """A commit that changed a manifest; its `blob` is the manifest as of the commit, or None."""

    commit: Commit
    path: str
    old_path: str
    """The path in the commit before, which is another for a rename."""
    old_blob: str | None
    """The manifest in the commit before; None if it is new."""


def parse_changes(output: bytes) -> Iterator[ManifestChange]:
    """Yield the changes of manifests, from output as `parse_log` has it, with renames."""
    fields = iter(output.split(b"\0")[:-1])
    commit: Commit | None = None
    for field in fields:
        if not field.startswith((b":", b"\n:")):
            texts = (next(fields).decode("utf-8", "replace") for _ in range(3))
            author, date_iso, subject = texts
            commit = Commit(field.decode("ascii"), author, date_iso, subject, blob=None)
            continue
        old_mode, mode, old_blob, blob, state = field.lstrip(b"\n").removeprefix(b":").split(b" ")
        old_path = os.fsdecode(next(fields))
        path = os.fsdecode(next(fields)) if state.startswith(b"R") else old_path
        if commit is None or not is_manifest(path):
            continue
        yield ManifestChange(
            msgspec.structs.replace(
                commit, blob=blob.decode("ascii") if mode in FILE_MODES else None
            ),
            path,
            old_path,
            old_blob.decode("ascii") if old_mode in FILE_MODES else None,
        )


def raw_manifests(listing: bytes, *, strict: bool = False) -> Iterator[tuple[str, str]]:
    """Yield path and new blob of each manifest in raw diff output (``-z``, without renames)."""
    fields = iter(listing.split(b"\0"))
    for field in fields:
        if field:
            mode, blob = new_side(field)
            path = os.fsdecode(next(fields))
            if mode in FILE_MODES and is_manifest(path, strict=strict):
                yield path, blob


def listed(listing: bytes) -> Iterator[tuple[str, int | None, str]]:
    """Yield path, stage and blob of what ``ls-files -z -t -s -co`` lists; None: not tracked."""
    for entry in listing.split(b"\0")[:-1]:
        tag, _, rest = entry.partition(b" ")
        if tag == b"?":
            yield os.fsdecode(rest), None, ""
            continue
        head, _, name = rest.partition(b"\t")
        mode, blob, stage = head.split(b" ")
        yield os.fsdecode(name), int(stage) if mode in FILE_MODES else None, blob.decode("ascii")


def left_out_of(listing: bytes) -> Iterator[tuple[str, str]]:
    """Yield path and blob of the files that sparse checkout leaves out, of ``ls-files -t -s``."""
    for entry in listing.split(b"\0")[:-1]:
        tag, _, rest = entry.partition(b" ")
        if tag == SPARSE_TAG:
            head, _, name = rest.partition(b"\t")
            mode, blob, stage = head.split(b" ")
            if mode in FILE_MODES and stage == b"0":
                yield os.fsdecode(name), blob.decode("ascii")


def old_sides(listing: bytes) -> Iterator[tuple[str, str | None]]:
    """Yield path and old blob (None: no file) of raw diff output (``-z``, without renames)."""
    fields = iter(listing.split(b"\0"))
    for field in fields:
        if field:
            mode, _mode, blob, _blob, _state = field.lstrip(b":").split(b" ")
            yield os.fsdecode(next(fields)), blob.decode("ascii") if mode in FILE_MODES else None


def new_side(change: bytes) -> tuple[bytes, str]:
    """Return mode and blob after a change, from ``:old-mode mode old-blob blob state``."""
    _old_mode, mode, _old_blob, blob, _state = change.lstrip(b"\n").split(b" ")
    return mode, blob.decode("ascii")


def is_manifest(path: str, *, strict: bool = False) -> bool:
    """Tell whether a file of this path is a manifest; its name must be that of a possible target.

    With `strict` another name is a ManifestError. Without, the file is passed over: history that
    nobody can change any more may have such a file.
    """
    target = path.removesuffix(SUFFIX)
    if target == path or not target or target.endswith("/"):
        return False
    fault = target_fault(target)
    if fault and strict:
        raise ManifestError(
            f"{printable(path)} is no manifest: it would be that of {target!r}, which {fault}",
            hint=f"take it out: git rm -f -- {shlex.quote(printable(path))}",
        )
    return fault is None


def is_file_inside(top: str, path: str, links: dict[str, bool]) -> bool:
    """Tell whether `path` is a file reached without a symlink; `links` remembers the folders."""
    try:
        if not stat.S_ISREG(os.lstat(os.path.join(top, path)).st_mode):
            return False
    except OSError:
        return False
    folder = path.rpartition("/")[0]
    while folder:
        if folder not in links:
            links[folder] = os.path.islink(os.path.join(top, folder))
        if links[folder]:
            return False
        folder = folder.rpartition("/")[0]
    return True


def commit_named(rev: str) -> str:
    """Return `rev` peeled to a commit; ``:/text``, always one, would take that for its text."""
    return rev if rev.startswith(":/") else f"{rev}^{{commit}}"


def tree_of(commit: bytes) -> str:
    """Return the id of the tree of a commit, given as git stores it; CorruptError for others."""
    word, _, tree = commit.partition(b"\n")[0].decode("ascii", "replace").partition(" ")
    if word != "tree" or not OBJECT_ID.fullmatch(tree):
        raise CorruptError("a commit in git does not begin as one", hint="run: git fsck")
    return tree


def tree_entries(tree: bytes, id_bytes: int) -> Iterator[tuple[int, str, str]]:
    """Yield mode, name and object id of each entry of a tree, given as git stores it.

    CorruptError if the bytes are no tree. `id_bytes` is the length of ids there.
    """
    at = 0
    while at < len(tree):
        name_end = tree.find(b"\0", at)
        mode, _, name = tree[at:name_end].partition(b" ")
        at = name_end + 1 + id_bytes
        if name_end < 0 or at > len(tree) or not re.fullmatch(rb"[0-7]{1,6}", mode):
            raise CorruptError("a tree in git is damaged", hint="run: git fsck")
        yield int(mode, 8), os.fsdecode(name), tree[at - id_bytes : at].hex()


def nul_list(paths: Iterable[str]) -> bytes:
    """Return paths as git reads them with ``-z``; UsageError for a text that can be no path."""
    names = [os.fsencode(path) for path in paths]
    for name in names:
        if not name or b"\0" in name:
            raise UsageError(f"not a path: {os.fsdecode(name)!r}")
    return b"".join(name + b"\0" for name in names)


def paths_in(listing: bytes) -> list[str]:
    """Return the paths of a NUL-terminated list."""
    return [os.fsdecode(name) for name in listing.split(b"\0")[:-1]]


def texts_in(listing: bytes) -> list[str]:
    """Return the texts of a NUL-terminated list; bytes that are no UTF-8 become surrogates."""
    return [text.decode("utf-8", "surrogateescape") for text in listing.split(b"\0")[:-1]]


def key_value(item: str) -> tuple[str, str]:
    """Return key and value of a line of ``git config -z``."""
    key, newline, value = item.partition("\n")
    return key, value if newline else "true"
