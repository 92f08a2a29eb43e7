"""A pack that is read whole: received, hashed and written as it comes, then checked and flushed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO

from dvtool.errors import CorruptError
from dvtool.format.digest import READ_SIZE_BYTES, hasher
from dvtool.format.locations import RemotePack
from dvtool.format.pack import PackIndex, read_index, verify_pack
from dvtool.remotes.objects import pack_key
from dvtool.remotes.remote import RemoteStore
from dvtool.system.atomic import flush_to_disk

SMALL_CHUNK_BYTES = 64 << 10
_ONE_AT_A_TIME = threading.Lock()
"""For packs of small chunks: threads that check them at once wait for Python's lock at each."""


def receive_pack(
    remote: RemoteStore, pack: RemotePack, temp: str
) -> tuple[PackIndex, bytes | None]:
    """Fetch a whole pack to a new file; return its index, and the MD5 to note if there is one.

    The MD5 is that of the bytes that came, and the store stated the same. The pack's id and every
    chunk in it are checked, and the file is flushed to the disk. CorruptError if the pack is not
    what its name says. The caller removes the file after an error.
    """
    where = f"{remote.url}: {pack_key(pack.digest)}"
    with open(temp, "x+b", buffering=0) as file:
        whole = hasher()
        arriving = ArrivingPack(file, whole, states_md5=bool(remote.backend.features.md5_etag))
        copied = remote.copy_pack(pack.digest, file, size=pack.size)
        if not copied:
            remote.read_pack(pack.digest, arriving, offset=0, size=pack.size)
        if copied:
            # The pack that is here now is the one to believe, whichever process put it there.
            for data in _blocks_of(file):
                whole.update(data)
        if whole.digest() != pack.digest:
            raise CorruptError(f"{where}: its bytes are not what its name says")
        index = read_index(file, size=pack.size, where=where)
        small = len(index.chunk_digests) * SMALL_CHUNK_BYTES > pack.size
        with _ONE_AT_A_TIME if small else contextlib.nullcontext():
            verify_pack(file, index, where=where)
        flush_to_disk(file.fileno())
    return index, arriving.md5()


class ArrivingPack:
    """A sink with memory for what comes: writes it to an open file, and hashes it, as it comes.

    `states_md5` says whether the store states MD5s: else none is worked out.
    """

    def __init__(self, file: BinaryIO, whole: hasher, *, states_md5: bool) -> None:
        self._fd = file.fileno()
        self._whole = whole
        self._states_md5 = states_md5
        self._memory = bytearray()
        self._answers = 0
        self._stated: bytes | None = None
        self._own = hashlib.md5(usedforsecurity=False)

    def md5(self) -> bytes | None:
        """Return the MD5 of the bytes that came if the store stated it in every answer.

        None else: a store may state other things of the same form, and an object that was replaced
        between two answers has no MD5 of ours.
        """
        return self._stated if self._stated == self._own.digest() else None

    def stated(self, md5: bytes | None, /) -> None:
        """Take the MD5 that the store states of the object, before bytes of it come."""
        if self._states_md5:
            self._stated = md5 if self._answers == 0 or md5 == self._stated else None
            self._answers += 1

    def room(self, size: int, /) -> memoryview:
        """Return memory for the next `size` bytes."""
        if len(self._memory) < size:
            self._memory = bytearray(size)
        return memoryview(self._memory)[:size]

    def filled(self, size: int, /) -> None:
        """Take the first `size` bytes of the last room."""
        self.write(memoryview(self._memory)[:size])

    def write(self, data: bytes | memoryview, /) -> None:
        """Take bytes."""
        self._whole.update(data)
        if self._stated is not None:  # it was from the first answer on, or never is again
            self._own.update(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]


def _blocks_of(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while data := file.read(READ_SIZE_BYTES):
        yield data


def _renew_lock() -> None:
    """Let a process that was forked begin: who held the lock is a thread of the parent."""
    global _ONE_AT_A_TIME
    _ONE_AT_A_TIME = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
