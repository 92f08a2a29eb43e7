"""URLs of data: ``dv://[REPO:][REV@]PATH``.

The first ``:`` ends REPO, except one that is part of it: of a scheme (``https://host:443/x.git:``),
or of git's short form (``git@host:team/x.git:``). The first ``@`` after that ends REV. A path that
has ``:`` is written with an empty REPO before it (``dv://:a:b``), one that has ``@`` with an empty
REV (``dv://@a@b``). All other repositories and revisions are given as `repo=` and `rev=`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SCHEME = "dv://"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*/[^:]*:|file:///[^:]*:")
_SHORT = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:[^:]+:")


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
        repo, colon, after = rest.partition(":")
        repo, rest = (repo, after) if colon else ("", rest)
    rev, at, path = rest.partition("@")
    return DataUrl(repo, rev, path.strip("/")) if at else DataUrl(repo, "", rest.strip("/"))


def join_url(repo: str, rev: str, path: str) -> str:
    """Return the URL that `split_url` takes apart to the same parts."""
    before = f"{repo}:" if repo or ":" in rev + path else ""
    return f"{SCHEME}{before}{rev}@{path}" if rev or "@" in path else f"{SCHEME}{before}{path}"
