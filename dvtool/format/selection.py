"""The meaning of a path or glob on the command line: which targets, and which paths in them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

import msgspec

from dvtool.format.paths import SELF

AFTER_SLASH = "0"
"""The character after ``/``: all paths below ``a`` sort between ``a/`` and ``a0``."""
_GLOB = re.compile(r"[*?\[]")
_ONE_OF = re.compile(r"\[(?P<not>[!^]?)(?P<members>\]?[^\]]*)\]")


class Selection(msgspec.Struct, frozen=True):
    """A target, whole or only the paths within it that some patterns match.

    A pattern is a path within the target (which selects all below it too) or a glob, in which
    ``*`` and ``?`` do not match ``/`` and ``**`` does.
    """

    target: str
    patterns: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether everything in the target is selected."""
        return not self.patterns

    def matches(self, path: str) -> bool:
        """Whether an entry's path is selected."""
        if self.whole:
            return True
        return any(
            path == pattern or path.startswith(pattern + "/") or _matches_glob(pattern, path)
            for pattern in self.patterns
        )

    def may_match_between(self, first: str, end: str | None) -> bool:
        """Whether anything from `first` up to, not including, `end` could be selected."""
        if self.whole:
            return True
        for pattern in self.patterns:
            glob = _GLOB.search(pattern)
            if glob is None:
                # The path itself and all below it match; other names that begin alike do not.
                at = first <= pattern and (end is None or pattern < end)
                if at or (first < pattern + AFTER_SLASH and (end is None or pattern + "/" < end)):
                    return True
                continue
            # The part before the first wildcard bounds what can match from both sides.
            prefix = pattern[: glob.start()]
            if (end is None or prefix < end) and prefix >= first[: len(prefix)]:
                return True
        return False

    @property
    def folder(self) -> str:
        """The deepest folder of the target that holds the whole selection; "" for the top."""
        parts: list[str] | None = None
        for pattern in self.patterns:
            plain = pattern.split("/")
            while plain and _GLOB.search("/".join(plain)):
                plain.pop()
            parts = plain if parts is None else _shared(parts, plain)
        return "/".join(parts or ())


def has_wildcards(path: str) -> bool:
    """Whether a path is meant as a glob."""
    return _GLOB.search(path) is not None


def _shared(first: list[str], second: list[str]) -> list[str]:
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return first[:count]


def select(targets: Sequence[str], paths: Iterable[str]) -> tuple[list[Selection], list[str]]:
    """Return the selections that `paths` make among `targets`, and the paths that made none."""
    patterns: dict[str, list[str]] = {}
    whole: set[str] = set()
    unmatched = []
    for path in paths:
        hit = False
        for target in targets:
            inner = _within(target, path)
            if not inner:
                continue
            hit = True
            patterns.setdefault(target, []).extend(inner)
            if not inner.isdisjoint(("", SELF)):
                whole.add(target)
        if not hit:
            unmatched.append(path)
    chosen = [
        Selection(target, () if target in whole else tuple(dict.fromkeys(inner)))
        for target, inner in sorted(patterns.items())
    ]
    return chosen, unmatched


def _within(target: str, path: str) -> set[str]:
    """Return what `path` selects inside `target`: "" for all of it; nothing if it names none."""
    if path in ("", ".") or path == target or target.startswith(path + "/"):
        return {""}
    if path.startswith(target + "/"):
        return {path[len(target) + 1 :]}
    if not _GLOB.search(path):
        return set()
    return _rest_of_glob(path.split("/"), target.split("/"))


def _rest_of_glob(glob: Sequence[str], target: Sequence[str]) -> set[str]:
    """Return the rest of a glob once its first components have named the target's.

    ``data/*/cats/*.jpg`` leaves ``cats/*.jpg`` in the target ``data/images``. As ``**`` may name
    any number of folders, several rests are possible.
    """
    if not glob or not target:
        return {"/".join(glob)}
    first, rest = glob[0], glob[1:]
    if first == "**":
        return _rest_of_glob(rest, target) | _rest_of_glob(glob, target[1:])
    rests: set[str] = set()
    if first == target[0] or _matches_glob(first, target[0]):
        rests |= _rest_of_glob(rest, target[1:])
    before, stars, after = first.partition("**")
    if stars and _matches_glob(before + "*", target[0]):
        rests |= _rest_of_glob(["**" + after, *rest], target[1:])
    return rests


def _matches_glob(pattern: str, path: str) -> bool:
    if not _GLOB.search(pattern):
        return False
    return _glob_expression(pattern).match(path) is not None


@functools.lru_cache(maxsize=256)
def _glob_expression(pattern: str) -> re.Pattern[str]:
    out = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out.append("(?:.*/)?")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif pattern[at] == "*":
            out.append("[^/]*")
            at += 1
        elif pattern[at] == "?":
            out.append("[^/]")
            at += 1
        elif one_of := _ONE_OF.match(pattern, at):
            out.append(_one_of_expression(one_of["not"], one_of["members"]))
            at = one_of.end()
        else:
            out.append(re.escape(pattern[at]))
            at += 1
    # As with a plain path, a glob that names a folder selects what is below it.
    return re.compile("".join(out) + r"(?:/.*)?\Z", re.DOTALL)


def _one_of_expression(negation: str, members: str) -> str:
    """Return the expression for ``[members]``, which like ``*`` and ``?`` does not match ``/``."""
    parts = re.findall(r"(.)-(.)|(.)", members, re.DOTALL)
    escaped = "".join(
        re.escape(member) if member else f"{re.escape(low)}-{re.escape(high)}"
        for low, high, member in parts
        if member or low <= high
    )
    if not escaped:  # only ranges like z-a, in which nothing is
        return "[^/]" if negation else r"(?!)"
    return f"(?!/)[{'^' if negation else ''}{escaped}]"
