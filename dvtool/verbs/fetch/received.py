"""What arrives singly: chunks, put into packs of the local store, and recipes, tried there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.format.pack import Recipe
from dvtool.format.packing import FinishedPack, RollingPacks
from dvtool.store.local import LocalStore

AWAITED_MAX_CHUNKS = 131_072
"""The recipes of which chunks are awaited have so many together: some 30 MB. Others are tried last.
"""


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


class UntriedRecipes:
    """Recipes that a remote gave: each is tried once its chunks are here, while others arrive.

    The index takes those that do make their file: see `LocalStore.add_tried`.
    """

    def __init__(self, store: LocalStore, recipes: Iterable[Recipe]) -> None:
        self._store = store
        self._left = {recipe.digest: recipe for recipe in recipes}
        self._awaited: dict[Digest, set[Digest]] = {}
        self._parts: dict[Digest, list[Digest]] = {}
        """Chunk -> the files of which it is a part."""
        count = 0
        for recipe in self._left.values():
            count += len(recipe.chunks)
            if count > AWAITED_MAX_CHUNKS:
                break
            self._awaited[recipe.digest] = set(recipe.chunks)
            for chunk in self._awaited[recipe.digest]:
                self._parts.setdefault(chunk, []).append(recipe.digest)

    def try_with(self, chunks: Iterable[Digest]) -> None:
        """Try the recipes for which these chunks, which the index now has, were the last."""
        whole = []
        for chunk in chunks if self._parts else ():
            for digest in self._parts.pop(chunk, ()):
                self._awaited[digest].discard(chunk)
                if not self._awaited[digest]:
                    whole.append(self._left[digest])
        # One that failed may do later, when what was lacking has come again: see `try_rest`.
        for digest in self._store.add_tried(whole) if whole else ():
            del self._left[digest]

    def try_rest(self) -> None:
        """Try those of which some chunks were here before, or came in ranges, or could not be read.

        So are those that were too many to wait for.
        """
        self._store.add_tried(self._left.values())
        self._left = {}
