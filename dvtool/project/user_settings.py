"""A user's settings for all repositories: a file in the user's own folder of settings."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dvtool.errors import SetupError, UsageError
from dvtool.git import Git
from dvtool.project.keys import validate_key
from dvtool.project.sources import (
    OF_ONE_REPOSITORY,
    USER_FILE,
    Items,
    Source,
    user_file,
    validate_setting,
)


def user_items(git: Git, environ: Mapping[str, str]) -> Items:
    """Return what the user set for all repositories."""
    path = user_file(environ)
    return git.config.items(path) if path is not None and os.path.lexists(path) else []


def set_user_setting(git: Git, environ: Mapping[str, str], key: str, value: str | None) -> Source:
    """Set, or with None remove, a setting of the user in all repositories.

    UsageError for what is of one repository only, and for what is to be removed and not set;
    SetupError without a home folder.
    """
    name = validate_key(key)
    path = user_file(environ)
    if path is None:
        raise SetupError("there is no home folder", hint="set HOME or XDG_CONFIG_HOME")
    if name in OF_ONE_REPOSITORY:
        raise UsageError(f"{name} is of one repository, not of all")
    if value is not None:
        validate_setting(name, value, committed=False)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        git.config.set(path, name, value)
    elif not (os.path.lexists(path) and git.config.unset(path, name)):
        raise UsageError(f"{name} is not set in {USER_FILE}", hint="see: dv config")
    return USER_FILE
