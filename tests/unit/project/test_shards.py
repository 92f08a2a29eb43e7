"""Where missing shards come from: all at once from a remote, or from nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from dvtool.errors import ManifestError, MissingError, RemoteError
from dvtool.format.manifest import Built, Entry, ShardRef, build
from dvtool.project.shards import ShardSource
from dvtool.store.local import LocalStore

BUILT: Built = build("dir", {f"{number:04}": Entry(dir=True) for number in range(2_000)})
REFS = BUILT.manifest.shards


class Remotes:
    """Gives every shard that is asked for, and remembers who was asked for which."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.asked: list[tuple[str | None, list[ShardRef]]] = []

    def __call__(self, remote: str | None, refs: Sequence[ShardRef], *, places: bool) -> None:
        self.asked.append((remote, list(refs)))
        self.store.put_shards(BUILT.shards)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "store"))


def test_the_store_answers_from_its_disk_alone(store: LocalStore) -> None:
    with pytest.raises(MissingError, match=REFS[0].blake3[:12]):
        store.load_shard(REFS[0])


def test_missing_shards_are_fetched_once_and_together(store: LocalStore) -> None:
    remotes = Remotes(store)
    source = ShardSource(store, remotes)
    source.need(REFS)
    source.need(REFS)
    assert remotes.asked == [(None, list(REFS))]
    assert source.load(REFS[0])


def test_a_shard_that_is_read_is_fetched_first(store: LocalStore) -> None:
    remotes = Remotes(store)
    assert ShardSource(store, remotes).load(REFS[0])
    assert remotes.asked == [(None, [REFS[0]])]


def test_a_named_remote_is_asked_in_place_of_the_default_one(store: LocalStore) -> None:
    remotes = Remotes(store)
    ShardSource(store, remotes).at("backup").need(REFS)
    assert [remote for remote, _ in remotes.asked] == ["backup"]


def test_from_nowhere_nothing_is_asked(store: LocalStore) -> None:
    remotes = Remotes(store)
    source = ShardSource(store, remotes).nowhere()
    source.need(REFS)
    with pytest.raises(MissingError, match=REFS[0].blake3[:12]):
        source.load(REFS[0])
    assert remotes.asked == []


def test_what_cannot_be_fetched_is_missing(store: LocalStore) -> None:
    def refuse(remote: str | None, refs: Sequence[ShardRef], *, places: bool) -> None:
        raise RemoteError("it is off", hint="switch it on")

    with pytest.raises(MissingError, match="cannot be fetched: it is off") as caught:
        ShardSource(store, refuse).need(REFS)
    assert caught.value.hint == "switch it on"


def test_entries_that_came_just_now_are_taken_once(store: LocalStore) -> None:
    """Then the store's file counts again, where a later damage of it is noticed."""
    remotes = Remotes(store)
    source = ShardSource(store, remotes)
    source.need(REFS)
    entries = store.held_shard(REFS[0])
    source.without_places().keep_listed([(REFS[0], entries)])
    assert source.listed.entries == {}  # nobody wants them
    source.listed.wanted = True
    source.without_places().keep_listed([(REFS[0], entries)])
    assert source.load(REFS[0]) is entries
    assert source.listed.entries == {}
    other = structs.replace(REFS[0], files=REFS[0].files + 1)
    source.keep_listed([(REFS[0], entries)])
    with pytest.raises(ManifestError, match="describes it wrongly"):
        source.load(other)  # the same hash, by a manifest that says something else of it
    source.let_go()
    assert (source.listed.entries, source.listed.wanted) == ({}, False)
