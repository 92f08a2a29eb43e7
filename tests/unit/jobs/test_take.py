"""Batches of objects: a worker stays connected between them, and no longer than the import."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from dvtool.format.digest import digest_of
from dvtool.format.packing import discard_packs
from dvtool.jobs.take import TakeBatch, disconnect, take_objects
from dvtool.remotes.origins.base import Origin, OriginObject


class _Place:
    """An origin with one object, equal to those of the same name."""

    url = "place:"

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.connected = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Place) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def close(self) -> None:
        self.connected = False

    def content_check(self, _: OriginObject) -> None:
        return None

    def read_many(self, _: object) -> Iterator[tuple[int, bytes]]:
        return iter(())

    @contextlib.contextmanager
    def open(self, _: OriginObject, **__: object) -> Iterator[io.BytesIO]:
        self.connected = True
        yield _Body(self.name)


class _Body(io.BytesIO):
    version = ""
    settled_s = 0


@pytest.fixture(autouse=True)
def _disconnected() -> Iterator[None]:
    disconnect()
    yield
    disconnect()


def take(place: _Place, store: Path) -> bytes:
    batch = TakeBatch(cast(Origin, place), str(store), (OriginObject("key", len(place.name), "t"),))
    result = take_objects(batch)
    discard_packs(result.packs)
    return result.digests[0]


def test_batches_of_equal_origins_go_by_one_connection_until_all_are_done(tmp_path: Path) -> None:
    first, second, other = _Place(b"one"), _Place(b"one"), _Place(b"another")
    for place in (first, second):
        assert take(place, tmp_path) == digest_of(b"one")
    assert (first.connected, second.connected) == (True, False)
    assert take(other, tmp_path) == digest_of(b"another")
    assert (first.connected, other.connected) == (False, True)
    disconnect()
    assert not other.connected
    assert take(second, tmp_path) == digest_of(b"one")
    assert (first.connected, second.connected) == (False, True)
