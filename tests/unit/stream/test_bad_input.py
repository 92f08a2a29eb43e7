"""Data that is not of the kind that it is streamed as: each an error that names the file."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from dvtool import InputError, PathMissing, UsageError
from dvtool.stream import Stream
from tests.scenario import Clone


def tar_of(mode: str, *names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"data"))
    return buffer.getvalue()


SOUND_TAR = tar_of("w:", "a.jpg", "b.jpg", "c.jpg")
DAMAGED_TAR = bytes([*SOUND_TAR[:1024], 255, *SOUND_TAR[1025:]])
"""The header of the second member is none."""

BAD = {
    "empty-first.csv": (b"\na,b\n1,2\n", "rows", "does not name its fields: it is empty"),
    "twice.csv": (b"a,a\n1,2\n", "rows", "a name is in it twice"),
    "quote.csv": (b'a,b\n1,"2"x\n', "rows", "row 0 of bad/quote.csv cannot be read"),
    "fields.tsv": (b"a\tb\n1\n", "rows", "it has 1 fields, the first line 2"),
    "lines.jsonl": (b'{"a": 1}\n{"a": \n', "rows", "row 1 of bad/lines.jsonl cannot be read"),
    "text.parquet": (b"this is no Parquet file at all", "rows", "cannot be read as Parquet"),
    "cut.parquet": (b"PAR1\0\0\0\0\xff\xff\0\0PAR1", "rows", "cannot be read as Parquet"),
    "packed.tar": (tar_of("w:gz", "a.jpg"), "tar", "cannot be read as an uncompressed tar file"),
    "named.tar.gz": (tar_of("w:gz", "a.jpg"), "tar", "it is compressed"),
    "damaged.tar": (DAMAGED_TAR, "tar", "there is no member at byte 1,024"),
    "twice.tar": (tar_of("w:", "a.jpg", "a.jpg"), "tar", "two members have one name"),
    "cut.tar": (SOUND_TAR[:1200], "tar", "cannot be read as an uncompressed tar file"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pyarrow")
    clone = Clone.new(tmp_path_factory.mktemp("bad") / "repo")
    with clone.repo() as repo:
        repo.config.init()
    for name, (content, _, _) in BAD.items():
        clone.write(f"bad/{name}", content)
    clone.write("good.csv", b"a\n")
    clone.write("none.csv", b"")
    clone.add("bad", "good.csv", "none.csv")
    clone.git("add", "--all")
    clone.commit("bad")
    return clone.path


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_of_its_kind_is_named(bad: Path, name: str) -> None:
    _, samples, message = BAD[name]
    stream = Stream(f"bad/{name}", repo=bad, samples=samples)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message) as raised:
        list(stream.epoch(0))
    assert f"bad/{name}" in str(raised.value)
    assert raised.value.hint


def test_tables_without_rows_have_no_samples(bad: Path) -> None:
    for name in ("good.csv", "none.csv"):
        assert list(Stream(name, repo=bad, samples="rows").epoch(0)) == []


def test_options_and_paths_that_cannot_be_are_refused(bad: Path) -> None:
    for window in (-1, 2.5e6, "64 MiB"):
        with pytest.raises(UsageError, match=f"at least 1 byte, not {window!r}"):
            Stream("bad", repo=bad, window=window)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a seed is a whole number of at most 127 bits"):
        Stream("bad", repo=bad, seed=1 << 127)
    with pytest.raises(UsageError, match="an epoch is a number of at most 127 bits"):
        Stream("good.csv", repo=bad).epoch(1 << 127)
    with pytest.raises(PathMissing, match="bad/none is not in the data of commit"):
        len(Stream("bad/none", repo=bad))
    with pytest.raises(UsageError):
        Stream("bad", "HEAD~7", repo=bad)
    with pytest.raises(UsageError, match="whole number of at most 127 bits, not 'a'"):
        Stream("bad", repo=bad, seed="a")  # type: ignore[arg-type]
    for state in (None, [1]):
        with pytest.raises(UsageError, match="this is no state of a stream"):
            Stream("bad", repo=bad).load_state_dict(state)  # type: ignore[arg-type]


def test_a_node_that_would_have_nothing_is_refused(bad: Path) -> None:
    with pytest.raises(UsageError, match="does not divide among 3 nodes"):
        Stream("bad", repo=bad, nodes=3).epoch(0, 0, 3)


@pytest.mark.parametrize("number", ["a", None, 1.5])
def test_an_epoch_is_a_number(bad: Path, number: object) -> None:
    stream = Stream("good.csv", repo=bad, seed=1)
    with pytest.raises(TypeError, match="an epoch is a whole number, not"):
        stream.epoch(number)  # type: ignore[arg-type]
