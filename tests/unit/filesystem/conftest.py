"""One commit with files of each kind, and the scenarios of fsspec's own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenario import Clone

fsspec_tests = pytest.importorskip("fsspec.tests.abstract")
TOP = "data/abstract"


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository whose HEAD has the data."""
    clone = Clone.new(tmp_path_factory.mktemp("filesystem") / "repo")
    with clone.repo() as repo:
        repo.config.init()
    clone.write("data/a.txt", "hello ä\nworld\n".encode())
    clone.write("data/sub/b@c:d.txt", b"odd")
    clone.write("data/sub/z.bin", bytes(range(256)) * 40)
    clone.link("data/link", "a.txt")
    clone.link("data/dead", "nowhere")
    write_tables(clone.path / "data")
    write_scenarios(clone.path / TOP)
    clone.add("data")
    clone.git("add", "--all")
    clone.commit("data")
    return clone


def write_tables(folder: Path) -> None:
    import h5py
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zarr

    (folder / "t.csv").write_text("n,name\n" + "".join(f"{n},x{n}\n" for n in range(100)))
    rng = np.random.default_rng(0)
    wide = pa.table({f"c{column}": rng.random(60_000) for column in range(8)})
    pq.write_table(wide, folder / "wide.parquet", compression="none", use_dictionary=False)
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = np.arange(100)
    array = zarr.open_array(
        folder / "z.zarr", mode="w", shape=(20, 20), chunks=(10, 10), dtype="f4"
    )
    array[:] = 1


def write_scenarios(top: Path) -> None:
    """Write what the fixtures of fsspec's tests make on filesystems that can be written."""
    from fsspec.implementations.local import LocalFileSystem

    made = fsspec_tests.BaseAbstractFixtures()
    top.mkdir(parents=True)
    local = LocalFileSystem(auto_mkdir=True)
    for name in SCENARIOS:
        (top / name).mkdir()
        getattr(made, f"_{name}")(local, lambda *parts: "/".join(parts), str(top / name))


SCENARIOS = (
    *("bulk_operations_scenario_0", "glob_edge_cases_files"),
    *("dir_and_file_with_same_name_prefix", "10_files_with_hashed_names"),
)
