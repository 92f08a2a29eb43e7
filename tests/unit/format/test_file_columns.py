"""Shards of plain files by columns: the files that `decode_shard` has, or None, never others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given, strategies as st

from dvtool.errors import DvError
from dvtool.format.digest import EMPTY, digest_of
from dvtool.format.file_columns import decode_file_columns
from dvtool.format.manifest import (
    Entry,
    ShardRef,
    decode_any_shard,
    decode_shard,
    encode_entries,
    in_order,
    ref_of,
)

NAMES = [digest_of(b"%d" % number).hex() for number in range(5)]
SIZES = st.one_of(st.integers(1, 120_000), st.sampled_from([1, (1 << 62) - 1]))
FILES = st.builds(Entry, blake3=st.sampled_from(NAMES), size=SIZES)
OTHERS = st.one_of(
    st.builds(Entry, blake3=st.sampled_from(NAMES), size=SIZES, exec=st.just(True)),
    st.sampled_from([Entry(blake3=EMPTY.hex(), size=0), Entry(symlink="a"), Entry(dir=True)]),
)
PATHS = st.text(st.sampled_from('ab0/. "\\-é€~:\x7f\n\u2028'), min_size=1, max_size=6)
PLAIN = {
    "a": Entry(blake3=NAMES[0], size=5),
    "b b/c": Entry(blake3=NAMES[1], size=2000),
    "b b/d": Entry(blake3=NAMES[2], size=17),
}


def shard_of(entries: Mapping[str, Entry]) -> tuple[bytes, ShardRef]:
    ordered = in_order(entries)
    text = encode_entries(ordered)
    return text, ref_of(ordered, digest_of(text).hex())


def require_the_same_or_none(text: bytes, ref: ShardRef) -> bool:
    """Whether there are columns; they are those of entries that `decode_shard` takes."""
    columns = decode_file_columns(text, ref)
    if columns is None:
        return False
    entries = decode_shard(text, ref)
    assert columns.paths == list(entries)
    assert columns.digests == b"".join(entry.digest for entry in entries.values())
    assert list(columns.sizes) == [entry.size for entry in entries.values()]
    assert all(entry.is_file and not entry.exec for entry in entries.values())
    return True


def ref_described(text: bytes) -> ShardRef:
    """How a manifest would refer to a text that is laid out in any way."""
    digest = digest_of(text)
    try:
        return ref_of(decode_any_shard(text, digest), digest.hex())
    except DvError:
        size = sum(entry.size for entry in PLAIN.values())
        return ShardRef(first="a", files=len(PLAIN), bytes=size, blake3=digest.hex())


def test_plain_files_are_read() -> None:
    assert require_the_same_or_none(*shard_of(PLAIN))
    assert require_the_same_or_none(*shard_of({"é€": Entry(blake3=NAMES[0], size=1)}))


@given(st.dictionaries(PATHS, FILES, min_size=1, max_size=6))
def test_any_plain_files_are_read_or_refused_alike(entries: dict[str, Entry]) -> None:
    text, ref = shard_of(entries)
    try:
        decode_shard(text, ref)
    except DvError:
        assert decode_file_columns(text, ref) is None
    else:
        unusual = "." in entries or any(letter in path for path in entries for letter in '"\\\n')
        assert require_the_same_or_none(text, ref) or unusual


@given(st.dictionaries(PATHS, FILES, max_size=3), PATHS, OTHERS)
def test_what_is_more_than_plain_files_is_left(
    entries: dict[str, Entry], path: str, other: Entry
) -> None:
    text, ref = shard_of({**entries, path: other})
    assert decode_file_columns(text, ref) is None


def bent_texts() -> Iterator[bytes]:
    """Texts of the same length as the canonical one, many of them JSON with the same entries."""
    text, _ = shard_of(PLAIN)
    for at in range(len(text) - 1):
        yield text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]
        for letter in b' 0A"\\/':
            yield text[:at] + bytes([letter]) + text[at + 1 :]
    for space in (at for at, letter in enumerate(text) if letter in b" \n"):
        less = text[:space] + text[space + 1 :]
        for at in range(len(less) + 1):
            yield from (less[:at] + blank + less[at:] for blank in (b" ", b"\n", b"\t"))
    name = f'"{NAMES[0]}"'.encode()
    for before, after in (
        (b'"size": 5', b'"blake3": 5'),
        (b'"blake3": %b, "size": 5' % name, b'"size": 5, "blake3": %b' % name),
        (NAMES[0].encode(), NAMES[0].upper().encode()),
        (b'"b b/d"', b'"b b/c"'),
        (b'"b b/d"', b'"a/////"'),
        (b'"b b/d"', b'"a/bcd"'),
        (b'"b b/d"', b'"../xy"'),
        (b'"b b/d"', b'"\\u0063"'),
        (b"2000", b" 2e3"),
        (b"2000", b"2e+3"),
        (b"2000", b"20.0"),
        (b"2000", b"0200"),
        (b"2000", b"-200"),
        (NAMES[0].encode(), EMPTY.hex().encode()),
        (NAMES[0].encode(), NAMES[0][:-1].encode() + b" "),
    ):
        assert before in text
        yield text.replace(before, after)


def test_no_bent_text_is_read_that_is_refused() -> None:
    taken = sum(require_the_same_or_none(bent, ref_described(bent)) for bent in bent_texts())
    assert taken > 100  # other hashes, sizes and letters in paths


@pytest.mark.parametrize(
    "ref",
    [
        {"first": "b"},
        {"files": 2},
        {"bytes": 2021},
        {"blake3": NAMES[0]},
    ],
)
def test_a_shard_that_the_manifest_describes_wrongly_is_left(ref: dict[str, str]) -> None:
    text, sound = shard_of(PLAIN)
    wrong = ShardRef(
        **{"first": sound.first, "files": sound.files, "bytes": sound.bytes, "blake3": sound.blake3}
        | ref
    )
    assert decode_file_columns(text, wrong) is None
