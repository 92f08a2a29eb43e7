from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import termios
import threading
import time

import pytest
from tqdm import tqdm

from dvtool.cli.bars import LARGE_MIN_BYTES, Bars
from tests.cli.conftest import Work, command


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_show_bytes_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvtool.cli.bars.DELAY_S", 0)
    screen = _Terminal()
    bars = Bars(screen)
    bars.start("uploading", total_bytes=LARGE_MIN_BYTES)
    for _ in range(2):
        time.sleep(0.15)  # tqdm draws at most ten times a second
        bars.advance(LARGE_MIN_BYTES // 4)
    text = screen.getvalue()
    assert "uploading  50%" in text
    assert "32.0 MiB of 64.0 MiB" in text
    assert "/s, 00:0" in text
    assert "left" in text
    bars.finish()
    assert screen.getvalue().endswith("\r")  # the line was wiped


def test_bars_start_no_thread_and_stand_no_empty_work() -> None:
    before = threading.active_count()
    screen = _Terminal()
    bars = Bars(screen)
    bars.start("writing", total_bytes=0)
    bars.advance(0)
    bars.finish()
    assert screen.getvalue() == ""
    bars.start("hashing", total_bytes=None)
    bars.advance(1)
    assert threading.active_count() == before
    bars.start("again", total_bytes=10)
    bars.finish()
    bars.finish()
    assert tqdm.monitor_interval == 0


def _on_a_terminal(work: Work, *args: str, term: str = "xterm") -> bytes:
    """Run `dv` with standard error on a terminal of 80 columns; return what came there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    done = subprocess.Popen(
        command(*args),
        cwd=work.root,
        env={**os.environ, "TERM": term},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    out = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # EIO: the other end is closed
            break
        if not data:
            break
        out += data
    os.close(ours)
    assert done.wait(timeout=60) == 0
    return out


def test_bars_on_a_real_terminal_only(work: Work) -> None:
    work.write("data/large.bin", os.urandom(1 << 20) * (LARGE_MIN_BYTES >> 20))
    shown = _on_a_terminal(work, "add", "data")
    assert b"adding" in shown
    assert b"of 64.0 MiB" in shown
    assert max(len(line.decode()) for line in shown.replace(b"\n", b"\r").split(b"\r")) <= 90
    work.dv("rm", "data")
    for args, term in ((("add", "-q", "data"), "xterm"), (("add", "data"), "dumb")):
        (work.root / ".git/dv/statcache.db").unlink()
        assert b"of 64.0 MiB" not in _on_a_terminal(work, *args, term=term)


def test_no_bars_when_piped(work: Work) -> None:
    work.write("data/large.bin", bytes(LARGE_MIN_BYTES))
    assert work.process("add", "data").err == "next: git commit\n"
