"""What a path or glob on the command line means: which targets, and what within them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dvtool.manifest import SELF

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Selection:
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
            # The part before the first wildcard bounds what can match from both sides.
            prefix = pattern[: glob.start()] if glob else pattern
            if (end is None or prefix < end) and prefix + "\U0010ffff" >= first:
                return True
        return False


def select(targets: Sequence[str], paths: Iterable[str]) -> tuple[list[Selection], list[str]]:
    """Return the selections that `paths` make among `targets`, and the paths that made none."""
    patterns: dict[str, list[str]] = {}
    whole: set[str] = set()
    unmatched = []
    for path in paths:
        hit = False
        for target in targets:
            inner = _within(target, path)
            if inner is None:
                continue
            hit = True
            patterns.setdefault(target, []).append(inner)
            if inner in ("", SELF):
                whole.add(target)
        if not hit:
            unmatched.append(path)
    chosen = [
        Selection(target, () if target in whole else tuple(dict.fromkeys(inner)))
        for target, inner in sorted(patterns.items())
    ]
    return chosen, unmatched


def _within(target: str, path: str) -> str | None:
    """Return what `path` means inside `target`: "" for all of it, None for nothing."""
    if path in ("", ".") or path == target or target.startswith(path + "/"):
        return ""
    if path.startswith(target + "/"):
        return path[len(target) + 1 :]
    if not _GLOB.search(path):
        return None
    if _matches_glob(path, target):
        return ""
    # A glob may reach into a target: data/*/cats/*.jpg. Its first components name the target.
    depth = target.count("/") + 1
    head = path.split("/")
    if len(head) > depth and _matches_glob("/".join(head[:depth]), target):
        return "/".join(head[depth:])
    if head[0] == "**":
        return path
    return None


def _matches_glob(pattern: str, path: str) -> bool:
    if not _GLOB.search(pattern):
        return False
    expression = _glob_expression(pattern)
    # As with a plain path, a glob that names a folder selects what is below it.
    return expression.match(path) is not None


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
        elif (end := pattern.find("]", at + 2)) > 0 and pattern[at] == "[":
            inner = pattern[at + 1 : end].replace("\\", "\\\\")
            out.append("[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]")
            at = end + 1
        else:
            out.append(re.escape(pattern[at]))
            at += 1
    return re.compile("".join(out) + r"(?:/.*)?\Z", re.DOTALL)
