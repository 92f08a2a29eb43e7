"""A request as the server takes it, and the response that it gives: values without a socket."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote, unquote_plus

from dvtool.serve.faults import S3Fault

Pairs: TypeAlias = tuple[tuple[str, str], ...]


class Request(NamedTuple):
    """An HTTP request. `path` and `query` are as they were sent, percent-encoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """By their names in lower case; those that came twice are joined by commas."""

    @property
    def key_path(self) -> str:
        """The path as text, decoded once; a byte that is not UTF-8 is a lone surrogate."""
        return unquote(self.path, errors="surrogateescape")

    @property
    def pairs(self) -> Pairs:
        """The names and values of the query, decoded once, in their order."""
        return tuple(
            (
                unquote_plus(name, errors="surrogateescape"),
                unquote_plus(value, errors="surrogateescape"),
            )
            for name, _, value in (part.partition("=") for part in self.query.split("&") if part)
        )

    @property
    def parameters(self) -> dict[str, str]:
        """Name -> value of the query; S3Fault if a name came twice."""
        pairs = self.pairs
        parameters = dict(pairs)
        if len(parameters) < len(pairs):
            raise S3Fault("InvalidArgument", "A parameter of the query was given twice.")
        return parameters


class Blocks:
    """The body of a response, in blocks. The first was read already, so that it is there."""

    def __init__(self, blocks: Generator[bytes]) -> None:
        self._blocks = blocks
        self._first: bytes | None = next(blocks)

    def read(self) -> bytes:
        """Return the next block; b"" at the end."""
        first, self._first = self._first, None
        return next(self._blocks, b"") if first is None else first

    def close(self) -> None:
        """Release files, be the body at its end or not."""
        self._blocks.close()


class Response(NamedTuple):
    """An HTTP response: a body as bytes, or in blocks, which the sender closes."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Blocks = b""


Respond: TypeAlias = Callable[[Request], Response]
