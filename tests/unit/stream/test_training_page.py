"""The blocks of docs/training.md run, one after the other, in a repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.scenario import Clone

PAGE = Path(__file__).parents[3] / "docs" / "training.md"


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_the_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    clone = Clone.new(tmp_path / "repo")
    with clone.repo() as repo:
        repo.config.init()
    for number in range(12):
        clone.write(f"data/images/{number}.png", b"image %d" % number)
    clone.add("data/images")
    clone.git("add", "--all")
    clone.commit("images")
    monkeypatch.chdir(clone.path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert capsys.readouterr().out.count(".png 7") == 10
    assert names["state"]["place"] == 0 and names["state"]["epoch"] == 1
