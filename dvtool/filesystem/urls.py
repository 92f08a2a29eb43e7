"""URLs of data: ``dv://[REPO:][REV@]PATH``.

The first ``:`` ends REPO, except one that is part of it: of a scheme (``https://host:443/x.git:``),
or of git's short form (``git@host:team/x.git:``), or of the name of a folder that exists, where
what is before it is none (``/data/a:b:``). The first ``@`` after that ends REV. A path that
has ``:`` is written with an empty REPO before it (``dv://:a:b``), one that has ``@`` with an empty
REV (``dv://@a@b``). All other repositories and revisions are given as `repo=` and `rev=`.
"""

from __future__ import annotations

import os
import re
from itertools import accumulate
from typing import NamedTuple

SCHEME = "dv://"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*/[^:]*:|file:///[^:]*:")
_SHORT = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:[^:]+:")


class UrlPart(str):
    """A repository or revision that was said by a URL, and not by an option."""

    __slots__ = ()


class DataUrl(NamedTuple):
    """A URL in its parts; empty where it does not say."""

    repo: str
    rev: str
    path: str


def split_url(url: str) -> DataUrl:
    """Return the parts of a URL of data; without the scheme, all of it is the path."""
    if not url.startswith(SCHEME):
        return DataUrl("", "", url.strip("/"))
    rest = url[len(SCHEME) :]
    known = _URL.match(rest) or _SHORT.match(rest)
    if known:
        repo, rest = rest[: known.end() - 1], rest[known.end() :]
    else:
        repo = _folder_before(rest)
        rest = rest[len(repo) :].removeprefix(":")
    rev, at, path = rest.partition("@")
    return DataUrl(repo, rev, path.strip("/")) if at else DataUrl(repo, "", rest.strip("/"))


def _folder_before(rest: str) -> str:
    """Return what is before the first ``:`` behind a folder that exists, else before the first."""
    first, colon, _ = rest.partition(":")
    if not colon or not first or os.path.isdir(first):
        return first if colon else ""
    *names, _ = rest.split(":")
    longer = accumulate(names, "{}:{}".format)
    return next((folder for folder in longer if os.path.isdir(folder)), first)


def join_url(repo: str, rev: str, path: str) -> str:
    """Return the URL that `split_url` takes apart to the same parts."""
    before = f"{repo}:" if repo or ":" in rev + path else ""
    return f"{SCHEME}{before}{rev}@{path}" if rev or "@" in path else f"{SCHEME}{before}{path}"
