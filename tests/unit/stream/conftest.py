"""One repository with samples of each kind, made once."""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
from pathlib import Path

import pytest

from tests.scenario import Clone

FILES = 60


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository whose commit has images, pairs, tables and tar files as targets."""
    pytest.importorskip("pyarrow")
    clone = Clone.new(tmp_path_factory.mktemp("stream") / "repo")
    with clone.repo() as repo:
        repo.config.init()
    draw = random.Random(5)
    for number in range(FILES):
        clone.write(f"images/{number % 4}/{number:04}.bin", draw.randbytes(draw.randrange(1, 900)))
    for number in range(7):
        clone.write(f"pairs/{number:03}.jpg", draw.randbytes(50))
        clone.write(f"pairs/{number:03}.seg.png", draw.randbytes(20))
        clone.write(f"pairs/{number:03}.json", json.dumps({"label": number}).encode())
    write_tables(clone.path / "tables")
    with tarfile.open(clone.path / "shard.tar", "w") as tar:
        for number in range(9):
            for extension in ("jpg", "cls"):
                content = f"{number} {extension}".encode()
                member = tarfile.TarInfo(f"s/{number:03}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    clone.add("images", "pairs", "tables", "shard.tar")
    clone.git("add", "--all")
    clone.commit("samples")
    return clone


def write_tables(folder: Path) -> None:
    """Write the same kind of rows as Parquet, JSON lines and CSV."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    numbers = list(range(25))
    pq.write_table(
        pa.table({"n": numbers, "name": [f"p{n}" for n in numbers]}),
        folder / "a.parquet",
        row_group_size=10,
    )
    lines = [json.dumps({"n": n, "name": f"ä{n}"}, ensure_ascii=False) for n in numbers]
    (folder / "b.jsonl").write_text("\n".join([*lines[:5], "", *lines[5:]]), encoding="utf-8")
    with (folder / "c.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["n", "name"])
        writer.writerows([n, f'line\nbreak, and "quote" {n}'] for n in numbers)
