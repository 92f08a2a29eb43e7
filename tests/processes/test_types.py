"""The types of the library, as a type checker sees them in a program of a user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.layers import PROJECT

USER = """
from pathlib import Path
import dvtool

def newest(folder: Path) -> str | None:
    try:
        with dvtool.Repo.open(folder) as repo:
            added: list[dvtool.Added] = repo.add(folder / "data")
            return added[0].target if added else None
    except dvtool.SetupError as error:
        return error.hint
"""


def test_a_type_checker_takes_a_users_program(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(USER.replace("added[0].target", "added[0].size"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file="),
            *("--cache-dir", os.devnull),  # that of scripts/check is of other options
            *(str(tmp_path / name) for name in ("right.py", "wrong.py")),
        ],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.returncode == 1, done.stderr
    assert "wrong.py:9: error" in done.stdout, done.stdout
    assert "Found 1 error in 1 file (checked 2 source files)" in done.stdout, done.stdout
