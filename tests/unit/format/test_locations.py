"""Shard objects: entries that are hashed, locations that are hints but never point astray."""

from __future__ import annotations

import contextlib
import struct
from array import array

import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from dvtool.errors import CorruptError
from dvtool.format.digest import EMPTY, Digest, digest_of, guard_of
from dvtool.format.locations import (
    HEADER,
    LOCATION_COUNTS,
    PART_RAW_SIZE_MAX_BYTES,
    SHARD_MAGIC,
    Located,
    RemotePack,
    contents_of,
    decode_locations,
    decode_object,
    encode_locations,
    encode_object,
    split_object,
    with_locations,
    without_locations,
)
from dvtool.format.manifest import Entries, Entry, ShardText, decode_shard, shard_refs
from dvtool.format.pack import PACK_SIZE_MAX_BYTES, Placement
from dvtool.format.references import REFERENCE_TEXT_MAX_BYTES

NAME = "shards/ab/cd"
PACKS = [RemotePack(digest_of(b"pack %d" % n), 10_000 * (n + 1)) for n in range(3)]
Locations = dict[Digest, list[Located]]


def located(pack: int, digest: Digest, size: int, *, offset: int = 0, start: int = 0) -> Located:
    return Located(PACKS[pack], Placement(digest, offset, 100, start, size))


def sample() -> tuple[Entries, Locations]:
    one, two, three = (digest_of(b"file %d" % n) for n in range(3))
    entries = {
        "a": Entry(blake3=one.hex(), size=10),
        "b": Entry(blake3=two.hex(), size=3_000, exec=True),
        "c": Entry(blake3=one.hex(), size=10),
        "d": Entry(blake3=EMPTY.hex(), size=0),
        "e": Entry(symlink="a"),
        "f": Entry(dir=True),
        "g": Entry(blake3=three.hex(), size=20),
    }
    locations = {
        one: [located(0, one, 10, start=7)],
        two: [
            located(0, digest_of(b"x"), 1_000),
            located(2, digest_of(b"y"), 1_500, offset=29_900),
            located(0, digest_of(b"z"), 500, offset=5_000),
        ],
        three: [located(1, three, 20)],
    }
    return entries, locations


def text_of(entries: Entries) -> ShardText:
    (shard,) = shard_refs(entries)
    return shard


def decoded(data: bytes, shard: ShardText) -> tuple[Entries, Locations]:
    text, raw = split_object(data, NAME)
    entries = decode_shard(text, shard.ref)
    return entries, decode_locations(raw, entries, NAME)


def object_of(text: bytes, raw: bytes) -> bytes:
    """An object with any locations, its header sound."""
    compress = zstandard.ZstdCompressor().compress
    entries, stored = compress(text), compress(raw)
    sizes = (len(entries), len(text), len(stored), len(raw))
    return HEADER.pack(b"\x89dvshrd\n", *sizes, guard_of(stored)) + entries + stored


class Columns:
    """The columns of locations, to be bent before they are encoded."""

    def __init__(self) -> None:
        entries, locations = sample()
        self.entries = entries
        _, raw = split_object(encode_object(text_of(entries).text, locations), NAME)
        self.counts = list(LOCATION_COUNTS.unpack_from(raw))
        packs, files, chunks, named = self.counts
        at = LOCATION_COUNTS.size + 32 * packs
        self.digests = raw[LOCATION_COUNTS.size : at]
        numbers = array("I", raw[at : at + 4 * (packs + files + 5 * chunks)])
        self.pack_sizes = list(numbers[:packs])
        self.file_chunks = list(numbers[packs : packs + files])
        rest = numbers[packs + files :]
        self.columns = [list(rest[n * chunks : (n + 1) * chunks]) for n in range(5)]
        self.names = raw[len(raw) - 32 * named :]

    def encoded(self) -> bytes:
        numbers = [self.pack_sizes, self.file_chunks, *self.columns]
        middle = b"".join(array("I", column).tobytes() for column in numbers)
        return LOCATION_COUNTS.pack(*self.counts) + self.digests + middle + self.names

    def refusal(self) -> str:
        with pytest.raises(CorruptError) as caught:
            decode_locations(self.encoded(), self.entries, NAME)
        assert NAME in str(caught.value)
        return str(caught.value)


# --- round trips ----------------------------------------------------------------------------


def test_an_object_gives_back_entries_and_locations() -> None:
    entries, locations = sample()
    shard = text_of(entries)
    assert decoded(encode_object(shard.text, locations), shard) == (entries, locations)


def test_the_local_form_has_no_locations() -> None:
    entries, _ = sample()
    shard = text_of(entries)
    data = encode_object(shard.text, None)
    assert decoded(data, shard) == (entries, {})
    assert split_object(data, NAME) == (shard.text, b"")


def stored_as(frame: bytes, text: bytes) -> bytes:
    return HEADER.pack(SHARD_MAGIC, len(frame), len(text), 0, 0, guard_of(b"")) + frame


def test_a_text_that_no_writer_stores_so_is_not_kept_as_it_came() -> None:
    """It would go on to other remotes: too long an object, or one that not every reader takes."""
    text = text_of(sample()[0]).text
    assert without_locations(encode_object(text, None), NAME) == encode_object(text, None)
    plain = zstandard.ZstdCompressor(write_content_size=False, write_checksum=False)
    blocks = plain.compress(text)[6:]
    for window, padding, kept in (
        (0x50, b"", True),  # 1 MiB
        (0x50, bytes(3) * len(text), False),  # blocks of no bytes
        (0x70, b"", False),  # 16 MiB
    ):
        head = b"\x28\xb5\x2f\xfd\x80" + bytes([window]) + struct.pack("<I", len(text))
        data = stored_as(head + padding + blocks, text)
        assert split_object(data, NAME) == (text, b"")
        assert without_locations(data, NAME) == (data if kept else None)


def test_each_content_counts_once_and_empty_ones_not_at_all() -> None:
    entries, locations = sample()
    assert list(contents_of(entries).items()) == [
        (digest, sum(chunk.placement.size for chunk in chunks))
        for digest, chunks in locations.items()
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(1, (4 << 20) - 8), st.integers(0, 9_000)),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_locations_come_back(files: list[list[tuple[int, int, int]]]) -> None:
    entries: Entries = {}
    locations: Locations = {}
    for number, chunks in enumerate(files):
        file = digest_of(b"%d" % number)
        names = [digest_of(b"%d %d" % (number, n)) for n in range(len(chunks))]
        if len(chunks) == 1:
            names = [file]
        locations[file] = [
            located(pack, name, size, offset=offset, start=number)
            for name, (pack, size, offset) in zip(names, chunks, strict=True)
        ]
        size = sum(size for _, size, _ in chunks)
        entries[f"{number:03}"] = Entry(blake3=file.hex(), size=size)
    _, raw = split_object(encode_object(text_of(entries).text, locations), NAME)
    assert decode_locations(raw, entries, NAME) == locations


def test_the_bent_columns_are_sound_before_they_are_bent() -> None:
    entries, locations = sample()
    assert decode_locations(Columns().encoded(), entries, NAME) == locations


# --- damage ---------------------------------------------------------------------------------


def test_every_truncation_is_refused() -> None:
    entries, locations = sample()
    shard = text_of(entries)
    data = encode_object(shard.text, locations)
    for size in range(len(data)):
        with pytest.raises(CorruptError):
            decoded(data[:size], shard)
    with pytest.raises(CorruptError):
        decoded(data + b"x", shard)


def test_no_flipped_bit_gives_other_entries_or_locations() -> None:
    entries, locations = sample()
    shard = text_of(entries)
    data = encode_object(shard.text, locations)
    for at in range(len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            with contextlib.suppress(CorruptError):
                assert decoded(bytes(bad), shard) == (entries, locations)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_locations_of_any_bytes_are_refused_or_within_their_packs(data: st.DataObject) -> None:
    """Behind a sound guard: locations that somebody made on purpose."""
    columns = Columns()
    raw = bytearray(columns.encoded())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from([0, 1, 2, 255]))
    try:
        locations = decode_locations(bytes(raw), columns.entries, NAME)
    except CorruptError as error:
        assert NAME in str(error)
        return
    assert locations.keys() == contents_of(columns.entries).keys()
    for digest, chunks in locations.items():
        assert sum(c.placement.size for c in chunks) == contents_of(columns.entries)[digest]
        for chunk in chunks:
            place = chunk.placement
            assert place.frame_offset + place.frame_size <= chunk.pack.size <= PACK_SIZE_MAX_BYTES


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        split_object(data, NAME)
    with pytest.raises(CorruptError):
        split_object(b"\x89dvshrd\n" + data, NAME)


# --- hostile locations ----------------------------------------------------------------------


def test_a_place_outside_of_its_pack_is_refused() -> None:
    for column, value in ((1, 9_901), (1, 0xFFFFFFFF), (2, 10_001), (2, 0xFFFFFFFF)):
        bent = Columns()
        bent.columns[column][0] = value
        assert "outside of a pack" in bent.refusal()


def test_a_frame_that_no_pack_can_have_is_refused() -> None:
    for value, said in ((0, "a frame of 0 bytes"), ((4 << 20) + 2, "a frame of 4,194,306 bytes")):
        bent = Columns()
        bent.pack_sizes[0] = PACK_SIZE_MAX_BYTES
        bent.columns[2][0] = value
        assert said in bent.refusal()


def test_a_chunk_that_no_frame_can_have_is_refused() -> None:
    for column, value in ((3, 4 << 20), (3, 0xFFFFFFFF), (4, 0), (4, 0xFFFFFFFF)):
        bent = Columns()
        bent.columns[column][0] = value
        assert "outside of a frame" in bent.refusal()


def test_a_pack_that_is_not_there_is_refused() -> None:
    for number in (3, 0xFFFFFFFF):
        bent = Columns()
        bent.columns[0][0] = number
        assert "outside of a pack" in bent.refusal()


def test_a_pack_larger_than_packs_are_is_refused() -> None:
    bent = Columns()
    bent.pack_sizes[0] = PACK_SIZE_MAX_BYTES + 1
    assert "names a pack of more than" in bent.refusal()


def test_chunks_that_do_not_make_the_size_of_their_file_are_refused() -> None:
    for chunk in range(5):
        bent = Columns()
        bent.columns[4][chunk] += 1
        assert "not of the file's size" in bent.refusal()


def test_counts_that_do_not_add_up_are_refused() -> None:
    for counts in ([1, 4, 1], [1, 3, 2], [0, 3, 1], [2, 2, 1], [0xFFFFFFFF, 3, 1]):
        bent = Columns()
        bent.file_chunks = counts
        bent.refusal()
    for at in range(4):
        for value in (0, 0xFFFFFFFF):
            bent = Columns()
            bent.counts[at] = value
            bent.refusal()


def test_locations_for_more_or_fewer_files_are_refused() -> None:
    bent = Columns()
    for path in ("a", "g"):
        entries = {name: entry for name, entry in bent.entries.items() if name != path}
        if path == "a":
            entries.pop("c")
        with pytest.raises(CorruptError, match="do not fit"):
            decode_locations(bent.encoded(), entries, NAME)


# --- hostile headers ------------------------------------------------------------------------


def test_a_part_that_claims_too_much_is_not_unpacked() -> None:
    huge = zstandard.ZstdCompressor().compress(bytes(PART_RAW_SIZE_MAX_BYTES + 1))
    header = HEADER.pack(
        b"\x89dvshrd\n", len(huge), PART_RAW_SIZE_MAX_BYTES + 1, 0, 0, guard_of(b"")
    )
    with pytest.raises(CorruptError, match="claims to unpack"):
        split_object(header + huge, NAME)


def test_an_object_from_elsewhere_is_checked_against_its_hash_and_its_entries() -> None:
    files = {digest_of(b"file %d" % number): 1_000 * number for number in (1, 2, 3)}
    entries = {f"{size}": Entry(blake3=one.hex(), size=size) for one, size in files.items()}
    locations = {digest: [located(0, digest, size)] for digest, size in files.items()}
    shard = text_of(entries)
    got, parts = decode_object(encode_object(shard.text, locations), shard.ref, NAME)
    assert (got, parts.locations) == (entries, locations)
    other = encode_object(shard.text.replace(b"3000", b"3001"), locations)
    with pytest.raises(CorruptError, match=f"{NAME}: its text is not"):
        decode_object(other, shard.ref, NAME)
    # Three files of fewer than 16 KiB have three chunks, of 88 bytes each at most, or a reference.
    most = 16 + 3 * (4 + REFERENCE_TEXT_MAX_BYTES) + 3 * 88
    for size, message in ((most, "do not fit"), (most + 1, "more than")):
        with pytest.raises(CorruptError, match=message):
            decode_object(object_of(shard.text, bytes(size)), shard.ref, NAME)


def test_a_part_that_is_not_as_large_as_the_header_says_is_refused() -> None:
    entries, _ = sample()
    data = bytearray(object_of(text_of(entries).text, Columns().encoded()))
    split_object(bytes(data), NAME)
    for at in (12, 20):
        bad = bytearray(data)
        struct.pack_into("<I", bad, at, struct.unpack_from("<I", data, at)[0] + 1)
        with pytest.raises(CorruptError, match="claims to unpack"):
            split_object(bytes(bad), NAME)


def test_other_locations_leave_the_text_as_it_is_stored() -> None:
    entries, locations = sample()
    shard = text_of(entries)
    kept = encode_object(shard.text, None)
    moved = with_locations(kept, shard.ref.digest, encode_locations(locations), "s")
    assert moved == encode_object(shard.text, locations)
    assert with_locations(moved, shard.ref.digest, b"", "s") == kept
    assert without_locations(moved, "s") == kept
    assert decoded(moved, shard) == (entries, locations)


def test_a_text_that_is_not_the_shards_gets_no_locations() -> None:
    entries, locations = sample()
    shard = text_of(entries)
    other = encode_object(shard.text.replace(b"}", b" }", 1), None)
    for data in (other, encode_object(shard.text, None)[:-1]):
        with pytest.raises(CorruptError, match=r"^s: "):
            with_locations(data, shard.ref.digest, encode_locations(locations), "s")
