"""Measures commands: what they take, what they store, how often they flush."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale import GIB

LEAST_ROOM_BYTES = 2 * GIB
TIME_MAX_S = 3600.0
LEAST_SAMPLES = 5
"""With fewer, a step was too short to be seen; its largest process stands for it."""
FLUSHES = ("fsync", "fdatasync", "syncfs", "sync", "sync_file_range", "msync")
PROBE = Path(__file__).with_name("probe.py")


class BenchError(Exception):
    """A step that cannot be measured."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a step. What is not `timed` is set-up that belongs between timed parts."""

    argv: tuple[str, ...]
    cwd: Path
    timed: bool = True


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step took: all its processes together."""

    wall_s: float
    cpu_s: float
    flush_s: float = 0.0
    """What a sync of the filesystem took afterwards: what the step had left for later."""
    peak_bytes: int | None = None
    """The largest sum of PSS, where it was looked at; else unknown."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies in a folder."""

    bytes: int
    files: int

    def __sub__(self, other: Stored) -> Stored:
        return Stored(self.bytes - other.bytes, self.files - other.files)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how commands run."""

    work: Path
    env: Mapping[str, str]

    @property
    def trash(self) -> Path:
        """Where folders wait for the end of all measuring; see `put_away`."""
        return self.work / "trash"

    def put_away(self, folder: Path) -> None:
        """Take a folder out of the way without deleting it.

        On ext4 making files is many times slower for some minutes after many were deleted: it
        looks for inodes that were not. So nothing is deleted while there is room.
        """
        if folder.exists():
            self.trash.mkdir(exist_ok=True)
            folder.rename(tempfile.mkdtemp(dir=self.trash))

    def make_room(self, needed_bytes: int) -> None:
        """Delete what was put away if less than this, and a little more, is free."""
        if shutil.disk_usage(self.work).free < needed_bytes + LEAST_ROOM_BYTES:
            remove(self.trash)

    def take(
        self, commands: Sequence[Command], *, memory: bool = False, cold: bool = False
    ) -> Taken:
        """Run a step's commands and measure them. Raises BenchError if one fails."""
        flush(self.work)
        if cold:
            drop_caches()
        spec = {
            "commands": [
                {"argv": one.argv, "cwd": str(one.cwd), "timed": one.timed} for one in commands
            ],
            "env": dict(self.env),
            "log": str(self.work / "last.log"),
            "sample": memory,
            "time_max_s": TIME_MAX_S,
        }
        found = json.loads(
            subprocess.run(
                [sys.executable, "-I", "-S", str(PROBE)],
                input=json.dumps(spec).encode(),
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
        if "failed" in found:
            said = " ".join(found["failed"])
            raise BenchError(f"{said} ended with {found['code']}:\n{found['said'].strip()}")
        peak_bytes = None
        if memory:
            was_seen = found["samples"] >= LEAST_SAMPLES
            peak_bytes = found["pss_peak_bytes" if was_seen else "rss_max_bytes"]
        return Taken(found["wall_s"], found["cpu_s"], flush(self.work), peak_bytes)

    def run(self, *commands: Command) -> None:
        """Run commands that are not measured."""
        for command in commands:
            done = subprocess.run(
                command.argv,
                cwd=command.cwd,
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            if done.returncode:
                said = done.stdout[-2000:].decode(errors="replace").strip()
                raise BenchError(f"{' '.join(command.argv)} ended with {done.returncode}:\n{said}")

    def flushes(self, commands: Sequence[Command]) -> int:
        """Run a step under strace and count the calls that wait for the disk."""
        total = 0
        for command in commands:
            log = self.work / "strace.log"
            calls = ",".join(FLUSHES)
            traced = ("strace", "-f", "-qq", "-e", f"trace={calls}", "-e", "signal=none")
            argv = (*traced, "-o", str(log), *command.argv) if command.timed else command.argv
            self.run(Command(argv, command.cwd))
            if command.timed:
                total += count_calls(log.read_text(errors="replace"))
                log.unlink()
        return total


def count_calls(strace_log: str) -> int:
    """Return how many of the traced calls began, in a log of strace -f."""
    return len(re.findall(rf"^\d+\s+(?:{'|'.join(FLUSHES)})\(", strace_log, re.MULTILINE))


def flush(folder: Path) -> float:
    """Bring what was written to the disk; return how long that took."""
    began = time.perf_counter()
    subprocess.run(["sync", "-f", str(folder)], check=True)
    return time.perf_counter() - began


def drop_caches() -> None:
    """Let the kernel forget all files that it has read. Raises OSError where that is forbidden."""
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3\n")


def can_drop_caches() -> bool:
    """Say whether this user may empty the machine's cache of files."""
    return os.access("/proc/sys/vm/drop_caches", os.W_OK)


def can_trace() -> bool:
    """Say whether strace is here and may trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


def stored(folder: Path) -> Stored:
    """Add up the files below a folder; a missing folder holds nothing."""
    size_bytes = files = 0
    for here, _, names in os.walk(folder):
        for name in names:
            size_bytes += os.lstat(os.path.join(here, name)).st_size
            files += 1
    return Stored(size_bytes, files)


def remove(folder: Path) -> None:
    """Delete a folder, write-protected ones in it too."""
    if not folder.exists():
        return
    for here, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(here, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode) and not mode & stat.S_IWUSR:
                os.chmod(path, 0o755)
    shutil.rmtree(folder)
