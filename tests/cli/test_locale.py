"""Names of files in a locale that is not UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import Work

PLAIN_C = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "LANG": "C"}


@pytest.fixture(autouse=True)
def _locale_matters() -> None:
    script = "import sys; sys.exit(sys.getfilesystemencoding() == 'utf-8')"
    if subprocess.run([sys.executable, "-c", script], env={**os.environ, **PLAIN_C}).returncode:
        pytest.skip("Python reads names as UTF-8 whatever the locale says")


def test_a_manifest_is_the_same_in_every_locale(work: Work) -> None:
    for name in ("café", "日本", "plain"):
        work.write(f"data/{name}", name)
    work.write("other/x", "x")
    work.process("add", "data", env=PLAIN_C)
    found = work.read("data.dv.json")
    work.dv("add", "data")
    assert work.read("data.dv.json") == found
    assert "café".encode() in found
    work.dv("rm", "--data", "data/日本")
    (work.root / "data/café").unlink()
    work.process("checkout", env=PLAIN_C)
    assert work.read("data/café") == "café".encode()


def test_the_library_refuses_what_would_name_files_otherwise(work: Work) -> None:
    script = "from dvtool.repo import Repo; Repo.open('.')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=work.root,
        env={**os.environ, **PLAIN_C},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "SetupError" in done.stderr
    assert "reads names of files as" in done.stderr
