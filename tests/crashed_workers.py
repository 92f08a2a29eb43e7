"""Says at the end of a run where a worker crashed: else its dump is lost in the output."""

from __future__ import annotations

import faulthandler
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

_FOLDER = pytest.StashKey[Path]()
_DUMP = pytest.StashKey[IO[str]]()
LINES_MAX = 80
"""Of a dump; the list of extension modules behind the stacks is left out."""


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker, before it begins, where to dump the stacks of a crash."""
    stash = node.config.stash
    if _FOLDER not in stash:
        stash[_FOLDER] = Path(tempfile.mkdtemp(prefix="dv-crashes-"))
    node.workerinput["crash_dump"] = str(stash[_FOLDER] / node.gateway.id)


@pytest.hookimpl(trylast=True)  # after pytest, which dumps to standard error
def pytest_configure(config: pytest.Config) -> None:
    path = getattr(config, "workerinput", {}).get("crash_dump")
    if path is not None:
        config.stash[_DUMP] = open(path, "w", encoding="utf-8")
        faulthandler.enable(config.stash[_DUMP])


def pytest_unconfigure(config: pytest.Config) -> None:
    if _DUMP in config.stash:
        faulthandler.disable()
        config.stash[_DUMP].close()
    if _FOLDER in config.stash:
        for path in config.stash[_FOLDER].iterdir():
            path.unlink()
        config.stash[_FOLDER].rmdir()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name, lines in _dumps(config):
        terminalreporter.section(f"{name} crashed")
        for line in lines[:LINES_MAX]:
            terminalreporter.line(line)


def _dumps(config: pytest.Config) -> Iterator[tuple[str, list[str]]]:
    if _FOLDER in config.stash:
        for path in sorted(config.stash[_FOLDER].iterdir()):
            text = path.read_text("utf-8", "replace")
            lines = [line for line in text.splitlines() if not line.startswith("Extension modules")]
            if lines:
                yield path.name, lines
