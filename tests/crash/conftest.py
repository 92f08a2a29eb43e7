"""Where the repositories of these tests lie."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["DVTEST_PYTHON"] = sys.executable  # see inject/python
MEMORY = Path("/dev/shm")
SPACE_MIN_BYTES = 2 << 30


@pytest.fixture(scope="module")
def fast_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of fsyncs would take hours on a disk."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < SPACE_MIN_BYTES:
        yield tmp_path_factory.mktemp("crash")
        return
    folder = Path(tempfile.mkdtemp(prefix=f"dv-crash-{os.getpid()}-", dir=MEMORY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
