"""Arguments that may begin with the URL of another repository."""

from __future__ import annotations

import os
from collections.abc import Sequence


def split_url(
    arguments: Sequence[str], *, folder: str | None = None
) -> tuple[str | None, list[str]]:
    """Return the git URL that arguments begin with, None if there is none, and the rest.

    ``HOST:PATH`` is no URL if HOST is a revision of the repository around `folder`.
    """
    from dvtool import Repo

    is_url = bool(arguments) and Repo.is_url(arguments[0])
    if is_url and not (folder is not None and _names_revision(arguments[0], folder)):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def _names_revision(argument: str, folder: str) -> bool:
    from dvtool import DvError, Repo

    if "://" in argument or "@" in argument:
        return False
    try:
        with Repo.open(folder, environ=os.environ) as repo:
            return repo.arguments.split_revision(argument)[0] is not None
    except DvError:  # no repository here
        return False
