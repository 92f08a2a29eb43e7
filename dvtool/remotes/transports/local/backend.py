"""A remote that is a directory: a shared disk, a mounted volume, a USB stick.

Every object is one file under the directory. The path of a key is opened component by component,
relative to the folder above it and without following symbolic links: who may write to a shared
remote must not be able to point our reads and writes at files outside of it. In a folder that a
group shares (setgid and group-writable) all that is made becomes the group's, whatever the umask.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO

from dvtool.errors import ObjectMissing, RemoteError, RemoteForbidden, printable
from dvtool.remotes.transports.base import Features, ObjectInfo, ObjectShort, Sink
from dvtool.system.atomic import (
    TEMP_PREFIX,
    flush_to_disk,
    is_temp_name,
    make_folders,
    share_open,
    temp_name,
)
from dvtool.system.room import room_text

BLOCK_SIZE_BYTES = 1 << 20
COPY_STEP_BYTES = 16 << 20

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that somebody put in the place of an object must not hang.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP})
_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
)


def _copy_by_system(
    source: int, to: int, size: int, *, each: Callable[[], object] = lambda: None
) -> int:
    """Have the system copy bytes between the starts of two files; return how many it did.

    Where files can share blocks (btrfs, xfs) nothing is written. If the system copies only a part,
    the caller reads and writes the rest, and so learns which of the two fails.
    """
    copied = 0
    while hasattr(os, "copy_file_range") and copied < size:
        each()
        step = min(COPY_STEP_BYTES, size - copied)
        try:
            count = os.copy_file_range(source, to, step, offset_src=copied)
        except OSError:
            break
        if count == 0:
            break
        copied += count
    return copied


class LocalBackend:
    """Objects as files under the directory `path`, which must exist (see `create`).

    `url` is how the user wrote the remote, for messages; `path` when not given.
    """

    def __init__(
        self, path: str, *, url: str | None = None, features: Features | None = None
    ) -> None:
        self._root = path
        self._url = path if url is None else url
        # Only the measured rates differ between folders.
        self._features = replace(
            features or Features(),
            conditional_put=True,
            ranged_get=True,
            content_md5=False,
            md5_etag=False,
            list_allowed=True,
        )

    @property
    def url(self) -> str:
        """The remote as the user wrote it, for messages."""
        return self._url

    @property
    def features(self) -> Features:
        """The features of every folder, with the rates measured of this one."""
        return self._features

    def create(self) -> None:
        """Make the directory, and the ones above it; fine if it is there already."""
        if os.path.isdir(self._root):
            return
        with self._errors(self._root):
            make_folders(os.path.abspath(self._root))

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        """Write an object, or a range of it, to `sink`; a `size` of 0 opens nothing."""
        if size == 0:
            return 0
        with self._object(key) as (fd, size_stored):
            size_wanted = size_stored - offset if size is None else size
            if size_wanted < 0 or offset + size_wanted > size_stored:
                raise self._short(key, size_stored)
            with self._errors(key):
                os.lseek(fd, offset, os.SEEK_SET)
            written = 0
            while written < size_wanted:
                with self._errors(key):
                    data = os.read(fd, min(BLOCK_SIZE_BYTES, size_wanted - written))
                if not data:
                    raise self._short(key, offset + written)
                sink.write(data)
                written += len(data)
        return written

    def get(self, key: str, *, size_max: int) -> bytes:
        """Return a whole small object."""
        info = self.head(key)
        if info is None:
            raise ObjectMissing(key, self._url)
        if info.size > size_max:
            raise RemoteError(
                f"{self._url}: object {printable(key)} has {info.size:,} bytes,"
                f" at most {size_max:,} make sense"
            )
        sink = io.BytesIO()
        # A file that grew in between stays bounded: exactly the size that was checked is read.
        self.read_into(key, sink, size=info.size)
        return sink.getvalue()

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        """Store an object durably: temporary name, flush, rename, flush the folder."""
        with self._unfinished(key, body) as (folder, temp, name), self._errors(key, writing=True):
            size = os.stat(temp, dir_fd=folder, follow_symlinks=False).st_size
            os.replace(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
            flush_to_disk(folder)
        return ObjectInfo(key, size)

    def put_if_absent(self, key: str, body: bytes) -> bool:
        """Store an object unless the key exists. Atomic where the filesystem has hard links."""
        if self.head(key) is not None:
            return False
        with self._unfinished(key, body) as (folder, temp, name), self._errors(key, writing=True):
            try:
                os.link(temp, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                # FAT and some network filesystems: look, then write, as the protocol allows.
                os.replace(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
            flush_to_disk(folder)
        return True

    def head(self, key: str) -> ObjectInfo | None:
        """Return the size of one object, None if it is not there or not a regular file."""
        *folders, name = self._parts(key)
        with contextlib.suppress(ObjectMissing), self._folder(key, folders) as folder:
            with self._errors(key):
                stats = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(stats.st_mode):
                return ObjectInfo(key, stats.st_size)
        return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the regular files whose key starts with `prefix`, folder by folder."""
        head, _, _ = prefix.rpartition("/")
        folders = self._parts(head) if head else ()
        try:
            with self._folder(prefix, folders) as folder:
                yield from self._walk(folder, f"{head}/" if head else "", prefix)
        except ObjectMissing:
            return

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""
        *folders, name = self._parts(key)
        with (
            contextlib.suppress(ObjectMissing),
            self._folder(key, folders) as folder,
            self._errors(key),
        ):
            os.unlink(name, dir_fd=folder)

    def sweep_unfinished(self, *, older_than_s: float) -> int:
        """Remove unfinished files of at least that age; return how many bytes they had."""
        size = 0
        for folder, _, names in os.walk(self._root):
            for path in (os.path.join(folder, name) for name in names if is_temp_name(name)):
                with contextlib.suppress(OSError):
                    stats = os.lstat(path)
                    if stats.st_mtime < time.time() - older_than_s:
                        os.unlink(path)
                        size += stats.st_size
        return size

    def _walk(self, folder: int, above: str, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects in an open folder whose keys start with `above`, in order of key."""
        for name in self._names(folder, above, prefix):
            key = above + name
            try:
                if name.endswith("/"):
                    below = self._enter(key, folder, name[:-1])
                    try:
                        yield from self._walk(below, key, prefix)
                    finally:
                        os.close(below)
                    continue
                with self._errors(key):
                    stats = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except ObjectMissing:
                continue  # removed by somebody else since the folder was read
            yield ObjectInfo(key, stats.st_size, modified_s=stats.st_mtime)

    def _names(self, folder: int, above: str, prefix: str) -> Sequence[str]:
        """Return the names in a folder that can lead to `prefix`, folders with a slash after them.

        With the slash, the order of names is the order of the keys below them.
        """
        names = []
        with self._errors(above), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(TEMP_PREFIX) or not entry.name.isascii():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    name = f"{entry.name}/"
                    leads_there = prefix.startswith(above + name)
                else:
                    name = entry.name
                    leads_there = False
                    if not entry.is_file(follow_symlinks=False):
                        continue
                if leads_there or (above + name).startswith(prefix):
                    names.append(name)
        return sorted(names)

    @contextlib.contextmanager
    def _object(self, key: str) -> Iterator[tuple[int, int]]:
        """Yield an object's file, open for reading, and its size."""
        *folders, name = self._parts(key)
        with self._folder(key, folders) as folder:
            fd = self._open_regular(key, folder, name)
        try:
            yield fd, os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _open_regular(self, key: str, folder: int, name: str) -> int:
        with self._errors(key):
            stats = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(stats.st_mode):
                raise ObjectMissing(key, self._url)
            return os.open(name, _READ_FLAGS, dir_fd=folder)

    @contextlib.contextmanager
    def _unfinished(self, key: str, body: bytes | BinaryIO) -> Iterator[tuple[int, str, str]]:
        """Write `body` and flush it; yield its folder, its temporary name and its name to be.

        The temporary name is gone afterwards, whatever happens.
        """
        *folders, name = self._parts(key)
        with self._folder(key, folders, create=True) as folder:
            temp = temp_name()
            with self._errors(key, writing=True):
                fd = os.open(temp, _CREATE_FLAGS, 0o666, dir_fd=folder)
            try:
                try:
                    with self._errors(key, writing=True):
                        share_open(fd, os.fstat(folder).st_mode)
                    self._fill(key, fd, body)
                finally:
                    os.close(fd)
                yield folder, temp, name
            finally:
                # Should this fail too, gc removes the file, which its name marks as unfinished.
                with contextlib.suppress(OSError):
                    os.unlink(temp, dir_fd=folder)

    def copy_into(self, key: str, file: BinaryIO, *, size: int) -> bool:
        """Have the system copy the first `size` bytes of an object to the start of an empty file.

        False, with the file as it was, if the system cannot; use `read_into` then.
        """
        with self._object(key) as (fd, size_stored):
            if size > size_stored:
                raise self._short(key, size_stored)
            copied = _copy_by_system(fd, file.fileno(), size)
        if copied == size:
            return True
        os.ftruncate(file.fileno(), 0)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return False

    def _fill(self, key: str, fd: int, body: bytes | BinaryIO) -> None:
        source = io.BytesIO(body) if isinstance(body, bytes) else body
        source.seek(0)
        with contextlib.suppress(io.UnsupportedOperation, AttributeError):
            number = source.fileno()
            # An empty read raises if nobody waits for this any more.
            source.seek(
                _copy_by_system(number, fd, os.fstat(number).st_size, each=lambda: source.read(0))
            )
        # Reading is outside of the `with`: an unreadable body is not the remote's fault.
        while data := source.read(BLOCK_SIZE_BYTES):
            view = memoryview(data)
            while view:
                with self._errors(key, writing=True):
                    view = view[os.write(fd, view) :]
        with self._errors(key, writing=True):
            flush_to_disk(fd)

    @contextlib.contextmanager
    def _folder(self, key: str, folders: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """Yield the descriptor of a folder under the root; ObjectMissing if it is not there."""
        fd = self._open_root()
        try:
            for name in folders:
                below = self._make(key, fd, name) if create else self._enter(key, fd, name)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _open_root(self) -> int:
        # The root itself may be a link: the user chose it, not somebody who writes to the remote.
        try:
            return os.open(self._root, _FOLDER_FLAGS)
        except FileNotFoundError as error:
            raise RemoteError(
                f"remote directory {printable(self._url)} does not exist",
                hint="mount its disk, create the directory, or correct the remote's url",
            ) from error
        except NotADirectoryError as error:
            raise RemoteError(
                f"remote {printable(self._url)} is not a directory", hint="correct the remote's url"
            ) from error
        except OSError as error:
            raise self._failed(self._root, error) from error

    def _make(self, key: str, folder: int, name: str) -> int:
        """Open a folder in a folder, made first if it is not there."""
        with self._errors(key, writing=True), contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
            # The name of a new folder must be durable before an object in it counts as stored.
            flush_to_disk(folder)
        try:
            below = self._enter(key, folder, name)
        except ObjectMissing as error:
            raise RemoteError(
                f"{printable(self._url)}: {name!r} on the way to {printable(key)} is not a folder"
            ) from error
        try:
            # Also if it was there: what made it may have been killed before it was shared.
            with self._errors(key, writing=True):
                share_open(below, os.fstat(folder).st_mode)
        except BaseException:
            os.close(below)
            raise
        return below

    def _enter(self, key: str, folder: int, name: str) -> int:
        """Open a folder in a folder; below a file there is simply nothing, a link is an error."""
        with self._errors(key):
            try:
                return os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
            except OSError as error:
                if error.errno not in _NO_FOLDER:
                    raise
                stats = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISLNK(stats.st_mode):
            raise ObjectMissing(key, self._url)
        raise RemoteError(
            f"{printable(self._url)}: {name!r} on the way to {printable(key)} is a symbolic link",
            hint="links inside a remote are not followed; put the real folder there",
        )

    def _parts(self, key: str) -> Sequence[str]:
        """Split a key into names; refuse what could leave the root or hide among our own files."""
        parts = key.split("/")
        if not key.isascii() or not key.isprintable() or not {"", ".", ".."}.isdisjoint(parts):
            raise RemoteError(f"{printable(self._url)}: {key!r} is not a key")
        if any(part.startswith(TEMP_PREFIX) for part in parts):
            raise RemoteError(f"{printable(self._url)}: {key!r} is the name of an unfinished file")
        return parts

    @contextlib.contextmanager
    def _errors(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Translate the operating system's errors; holds system calls on the remote only."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not writing:
                raise ObjectMissing(key, self._url) from error
            raise self._failed(key, error) from error

    def _failed(self, key: str, error: OSError) -> RemoteError:
        subject = f"{printable(self._url)}: {printable(key)}"
        if error.errno in _FORBIDDEN:
            return RemoteForbidden(
                f"{subject}: {error.strerror}",
                hint="ask the owner of the remote directory for read and write permission; for a "
                "group: chgrp -R GROUP, then chmod -R g+rwX, and chmod g+s on the folders",
            )
        if error.errno in _FULL:
            return RemoteError(
                f"{subject}: the remote's disk is full{room_text(self._root)}",
                hint="make room there, then run the command again",
            )
        return RemoteError(f"{subject}: {error.strerror or error}")

    def _short(self, key: str, size: int) -> ObjectShort:
        return ObjectShort(
            f"{printable(self._url)}: object {printable(key)} ends at {size:,} bytes,"
            " before the end of what was asked for"
        )
