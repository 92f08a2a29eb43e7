"""The clones that use a store: whoever frees in it has to know what all of them need.

The store in `.git/dv` is its repository's. A clone whose setting `store.path` leads to another
store leaves a note there before it uses it: below `clones/`, with its git folder and an id, which
is also in that git folder. So what stands at that path on another machine is not taken for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

import msgspec

from dvtool.errors import CorruptError
from dvtool.format.digest import digest_of
from dvtool.system.atomic import make_folders, write_bytes
from dvtool.system.decoders import json_decoder

FOLDER = "clones"
ID_FILE = os.path.join("dv", "clone-id")
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class CloneNote(msgspec.Struct, frozen=True):
    """That a clone uses a store: the path of its git folder, and the id that is noted there."""

    git_dir: str
    id: str


def register(store_path: str, git_dir: str) -> None:
    """Leave a note that a clone uses this store; nothing is done if there is one.

    Who may not write to the store adds nothing to it, and leaves none.
    """
    path = note_path(store_path, git_dir)
    if path is not None and os.path.exists(path):
        return
    try:
        if path is None:
            make_folders(os.path.join(git_dir, "dv"))
            write_bytes(os.path.join(git_dir, ID_FILE), os.urandom(16).hex().encode() + b"\n")
            path = note_path(store_path, git_dir)
            assert path is not None
        make_folders(os.path.dirname(path))
        ignore = os.path.join(store_path, ".gitignore")
        if not os.path.exists(ignore):
            write_bytes(ignore, b"*\n")  # a store in a worktree is not for `git add -A`
        note = CloneNote(os.fsencode(git_dir).hex(), clone_id(git_dir) or "")
        write_bytes(path, msgspec.json.encode(note) + b"\n")
    except OSError as error:
        if error.errno not in _NOT_ALLOWED:
            raise


def note_path(store_path: str, git_dir: str) -> str | None:
    """Return where the note of a clone is; None if it has no id yet."""
    own = clone_id(git_dir)
    if own is None:
        return None
    name = digest_of(f"{own}\n".encode() + os.fsencode(git_dir)).hex()
    return os.path.join(store_path, FOLDER, name)


def clone_id(git_dir: str) -> str | None:
    """Return the id of a clone, None if it has none. OSError if it cannot be read."""
    try:
        with open(os.path.join(git_dir, ID_FILE), "rb") as file:
            return file.read().strip().decode("utf-8", "replace") or None
    except FileNotFoundError:
        return None


def is_shared(store_path: str) -> bool:
    """Whether any clone left a note."""
    return bool(_names(store_path))


def notes(store_path: str) -> Iterator[tuple[str, CloneNote]]:
    """Yield the path of each note, and what it says. CorruptError for one that cannot be read."""
    for name in _names(store_path):
        path = os.path.join(store_path, FOLDER, name)
        try:
            with open(path, "rb") as file:
                note = json_decoder(CloneNote).decode(file.read())
            git_dir = os.fsdecode(bytes.fromhex(note.git_dir))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise CorruptError(
                f"{path}, which names a clone that uses this store, cannot be read: {error}",
                hint="if you know that no clone needs it any more, remove the file",
            ) from error
        yield path, CloneNote(git_dir, note.id)


def owner_of(store_path: str) -> str | None:
    """Return the git folder that a store is in, None if it is in none."""
    above = os.path.dirname(os.path.realpath(store_path))
    inside = all(os.path.exists(os.path.join(above, name)) for name in ("HEAD", "objects", "refs"))
    return above if inside else None


def _names(store_path: str) -> list[str]:
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names = sorted(os.listdir(os.path.join(store_path, FOLDER)))
    return [name for name in names if len(name) == 64]
