"""Files in columns: what follows from them is what follows from an object for each."""

from __future__ import annotations

import os
import stat
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st
from msgspec import msgpack
from msgspec.structs import astuple

from dvtool.format.digest import digest_of
from dvtool.format.manifest import Entry, Manifest, cut_shards
from dvtool.format.paths import folder_of, folder_runs, joined
from dvtool.system.stat import is_executable, stat_of
from dvtool.workspace.added import added_rows
from dvtool.workspace.agreement import entries_by_folder, sorted_entries_by_folder
from dvtool.workspace.folder_state import state_by, state_of_columns
from dvtool.workspace.read_files import ReadFiles, state_columns
from dvtool.workspace.statcache import (
    WHOLE_SECOND_NS,
    Seen,
    SeenFolder,
    encode_seen_names,
    seen_added,
    seen_folder_of,
)

READ_AT_NS = 1_700_000_000 * WHOLE_SECOND_NS
SETTLED_NS = READ_AT_NS - 2 * WHOLE_SECOND_NS
NEAR = st.integers(SETTLED_NS - 2, READ_AT_NS + 2)
TIMES = st.integers(-(1 << 63), (1 << 63) - 1) | NEAR
SETTLED = st.sampled_from([0, 1, SETTLED_NS - 1])
PATHS = st.sets(
    st.text("ab/.", min_size=1, max_size=12).filter(lambda path: path[0] != "/"),
    min_size=1,
    max_size=40,
).map(sorted)


def stats_of(mode: int, inode: int, size: int, mtime_ns: int, ctime_ns: int) -> os.stat_result:
    times = {"st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns}
    return os.stat_result((stat.S_IFREG | mode, inode, 0, 1, 0, 0, size, 0, 0, 0), times)


def files(times: st.SearchStrategy[int]) -> st.SearchStrategy[list[os.stat_result]]:
    modes, sizes = st.sampled_from([0o644, 0o755, 0o600]), st.integers(0, 1 << 16)
    stats = st.builds(stats_of, modes, st.integers(0, (1 << 64) - 1), sizes, times, times)
    return st.lists(stats, min_size=1, max_size=20)


def read_files(stats: list[os.stat_result]) -> ReadFiles:
    read = ReadFiles()
    for number, file_stats in enumerate(stats):
        read.append(f"{number:02}", digest_of(b"%d" % number), file_stats)
    return read


@given(files(TIMES) | files(NEAR) | files(SETTLED))
def test_the_same_is_remembered_of_them(stats: list[os.stat_result]) -> None:
    read = read_files(stats)
    rows = zip(
        read.paths, map(stat_of, stats), read.digests(), map(is_executable, stats), strict=True
    )
    assert read.seen(READ_AT_NS) == [astuple(seen) for _, seen in seen_added(rows, READ_AT_NS)]
    assert list(read.sizes()) == [file_stats.st_size for file_stats in stats]
    assert read.executable() == list(map(is_executable, stats))


@given(files(TIMES))
def test_a_part_is_as_if_it_were_all(stats: list[os.stat_result]) -> None:
    read, half = read_files(stats), len(stats) // 2
    whole = read.part(0, half)
    whole.extend(read.paths[half:], read.part(half, len(read) + 5))
    assert whole == read
    assert list(read.part(half, len(read))) == list(read)[half:]


@given(files(SETTLED | st.integers(-(1 << 63), -1)), st.randoms())
def test_a_folder_has_the_same_state(stats: list[os.stat_result], random: object) -> None:
    read = read_files(stats)
    order = list(range(len(read)))
    random.shuffle(order)  # type: ignore[attr-defined]
    names = [read.paths[number] for number in order]
    rows = read.rows(0, len(read))
    columns = state_columns([rows[number] for number in order], len(read))
    expected = state_by(names, [stat_of(stats[number]) for number in order], ["folder"])
    assert state_of_columns(names, columns, ["folder"]) == expected


@given(PATHS)
def test_stretches_of_a_folder_have_each_path_once(paths: list[str]) -> None:
    pairs = [
        (folder, path) for folder, begin, end in folder_runs(paths) for path in paths[begin:end]
    ]
    assert pairs == [(folder_of(path), path) for path in paths]


@given(PATHS, st.sets(st.integers(0, 39)))
def test_entries_are_counted_alike(paths: list[str], begins: set[int]) -> None:
    entry = Entry(blake3=digest_of(b"").hex(), size=0)
    bounds = [0, *sorted(begins & set(range(1, len(paths)))), len(paths)]
    shards = [
        shard.ref
        for begin, end in pairwise(bounds)
        for shard in cut_shards((path, entry) for path in paths[begin:end])
    ]
    manifest = Manifest("dir", None, tuple(shards))
    assert sorted_entries_by_folder(paths, manifest) == entries_by_folder(paths, manifest)


@given(files(TIMES) | files(NEAR) | files(SETTLED), PATHS, st.integers(1, 7))
def test_the_rows_are_those_of_the_statcache(
    stats: list[os.stat_result], paths: list[str], at_once: int
) -> None:
    read = ReadFiles()
    for path, file_stats in zip(paths, stats, strict=False):
        read.append(path, digest_of(path.encode()), file_stats)
    folders: dict[str, SeenFolder] = {}
    rows = zip(read.paths, read.stats(), read.digests(), read.executable(), strict=True)
    seen = dict(seen_added(rows, READ_AT_NS))
    for path, seen_file in seen.items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(joined("target", folder), {})[name] = seen_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dvtool.workspace.added.SAVED_AT_ONCE", at_once)
        added = added_rows("target", read, READ_AT_NS)
    assert dict(added.rows) == {path: msgpack.encode(names) for path, names in folders.items()}
    assert added.racy == [path for path, seen_file in seen.items() if seen_file.size < 0]


@pytest.mark.parametrize("count", [1, 7, 8, 15, 16, 32_767, 32_768, 65_535, 65_536])
def test_a_folder_of_any_size_is_encoded_in_parts_as_at_one_time(count: int) -> None:
    names = [f"{number}" for number in range(count)]
    seen = [astuple(Seen(1, 2, 3, 4, False, digest_of(b""), True))] * count
    parts = [
        encode_seen_names(names[begin : begin + 50_000], seen[begin : begin + 50_000])
        for begin in range(0, count, 50_000)
    ]
    assert seen_folder_of(count, parts) == msgpack.encode(dict(zip(names, seen, strict=True)))
