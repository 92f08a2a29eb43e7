"""Running git: what is in its environment, and what happens when it is missing or cut short."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[3])


@pytest.mark.parametrize(
    "call",
    ["Git.clone('a', None, cwd='.')", "Git.discover('.')._run_long('ls-remote', '--', 'origin')"],
)
def test_an_interrupt_of_this_process_alone_ends_git(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Ctrl-C at a terminal goes to git as well; a signal by another program does not."""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n"
        f'case "$1" in clone|ls-remote) ;; *) exec {shutil.which("git")} "$@";; esac\n'
        f"trap 'echo ended > {tmp_path}/ended; exit 1' TERM\n"
        f"touch {tmp_path}/started\n"
        "for n in $(seq 600); do sleep 0.05; done\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", ROOT)
    code = (
        f"from dvtool.git import Git\ntry: {call}\nexcept KeyboardInterrupt: print('interrupted')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=top, stdout=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "interrupted\n"
    assert (tmp_path / "ended").exists()
