"""The blocks of docs/python.md run, one after the other, in a repository."""

from __future__ import annotations

import concurrent.futures
import re
from pathlib import Path
from typing import Any

import pytest

from tests.scenario import Clone

PAGE = Path(__file__).parents[3] / "docs" / "python.md"
SOMEBODYS = "https://example.org/team/vision.git"


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = Clone.new(tmp_path / "vision")
    with clone.repo() as repo:
        repo.config.init()
    clone.write("data/labels.csv", b"image,label\n0,cat\n")
    for number in range(3):
        clone.write(f"data/images/{number}.png", b"image %d" % number)
    clone.add("data")
    clone.commit("data")
    clone.git("tag", "v1.0")
    clone.git("tag", "v2.1")
    monkeypatch.chdir(clone.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A function of a page cannot be pickled for a process that began anew.
    monkeypatch.setattr(
        concurrent.futures, "ProcessPoolExecutor", concurrent.futures.ThreadPoolExecutor
    )
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 4
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        if SOMEBODYS in block:
            # Its content is in no remote, so opening it is all that works.
            block = block.replace(SOMEBODYS, f"file://{clone.path}")
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["header"] == "image,label\n"
    assert names["picture"] == b"image 2"
    assert (names["head"], names["tail"]) == (b"imag", b"ge 2")
    assert names["sizes"] == [7, 7, 7]
    names["labels"].close()
