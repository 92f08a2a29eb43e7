"""The one loop that fills packs: a pack that is full is finished before the next one is begun.

A pack grows under a temporary path. The caller moves the file into place, uploads or removes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Self, TypeAlias

import msgspec

from dvtool.format.chunker import MIB
from dvtool.format.digest import Digest
from dvtool.format.pack import Data, PackInfo, PackWriter, Recipe
from dvtool.system.atomic import flush_to_disk

WRITE_BUFFER_BYTES = 1 * MIB
SMALL_AT_ONCE = 1_024

FinishedPack: TypeAlias = tuple[str, PackInfo]
"""A pack under its temporary path."""
Chunk: TypeAlias = tuple[Digest, Data] | tuple[Digest, Data, bytes | None]
"""A chunk's name and bytes, and its frame where that was made before: see `PackWriter.add`."""


class Frame(msgspec.Struct, frozen=True):
    """A frame as another pack has it, and the digest and raw size of each chunk in it."""

    stored: bytes
    chunks: Sequence[tuple[Digest, int]]


class _OpenPack(msgspec.Struct, frozen=True):
    path: str
    file: BinaryIO
    writer: PackWriter


class RollingPacks:
    """Fills packs, one after another. As a context manager it removes an unfinished one at the end.

    `temp_path` returns a fresh path for each pack. With `durable` the bytes of a finished pack are
    flushed to the disk. A finished pack belongs to the caller. After an error in writing, the pack
    that was being written is gone; a pack is never finished with bytes missing.
    """

    def __init__(self, temp_path: Callable[[], str], *, durable: bool) -> None:
        self._temp_path = temp_path
        self._durable = durable
        self._open: _OpenPack | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def fill(
        self, chunks: Iterable[Chunk | Frame], recipes: Iterable[Recipe] = ()
    ) -> Iterator[FinishedPack]:
        """Put chunks and frames, then recipes, into packs; yield a full one before the next begins.

        Nothing is written unless the result is iterated. The last pack stays open for more.
        """
        for chunk in chunks:
            unfinished = self._open
            if unfinished is None or not _fits(unfinished.writer, chunk):
                yield from self.finish()
                unfinished = self._begin()
            try:
                if isinstance(chunk, Frame):
                    unfinished.writer.add_frame(chunk.stored, chunk.chunks)
                else:
                    unfinished.writer.add(*chunk)
            except BaseException:
                self.abandon()
                raise
        for recipe in recipes:
            unfinished = self._open
            if unfinished is None or not unfinished.writer.fits_recipe(recipe):
                yield from self.finish()
                unfinished = self._begin()
            unfinished.writer.add_recipe(recipe)

    def fill_small(self, chunks: Sequence[tuple[Digest, Data]]) -> Iterator[FinishedPack]:
        """Do as `fill`, with chunks that all share frames, without a question about each."""
        for begin in range(0, len(chunks), SMALL_AT_ONCE):
            run = chunks[begin : begin + SMALL_AT_ONCE]
            unfinished = self._open
            if unfinished is None or not unfinished.writer.fits_small(run):
                yield from self.fill(run)
                continue
            try:
                unfinished.writer.add_small(run)
            except BaseException:
                self.abandon()
                raise

    def finish(self) -> list[FinishedPack]:
        """Finish the open pack and return it; nothing if there is none."""
        unfinished = self._open
        if unfinished is None:
            return []
        try:
            info = unfinished.writer.finish()
            unfinished.file.flush()
            if self._durable:
                flush_to_disk(unfinished.file.fileno())
            unfinished.file.close()
        except BaseException:
            self.abandon()
            raise
        self._open = None
        return [(unfinished.path, info)]

    def abandon(self) -> None:
        """Remove the open pack, if there is one."""
        unfinished, self._open = self._open, None
        if unfinished is not None:
            # On a full disk closing fails too: it writes the buffered bytes.
            with contextlib.suppress(OSError):
                unfinished.file.close()
            with contextlib.suppress(OSError):
                os.unlink(unfinished.path)

    def _begin(self) -> _OpenPack:
        path = self._temp_path()
        file = open(path, "xb", buffering=WRITE_BUFFER_BYTES)
        self._open = _OpenPack(path, file, PackWriter(file))
        return self._open


def _fits(writer: PackWriter, chunk: Chunk | Frame) -> bool:
    if isinstance(chunk, Frame):
        return writer.fits_frame(len(chunk.stored), len(chunk.chunks))
    return writer.fits(len(chunk[1]))


def write_packs(
    temp_path: Callable[[], str], chunks: Iterable[Chunk], recipes: Iterable[Recipe] = ()
) -> Iterator[FinishedPack]:
    """Yield new packs of chunks, then recipes, flushed to the disk; no pack for no chunks.

    If making a pack fails, or the caller stops, earlier packs that were not moved are removed too.
    """
    made: list[FinishedPack] = []
    try:
        with RollingPacks(temp_path, durable=True) as packs:
            for pack in packs.fill(chunks, recipes):
                made.append(pack)
                yield pack
            for pack in packs.finish():
                made.append(pack)
                yield pack
    except BaseException:
        discard_packs(made)
        raise


def discard_packs(packs: Iterable[FinishedPack]) -> None:
    """Remove packs that the caller did not take; a pack that is gone is passed over."""
    for path, _ in packs:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
