"""fsspec's own tests of filesystems, as far as they can be read-only.

Left out is what writes: the suites for copy, mv, put and pipe, and of `open` the test of exclusive
creation. `get` runs from a commit that has the files that its fixtures would make; only its test of
a folder that it makes itself is left out, and stands in test_dv.py with a folder of the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scenario import Clone
from tests.unit.filesystem.conftest import TOP

fsspec_tests = pytest.importorskip("fsspec.tests.abstract")
adapters = pytest.importorskip("dvtool.filesystem.dv")


def scenario(name: str) -> property:
    @pytest.fixture
    def source(self: object) -> str:
        return f"{TOP}/{name}/source"

    return source  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def of_head(stored: Clone) -> Iterator[object]:
    filesystem = adapters.DvFileSystem(repo=str(stored.path))
    yield filesystem
    filesystem.snapshot.close()


class TestGet(fsspec_tests.AbstractFixtures, fsspec_tests.AbstractGetTests):  # type: ignore[misc, name-defined]
    fs_bulk_operations_scenario_0 = scenario("bulk_operations_scenario_0")
    fs_glob_edge_cases_files = scenario("glob_edge_cases_files")
    fs_dir_and_file_with_same_name_prefix = scenario("dir_and_file_with_same_name_prefix")
    fs_10_files_with_hashed_names = scenario("10_files_with_hashed_names")

    test_get_directory_recursive = None

    @pytest.fixture
    def fs(self, of_head: object) -> object:
        return of_head

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def fs_path(self) -> str:
        return TOP

    @pytest.fixture
    def local_path(self, tmp_path: Path) -> str:
        return str(tmp_path)
