"""Shard objects by columns: what `decode_object` makes of them, and the same errors."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, strategies as st

from dvtool.errors import CorruptError
from dvtool.format.digest import digest_of
from dvtool.format.file_columns import FileColumns
from dvtool.format.file_places import FilePlaces, decode_fetched, decode_listed
from dvtool.format.locations import (
    NO_PACK,
    Located,
    RemotePack,
    decode_object,
    encode_locations,
    encode_object,
    encode_place_rows,
)
from dvtool.format.manifest import Entry, ShardText, shard_refs
from dvtool.format.pack import Placement

NAME = "shards/ab/cd"
PACKS = [RemotePack(digest_of(b"pack %d" % n), 10_000 * (n + 1)) for n in range(3)]
CHUNK_SIZE = 50


def shard_of(contents: list[int]) -> ShardText:
    """A shard of files, each with the content of a number, which says its size too."""
    entries = {
        f"f{at:03}": Entry(blake3=digest_of(b"%d" % number).hex(), size=CHUNK_SIZE + number)
        for at, number in enumerate(contents)
    }
    (shard,) = shard_refs(entries)
    return shard


def chunk_of(number: int) -> Located:
    placement = Placement(digest_of(b"%d" % number), 90 * number, 100, number, CHUNK_SIZE + number)
    return Located(PACKS[number % 3], placement)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.booleans())
def test_an_object_is_read_alike(contents: list[int], several: bool) -> None:
    shard = shard_of(contents)
    locations = {digest_of(b"%d" % n): [chunk_of(n)] for n in dict.fromkeys(contents)}
    if several:  # one file is two chunks
        (first,) = locations[digest_of(b"%d" % contents[0])]
        halves = [
            Located(first.pack, Placement(digest_of(b"half %d" % at), 0, 100, 0, size))
            for at, size in enumerate((1, first.placement.size - 1))
        ]
        locations[digest_of(b"%d" % contents[0])] = halves
    data = encode_object(shard.text, locations)
    entries, plain = decode_object(data, shard.ref, NAME)
    listed = decode_listed(data, shard.ref, NAME)
    assert listed.text == plain.text
    assert list(listed.locations.items()) == list(plain.locations.items())
    assert isinstance(listed.locations, FilePlaces) != several
    fetched_entries, fetched = decode_fetched(data, shard.ref, NAME)
    assert list(fetched_entries.items()) == list(entries.items())
    assert (fetched.text, fetched.places) == (plain.text, plain.places)
    assert list(fetched.locations.items()) == list(plain.locations.items())
    if isinstance(fetched.locations, FilePlaces):
        named = {chunk.pack for chunks in plain.locations.values() for chunk in chunks}
        assert fetched.locations.packs_used() == named
    if isinstance(listed.listed, FileColumns):
        assert listed.listed.paths == list(entries)
        assert list(listed.listed.sizes) == [entry.size for entry in entries.values()]
    assert listed.locations.keys() == plain.locations.keys()
    assert digest_of(b"another") not in listed.locations
    assert listed.locations.get(digest_of(b"another")) is None


def test_no_changed_byte_of_the_places_gives_others() -> None:
    """The guard in the header is made to fit: what is wrong is found in the places themselves."""
    shard = shard_of([3, 1, 2, 1])
    raw = encode_locations({digest_of(b"%d" % n): [chunk_of(n)] for n in (3, 1, 2)})
    refused = 0
    for at in range(len(raw)):
        for value in (0, 1, 255):
            bent = raw[:at] + bytes([value]) + raw[at + 1 :]
            data = encode_object(shard.text, bent)
            try:
                plain = decode_object(data, shard.ref, NAME)[1].locations
            except CorruptError as error:
                refused += 1
                with pytest.raises(CorruptError) as raised:
                    decode_listed(data, shard.ref, NAME)
                assert str(raised.value) == str(error)
                with pytest.raises(CorruptError) as raised:
                    decode_fetched(data, shard.ref, NAME)
                assert str(raised.value) == str(error)
            else:
                assert dict(decode_listed(data, shard.ref, NAME).locations) == plain
    assert refused > 100


def test_the_form_that_a_store_keeps_has_no_places() -> None:
    shard = shard_of([1, 2])
    assert not decode_listed(encode_object(shard.text, None), shard.ref, NAME).locations


def test_a_chunk_in_no_pack_without_a_reference_is_refused() -> None:
    shard = shard_of([1])
    row = (NO_PACK, digest_of(b"1"), 0, 0, 0, CHUNK_SIZE + 1)
    raw = encode_place_rows({}, [row], array("I", [1]))
    with pytest.raises(CorruptError):
        decode_listed(encode_object(shard.text, raw), shard.ref, NAME)
