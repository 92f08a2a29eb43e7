"""Packages of dvtool's extras, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from dvtool.errors import SetupError


def import_extra(module: str, *, extra: str, user: str) -> Any:
    """Import a module of a package that an extra of dvtool brings, and return it.

    `user` names the thing that needs it, in the plural: `pictures`. SetupError if the package is
    not installed; it names the extra. Without types, since users need not have the package.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # a package of the extra is there and is broken
        raise SetupError(
            f"{user} need {package}, which is not installed",
            hint=f"install dvtool with its extra {extra}: see docs/install.md",
        ) from error
