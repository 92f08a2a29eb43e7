"""Samples that are read straight out of packs: the same bytes, checked, whatever the packs are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dvtool import CorruptError
from dvtool.stream import Stream
from tests.scenario import Clone

SMALL, LARGE = 3_000, 200_000
"""A file of one chunk, and one of several."""


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A repository with files that do not compress, and files that do."""
    clone = Clone.new(tmp_path / "repo")
    with clone.repo() as repo:
        repo.config.init()
    draw = random.Random(8)
    for number in range(40):
        clone.write(f"noise/{number:02}", draw.randbytes(SMALL if number % 8 else LARGE))
        clone.write(f"text/{number:02}", f"line {number}\n".encode() * 500)
    clone.write("noise/empty", b"")
    clone.add("noise", "text")
    clone.commit("data")
    return clone


def damage(clone: Clone, content: bytes) -> None:
    """Change one byte of a content where packs have it as it is."""
    for path in (clone.path / ".git/dv/packs").rglob("*"):
        if path.is_file() and (at := path.read_bytes().find(content)) >= 0:
            path.chmod(0o644)
            with path.open("r+b") as file:
                file.seek(at + len(content) // 2)
                file.write(bytes([content[len(content) // 2] ^ 1]))
            return
    raise AssertionError("no pack has it")


@pytest.mark.parametrize("folder", ["noise", "text"])
def test_only_what_packs_have_as_it_is_is_read_so(clone: Clone, folder: str) -> None:
    stream = Stream(folder, repo=clone.path)
    read = stream.samples.direct(range(len(stream)))
    assert (read is not None) == (folder == "noise")
    files = {path: (clone.path / path).read_bytes() for path in stream.snapshot.find(folder)}
    assert {sample.key: sample.data for sample in stream.epoch(0)} == files
    if read is not None:
        backwards = list(reversed(range(len(stream))))
        assert {sample.key: sample.data for sample in read(backwards)} == files


def test_a_changed_byte_is_found(clone: Clone) -> None:
    stream = Stream("noise", repo=clone.path)
    read = stream.samples.direct(range(len(stream)))
    assert read is not None
    damage(clone, (clone.path / "noise/03").read_bytes())
    with pytest.raises(CorruptError):
        read(range(len(stream)))
    with pytest.raises(CorruptError):
        list(stream.epoch(0))
    tolerant = Stream("noise", repo=clone.path, on_damage="skip")
    assert len(list(tolerant.epoch(0))) == len(stream) - 1
    assert tolerant.skipped == ["noise/03"]


def test_a_pack_that_is_written_anew_meanwhile_is_read_on(clone: Clone) -> None:
    """Who has it open reads the old file, as a gc or drop leaves it to readers."""
    stream = Stream("noise", repo=clone.path)
    read = stream.samples.direct(range(len(stream)))
    assert read is not None
    for path in (clone.path / ".git/dv/packs").rglob("*"):
        if path.is_file():
            path.unlink()
    assert {s.key: s.data for s in read(range(len(stream)))} == {
        path: (clone.path / path).read_bytes() for path in stream.snapshot.find("noise")
    }
