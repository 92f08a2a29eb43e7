from __future__ import annotations

import os
import subprocess
import time

from blake3 import blake3

from tests.cli.conftest import Work, command

BYTES = bytes(range(256)) * 2_000


def test_cat_gives_the_bytes(work: Work) -> None:
    work.write("data/raw.bin", BYTES)
    work.write("data/empty", b"")
    work.dv("add", "data")
    (work.root / "data/raw.bin").unlink()
    assert work.dv("cat", "data/raw.bin").raw == BYTES
    assert work.dv("cat", "raw.bin", cwd="data").raw == BYTES
    assert work.dv("cat", "data/empty").raw == b""
    assert work.dv("cat", "--hash", blake3(BYTES).hexdigest()).raw == BYTES
    assert work.process("cat", "data/raw.bin").raw == BYTES


def test_cat_rev(data: Work) -> None:
    data.write("data/table.csv", "new")
    data.dv("add", "data/table.csv")
    assert data.dv("cat", "data/table.csv").out == "new"
    assert data.dv("cat", "data/table.csv", "--rev", "HEAD").out == "x,y\n1,2\n"


def test_cat_fetches(pushed: Work) -> None:
    clone = pushed.clone()
    assert clone.dv("cat", "data/table.csv").out == "x,y\n1,2\n"


def test_cat_without_a_remote(pushed: Work) -> None:
    clone = pushed.clone(remote=False)
    ran = clone.dv("cat", "data/table.csv", code=3)
    assert "hint: add one: dv remote add" in ran.err


def test_cat_odd_name(work: Work) -> None:
    work.write("data/new\nline *", "odd")
    work.dv("add", "data")
    assert work.dv("cat", "data/new\nline *").out == "odd"


def test_cat_usage(data: Work) -> None:
    data.dv("cat", code=2)
    data.dv("cat", "data/table.csv", "--hash", "00", code=2)
    data.dv("cat", "--hash", "zz", code=2)
    data.dv("cat", "--hash", "00" * 32, "--rev", "HEAD", code=2)
    assert "is not one tracked file" in data.dv("cat", "data/images", code=2).err
    assert "not in the local store" in data.dv("cat", "--hash", "00" * 32, code=4).err
    assert "no target" in data.dv("cat", "nope\x1b", code=2).err


def test_a_slow_reader_gets_every_byte_though_writes_are_interrupted(work: Work) -> None:
    content = bytes(range(256)) * (8 << 10)
    work.write("data/large.bin", content)
    work.dv("add", "data")
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}  # then a write that a signal interrupts is short
    with subprocess.Popen(
        command("--progress", "always", "cat", "data/large.bin"),
        cwd=work.root,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        time.sleep(1.5)  # the timer of the progress rings several times while the pipe is full
        assert process.stdout.read() == content
    assert process.returncode == 0
