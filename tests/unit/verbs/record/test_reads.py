from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from dvtool.format.digest import digest_of
from dvtool.project import ledger
from dvtool.project.ledger import ReadEntry, entry_of, ledger_line, note_reads
from dvtool.verbs.record.reads import MerkleTree, collect_reads

DIGEST = digest_of(b"content")


class Content(NamedTuple):
    path: str
    digest: bytes = DIGEST


def _root(texts: list[bytes]) -> bytes:
    """The root by the recursion of RFC 6962."""
    if len(texts) == 1:
        return digest_of(b"\0" + texts[0])
    half = 1
    while half * 2 < len(texts):
        half *= 2
    return digest_of(b"\1" + _root(texts[:half]) + _root(texts[half:]))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=4), max_size=40))
def test_the_root_is_that_of_rfc_6962(texts: list[bytes]) -> None:
    tree = MerkleTree()
    for text in texts:
        tree.add(text)
    assert tree.root == (_root(texts).hex() if texts else None)


@settings(deadline=None)
@given(st.text(), st.integers(1, 200))
def test_a_line_that_was_cut_off_is_none(path: str, length: int) -> None:
    entry = ReadEntry(DIGEST.hex(), path)
    line = ledger_line(entry)
    assert entry_of(line) == entry
    assert length >= len(line) or entry_of(line[:length]) is None


@pytest.fixture
def noting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "ledger"
    place.touch()
    monkeypatch.setenv(ledger.VARIABLE, str(place))
    return place


CHILD = """
import os, sys
from dvtool.project.ledger import note_reads
class Content:
    digest = bytes.fromhex(sys.argv[1])
    def __init__(self, path):
        self.path = path
for number in range(300):
    note_reads([Content(f"{sys.argv[2]}/{number}")])
pid = os.fork()
for number in range(300, 400):
    note_reads([Content(f"{sys.argv[2]}/{number}")])
os.kill(os.getpid(), 9) if pid == 0 else os.waitpid(pid, 0)
"""


def test_processes_threads_and_forks_lose_nothing(noting: Path) -> None:
    words = [sys.executable, "-c", CHILD, DIGEST.hex()]
    children = [subprocess.Popen([*words, str(number)]) for number in range(3)]

    def note(name: str) -> None:
        for number in range(300):
            note_reads([Content(f"{name}/{number}")])

    threads = [threading.Thread(target=note, args=(f"thread-{n % 2}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait(60) for child in children] == [0, 0, 0]
    reads = collect_reads(str(noting), str(noting.parent / "run.reads"))
    assert reads.count == 3 * 400 + 2 * 300
    assert (reads.entries, reads.file) == ([], "run.reads")
    assert len((noting.parent / "run.reads").read_bytes().splitlines()) == reads.count


def test_the_order_and_how_often_do_not_matter_and_torn_lines_are_dropped(tmp_path: Path) -> None:
    lines = [ledger_line(ReadEntry(DIGEST.hex(), f"ünï {number}")) for number in range(9)]
    roots = set()
    for seed in range(3):
        some = [*lines, *lines[:4]]
        random.Random(seed).shuffle(some)
        place = tmp_path / f"ledger-{seed}"
        place.write_bytes(b"".join(b"\n" + line + b"\n" for line in some) + b"\n" + lines[0][:70])
        reads = collect_reads(str(place), str(tmp_path / f"reads-{seed}"))
        roots.add(reads.root)
        assert reads.count == 9
        assert [entry.path for entry in reads.entries] == [f"ünï {number}" for number in range(9)]
    assert len(roots) == 1


def test_nothing_read_has_no_root_and_no_file(noting: Path) -> None:
    reads = collect_reads(str(noting), str(noting.parent / "run.reads"))
    assert (reads.count, reads.root, reads.file) == (0, None, None)
    assert sorted(os.listdir(noting.parent)) == ["ledger"]


def test_a_ledger_that_is_full_is_no_silent_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    monkeypatch.setenv(ledger.VARIABLE, "/dev/full")
    with pytest.raises(OSError, match="No space"):
        note_reads([Content("a")])
