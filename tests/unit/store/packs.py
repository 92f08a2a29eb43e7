"""Packs for tests of the local store: of chunks that no one can compress."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from dvtool.format.digest import Digest, digest_of
from dvtool.format.pack import PackInfo, PackWriter, Recipe
from dvtool.store.local import LocalStore

KIB = 1 << 10


def noise(seed: object, size: int) -> bytes:
    return blake3(repr(seed).encode()).digest(size)


def pieces(data: bytes, size: int = 40 * KIB) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def recipe_of(chunks: Sequence[bytes]) -> Recipe:
    whole = b"".join(chunks)
    return Recipe(digest_of(whole), len(whole), tuple(digest_of(chunk) for chunk in chunks))


def new_pack(
    store: LocalStore, chunks: Sequence[bytes], recipes: Sequence[Recipe] = ()
) -> tuple[str, PackInfo]:
    temp = store.temp_path()
    with open(temp, "xb") as file:
        writer = PackWriter(file)
        for chunk in chunks:
            writer.add(digest_of(chunk), chunk)
        for recipe in recipes:
            writer.add_recipe(recipe)
        return temp, writer.finish()


def put(store: LocalStore, *files: bytes) -> list[PackInfo]:
    """One pack for each file."""
    infos = []
    for data in files:
        chunks = pieces(data) if len(data) > 64 * KIB else [data]
        recipes = [recipe_of(chunks)] if len(chunks) > 1 else []
        temp, info = new_pack(store, chunks, recipes)
        store.adopt([(temp, info)])
        infos.append(info)
    return infos


def get(store: LocalStore, *files: Digest) -> dict[Digest, bytes]:
    with store.reader() as reader:
        return {digest: b"".join(reader.read(digest)) for digest in reader.prepare(files)}


def forget_index(store: LocalStore) -> None:
    store.close()
    for name in os.listdir(store.path):
        if name.startswith("store.db"):
            os.unlink(Path(store.path, name))


SMALL = noise("small", 1_000)
LARGE = noise("large", 300 * KIB)
