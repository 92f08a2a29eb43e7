"""The blocks of docs/filesystem.md run, one after the other, in a repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.scenario import Clone

pytest.importorskip("fsspec")
PAGE = Path(__file__).parents[3] / "docs" / "filesystem.md"


@pytest.fixture
def repository(tmp_path: Path) -> Clone:
    import h5py
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zarr

    clone = Clone.new(tmp_path / "repo")
    with clone.repo() as repo:
        repo.config.init()
    data = clone.path / "data"
    for number in range(3):
        clone.write(f"data/images/{number}.png", b"image %d" % number)
    pq.write_table(pa.table({"n": [1, 2, 3]}), data / "table.parquet")
    zarr.open_array(data / "array.zarr", mode="w", shape=(2, 2), dtype="f4")[:] = 2
    with h5py.File(data / "numbers.h5", "w") as file:
        file["x"] = np.arange(5)
    for label in ("cat", "dog"):
        clone.write("data/labels.csv", f"image,label\n0,{label}\n".encode())
        clone.add("data")
        clone.git("add", "--all")
        clone.commit(label)
    return clone


def test_the_blocks_run(repository: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert (names["before"].label[0], names["labels"].label[0]) == ("cat", "dog")
    assert names["info"]["size"] == 18 and names["first"] == b"imag"
    assert (repository.path / "copy/2.png").read_bytes() == b"image 2"
    assert names["table"].num_rows == len(names["frame"]) == 3 and names["total"] == [(6,)]
    assert names["same"].equals(names["lazy"].collect())
    assert names["array"][:].sum() == 8 and list(names["few"]) == [0, 1, 2]
    assert sorted(names["names"]) == ["0.png", "1.png", "2.png"]
