"""Measures what a user waits for: gaps in what is shown, and how soon Ctrl-C is answered.

Data is added, pushed and pulled through a pseudo-terminal, whole once and interrupted once.
Usage: python scripts/terminal.py [--bytes 2e9] [--files 100000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import random
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LARGE_FILES = 4
LIMIT_S = 0.5
"""What is promised: something moves at least as often, and Ctrl-C is answered as soon."""


class Seen(NamedTuple):
    """How one command went."""

    seconds: float
    longest_gap_s: float
    """The longest time in which nothing was shown, from the start on."""
    gap_after: str
    """When that began, and the last text that was shown before."""
    answered_s: float | None
    """How long after Ctrl-C the command had ended; None if it was not interrupted."""
    code: int


def watch(arguments: Sequence[str], folder: Path, *, interrupt_after_s: float | None) -> Seen:
    """Run `dv` on a terminal of its own, and type Ctrl-C after some time."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {name: value for name, value in os.environ.items() if name != "CI"} | {"TERM": "xterm"}
    started = last = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "dvtool", *arguments],
        cwd=folder,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    gap, typed_s, text, gap_after = 0.0, None, b"", ""
    while True:
        ready, _, _ = select.select([ours], [], [], 0.02)
        now = time.monotonic()
        due = interrupt_after_s is not None and now - started > interrupt_after_s
        if due and typed_s is None:
            os.write(ours, b"\x03")
            typed_s = now
        if not ready:
            continue
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        if now - last > gap:
            gap, gap_after = now - last, _place(last - started, text)
        last, text = now, data
    code = process.wait()
    ended = time.monotonic()
    os.close(ours)
    if ended - last > gap:
        gap, gap_after = ended - last, _place(last - started, text)
    answered = ended - typed_s if typed_s is not None and code == 130 else None
    return Seen(ended - started, gap, gap_after, answered, code)


def _place(seconds: float, text: bytes) -> str:
    """Return when something was, and the end of the text that was shown before it."""
    words = " ".join(text.decode(errors="replace").replace("\x1b[K", "").split())
    return f"after {seconds:.1f} s: {words[:60] or '(nothing was shown yet)'}"


def make_data(folder: Path, *, size_bytes: int, files: int) -> None:
    """Write a few large files, and many small ones."""
    folder.mkdir(parents=True)
    for number in range(LARGE_FILES):
        left = size_bytes // LARGE_FILES
        with open(folder / f"large-{number}.bin", "wb") as file:
            while left > 0:
                file.write(os.urandom(min(left, 8 << 20)))
                left -= 8 << 20
    source = random.Random(1)
    for number in range(files):
        place = folder / f"{number // 1000:03}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.txt").write_bytes(source.randbytes(200))


def git(folder: Path, *arguments: str) -> None:
    """Run git."""
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def main() -> None:
    """Measure, and print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=float, default=2e9)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="dv-terminal-", dir=options.folder))
    late = False
    try:
        work, clone = place / "work", place / "clone"
        make_data(work / "data", size_bytes=int(options.bytes), files=options.files)
        git(work, "init", "-q")
        dv = [sys.executable, "-m", "dvtool"]
        subprocess.run([*dv, "init", "--remote", str(place / "remote")], cwd=work, check=True)
        print(f"{'command':<10}{'seconds':>9}{'longest gap':>13}{'Ctrl-C answered':>17}")
        for verb in ("add", "push", "pull"):
            folder = clone if verb == "pull" else work
            arguments = [verb, "data"] if verb == "add" else [verb]
            cut = watch(arguments, folder, interrupt_after_s=2.0)
            whole = watch(arguments, folder, interrupt_after_s=None)
            answered = "(had ended)" if cut.answered_s is None else f"{cut.answered_s:.2f} s"
            longer = max(cut, whole, key=lambda seen: seen.longest_gap_s)
            gap = longer.longest_gap_s
            late |= gap > LIMIT_S or (cut.answered_s or 0) > LIMIT_S
            print(
                f"{verb:<10}{whole.seconds:>9.1f}{gap:>11.2f} s{answered:>17}  {longer.gap_after}",
                flush=True,
            )
            if whole.code:
                sys.exit(f"dv {verb} ended with {whole.code}")
            if verb == "add":
                git(work, "add", "-A")
                git(work, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "data")
            if verb == "push":
                git(place, "clone", "-q", str(work), str(clone))
                remote = ["remote", "add", "origin", str(place / "remote")]
                subprocess.run([*dv, *remote], cwd=clone, check=True)
    finally:
        shutil.rmtree(place)
    print("later than promised" if late else "all within half a second")


if __name__ == "__main__":
    main()
