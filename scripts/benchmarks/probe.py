"""Runs commands one after the other and measures them with all their descendants.

A process of its own, so that what it waited for is exactly what was to be measured:

    python -I scripts/benchmarks/probe.py < SPEC > MEASURED        (both JSON)

Memory, if asked for, is the largest sum, over all processes that run at one time, of their PSS: a
page that two share counts once. Looking costs time, so timed rounds do without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

SAMPLE_PAUSE_S = 0.01
PAUSE_PER_LOOK = 19
"""A look at 600 MB takes 6 ms, so looks are farther apart then: they take a twentieth of a core."""
OUTPUT_SHOWN_BYTES = 2000
PR_SET_CHILD_SUBREAPER = 36
KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
"""The number of Linux's system call kcmp, for which the C library has no function."""
KCMP_VM = 1
LIBC = ctypes.CDLL(None)


def main() -> None:
    """Read commands, env, log, sample and time_max_s; print what the timed commands took."""
    spec = json.load(sys.stdin)
    with contextlib.suppress(OSError, AttributeError):  # Linux: orphans come to us, and so count
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    total: dict[str, Any] = {
        "wall_s": 0.0,
        "cpu_s": 0.0,
        "rss_max_bytes": 0,
        "pss_peak_bytes": 0,
        "samples": 0,
    }
    with open(spec["log"], "w+b") as log:
        for command in spec["commands"]:
            code, taken = run(command, spec, log)
            if code != 0:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - OUTPUT_SHOWN_BYTES))
                said = log.read().decode(errors="replace")
                json.dump({"failed": command["argv"], "code": code, "said": said}, sys.stdout)
                return
            if command["timed"]:
                for key in ("wall_s", "cpu_s", "samples"):
                    total[key] += taken[key]
                for key in ("rss_max_bytes", "pss_peak_bytes"):
                    total[key] = max(total[key], taken[key])
    json.dump(total, sys.stdout)


def run(command: Any, spec: Any, log: IO[bytes]) -> tuple[int, dict[str, Any]]:
    """Run one command to its end and that of what it left running; return its exit code too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(
        command["argv"],
        cwd=command["cwd"],
        env=spec["env"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    alarm = threading.Timer(spec["time_max_s"], os.killpg, (process.pid, signal.SIGKILL))
    alarm.start()
    with Sampler() if spec["sample"] else contextlib.nullcontext() as sampler:
        code = process.wait()
        wall_s = time.perf_counter() - began
    alarm.cancel()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return code, {
        "wall_s": wall_s,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "rss_max_bytes": after.ru_maxrss * unit_bytes,
        "pss_peak_bytes": sampler.peak_bytes if sampler else 0,
        "samples": sampler.samples if sampler else 0,
    }


class Sampler:
    """``with Sampler() as sampler:`` looks at the memory of all descendants until the end."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.samples = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            began_s = time.perf_counter()
            now_bytes = memory_bytes(os.getpid())
            took_s = time.perf_counter() - began_s
            if now_bytes:
                self.samples += 1
                self.peak_bytes = max(self.peak_bytes, now_bytes)
            if self._done.wait(max(SAMPLE_PAUSE_S, PAUSE_PER_LOOK * took_s)):
                return


def memory_bytes(top: int) -> int:
    """Add up the memory of all processes below `top`.

    A child that has only just been made by vfork still runs in its parent's memory, which must not
    count twice.
    """
    return sum(pss_bytes(pid) for pid, parent in descendants(top) if not share_memory(pid, parent))


def share_memory(one: int, other: int) -> bool:
    """Say whether two processes run in the very same memory; False where the kernel has no word."""
    return KCMP is not None and LIBC.syscall(KCMP, one, other, KCMP_VM, 0, 0) == 0


def descendants(pid: int) -> Iterator[tuple[int, int]]:
    """Yield each process below `pid`, with its parent, as far as Linux tells."""
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children = file.read().split()
            for child in children:
                yield int(child), pid
                yield from descendants(int(child))


def pss_bytes(pid: int) -> int:
    """Return a process's share of the memory that it uses; 0 if it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
