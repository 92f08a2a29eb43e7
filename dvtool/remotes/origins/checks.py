"""Content checked against the hash by which its origin names it: of DVC, git-lfs, the hub and git.

A hash that names content in one of these is not the one that dvtool names it by; it is checked
while the bytes come, and both are taken in one pass.
"""

from __future__ import annotations

import hashlib

_LINES_AT_ONCE_BYTES = 1 << 20
"""DVC before release 3 turned line ends of a text in blocks of this size."""


class HashCheck:
    """Holds if the content has a hash; `kind` is md5 or sha256, `expected` in hex."""

    def __init__(self, kind: str, expected: str) -> None:
        self._hash = hashlib.new(kind, usedforsecurity=False)
        self._expected = expected

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        self._hash.update(data)

    def holds(self) -> bool:
        """Whether the hash is the expected one."""
        return self._hash.hexdigest() == self._expected


class TextCheck:
    """Holds if the content has an MD5, as it is or with the line ends of Unix.

    The second is how DVC before release 3 named what it took for text.
    """

    def __init__(self, expected: str) -> None:
        self._plain = hashlib.md5(usedforsecurity=False)
        self._turned = hashlib.md5(usedforsecurity=False)
        self._block = bytearray()
        self._expected = expected

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        self._plain.update(data)
        self._block += data
        while len(self._block) >= _LINES_AT_ONCE_BYTES:
            self._turned.update(self._block[:_LINES_AT_ONCE_BYTES].replace(b"\r\n", b"\n"))
            del self._block[:_LINES_AT_ONCE_BYTES]

    def holds(self) -> bool:
        """Whether one of both is the expected one."""
        self._turned.update(self._block.replace(b"\r\n", b"\n"))
        self._block = bytearray()
        return self._expected in (self._plain.hexdigest(), self._turned.hexdigest())


class GitCheck:
    """Holds if git names a blob of the content so; its size comes first."""

    def __init__(self, expected: str, size: int) -> None:
        self._hash = hashlib.new("sha1" if len(expected) == 40 else "sha256", usedforsecurity=False)
        self._hash.update(b"blob %d\0" % size)
        self._expected = expected

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        self._hash.update(data)

    def holds(self) -> bool:
        """Whether the name is the expected one."""
        return self._hash.hexdigest() == self._expected
