"""The environment of processes that a library begins for a cluster of this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

FOR_CLUSTERS = {
    "PYTHONSAFEPATH": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).*",
}
"""No Python that a cluster begins takes modules from the current folder; Ray tells nobody that it
is used, and prints nothing where the command prints its result."""


@contextlib.contextmanager
def variables_set(values: dict[str, str]) -> Iterator[None]:
    """Give environment variables to the processes that are begun meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text
