"""Chunks that arrive singly, put into packs of the local store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.format.pack import Recipe
from dvtool.format.packing import FinishedPack, RollingPacks
from dvtool.store.local import LocalStore


class ReceivedChunks:
    """Puts single chunks, fetched out of foreign packs, into packs of our own.

    Whatever ends the block, the chunks that arrived before are kept: they were checked, and need
    not come again.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._packs = RollingPacks(store.temp_path, durable=True)

    def __enter__(self) -> Self:
        return self

    def add(self, chunks: Iterable[tuple[Digest, bytes]]) -> None:
        """Take chunks that were checked."""
        self._adopt(self._packs.fill(chunks))

    def add_recipes(self, recipes: Iterable[Recipe]) -> None:
        """Take recipes, which are believed only once they were tried."""
        self._adopt(self._packs.fill((), recipes))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._adopt(self._packs.finish())
        except (OSError, DvError):
            if kind is None:
                raise
        finally:
            self._packs.abandon()

    def _adopt(self, packs: Iterable[FinishedPack]) -> None:
        for temp, info in packs:
            info.index.recipes = []
            self._store.adopt([(temp, info)])
