"""Where the repositories of these tests are."""

from __future__ import annotations

import compileall
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.world import INJECT

os.environ["DVTEST_PYTHON"] = sys.executable  # see inject/python


@pytest.fixture(scope="session", autouse=True)
def _injector_is_compiled() -> None:
    """Every process with fault points loads the injector, and writes no compiled files itself."""
    compileall.compile_dir(INJECT, quiet=1)


@pytest.fixture(scope="module")
def fast_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the tests of a file, which is emptied after them; see `MEMORY` of all tests."""
    folder = tmp_path_factory.mktemp("crash")
    yield folder
    shutil.rmtree(folder)
