from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import Work


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(bare: Work, shell: str) -> None:
    assert "_DV_COMPLETE" in bare.dv("completion", shell).out


def test_completion_of_an_unknown_shell(bare: Work) -> None:
    assert "hint: run: dv completion --help" in bare.dv("completion", "csh", code=2).err


def _complete(words: str, number: int) -> list[str]:
    env = {
        **os.environ,
        "_DV_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(number),
    }
    done = subprocess.run(
        [sys.executable, "-m", "dvtool"], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_completion_completes() -> None:
    assert _complete("dv pu", 1) == ["plain,push", "plain,pull"]
    assert "plain,--quiet" in _complete("dv --", 1)
    assert "plain,--no-stage" in _complete("dv add --", 2)
    assert _complete("dv remote a", 2) == ["plain,add"]
    assert [line.partition(",")[0] for line in _complete("dv add da", 2)] == ["file"]
