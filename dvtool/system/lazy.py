"""Modules that are imported when something of them is first used.

A command loads the verbs that it runs and no others: importing all of them takes longer than most
commands do.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class Later(ModuleType):
    """A placeholder for the module of this name, imported when an attribute is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # tools that look at modules from outside must not load them
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def later(name: str) -> Any:
    """Return a placeholder for a module; import the module itself under TYPE_CHECKING."""
    return Later(name)


def later_in(package: str, *names: str) -> tuple[Any, ...]:
    """Return a placeholder for each of these modules of a package, in order."""
    return tuple(later(f"{package}.{name}") for name in names)
