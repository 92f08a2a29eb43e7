"""The statcache: never believed where it could be wrong, thrown away where it is damaged."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dvtool.format.digest import digest_of
from dvtool.workspace.statcache import (
    TICK_NS,
    WHOLE_SECOND_NS,
    AgreedFolder,
    Seen,
    SeenFolder,
    StatCache,
    seen_file,
    seen_other,
)

DIGEST = digest_of(b"content")
OLD_NS = 1_700_000_000_123_456_789


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "dv" / "statcache.db"


def seen(name: str = "", *, tracked: bool = True) -> Seen:
    return Seen(1, 2, 3, 4, False, digest_of(name.encode()), tracked)


def stat_of(path: Path, mtime_ns: int | None = None) -> os.stat_result:
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns))
    return path.stat()


def remembered(found: os.stat_result, read_at_ns: int) -> Seen:
    return seen_file(found, DIGEST, executable=False, read_at_ns=read_at_ns, tracked=True)


# --- what counts as unchanged ---------------------------------------------------------------


def test_a_file_that_rests_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    found = path.stat()
    what = remembered(found, max(found.st_mtime_ns, found.st_ctime_ns) + 5 * WHOLE_SECOND_NS)
    assert what.matches(path.stat())
    assert what.digest == DIGEST


def test_every_kind_of_change_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def fresh() -> Seen:
        path.unlink(missing_ok=True)
        path.write_bytes(b"content")
        return remembered(stat_of(path, OLD_NS), time.time_ns() + 5 * WHOLE_SECOND_NS)

    what = fresh()
    assert what.matches(path.stat())
    path.write_bytes(b"contents")
    assert not what.matches(stat_of(path, OLD_NS))
    what = fresh()
    assert not what.matches(stat_of(path, OLD_NS + 1))
    what = fresh()
    other = tmp_path / "other"
    other.write_bytes(b"CONTENT")
    os.utime(other, ns=(OLD_NS, OLD_NS))
    os.replace(other, path)
    assert not what.matches(path.stat())
    # The same size, inode and mtime: only the ctime, which no program can set, tells.
    what = fresh()
    time.sleep(0.02)
    with open(path, "r+b") as file:
        file.write(b"CONTENT")
    assert not what.matches(stat_of(path, OLD_NS))


def test_a_file_written_just_before_it_was_read_is_read_again(tmp_path: Path) -> None:
    """It could change once more in the same tick, without its stamp changing."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    found = path.stat()
    what = remembered(found, max(found.st_mtime_ns, found.st_ctime_ns) + TICK_NS // 2)
    assert not what.matches(path.stat())
    assert what.digest == DIGEST


@given(
    stamp=st.integers(1, 1 << 61).map(lambda ns: ns * 2 + 1),
    later=st.integers(-WHOLE_SECOND_NS, 3 * WHOLE_SECOND_NS),
)
def test_fine_stamps_are_racy_for_a_tick(stamp: int, later: int) -> None:
    racy = remembered(made_up(stamp), stamp + later).size == -1
    assert racy == (later <= TICK_NS)


@given(second=st.integers(1, 1 << 33), later=st.integers(0, 5 * WHOLE_SECOND_NS))
def test_stamps_of_whole_seconds_are_racy_for_two_seconds(second: int, later: int) -> None:
    """As FAT and some network filesystems have them."""
    stamp = second * WHOLE_SECOND_NS
    racy = remembered(made_up(stamp), stamp + later).size == -1
    assert racy == (later <= 2 * WHOLE_SECOND_NS)


def test_the_later_of_both_stamps_counts() -> None:
    old_mtime = os.stat_result(
        (0o100644, 5, 0, 1, 0, 0, 7, 0, 0, 0, *[0.0] * 3, 0, 100, 10**12 + 1)
    )
    assert remembered(old_mtime, 10**12 + 2).size == -1
    assert remembered(old_mtime, 10**12 + 2 + TICK_NS).size == 7


def made_up(stamp_ns: int) -> os.stat_result:
    fields = (0o100644, 5, 0, 1, 0, 0, 7, 0, 0, 0)
    return os.stat_result((*fields, 0.0, 0.0, 0.0, 0, stamp_ns, stamp_ns))


def test_links_and_folders_are_only_remembered_as_there(tmp_path: Path) -> None:
    assert not seen_other(tracked=True).matches(tmp_path.stat())
    assert seen_other(tracked=True).digest == b""
    assert seen_other(tracked=True).tracked


# --- the file -------------------------------------------------------------------------------


def test_what_was_saved_is_there_for_the_next_process(place: Path) -> None:
    row = {"a": seen("a"), "é\n": seen_other(tracked=False)}
    with StatCache(str(place)) as cache:
        assert cache.folder("data") == {}
        cache.save({"data": row, "data/x": {"b": seen("b")}})
    with StatCache(str(place)) as cache:
        assert cache.folder("data") == row
        cache.save({"data": {"c": seen("c")}, "data/x": {}})
        assert cache.folder("data") == {"c": seen("c")}
        assert cache.folders_below("data") == {"data": {"c": seen("c")}}


FOLDERS = [
    "data",
    "data/a",
    "data/a/b",
    "data/a/b/c",
    "data/a b",
    "data/a-b",
    "data/a.b",
    "data/a0",
    "data/a:b",
    "data/ab",
    "data/aé",
    "data/a/\U0010ffff",
    "data/A",
    "other/data/a",
    "",
]


@pytest.mark.parametrize("place_asked", ["data", "data/a", "data/a b", "data/ab", "dat", "x"])
def test_folders_below_are_those_and_no_namesakes(place: Path, place_asked: str) -> None:
    everything: dict[str, SeenFolder] = {folder: {"f": seen(folder)} for folder in FOLDERS}
    expected = {
        folder: row
        for folder, row in everything.items()
        if folder == place_asked or folder.startswith(place_asked + "/")
    }
    with StatCache(str(place)) as cache:
        cache.save(everything)
        assert cache.folders_below(place_asked) == expected
        assert sorted(cache.paths_below(place_asked)) == sorted(expected)
        cache.forget_below(place_asked)
        assert cache.folders_below(place_asked) == {}
        for folder in everything.keys() - expected.keys():
            assert cache.folder(folder) == everything[folder]


def agreed(*names: str) -> AgreedFolder:
    return AgreedFolder(DIGEST, {DIGEST[:16]: 2}, list(names), [], True)


def test_an_agreed_folder_goes_with_what_it_was_said_of(place: Path) -> None:
    both: SeenFolder = {"a": seen("a"), "b": seen("b")}
    with StatCache(str(place)) as cache:
        cache.save({"data": both, "data/x": both, "data/y": both, "data/z": both})
        cache.save_agreed({f"data/{name}" if name else "data": agreed() for name in ("", *"xyz")})
        cache.save({"data": both | {"c": seen("c")}, "data/x": {"a": seen("a")}}, lost={"data/x"})
        assert cache.agreed_folders("data").keys() == {"data", "data/y", "data/z"}
        cache.save({"data/y": {}})
        assert cache.agreed_folders("data").keys() == {"data", "data/z"}
        cache.forget_below("data/z")
        assert cache.agreed_folders("data") == {"data": agreed()}


# --- damage ---------------------------------------------------------------------------------


def works(place: Path) -> bool:
    with StatCache(str(place)) as cache:
        cache.save({"data": {"a": seen("new")}})
    with StatCache(str(place)) as cache:
        return cache.folder("data") == {"a": seen("new")}


def filled(place: Path) -> None:
    with StatCache(str(place)) as cache:
        cache.save({f"data/{n}": {f"{m}": seen() for m in range(50)} for n in range(20)})


@pytest.mark.parametrize("damage", [b"", b"x", b"not a database" * 100, bytes(5_000)])
def test_a_file_that_is_no_database_is_made_anew(place: Path, damage: bytes) -> None:
    place.parent.mkdir()
    place.write_bytes(damage)
    with StatCache(str(place)) as cache:
        assert cache.folder("data") == {}
        assert cache.folders_below("data") == {}
    assert works(place)


def test_a_file_cut_short_costs_time_only(place: Path) -> None:
    filled(place)
    whole = place.read_bytes()
    for size in range(0, len(whole), len(whole) // 9):
        place.write_bytes(whole[:size])
        with StatCache(str(place)) as cache:
            for row in cache.folders_below("data").values():
                assert all(one == seen() for one in row.values())
            cache.save({"data": {"a": seen("new")}})


def test_a_row_that_cannot_be_read_is_not_known(place: Path) -> None:
    filled(place)
    for blob in (
        b"",
        b"\xc1",
        b"\x93\x01",
        b"\x81\xa1a\x93\x01\x02\x03",
        b"\x81\xa1\xff\xc0",
        "text",
        7,
    ):
        with sqlite3.connect(place) as db:
            db.execute("UPDATE folders SET seen = ? WHERE path = 'data/7'", (blob,))
        db.close()
        with StatCache(str(place)) as cache:
            assert cache.folder("data/7") == {}
            cache.folders_below("data")
            assert len(cache.folder("data/8")) == 50


def test_another_version_is_not_believed(place: Path) -> None:
    filled(place)
    with StatCache(str(place)) as cache:
        cache.save_agreed({"data/7": agreed()})
    with sqlite3.connect(place) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with StatCache(str(place)) as cache:
        assert cache.folders_below("data") == {}
        assert cache.agreed_folders("data") == {}
    assert works(place)


def test_without_a_place_for_its_file_it_only_forgets(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with StatCache(str(tmp_path / "file" / "statcache.db")) as cache:
        cache.save({"data": {"a": seen()}})
        assert cache.folder("data") == {}
        cache.forget_below("data")


def test_a_cache_that_another_process_holds_is_not_thrown_away(place: Path) -> None:
    filled(place)
    with StatCache(str(place)) as one, StatCache(str(place)) as other:
        one.save({"data/one": {"a": seen("1")}})
        other.save({"data/other": {"a": seen("2")}})
        assert one.folder("data/other") == {"a": seen("2")}
        assert other.folder("data/one") == {"a": seen("1")}


def test_a_cache_that_cannot_be_opened_for_a_moment_is_not_thrown_away(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = seen_other(tracked=True)
    with StatCache(str(place)) as cache:
        cache.save({"data": {"empty": known}})
    real = sqlite3.connect

    def unable(*_: object, **__: object) -> sqlite3.Connection:
        return real(str(place / "not-there"))  # as with too many open files

    with monkeypatch.context() as patch, StatCache(str(place)) as cache:
        patch.setattr(sqlite3, "connect", unable)
        assert cache.folder("data") == {}
    with StatCache(str(place)) as cache:
        assert cache.folder("data") == {"empty": known}
