"""Differences: every change is named once, and together they make the one from the other."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dvtool.format import manifest as manifests
from dvtool.format.compare import Difference, differences, differing
from dvtool.format.digest import EMPTY, digest_of
from dvtool.format.manifest import Entries, Entry, ShardRef, build, decode_shard, update


def file(number: int, *, executable: bool = False) -> Entry:
    return Entry(blake3=digest_of(b"%d" % number).hex(), size=number + 1, exec=executable)


def short(found: list[Difference]) -> list[tuple[str, str, str | None]]:
    return [(one.change, one.path, one.source) for one in found]


entries = st.dictionaries(
    st.sampled_from([f"{folder}/{n}" for folder in "abc" for n in range(5)]),
    st.one_of(
        st.builds(file, st.integers(0, 4), executable=st.booleans()),
        st.just(Entry(blake3=EMPTY.hex(), size=0)),
        st.builds(Entry, symlink=st.sampled_from(["x", "y"])),
        st.just(Entry(dir=True)),
    ),
)


def test_each_kind_of_change_has_its_name() -> None:
    old = {"gone": file(1), "same": file(2), "edited": file(3), "old name": file(4)}
    new = {"same": file(2), "edited": file(30), "new name": file(4), "fresh": file(5)}
    found = differences(old, new)
    assert short(found) == [
        ("modified", "edited", None),
        ("added", "fresh", None),
        ("removed", "gone", None),
        ("renamed", "new name", "old name"),
    ]
    assert [one.growth for one in found] == [27, 6, -2, 0]


def test_a_change_of_mode_or_kind_is_a_modification() -> None:
    old = {"mode": file(1), "kind": file(2), "link": Entry(symlink="x")}
    new = {"mode": file(1, executable=True), "kind": Entry(dir=True), "link": Entry(symlink="y")}
    assert {one.change for one in differences(old, new)} == {"modified"}
    assert len(differences(old, new)) == 3


def test_empty_files_links_and_folders_are_no_renames() -> None:
    for entry in (
        Entry(blake3=EMPTY.hex(), size=0),
        Entry(symlink="x"),
        Entry(dir=True),
    ):
        assert short(differences({"a": entry}, {"b": entry})) == [
            ("removed", "a", None),
            ("added", "b", None),
        ]


def test_a_copy_is_an_addition() -> None:
    assert short(differences({"a": file(1)}, {"a": file(1), "b": file(1)})) == [
        ("added", "b", None)
    ]


def test_moving_a_folder_of_equal_files_pairs_each_once() -> None:
    old = {f"old/{n}": file(7) for n in range(5)}
    new = {f"new/{n}": file(7) for n in range(6)}
    assert short(differences(old, new)) == [
        *[("renamed", f"new/{n}", f"old/{n}") for n in range(5)],
        ("added", "new/5", None),
    ]


@settings(max_examples=200, deadline=None)
@given(old=entries, new=entries)
def test_the_differences_make_the_new_from_the_old(old: Entries, new: Entries) -> None:
    found = differences(old, new)
    assert [one.path for one in found] == sorted(one.path for one in found)
    made = dict(old)
    for one in found:
        gone = one.source if one.change == "renamed" else one.path
        assert made.get(gone or "") == one.old or one.change == "added"
        if one.change in ("removed", "renamed"):
            del made[gone or ""]
    for one in found:
        if one.new is not None:
            made[one.path] = one.new
    assert made == new
    size = sum(entry.bytes for entry in new.values()) - sum(entry.bytes for entry in old.values())
    assert sum(one.growth for one in found) == size
    assert not differences(old, dict(reversed(old.items())))


class Shelf:
    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.loaded: list[str] = []

    def load(self, ref: ShardRef) -> Entries:
        self.loaded.append(ref.blake3)
        return decode_shard(self.texts[ref.blake3], ref)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(old=entries, new=entries)
def test_manifests_differ_as_their_entries_do(
    old: Entries, new: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether inline or in shards, on either side."""
    monkeypatch.setattr(manifests, "INLINE_ENTRIES_MAX", 5)
    monkeypatch.setattr(manifests, "SHARD_ENTRIES_AVERAGE", 3)
    monkeypatch.setattr(manifests, "SHARD_ENTRIES_MAX", 4)
    shelf = Shelf()
    sides = []
    for side in (old, new):
        built = build("dir", side)
        shelf.texts.update({shard.ref.blake3: shard.text for shard in built.shards})
        sides.append(built.manifest)
    assert differences(*differing(sides[0], sides[1], shelf.load)) == differences(old, new)
    assert differences(*differing(None, sides[1], shelf.load)) == differences({}, new)
    assert differences(*differing(sides[0], None, shelf.load)) == differences(old, {})


def test_shards_that_both_have_are_not_loaded() -> None:
    many = {f"{n:06}": file(n) for n in range(40_000)}
    shelf = Shelf()
    built = build("dir", many)
    shelf.texts.update({shard.ref.blake3: shard.text for shard in built.shards})
    changed = update(built.manifest, {"020000": None}, shelf.load)
    shelf.texts.update({shard.ref.blake3: shard.text for shard in changed.shards})
    shelf.loaded.clear()
    old, new = differing(built.manifest, changed.manifest, shelf.load)
    assert short(differences(old, new)) == [("removed", "020000", None)]
    assert len(shelf.loaded) == 2
    shelf.loaded.clear()
    assert differing(built.manifest, built.manifest, shelf.load) == ({}, {})
    assert shelf.loaded == []
