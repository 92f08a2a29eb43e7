"""The rules of `.dvignore` files: which paths are left out, as git reads a `.gitignore`.

The rules come with a repository from anybody. So a rule is matched one component of a path at a
time, in steps that are at most the product of its length and the path's (see docs/decisions/016),
and a rule without wildcards is looked up, however many there are.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from dvtool.errors import DvError, InputError, printable
from dvtool.format.paths import joined
from dvtool.system.stat import kind_name
from dvtool.workspace.opener import NO_LINKS, Links, Opener, Place, open_in, reason

IGNORE_FILE = ".dvignore"
IGNORE_SIZE_MAX_BYTES = 1 << 20
_RARE = re.compile(r"[?\[\\]")
"""All that needs a closer look at a pattern than its stars do."""
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
"""The meaning of `[[:alpha:]]` and its like, as members of a regular expression's set."""


class Ignore:
    """The `.dvignore` rules that apply within one target, in gitignore syntax."""

    def __init__(
        self, root: str, target: str, *, is_folder: bool = True, links: Links = NO_LINKS
    ) -> None:
        self.target = target
        self._rules: dict[str, _RuleFile | None] = {}
        self._excluded = False
        self.active = False
        parts = target.split("/") if target else []
        with Opener(root, links) as opener:
            for depth in range(len(parts)):
                folder = "/".join(parts[:depth])
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self.enter(folder, opener.folder(folder))
                on_the_way = is_folder or depth < len(parts) - 1
                if self._verdict(parts[: depth + 1], is_folder=on_the_way):
                    self._excluded = True

    @property
    def excluded(self) -> bool:
        """Whether the target itself, or a folder above it, is left out."""
        return self._excluded

    def enter(self, folder: str, opened: Place) -> None:
        """Read the rules of one more folder (relative to the worktree), which is `opened`."""
        if folder in self._rules:
            return
        path = joined(folder, IGNORE_FILE)
        self._rules[folder] = None
        text = _ignore_text(path, opened)
        if text is None:
            return
        try:
            rules = _RuleFile(os.fsdecode(text).removeprefix("\ufeff").split("\n"))
        except ValueError as error:
            raise DvError(
                f"{printable(path)}: {error}", hint="the syntax is that of .gitignore"
            ) from error
        self._rules[folder] = rules
        self.active = True

    def ignores(self, inner: str, *, is_folder: bool) -> bool:
        """Whether a path within the target is left out; the deepest rules decide.

        As in git a rule is about the path itself: paths below a folder that is left out are never
        asked for.
        """
        if self._excluded:
            return True
        return self._verdict(joined(self.target, inner).split("/"), is_folder=is_folder)

    def _verdict(self, parts: Sequence[str], *, is_folder: bool) -> bool:
        for depth in range(len(parts) - 1, -1, -1):
            rules = self._rules.get("/".join(parts[:depth]))
            if rules is not None:
                verdict = rules.verdict(parts[depth:], is_folder=is_folder)
                if verdict is not None:
                    return verdict
        return False


def _ignore_text(path: str, folder: Place) -> bytes | None:
    """Return the content of a `.dvignore`, None if there is no file of this name.

    The file may come with the repository from anybody: a link to some other file is not followed.
    """
    try:
        fd = open_in(folder, IGNORE_FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {reason(error)}") from error
    try:
        file_stat = os.fstat(fd)
        if stat.S_ISDIR(file_stat.st_mode):
            return None
        if not stat.S_ISREG(file_stat.st_mode):
            raise InputError(f"{printable(path)} is {kind_name(file_stat.st_mode)}, not a file")
        with open(fd, "rb", closefd=False) as file:
            text = file.read(IGNORE_SIZE_MAX_BYTES + 1)
    finally:
        os.close(fd)
    if len(text) > IGNORE_SIZE_MAX_BYTES:
        raise InputError(f"{printable(path)} has more than {IGNORE_SIZE_MAX_BYTES:,} bytes")
    return text


class _OneOf(NamedTuple):
    """A wildcard for one character: the regular expression that matches it."""

    expression: str


_Piece: TypeAlias = Sequence[str | _OneOf]
"""The pattern between two stars, a character at a time; a str if it has no wildcard."""


class _Glob:
    """A component of a rule that has wildcards in it, cut into pieces at its stars."""

    __slots__ = ("_pattern", "_pieces", "_shortest", "_whole", "head", "tail")

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self._pieces = pieces
        self._shortest = sum(map(len, pieces))
        self.head = _text_before_wildcard(pieces[0])
        """The characters with which all names that match begin."""
        self.tail = _text_before_wildcard(pieces[-1][::-1])[::-1]
        """The characters with which all names that match end."""
        self._whole = len(pieces) == 2 and self._shortest == len(self.head) + len(self.tail)
        """Whether the component is `head*tail`, so that no regular expression is needed."""
        self._pattern: re.Pattern[str] | None = None

    def matches(self, name: str) -> bool:
        """Whether the name of a file or folder matches."""
        if len(name) < self._shortest:
            return False
        if not (name.startswith(self.head) and name.endswith(self.tail)):
            return False
        if self._whole:
            return True
        if self._pattern is None:
            self._pattern = re.compile(self._expression(), re.DOTALL)
        return self._pattern.fullmatch(name) is not None

    def _expression(self) -> str:
        """Return a regular expression that never goes back over a star, save the last one.

        A piece between two stars is looked for once, at the first place: if the rest does not
        match from there, it does not from a later one.
        """
        head, *others = [_expression_of(piece) for piece in self._pieces]
        if not others:
            return head
        between = "".join(f"(?>.*?{piece})" for piece in others[:-1])
        return f"{head}{between}.*{others[-1]}"


def _text_before_wildcard(piece: _Piece) -> str:
    if isinstance(piece, str):
        return piece
    text = []
    for token in piece:
        if not isinstance(token, str):
            break
        text.append(token)
    return "".join(text)


def _expression_of(piece: _Piece) -> str:
    return "".join(
        token.expression if isinstance(token, _OneOf) else re.escape(token) for token in piece
    )


_Component: TypeAlias = str | _Glob | None
"""A name without wildcards, one with them, or None for ``**``."""


def _component(pieces: Sequence[_Piece]) -> _Component:
    """Return the component that has these pieces; empty ones stand where stars are neighbours."""
    first = pieces[0]
    if len(pieces) == 1 and isinstance(first, str):
        return first
    if len(pieces) > 2 and not any(pieces):
        return None
    return _Glob([first, *filter(None, pieces[1:-1]), *pieces[1:][-1:]])


_Numbered: TypeAlias = tuple[int, tuple[_Component, ...]]


class _Index:
    """Rules by what the last component of a path must be, so that few are tried for each path.

    The rules are numbered from the last one, which decides first.
    """

    def __init__(self) -> None:
        self._paths: dict[str, int] = {}
        """The rules that are a path without wildcards."""
        self._names: dict[str, list[_Numbered]] = {}
        self._heads: dict[str, list[_Numbered]] = {}
        self._tails: dict[str, list[_Numbered]] = {}
        self._head_sizes: set[int] = set()
        self._tail_sizes: set[int] = set()
        self._others: list[_Numbered] = []

    def add(self, number: int, components: tuple[_Component, ...]) -> None:
        """Add a rule. Its number is above those of all rules that are here already."""
        last = components[-1]
        rules = self._others
        if isinstance(last, str):
            if all(isinstance(component, str) for component in components):
                self._paths.setdefault("/".join(map(str, components)), number)
                return
            rules = self._names.setdefault(last, [])
        elif last is not None and last.head:
            rules = self._heads.setdefault(last.head, [])
            self._head_sizes.add(len(last.head))
        elif last is not None and last.tail:
            rules = self._tails.setdefault(last.tail, [])
            self._tail_sizes.add(len(last.tail))
        rules.append((number, components))

    def first(self, parts: Sequence[str], none: int) -> int:
        """Return the lowest number of the rules that match a path; `none` if no rule does."""
        name = parts[-1]
        first = self._paths.get("/".join(parts), none) if self._paths else none
        fitting = [self._names.get(name, ())]
        fitting.extend(self._heads.get(name[:size], ()) for size in self._head_sizes)
        fitting.extend(self._tails.get(name[-size:], ()) for size in self._tail_sizes)
        for rules in (*fitting, self._others):
            for number, components in rules:
                if number >= first:
                    break
                if _matches(components, parts):
                    first = number
        return first


class _RuleFile:
    """The rules of one `.dvignore`. The last rule that matches decides."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._excludes: list[bool] = []
        self._for_all = _Index()
        self._for_folders = _Index()
        for line in dict.fromkeys(reversed(lines)):  # of equal lines only the last can decide
            rule = _parse_rule(line)
            if rule is not None:
                index = self._for_folders if rule.folders_only else self._for_all
                index.add(len(self._excludes), rule.components)
                self._excludes.append(rule.excludes)

    def verdict(self, parts: Sequence[str], *, is_folder: bool) -> bool | None:
        """Whether a path below the file's folder is left out; None if no rule speaks of it."""
        none = len(self._excludes)
        first = self._for_all.first(parts, none)
        if is_folder:
            first = min(first, self._for_folders.first(parts, none))
        return None if first == none else self._excludes[first]


class _Rule(msgspec.Struct, frozen=True):
    """One line of a `.dvignore`."""

    excludes: bool
    folders_only: bool
    components: tuple[_Component, ...]


def _matches(components: Sequence[_Component], parts: Sequence[str]) -> bool:
    """Whether the components match all parts; in steps that are at most their product.

    All ways to match are followed at once, as sets of the components that may come next.
    """
    end = len(components)
    last = components[-1]
    if end == 2 and components[0] is None and last is not None:
        return _matches_name(last, parts[-1])  # by far the most rules
    states = _skipped({0}, components)
    for part in parts:
        following = set()
        for state in states - {end}:
            component = components[state]
            if component is None:
                # At the end ** matches at least one component, elsewhere also none.
                following |= {state, end} if state == end - 1 else {state}
            elif _matches_name(component, part):
                following.add(state + 1)
        states = _skipped(following, components)
    return end in states


def _matches_name(component: str | _Glob, name: str) -> bool:
    return component == name if isinstance(component, str) else component.matches(name)


def _skipped(states: set[int], components: Sequence[_Component]) -> set[int]:
    """Add the states that are reached where ``**``, of which two are never in a row, is nothing."""
    inner = len(components) - 1
    return states | {at + 1 for at in states if at < inner and components[at] is None}


def _parse_rule(line: str) -> _Rule | None:
    """Return the rule of a line, None if it has none or one that matches nothing.

    ValueError for a backslash at its end.
    """
    text = _without_spaces(line.removesuffix("\r"))
    if not text or text.startswith("#"):
        return None
    excludes = not text.startswith("!")
    text = text.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.removesuffix("/")
    anywhere = "/" not in text
    if anywhere and text and not text.strip("*"):
        text = "*"
    components = _parse_components(text.removeprefix("/"))
    if components is None or "" in components:
        return None
    return _Rule(excludes, folders_only, (*([None] if anywhere else []), *components))


def _without_spaces(line: str) -> str:
    """Return a line without the spaces at its end; one behind a backslash counts."""
    text = line.rstrip(" ")
    escaped = len(text) < len(line) and (len(text) - len(text.rstrip("\\"))) % 2
    return text + " " if escaped else text


def _parse_components(pattern: str) -> list[_Component] | None:
    """Return the components of a pattern as git's wildmatch reads it, None if it matches nothing.

    A slash in brackets parts nothing (and, as no name has one, matches nothing).
    """
    if not _RARE.search(pattern):
        return _without_repeats(_component(name.split("*")) for name in pattern.split("/"))
    components: list[list[list[str | _OneOf]]] = [[[]]]
    at = 0
    while at < len(pattern):
        char = pattern[at]
        escaped = char == "\\"
        if escaped:
            at += 1
            if at == len(pattern):
                raise ValueError(f"{pattern!r} ends in a backslash with nothing behind it")
            char = pattern[at]
        at += 1
        if char == "/":
            components.append([[]])
        elif escaped or char not in "*?[":
            components[-1][-1].append(char)
        elif char == "*":
            components[-1].append([])
        elif char == "?":
            components[-1][-1].append(_OneOf("."))
        else:
            one_of = _parse_one_of(pattern, at)
            if one_of is None:
                return None
            expression, at = one_of
            components[-1][-1].append(_OneOf(expression))
    return _without_repeats(
        _component([_plain_if_it_is(piece) for piece in pieces]) for pieces in components
    )


def _plain_if_it_is(piece: list[str | _OneOf]) -> _Piece:
    text = _text_before_wildcard(piece)
    return text if len(text) == len(piece) else piece


def _without_repeats(components: Iterable[_Component]) -> list[_Component]:
    """Leave out each ``**`` that follows another: it says nothing more."""
    kept: list[_Component] = []
    for component in components:
        if component is not None or not kept or kept[-1] is not None:
            kept.append(component)
    return kept


def _parse_one_of(pattern: str, at: int) -> tuple[str, int] | None:
    """Return the expression for the brackets that were opened before `at`, and where they end.

    None if they end nowhere, or name a class that there is not: such a pattern matches nothing.
    """
    negated = pattern[at : at + 1] in ("!", "^")
    start = at = at + negated
    members: list[str] = []
    low = ""  # the character before, with which a range may begin
    end = -1  # of the class that begins here: where the next bracket closes
    while at < len(pattern) and (at == start or pattern[at] != "]"):
        if pattern.startswith("[:", at):
            end = end if end >= at + 2 else pattern.find("]", at + 2)
            if end > at + 2 and pattern[end - 1] == ":":
                named = _CLASSES.get(pattern[at + 2 : end - 1])
                if named is None:
                    return None
                members.append(named)
                low, at = "", end + 1
                continue
        is_range = pattern[at] == "-" and low and at + 1 < len(pattern) and pattern[at + 1] != "]"
        at += bool(is_range)
        at += pattern[at] == "\\"
        if at >= len(pattern):
            return None
        char = pattern[at]
        at += 1
        if not is_range:
            members.append(re.escape(char))
        elif low <= char:
            members.append(f"{re.escape(low)}-{re.escape(char)}")
        low = "" if is_range else char
    if at >= len(pattern):
        return None
    if not members:  # only ranges like z-a, in which nothing is
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{''.join(members)}]", at + 1
