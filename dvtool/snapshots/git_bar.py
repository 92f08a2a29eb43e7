"""A progress bar for git's work on a clone, on a terminal or in a notebook."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from dvtool.git.process import ShowProgress


@contextlib.contextmanager
def git_bar(what: str) -> Iterator[ShowProgress | None]:
    """Yield a function that moves a bar, which comes with the first news; None if nobody looks."""
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield None
        return
    from tqdm.auto import tqdm

    bars: dict[str, Any] = {}

    def show(stage: str, done: int, whole: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(desc=f"{what}: {stage}", total=whole or None, leave=False)
        bars[stage].n = done
        bars[stage].refresh()

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
