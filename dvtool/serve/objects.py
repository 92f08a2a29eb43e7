"""GetObject and HeadObject: the file of a snapshot, ranges of it, and conditions on it."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from dvtool.errors import CorruptError, PathFault, printable
from dvtool.format.digest import hasher
from dvtool.serve.answers import http_date
from dvtool.serve.faults import S3Fault
from dvtool.serve.messages import Blocks, Response
from dvtool.serve.revisions import ServedCommit
from dvtool.snapshots.listed import Listed
from dvtool.snapshots.snapshot import Snapshot

OBJECT_BLOCK_BYTES = 4 << 20
"""A body is read and sent in blocks of at most so many bytes."""
STREAM_BYTES = 1 << 20
STREAMS_MAX = 16
"""So many whole files at once are read ahead, for which a remote takes up to 64 MiB of memory each.
Files beyond them are read block by block: slower, and nobody waits for anybody."""
_streams = threading.BoundedSemaphore(STREAMS_MAX)
_BYTE_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
_ETAG = re.compile(r'\s*(?:W/)?("[^"]*"|[^",\s]+|\*)\s*')


class StoredObject(NamedTuple):
    """A file of a snapshot as an object: its path there, where symlinks lead to, and its state."""

    commit: ServedCommit
    path: str
    listed: Listed

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.listed.size or 0

    @property
    def etag(self) -> str:
        """The ETag, quoted."""
        return etag_of(self.listed)


def etag_of(listed: Listed) -> str:
    """Return the ETag of a file: its BLAKE3, ended as those that clients do not take for an MD5."""
    return f'"{listed.blake3}-1"'


def find_object(commit: ServedCommit, path: str) -> StoredObject | None:
    """Return the object at a path, symlinks followed; None for folders and nothing.

    A path is taken as it is: with ``.``, ``..`` or an empty name in it, it is the path of nothing.
    """
    if not path or any(name in ("", ".", "..") for name in path.split("/")):
        return None
    snapshot = commit.snapshot
    try:
        listed = snapshot.info(snapshot.followed(path))
    except PathFault:
        return None
    return StoredObject(commit, path, listed) if listed.type == "file" else None


def object_response(stored: StoredObject, headers: Mapping[str, str], *, body: bool) -> Response:
    """Return the response to GetObject or, without `body`, to HeadObject."""
    about = {
        "ETag": stored.etag,
        "Last-Modified": http_date(stored.commit.modified),
        "Accept-Ranges": "bytes",
        "x-amz-meta-blake3": stored.listed.blake3 or "",
    }
    _require_conditions(stored, headers, about)
    asked = _asked_range(stored, headers)
    start, end = asked if asked is not None else (0, stored.size)
    about |= {"Content-Type": "binary/octet-stream", "Content-Length": str(end - start)}
    if asked is not None:
        about["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
    content = _object_bytes(stored, start, end) if body else b""
    return Response(200 if asked is None else 206, about, content)


# --- conditions ---------------------------------------------------------------------------


def _require_conditions(
    stored: StoredObject, headers: Mapping[str, str], about: Mapping[str, str]
) -> None:
    """Return if the object is to be sent; the order is that of RFC 9110, 13.2.2."""
    modified = stored.commit.modified
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is not None:
        if not _has_etag(match, stored.etag):
            raise S3Fault("PreconditionFailed", "The ETag is another one than If-Match says.")
    else:
        unmodified = _seconds(headers.get("if-unmodified-since"))
        if unmodified is not None and modified > unmodified:
            raise S3Fault("PreconditionFailed", "The commit was made after If-Unmodified-Since.")
    if none_match is not None:
        if _has_etag(none_match, stored.etag):
            raise S3Fault("NotModified", "", about)
        return
    since = _seconds(headers.get("if-modified-since"))
    if since is not None and modified <= since:
        raise S3Fault("NotModified", "", about)


def _has_etag(header: str, etag: str) -> bool:
    """Whether a list of ETags, with quotes or without, has one; ``*`` has all."""
    given = [match[1] for match in _ETAG.finditer(header)]
    return "*" in given or etag in given or etag.strip('"') in given


def _seconds(header: str | None) -> int | None:
    if header is None:
        return None
    try:
        return int(parsedate_to_datetime(header).timestamp())
    except (ValueError, OverflowError):
        return None


# --- ranges -------------------------------------------------------------------------------


def _asked_range(stored: StoredObject, headers: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the bytes asked for, from and up to; None for the whole object.

    A range that is none, or several, is passed over, as HTTP has it, and as S3 does.
    """
    match = _BYTE_RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    condition = headers.get("if-range")
    if condition is not None and condition.strip() not in (
        stored.etag,
        http_date(stored.commit.modified),
    ):
        return None
    size = stored.size
    if not match[1]:
        start, end = max(size - int(match[2]), 0), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size:
        raise S3Fault(
            "InvalidRange",
            "The requested range is not satisfiable",
            {"Content-Range": f"bytes */{size}"},
        )
    return start, end


# --- bytes --------------------------------------------------------------------------------


def _object_bytes(stored: StoredObject, start: int, end: int) -> bytes | Blocks:
    snapshot, path = stored.commit.snapshot, stored.path
    whole = (start, end) == (0, stored.size)
    if end - start <= OBJECT_BLOCK_BYTES:
        return snapshot.read(path) if whole else snapshot.read_ranges([(path, start, end)])[0]
    if whole and _streams.acquire(blocking=False):
        return Blocks(_stream(snapshot, path))
    return Blocks(_parts_of(stored, start, end))


def _stream(snapshot: Snapshot, path: str) -> Generator[bytes]:
    """Yield a whole file, read ahead, and checked as a whole; a place among the streams is held."""
    try:
        with snapshot.open(path, buffering=0) as file:
            while block := file.read(STREAM_BYTES):
                yield block
    finally:
        _streams.release()


def _parts_of(stored: StoredObject, start: int, end: int) -> Generator[bytes]:
    """Yield a part of a file, each block read for itself; a whole file is checked as a whole."""
    whole = hasher() if (start, end) == (0, stored.size) else None
    for at in range(start, end, OBJECT_BLOCK_BYTES):
        until = min(at + OBJECT_BLOCK_BYTES, end)
        (block,) = stored.commit.snapshot.read_ranges([(stored.path, at, until)])
        if whole is not None:
            whole.update(block)
            if until == end and whole.hexdigest() != stored.listed.blake3:
                raise CorruptError(
                    f"the bytes of {printable(stored.path)} are not what its hash says",
                    hint="run: dv fsck",
                )
        yield block
