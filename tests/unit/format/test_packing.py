"""The loop that fills packs: they roll over when full, and nothing unfinished is left behind."""

from __future__ import annotations

import errno
import io
import os
import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from dvtool.format import packing
from dvtool.format.chunker import KIB
from dvtool.format.digest import Digest, digest_of
from dvtool.format.pack import PACK_SIZE_AIM_BYTES, PackWriter, Recipe, read_index, verify_pack
from dvtool.format.packing import FinishedPack, RollingPacks, discard_packs, write_packs

PACK_SIZE_BYTES = 100 * KIB


@pytest.fixture
def temp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    monkeypatch.setattr("dvtool.format.pack.PACK_SIZE_AIM_BYTES", PACK_SIZE_BYTES)
    numbers = count()
    return lambda: str(tmp_path / f"{next(numbers):02}")


def chunks_of(number: int, size: int = 40 * KIB) -> list[tuple[Digest, bytes]]:
    parts = [random.Random(seed).randbytes(size) for seed in range(number)]
    return [(digest_of(data), data) for data in parts]


def recipe(number: int, chunks: int = 2) -> Recipe:
    return Recipe(digest_of(b"%d" % number), 9, tuple(digest_of(b"c") for _ in range(chunks)))


def contents(packs: list[FinishedPack]) -> tuple[list[list[Digest]], list[list[Recipe]]]:
    """Return the chunks and the recipes of each pack, as its file has them."""
    chunks, recipes = [], []
    for path, info in packs:
        data = Path(path).read_bytes()
        assert digest_of(data) == info.digest
        assert len(data) == info.size
        index = read_index(io.BytesIO(data), size=info.size, where=path)
        verify_pack(io.BytesIO(data), index, where=path)
        chunks.append(index.chunk_digests)
        recipes.append(index.recipes)
    return chunks, recipes


def test_a_full_pack_is_finished_before_the_next_is_begun(
    tmp_path: Path, temp_path: Callable[[], str]
) -> None:
    chunks = chunks_of(5)
    packs = []
    with RollingPacks(temp_path, durable=True) as rolling:
        for pack in rolling.fill(chunks):
            packs.append(pack)
            assert len(os.listdir(tmp_path)) == len(packs)
        assert len(os.listdir(tmp_path)) == 3
        packs += rolling.finish()
        assert rolling.finish() == []
    names = [digest for digest, _ in chunks]
    assert contents(packs)[0] == [names[:2], names[2:4], names[4:]]


def test_the_last_pack_stays_open_for_more(tmp_path: Path, temp_path: Callable[[], str]) -> None:
    (one, two, three), recipes = chunks_of(3), [recipe(1), recipe(2)]
    with RollingPacks(temp_path, durable=False) as rolling:
        assert list(rolling.fill([one], recipes[:1])) == []
        assert list(rolling.fill([two])) == []
        (full,) = rolling.fill([three])
        packs = [full, *rolling.fill((), recipes[1:]), *rolling.finish()]
    assert contents(packs) == ([[one[0], two[0]], [three[0]]], [recipes[:1], recipes[1:]])


def test_recipes_roll_over_too(temp_path: Callable[[], str]) -> None:
    recipes = [recipe(number, chunks=1_000) for number in range(5)]
    with RollingPacks(temp_path, durable=False) as rolling:
        packs = [*rolling.fill((), recipes), *rolling.finish()]
    found = contents(packs)[1]
    assert [one for some in found for one in some] == recipes
    assert len(found) > 1


def test_packs_are_as_a_writer_alone_makes_them(temp_path: Callable[[], str]) -> None:
    chunks, recipes = chunks_of(2), [recipe(1)]
    with RollingPacks(temp_path, durable=False) as rolling:
        ((path, _),) = [*rolling.fill(chunks, recipes), *rolling.finish()]
    alone = io.BytesIO()
    writer = PackWriter(alone)
    for digest, data in chunks:
        writer.add(digest, data)
    writer.add_recipe(recipes[0])
    writer.finish()
    assert Path(path).read_bytes() == alone.getvalue()


def test_nothing_makes_no_pack(tmp_path: Path, temp_path: Callable[[], str]) -> None:
    assert list(write_packs(temp_path, [])) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("durable", [False, True])
def test_a_durable_pack_is_flushed_to_the_disk(
    temp_path: Callable[[], str], monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(packing, "flush_to_disk", lambda fd: sizes.append(os.fstat(fd).st_size))
    with RollingPacks(temp_path, durable=durable) as rolling:
        packs = [*rolling.fill(chunks_of(3)), *rolling.finish()]
    assert sizes == ([info.size for _, info in packs] if durable else [])


def test_an_unfinished_pack_is_removed(tmp_path: Path, temp_path: Callable[[], str]) -> None:
    with pytest.raises(KeyError), RollingPacks(temp_path, durable=True) as rolling:
        (full,) = rolling.fill(chunks_of(3))
        raise KeyError
    assert os.listdir(tmp_path) == [os.path.basename(full[0])]
    discard_packs([full])
    discard_packs([full])
    assert os.listdir(tmp_path) == []


def test_a_pack_that_could_not_be_written_is_not_finished_later(
    tmp_path: Path, temp_path: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it may be missing, or be there twice."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    chunks = chunks_of(3)
    with RollingPacks(temp_path, durable=True) as rolling:
        assert list(rolling.fill(chunks[:1])) == []
        with monkeypatch.context() as patch:
            patch.setattr(packing, "flush_to_disk", full)
            with pytest.raises(OSError, match="space"):
                rolling.finish()
        assert rolling.finish() == []
        assert list(rolling.fill(chunks[1:2])) == []
        with monkeypatch.context() as patch:
            patch.setattr(PackWriter, "_write", full)
            with pytest.raises(OSError, match="space"):
                list(rolling.fill(chunks[2:]))
        assert rolling.finish() == []
    assert os.listdir(tmp_path) == []


def test_a_source_that_fails_leaves_the_pack_open(temp_path: Callable[[], str]) -> None:
    (one, two), error = chunks_of(2), KeyError("gone")

    def failing() -> Iterator[tuple[Digest, bytes]]:
        yield one
        raise error

    with RollingPacks(temp_path, durable=True) as rolling:
        with pytest.raises(KeyError):
            list(rolling.fill(failing()))
        packs = [*rolling.fill([two]), *rolling.finish()]
    assert contents(packs)[0] == [[one[0], two[0]]]


def test_packs_before_a_failure_are_removed_unless_moved(
    tmp_path: Path, temp_path: Callable[[], str]
) -> None:
    def failing() -> Iterator[tuple[Digest, bytes]]:
        yield from chunks_of(5)
        raise KeyError

    made = write_packs(temp_path, failing())
    os.rename(next(made)[0], tmp_path / "moved")
    with pytest.raises(KeyError):
        list(made)
    assert os.listdir(tmp_path) == ["moved"]
    made = write_packs(temp_path, chunks_of(5))
    next(made)
    made.close()
    assert os.listdir(tmp_path) == ["moved"]


def test_a_frame_made_before_is_taken(temp_path: Callable[[], str]) -> None:
    digest, data = chunks_of(1)[0]
    stored = b"\x00" + data
    with RollingPacks(temp_path, durable=False) as rolling:
        ((path, _),) = [*rolling.fill([(digest, data, stored)]), *rolling.finish()]
    assert Path(path).read_bytes().startswith(stored)
    assert PACK_SIZE_AIM_BYTES > PACK_SIZE_BYTES


@pytest.mark.parametrize("at_once", [1, 7, 1_024])
def test_small_chunks_fill_the_same_packs_without_a_question_about_each(
    temp_path: Callable[[], str], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(packing, "SMALL_AT_ONCE", at_once)
    sizes = random.Random(7)
    chunks = [
        (digest_of(data), data)
        for data in (sizes.randbytes(sizes.choice([1, 75, 3_000, 30_000])) for _ in range(100))
    ]
    made = []
    for fill in (RollingPacks.fill, RollingPacks.fill_small):
        with RollingPacks(temp_path, durable=False) as rolling:
            packs = [*fill(rolling, chunks[:70]), *fill(rolling, chunks[70:]), *rolling.finish()]
        made.append(([info.digest for _, info in packs], contents(packs)))
    assert len(made[0][0]) > 5
    assert made[0] == made[1]
