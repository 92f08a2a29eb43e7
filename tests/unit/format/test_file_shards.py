"""Shards of files alone are those that their entries have."""

from __future__ import annotations

from hypothesis import given, strategies as st

from dvtool.format import file_shards, manifest
from dvtool.format.chunker import GIB
from dvtool.format.digest import digest_of
from dvtool.format.file_shards import cut_file_shards
from dvtool.format.manifest import Entry, cut_shards, decode_shard

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
FILES = st.dictionaries(
    NAMES | st.text("ab/", min_size=1),
    st.tuples(st.integers(0, 100_000) | st.integers(0, 300 * GIB), st.booleans()),
)


@given(FILES, st.sampled_from([2, 5]), st.sampled_from([3, 1000]), st.sampled_from([40, 1 << 18]))
def test_they_are_cut_and_written_alike(
    files: dict[str, tuple[int, bool]], average: int, entries_max: int, chunks_max: int
) -> None:
    rows = [(path, digest_of(path.encode()), *files[path]) for path in sorted(files)]
    paths, digests, sizes, executable = zip(*rows, strict=True) if rows else ((),) * 4
    entries = [
        (path, Entry(blake3=digest.hex(), size=size, exec=executable))
        for path, digest, size, executable in rows
    ]
    before = {}
    for name, value in (
        ("SHARD_ENTRIES_AVERAGE", average),
        ("SHARD_ENTRIES_MAX", entries_max),
        ("SHARD_CHUNKS_MAX", chunks_max),
    ):
        before[name] = getattr(manifest, name)
        setattr(manifest, name, value)
        setattr(file_shards, name, value)
    try:
        shards = list(cut_file_shards(paths, b"".join(digests), sizes, executable))
        assert shards == list(cut_shards(entries))
    finally:
        for name, value in before.items():
            setattr(manifest, name, value)
            setattr(file_shards, name, value)


def test_they_can_be_read() -> None:
    paths = [f'"{n:03}\n\u00e9' for n in range(300)]
    digests = b"".join([digest_of(path.encode()) for path in paths])
    executable = [n % 3 == 0 for n in range(300)]
    for shard in cut_file_shards(paths, digests, range(1, 301), executable):
        assert list(decode_shard(shard.text, shard.ref)) == paths
