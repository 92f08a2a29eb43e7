"""Splits of a data set by hash: a file's split depends on that file, or on its group, alone."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from dvtool.errors import UsageError, printable
from dvtool.format.digest import digest_of

GroupBy: TypeAlias = Callable[[str], str] | Literal["stem", "folder"]
SUM_TOLERANCE = 1e-9
_POSITIONS = 1 << 64
_DOMAIN = "dvtool.split"


class SplitFile(Protocol):
    """A file of a snapshot, as far as its split depends on it."""

    @property
    def blake3(self) -> str | None:
        """The BLAKE3 of its content, in hex; None for what is no file."""


class SplitSource(Protocol):
    """The files of a commit; `dvtool.snapshot` returns one."""

    def find(self, path: str = "") -> list[str]:
        """Return the sorted paths of all files at or below a path."""

    def info(self, path: str) -> SplitFile:
        """Return what is known of a path."""


def split(
    snapshot: SplitSource,
    fractions: Mapping[str, float],
    *,
    seed: int = 0,
    group_by: GroupBy | None = None,
    path: str = "",
) -> dict[str, list[str]]:
    """Return name of the split -> sorted paths of its files, of all files at or below `path`.

    `fractions` are the shares that the splits are to have, such as ``{"train": 0.8, "val": 0.1,
    "test": 0.1}``; they add up to 1, and their order does not matter. Real shares differ by chance,
    as with any random split.

    A file's split follows from the hash of its content and the seed. So adding or removing files
    moves no other file, a renamed file stays where it is, and equal files are in the same split.
    With `group_by` it follows from the group instead: a function of the path, ``"stem"`` (the path
    up to the first dot of the name, so that ``0001.jpg`` and ``0001.json`` stay together) or
    ``"folder"``. All files of a group are in one split, also once their content changes.

    UsageError for fractions that are no shares, and for a group that is no text.
    """
    bounds = _bounds(fractions)
    group_of = _grouping(group_by)
    kind = "content" if group_of is None else "group"
    splits: dict[str, list[str]] = {name: [] for name in fractions}
    for file in snapshot.find(path):
        key = snapshot.info(file).blake3 if group_of is None else group_of(file)
        if not isinstance(key, str):
            raise UsageError(
                f"group_by returned {key!r} for {printable(file)}, which is no text",
                hint="return the name of the group: group_by=lambda path: path.split('/')[0]",
            )
        splits[_split_at(_split_position(seed, kind, key), bounds)].append(file)
    return splits


def _bounds(fractions: Mapping[str, float]) -> list[tuple[str, int]]:
    """Return each split and the position, of 2^64, at which it ends, in the order of names."""
    if not fractions:
        raise UsageError("no split is named", hint='for example {"train": 0.9, "test": 0.1}')
    for name, share in fractions.items():
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not isinstance(name, str) or not number or not 0 <= share <= 1:
            raise UsageError(f"the share of split {name!r} is no number from 0 to 1: {share!r}")
    total = math.fsum(fractions.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise UsageError(
            f"the shares of the splits add up to {total:.10g}, not to 1",
            hint="give what you leave out a name of its own",
        )
    names = [name for name in sorted(fractions) if fractions[name] > 0]
    ends = [math.fsum(fractions[before] for before in names[:end]) for end in range(1, len(names))]
    return [
        *zip(names, (round(end * _POSITIONS) for end in ends), strict=False),
        (names[-1], _POSITIONS),
    ]


def _grouping(group_by: GroupBy | None) -> Callable[[str], str] | None:
    if group_by is None or callable(group_by):
        return group_by
    if group_by == "stem":
        return stem_of
    if group_by == "folder":
        return posixpath.dirname
    raise UsageError(
        f"group_by is {group_by!r}", hint='it is a function of the path, "stem" or "folder"'
    )


def stem_of(path: str) -> str:
    """Return a path up to the first dot of its name, as WebDataset groups files into samples.

    A dot at the beginning of the name is a part of it.
    """
    folder, name = posixpath.split(path)
    dots = len(name) - len(name.lstrip("."))
    return posixpath.join(folder, name[:dots] + name[dots:].partition(".")[0])


def _split_position(seed: int, kind: str, key: str) -> int:
    """Return a number below 2^64, uniform over keys: the first 8 bytes of a BLAKE3."""
    text = f"{_DOMAIN}\0{seed}\0{kind}\0{key}".encode("utf-8", "surrogateescape")
    return int.from_bytes(digest_of(text)[:8], "big")


def _split_at(position: int, bounds: list[tuple[str, int]]) -> str:
    return next(name for name, end in bounds if position < end)
