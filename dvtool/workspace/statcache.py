"""path -> (stat, hash): files that look unchanged are not read again.

One row a folder, so that reading a folder's files costs one look-up and a change rewrites one
row. Disposable: a damaged or missing cache costs time, never correctness.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

import msgspec

from dvtool.format.digest import Digest, digest_of
from dvtool.system.atomic import make_folders
from dvtool.system.decoders import msgpack_decoder
from dvtool.system.stat import Stamp, Stat

STATCACHE_VERSION = 1
KEYS_PER_QUERY = 900
"""Below SQLite's oldest limit on the parameters of one statement, 999."""
AGREED = "CREATE TABLE IF NOT EXISTS agreed (path TEXT PRIMARY KEY, folder BLOB) WITHOUT ROWID"
"""Apart, since a cache that was made before there was this table gets it when it is opened."""
TICK_NS = 10_000_000
"""Kernels stamp files from a clock that moves in ticks of up to 10 ms."""
WHOLE_SECOND_NS = 1_000_000_000
_BELOW = "path = ? OR (path > ? AND path < ?)"
"""Whether a path is at or below another; see `_rows_below`."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


TIME_MIN_NS, TIME_MAX_NS = -(1 << 63), (1 << 63) - 1


class Seen(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A path as it was when it was last read or written. `digest` is empty for links, folders.

    `tracked` says that add or checkout put it there: if it is missing now, the user deleted it;
    a path that was never tracked here is only absent.
    """

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int
    executable: bool
    digest: Digest
    tracked: bool

    def matches(self, now: Stat | os.stat_result) -> bool:
        """Whether the file still has the stat it had when its digest was taken."""
        return (
            self.mtime_ns == now.st_mtime_ns
            and self.size == now.st_size
            and self.inode == now.st_ino
            and self.ctime_ns == now.st_ctime_ns
        )


SeenRow: TypeAlias = tuple[int, int, int, int, bool, Digest, bool]
"""The values of a `Seen`, which is encoded alike; the third is the size."""
MSGPACK_FEW = 16
_ARRAY_HEADS, _MAP_HEADS = (0x90, 0xDC, 0xDD), (0x80, 0xDE, 0xDF)
"""The first byte of an array or a map in msgpack, for up to 15, 65,535 and more elements."""


class AgreedFolder(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A folder that was seen to be as a manifest says, with its `folder_state` of then.

    This stays true whatever happens later: a shard never changes, and a file whose stat is the same
    has the same content. Only `tracked` may cease to be true: it is removed with the names it was
    said of.
    """

    state: Digest
    entries: dict[bytes, int]
    """The first half of a shard's hash -> how many of its entries are in the folder itself."""
    folders: list[str]
    """The names of the folders in it."""
    empty: list[str]
    """The subfolders that are entries themselves, since nothing was in them."""
    tracked: bool
    """Whether all of these entries count as tracked; see `Seen`."""


SeenFolder: TypeAlias = dict[str, Seen]
"""Name -> what was seen of it."""

_decoder = msgpack_decoder(SeenFolder)
_agreed_decoder = msgpack_decoder(AgreedFolder)
_UNREADABLE = (sqlite3.Error, OSError, msgspec.MsgspecError, TypeError, UnicodeError)
"""The errors of a damaged file; one flipped bit makes a text of a blob, or garbles a message. And
that of a path that is no UTF-8, as one may be typed: nothing is remembered of it."""


def seen_file(
    file_stat: os.stat_result | Stamp | Stat,
    digest: Digest,
    *,
    executable: bool,
    read_at_ns: int,
    tracked: bool,
) -> Seen:
    """Return what to remember of a file whose bytes had `digest` at `read_at_ns` or later.

    `read_at_ns` is a time by the disk's own clock: `Workspace.clock_ns`, asked before the file was
    read. A file stamped in the very tick in which it was read could change again without its stamp
    changing: it is remembered with no size that could match, and so read again ("racy", as git
    calls it). So is one whose time no file of this cache can hold, before 1677 or after 2262.
    """
    stamp = max(file_stat.st_mtime_ns, file_stat.st_ctime_ns)
    coarse = stamp % WHOLE_SECOND_NS == 0
    racy = stamp >= read_at_ns - (2 * WHOLE_SECOND_NS if coarse else TICK_NS)
    kept = min(file_stat.st_mtime_ns, file_stat.st_ctime_ns) >= TIME_MIN_NS and stamp <= TIME_MAX_NS
    return Seen(
        file_stat.st_mtime_ns if kept else 0,
        file_stat.st_ctime_ns if kept else 0,
        -1 if racy or not kept else file_stat.st_size,
        file_stat.st_ino,
        executable,
        digest,
        tracked,
    )


def settled_before(read_at_ns: int) -> int:
    """Return before when a file was stamped that certainly is not racy: see `seen_file`."""
    return read_at_ns - 2 * WHOLE_SECOND_NS


def seen_added(
    files: Iterable[tuple[str, Stat, Digest, bool]], read_at_ns: int
) -> Iterator[tuple[str, Seen]]:
    """Yield what to remember of files that were added, as `seen_file` says: path, stat, digest.

    Last stands whether the file is executable.
    """
    settled_ns = settled_before(read_at_ns)
    for path, stat, digest, executable in files:
        mtime_ns, ctime_ns = stat.st_mtime_ns, stat.st_ctime_ns
        if 0 <= mtime_ns < settled_ns and 0 <= ctime_ns < settled_ns:  # as most files are
            size, inode = stat.st_size, stat.st_ino
            yield path, Seen(mtime_ns, ctime_ns, size, inode, executable, digest, True)
        else:
            yield (
                path,
                seen_file(stat, digest, executable=executable, read_at_ns=read_at_ns, tracked=True),
            )


def seen_written(stamp: Stamp, digest: Digest, *, executable: bool) -> Seen:
    """Return what to remember of a file as `Workspace` has written it, for a target."""
    return Seen(
        stamp.st_mtime_ns,
        stamp.st_ctime_ns,
        stamp.st_size,
        stamp.st_ino,
        executable,
        digest,
        True,
    )


def encode_seen_names(names: Sequence[str], seen: Sequence[SeenRow]) -> bytes:
    """Return names with what was seen of each as a `SeenFolder` has them, without its head.

    So a folder can be encoded in parts, and without a dict: see `seen_folder_of`.
    """
    pairs: list[str | SeenRow] = [""] * (2 * len(names))
    pairs[::2] = names
    pairs[1::2] = seen
    return msgspec.msgpack.encode(pairs)[len(_msgpack_head(len(pairs), _ARRAY_HEADS)) :]


def seen_folder_of(count: int, parts: Iterable[bytes]) -> bytes:
    """Return the `SeenFolder` of so many names, encoded, from what `encode_seen_names` made."""
    return b"".join([_msgpack_head(count, _MAP_HEADS), *parts])


def _msgpack_head(count: int, heads: tuple[int, int, int]) -> bytes:
    """Return what msgpack has before so many elements: a byte with the number, or one and it."""
    few, two_bytes, four_bytes = heads
    if count < MSGPACK_FEW:
        return bytes([few | count])
    if count < 1 << 16:
        return bytes([two_bytes]) + count.to_bytes(2, "big")
    return bytes([four_bytes]) + count.to_bytes(4, "big")


def seen_other(link: str = "", *, tracked: bool) -> Seen:
    """Return what to remember of a symlink (where it points) or of an empty folder."""
    return Seen(0, 0, -1, 0, False, link_digest(link) if link else b"", tracked)


def link_digest(link: str) -> Digest:
    """Return the digest by which a symlink's target is remembered."""
    return digest_of(link.encode("utf-8", "surrogateescape"))


def _rows_below(path: str) -> tuple[str, str, str]:
    return path, path + "/", path + "0"  # "0" is the character after "/"


class StatCache:
    """The cache of one worktree. Every method works, without effect, when the file cannot."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> StatCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def folder(self, path: str) -> SeenFolder:
        """Return what is known of the names in one folder (relative to the worktree)."""
        try:
            row = (
                self._connection()
                .execute("SELECT seen FROM folders WHERE path = ?", (path,))
                .fetchone()
            )
            return _decoder.decode(row[0]) if row else {}
        except _UNREADABLE:
            return {}

    def folders_below(self, path: str) -> dict[str, SeenFolder]:
        """Return the known folders at and below `path`."""
        return dict(self.each_below(path))

    def each_below(self, path: str) -> Iterator[tuple[str, SeenFolder]]:
        """Yield the known folders at and below `path`, one at a time."""
        try:
            rows = self._connection().execute(
                f"SELECT path, seen FROM folders WHERE {_BELOW}", _rows_below(path)
            )
            for name, seen in rows:
                yield name, _decoder.decode(seen)
        except _UNREADABLE:
            return

    def paths_below(self, path: str) -> list[str]:
        """Return which folders at and below `path` are known."""
        try:
            # `+path` keeps SQLite from the search by key, which reads each row to its end.
            rows = self._connection().execute(
                f"SELECT path FROM folders WHERE {_BELOW.replace('path', '+path')}",
                _rows_below(path),
            )
            return [name for (name,) in rows]
        except _UNREADABLE:
            return []

    def folders(self, paths: Iterable[str]) -> dict[str, SeenFolder]:
        """Return those of these folders that are known."""
        seen_folders: dict[str, SeenFolder] = {}
        left = iter(sorted(set(paths)))
        try:
            while batch := list(islice(left, KEYS_PER_QUERY)):
                marks = ",".join("?" * len(batch))
                rows = self._connection().execute(
                    f"SELECT path, seen FROM folders WHERE path IN ({marks})", batch
                )
                seen_folders.update((name, _decoder.decode(seen)) for name, seen in rows)
        except _UNREADABLE:
            return {}
        return seen_folders

    def agreed_folders(self, path: str) -> dict[str, AgreedFolder]:
        """Return what is remembered of the folders at and below `path`."""
        try:
            rows = self._connection().execute(
                f"SELECT path, folder FROM agreed WHERE {_BELOW}", _rows_below(path)
            )
            return {name: _agreed_decoder.decode(folder) for name, folder in rows}
        except _UNREADABLE:
            return {}

    def save_agreed(self, folders: Mapping[str, AgreedFolder]) -> None:
        """Remember these folders as they were seen to agree with a manifest."""
        with contextlib.suppress(*_UNREADABLE):
            db = self._connection()
            with db:
                db.executemany(
                    "INSERT OR REPLACE INTO agreed VALUES (?, ?)",
                    sorted(
                        (path, msgspec.msgpack.encode(folder)) for path, folder in folders.items()
                    ),
                )

    def forget_agreed(self, paths: Iterable[str]) -> None:
        """Forget how these folders agreed with a manifest."""
        self._write([], [], paths)

    def save(self, folders: Mapping[str, SeenFolder], *, lost: Collection[str] = ()) -> None:
        """Replace what is known of these folders; an empty one is forgotten.

        The folders that have `lost` a name, and the empty ones, no longer count as agreed.
        """
        gone = [path for path, seen in folders.items() if not seen]
        self._write(
            sorted((path, msgspec.msgpack.encode(seen)) for path, seen in folders.items() if seen),
            gone,
            {*gone, *lost},
        )

    def save_encoded(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Replace what is known of folders, of each by its `SeenFolder` as it is kept."""
        self._write(sorted(rows), [], [])

    def forget_below(self, path: str) -> None:
        """Forget a folder and all below it."""
        with contextlib.suppress(*_UNREADABLE):
            db = self._connection()
            with db:
                for table in ("folders", "agreed"):
                    db.execute(f"DELETE FROM {table} WHERE {_BELOW}", _rows_below(path))

    def _write(
        self, rows: list[tuple[str, bytes]], gone: Iterable[str], agreed_gone: Iterable[str]
    ) -> None:
        with contextlib.suppress(*_UNREADABLE):
            db = self._connection()
            with db:
                db.executemany("INSERT OR REPLACE INTO folders VALUES (?, ?)", rows)
                db.executemany("DELETE FROM folders WHERE path = ?", [(path,) for path in gone])
                db.executemany(
                    "DELETE FROM agreed WHERE path = ?", [(path,) for path in agreed_gone]
                )

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._db = self._open()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                # SQLite's message may quote what is damaged, and then it is no text.
                known = isinstance(error, sqlite3.DatabaseError)
                if known and getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                    raise  # locked, or a full disk: what it knows is still good
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
                self._db = self._open()
        return self._db

    def _open(self) -> sqlite3.Connection:
        make_folders(os.path.dirname(self._path))
        db = sqlite3.connect(self._path, timeout=10)
        try:
            # The cache may be lost in a power cut, so no write waits for the disk.
            db.execute("PRAGMA synchronous = OFF")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != STATCACHE_VERSION:
                with db:
                    db.execute("DROP TABLE IF EXISTS folders")
                    db.execute("DROP TABLE IF EXISTS agreed")
                    db.execute(
                        "CREATE TABLE folders (path TEXT PRIMARY KEY, seen BLOB) WITHOUT ROWID"
                    )
                    db.execute(f"PRAGMA user_version = {STATCACHE_VERSION}")
            db.execute(AGREED)
        except BaseException:
            db.close()
            raise
        return db
