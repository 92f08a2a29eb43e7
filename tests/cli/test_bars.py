"""What is shown of work while it goes on: bars on a terminal, lines elsewhere, and Ctrl-C."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest
from tqdm import tqdm

from dvtool.cli import run_command
from dvtool.cli.bars import Bars, shortened
from dvtool.cli.lines import Lines
from dvtool.cli.output import Screen
from dvtool.cli.session import Frame
from tests.cli.conftest import Work, command

MIB = 1 << 20


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvtool.cli.bars.DELAY_S", 0)


def test_bars_show_work_bytes_rate_and_time_left(at_once: None) -> None:
    screen = _Terminal()
    bars = Bars(screen)
    bars.start("uploading 2 packs", total_bytes=64 * MIB)
    for _ in range(2):
        time.sleep(0.15)  # tqdm draws at most ten times a second
        bars.advance(16 * MIB)
    text = screen.getvalue()
    assert "uploading 2 packs:  50%" in text or "uploading 2 packs  50%" in text
    assert "32.0 MiB of 64.0 MiB" in text
    assert "/s, 00:0" in text
    assert "left" in text
    bars.finish()
    assert screen.getvalue().endswith("\r")  # the line was wiped


def test_bars_are_shown_on_a_terminal_that_says_no_width(
    at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    try:
        with open(theirs, "w", closefd=False) as stream:
            monkeypatch.setattr(sys, "stderr", stream)  # of this one tqdm asks for the height
            bars = Bars(stream)
            bars.start("uploading 2 packs", total_bytes=64 * MIB)
            time.sleep(0.15)
            bars.advance(16 * MIB)
            stream.flush()
            assert b"16.0 MiB of 64.0 MiB" in os.read(ours, 4096)
            bars.finish()
    finally:
        os.close(theirs)
        os.close(ours)


def test_bars_start_no_thread_and_show_no_empty_work(at_once: None) -> None:
    before = threading.active_count()
    screen = _Terminal()
    bars = Bars(screen)
    bars.begin()
    bars.start("writing", total_bytes=0)
    bars.advance(0)
    bars.finish()
    assert "writing" not in screen.getvalue()
    bars.start("hashing", total_bytes=None)
    bars.advance(1)
    assert threading.active_count() == before
    bars.start("again", total_bytes=10)
    bars.end()
    bars.finish()
    assert tqdm.monitor_interval == 0
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_is_waited_for_is_shown_while_nothing_is_heard(at_once: None) -> None:
    screen = _Terminal()
    bars = Bars(screen, waiting="dv pull")
    bars.begin()
    try:
        _until(lambda: "dv pull … 0 s" in screen.getvalue())
        bars.start("asking s3://bucket")
        _until(lambda: "asking s3://bucket … 0 s" in screen.getvalue())
        bars.note("Receiving objects: 45%")
        _until(lambda: "Receiving objects: 45% … 0 s" in screen.getvalue())
        out = io.StringIO()
        Screen(environ={}, out=out, err=out).line("a result")
        assert screen.getvalue().endswith("\r\x1b[K") or screen.getvalue().endswith("\r")
    finally:
        bars.end()


def test_the_delay_counts_from_the_start_of_the_command_not_of_a_phase() -> None:
    screen = _Terminal()
    bars = Bars(screen, began_s=time.monotonic() - 10)
    bars.begin()
    try:
        bars.start("writing", total_bytes=64 * MIB)
        _until(lambda: "writing" in screen.getvalue())
    finally:
        bars.end()
    young = _Terminal()
    bars = Bars(young, began_s=time.monotonic() + 3600)
    bars.start("writing", total_bytes=64 * MIB)
    bars.advance(MIB)
    assert "writing" not in young.getvalue()
    bars.finish()


def test_a_narrow_terminal_has_the_whole_name_rather_than_a_bar(
    at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns, begins in (("80", "adding 100,004 files of data   0%, "), ("120", "0% |")):
        monkeypatch.setenv("COLUMNS", columns)
        screen = _Terminal()
        screen.fileno = lambda: -1  # type: ignore[method-assign]
        bars = Bars(screen)
        bars.start("adding 100,004 files of data", total_bytes=1900 * MIB)
        _until(lambda: bars.advance(1 << 16) or screen.getvalue())  # noqa: B023
        assert begins in screen.getvalue()
        assert all(len(line) <= int(columns) for line in screen.getvalue().split("\r"))
        bars.finish()


def _until(holds: object) -> None:
    assert callable(holds)
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_long_name_leaves_room_for_the_bar() -> None:
    assert shortened("short", 12) == "short"
    assert shortened("adding 12 files of a/very/long/name", 16) == "addin…/long/name"


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    lines = Lines(out, waiting="dv add")
    assert lines.line(12) == "dv add: 12 s"
    lines.start("adding 3 files of data", total_bytes=4 * MIB)
    lines.advance(MIB)
    assert lines.line(2) == "adding 3 files of data: 25%, 1.0 MiB of 4.0 MiB, 512.0 KiB/s"
    lines.start("asking esc\x1b[31m")
    assert lines.line(3) == "asking esc\\x1b[31m: 3 s"
    monkeypatch.setattr("dvtool.cli.lines.LINE_EVERY_S", 0.2)
    lines.begin()
    try:
        _until(lambda: out.getvalue().count("\n") >= 2)
    finally:
        lines.end()


def _on_a_terminal(
    work: Work, *args: str, term: str = "xterm", interrupt_at: bytes | None = None
) -> tuple[int, bytes]:
    """Run `dv` with all output on a terminal of 80 columns; return how it ended, what came there.

    With `interrupt_at`, Ctrl-C is typed once this was shown.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {**os.environ, "TERM": term}
    env.pop("CI", None)
    done = subprocess.Popen(
        command(*args),
        cwd=work.root,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
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
        if interrupt_at is not None and interrupt_at in out:
            os.write(ours, b"\x03")
            interrupt_at = None
    os.close(ours)
    return done.wait(timeout=60), out


def _columns(shown: bytes) -> int:
    """Return the longest line that was shown."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown.decode())
    return max(len(line) for line in re.split(r"[\r\n]", text))


def test_bars_on_a_real_terminal_name_the_target_and_fit(work: Work) -> None:
    name = "a/long/name/of/a/folder"
    work.write(f"{name}/large.bin", os.urandom(MIB) * 64)
    code, shown = _on_a_terminal(work, "--progress", "always", "add", name)
    assert code == 0
    # A fast machine is done before there is anything to show.
    assert b"%|" not in shown or b"adding" in shown
    assert _columns(shown) <= 80
    assert shown.index(b"1 file, 64.0 MiB") < shown.index(b"next: git commit")
    work.dv("rm", name)
    for args, term in (
        (("add", "-q", name), "xterm"),
        (("add", "--progress", "never", name), "xterm"),
        (("add", name), "dumb"),
    ):
        (work.root / ".git/dv/statcache.db").unlink()
        assert b"of 64.0 MiB" not in _on_a_terminal(work, *args, term=term)[1]


def test_a_clone_that_waits_says_for_what(pushed: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = pushed.root.parent / "slow"
    slow.write_text('#!/bin/sh\nsleep 1.5\nshift\nexec sh -c "$*"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(slow))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    place = pushed.root.parent
    code, shown = _on_a_terminal(
        pushed, "-C", str(place), "clone", f"ssh://host{pushed.root}", "copy", "--remote", "remote"
    )
    assert code == 0, shown
    assert b"cloning ssh://ho" in shown
    assert len(re.findall("cloning [^\r]* … [0-9]+ s", shown.decode())) > 2
    assert (place / "copy/data/images/a.txt").exists()
    assert _columns(shown[: shown.index(b"cloned into")]) <= 80


@pytest.mark.parametrize("verb", ["add", "push", "pull"])
def test_ctrl_c_ends_work_and_the_next_command_finishes_it(work: Work, verb: str) -> None:
    work.write("data/large.bin", os.urandom(96 * MIB))
    for number in range(50):
        work.write(f"data/{number}.bin", os.urandom(4096))
    at = work
    if verb != "add":
        work.process("add", "data")
        work.commit()
    if verb == "pull":
        work.process("push")
        at = work.clone()
    code, shown = _on_a_terminal(at, verb, *(["data"] if verb == "add" else []), interrupt_at=b"%|")
    if code:  # a fast machine may be done before the keys arrive
        assert code == 130
        assert b"error: interrupted" in shown
        assert b"Traceback" not in shown
    at.process(verb, *(["data"] if verb == "add" else []))
    assert at.process("status", "--json").json["targets"][0]["modified"] == []


def test_no_bars_when_piped(work: Work) -> None:
    work.write("data/large.bin", bytes(16 * MIB))
    said = work.process("add", "data").err.splitlines()
    # On a machine that is slow enough a line every ten seconds comes before.
    assert [line for line in said if not line.startswith(("adding", "dv add"))] == [
        "next: git commit"
    ]
    work.dv("rm", "data")
    (work.root / ".git/dv/statcache.db").unlink()
    assert "next: git commit" in work.process("--progress", "always", "add", "data").err


@pytest.mark.parametrize("words", ["status", "runs", "runs list", "hooks", "remote", "hooks run"])
def test_progress_has_the_name_of_the_command(
    data: Work, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a group without a command, too: dv runs has the terminal as dv run has it."""
    shown: list[str] = []

    def note(self: Frame) -> None:
        shown.append(self.command_path)

    monkeypatch.setattr(Frame, "_progress", note)
    arguments = [*words.split(), *(["post-commit"] if words == "hooks run" else [])]
    monkeypatch.chdir(data.root)
    run_command(arguments)
    assert shown == [f"dv {words}"]
