"""The interface of an origin: a place that data comes from, listed and read, never written.

An origin pickles: it names its place by value, holds no secret, and connects anew in each process.
Two that are equal can be asked in each other's place.
Nothing is contacted before the first call. Errors are those of a remote: `RemoteForbidden`,
`RemoteTransient` (worth another attempt), `RemoteError`, and `ObjectMissing`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from dvtool.errors import RemoteError, printable

SIZE_UNKNOWN = -1
FORM_EXECUTABLE, FORM_LINK = "+x", "->"


class OriginObject(NamedTuple):
    """One object as its origin describes it.

    `size` is in bytes, `SIZE_UNKNOWN` where the origin does not say. `tag` tells this state of the
    object from others ("" where nothing does), `version` names it where the origin keeps versions.
    `modified` is when it was last written, in seconds since 1970 by the origin's clock; 0 if the
    origin does not say.
    `form` is FORM_EXECUTABLE for a file with that bit, FORM_LINK for a symlink, of which `version`
    says where it points; "" for all else.
    """

    key: str
    size: int
    tag: str
    version: str = ""
    form: str = ""
    modified: int = 0


class Body(Protocol):
    """The bytes of an object, or of a range of it, as they come."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most so many; none at the end."""
        ...


class ContentCheck(Protocol):
    """Compares content, as it comes, with the hash by which its origin names it."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        ...

    def holds(self) -> bool:
        """Whether all bytes together are what the hash names."""
        ...


class Origin(Protocol):
    """A place that data comes from. Methods may be called from several threads."""

    @property
    def url(self) -> str:
        """The origin, for messages; without credentials."""
        ...

    def commit(self) -> str:
        """Return the commit that is listed, asked once; "" where states are no commits."""
        ...

    def batches(self) -> Iterator[list[OriginObject]]:
        """Yield the objects, some at a time, as they are listed; a request for each batch."""
        ...

    def open(
        self, described: OriginObject, *, offset: int = 0, size: int | None = None
    ) -> contextlib.AbstractContextManager[Body]:
        """Open an object, or `size` bytes of it from `offset`, in one attempt.

        `ChangedAtSource` if it is not in the state that was described any more.
        """
        ...

    def read_many(self, objects: Iterable[tuple[int, OriginObject]]) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of small objects, of known sizes, by number, in any order.

        Only what needs no second attempt: whatever is left out is to be had by `open`, which says
        what is wrong with it. `objects` is read as it can be asked for.
        """
        ...

    def content_check(self, described: OriginObject) -> ContentCheck | None:
        """Return what checks the bytes of an object, where its tag is a hash of them."""
        ...

    def close(self) -> None:
        """Close idle connections; the next call opens new ones."""
        ...


class ChangedAtSource(RemoteError):
    """An object is not what its listing said any more."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(
            f"{url}: {printable(key)} changed after it was listed; nothing was recorded",
            hint="repeat the command: it goes on, with what is there then",
        )

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str]]:
        return RemoteError, (str(self),)
