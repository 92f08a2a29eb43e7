"""``dv`` whose second processes begin with few files: so they meet faults at every step."""

from __future__ import annotations

import runpy

from dvtool.format import manifest as formats
from dvtool.system.workers import can_fork

if __name__ == "__main__":
    formats.INLINE_ENTRIES_MAX = 2
    # Only now: they take that number from there.
    from dvtool.verbs.add import manifest, publish

    publish.LISTED_MIN_FILES = 0
    manifest.BESIDE_MIN_FILES = 1
    manifest.may_fork = can_fork
    runpy.run_module("dvtool", run_name="__main__")
