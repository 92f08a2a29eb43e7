"""Arguments that may begin with the URL of another repository."""

from __future__ import annotations

from collections.abc import Sequence


def split_url(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the git URL that arguments begin with, None if there is none, and the rest."""
    from dvtool import Repo

    if arguments and Repo.is_url(arguments[0]):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)
