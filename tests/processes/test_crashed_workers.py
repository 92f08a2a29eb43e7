"""A run of tests whose worker crashed says where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.site.blocks import PROJECT

CRASHING = """\
import os
import tempfile
import threading

def in_a_thread():
    os.abort()

def test_that_is_well():
    pass

def test_that_crashes():
    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
"""


def test_the_stack_of_a_worker_that_crashed_is_shown_last(tmp_path: Path) -> None:
    (tmp_path / "test_crashing.py").write_text(CRASHING)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n1", "-p", "tests.crashed_workers", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(dumps)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    shown = done.stdout.partition("gw0 crashed")[2]
    assert "Fatal Python error: Aborted" in shown and "in in_a_thread" in shown
    assert "Extension modules" not in shown
    assert not list(dumps.glob("dv-crashes-*"))
