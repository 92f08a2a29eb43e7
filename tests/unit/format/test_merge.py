"""Merging manifests by entry: what merges, what conflicts, and that the result is a manifest."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings, strategies as st

from dvtool.errors import ManifestError
from dvtool.format.digest import digest_of
from dvtool.format.manifest import (
    Entries,
    Entry,
    Manifest,
    ShardRef,
    build,
    decode,
    decode_shard,
    encode,
    in_order,
)
from dvtool.format.merge import Merged, merge, merge_changes, shards_needed
from dvtool.format.paths import SELF


def file(content: str, *, executable: bool = False) -> Entry:
    data = content.encode()
    return Entry(blake3=digest_of(data).hex(), size=len(data), exec=executable)


FOLDER = Entry(dir=True)
A, B, C, D = (file(name * 3) for name in "abcd")


def merged(base: Entries, ours: Entries, theirs: Entries) -> tuple[Entries, Merged]:
    result = merge_changes((base, ours), (base, theirs))
    now = dict(ours)
    for path, entry in result.changes.items():
        if entry is None:
            now.pop(path, None)
        else:
            now[path] = entry
    return in_order(now), result


def clean(base: Entries, ours: Entries, theirs: Entries) -> Entries:
    """Merge in both directions, which must come to the same without a conflict."""
    entries, result = merged(base, ours, theirs)
    other, back = merged(base, theirs, ours)
    assert result.conflicts == back.conflicts == []
    assert entries == other
    return entries


def conflicting(base: Entries, ours: Entries, theirs: Entries) -> list[str]:
    entries, result = merged(base, ours, theirs)
    sound(entries)
    return [conflict.path for conflict in result.conflicts]


def sound(entries: Entries) -> None:
    manifest = build("dir", entries).manifest
    assert decode(encode(manifest), "merged") == manifest


# --- what merges ----------------------------------------------------------------------------


def test_changes_to_different_entries() -> None:
    base = {"a": A, "b": B, "c": C}
    assert clean(base, {"a": D, "b": B, "c": C}, {"a": A, "b": B, "x": A}) == {
        "a": D,
        "b": B,
        "x": A,
    }


def test_the_same_change_on_both_sides() -> None:
    assert clean({"a": A}, {"a": B}, {"a": B}) == {"a": B}
    assert clean({"a": A, "b": B}, {"b": B}, {"b": B}) == {"b": B}
    assert clean({}, {"a": A}, {"a": A}) == {"a": A}


def test_delete_against_unchanged() -> None:
    assert clean({"a": A, "b": B}, {"a": A, "b": B}, {"b": B}) == {"b": B}


def test_a_rename_carries_the_other_sides_edit() -> None:
    assert clean({"old": A}, {"new": A}, {"old": B}) == {"new": B}


def test_both_renamed_alike() -> None:
    assert clean({"old": A}, {"new": A}, {"new": A}) == {"new": A}


def test_a_folder_renamed_while_one_file_in_it_changes() -> None:
    base = {"d/a": A, "d/b": B}
    assert clean(base, {"e/a": A, "e/b": B}, {"d/a": C, "d/b": B}) == {"e/a": C, "e/b": B}


def test_an_executable_bit_goes_with_new_content() -> None:
    run = file("aaa", executable=True)
    both = file("bbb", executable=True)
    assert clean({"a": A}, {"a": run}, {"a": B}) == {"a": both}
    assert clean({"a": A}, {"new": run}, {"a": B}) == {"new": both}


def test_an_empty_folder_that_gets_files() -> None:
    assert clean({"d": FOLDER}, {"d/a": A}, {"d/b": B}) == {"d/a": A, "d/b": B}


def test_a_folder_emptied_here_and_filled_there() -> None:
    entries = clean({"d/a": A}, {"d": FOLDER}, {"d/a": A, "d/b": B})
    assert entries == {"d/b": B}


def test_a_rename_against_a_removal_keeps_the_new_name() -> None:
    assert clean({"a": A}, {"b": A}, {}) == {"b": A}


# --- what conflicts -------------------------------------------------------------------------


def test_both_changed_to_different_things() -> None:
    entries, result = merged({"a": A}, {"a": B}, {"a": C})
    assert entries == {"a": B}
    (conflict,) = result.conflicts
    assert (conflict.path, conflict.base, conflict.ours, conflict.theirs) == ("a", A, B, C)


def test_both_added_different_things() -> None:
    assert conflicting({}, {"a": A}, {"a": B}) == ["a"]


@pytest.mark.parametrize(("ours", "theirs"), [({}, {"a": B}), ({"a": B}, {})])
def test_change_against_delete(ours: Entries, theirs: Entries) -> None:
    entries, result = merged({"a": A}, ours, theirs)
    assert entries == ours
    assert [conflict.path for conflict in result.conflicts] == ["a"]


def test_a_file_here_and_a_folder_there() -> None:
    assert conflicting({}, {"d": A}, {"d/x": B}) == ["d/x"]
    assert conflicting({}, {"d/x": B, "d/y": C}, {"d": A}) == ["d"]
    assert conflicting({"d": A}, {"d": B}, {"d/x": C}) == ["d", "d/x"]
    assert conflicting({"d": A}, {"d/x": C}, {"d": B}) == ["d"]
    assert conflicting({"d/x": A}, {"d/x": B}, {"d": C}) == ["d", "d/x"]


def test_a_rename_whose_new_name_is_taken_there() -> None:
    assert conflicting({"a": A}, {"b": A}, {"a": C, "b": D}) == ["a", "b"]


def test_an_edit_carried_to_a_name_that_cannot_be_keeps_our_edit() -> None:
    base = {"a": A}
    entries, result = merged(base, {"a": B, "d": C}, {"d/new": A})
    assert entries == {"a": B, "d": C}
    assert [conflict.path for conflict in result.conflicts] == ["a", "d/new"]


# --- properties -----------------------------------------------------------------------------

names = st.sampled_from(
    ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/f", "e", "e/a", "new\nline", 'q"', "ü/図", "z"]
)
contents = st.sampled_from([A, B, C, D, file("aaa", executable=True), FOLDER])


def without_nesting(entries: Entries) -> Entries:
    return in_order(
        {
            path: entry
            for path, entry in entries.items()
            if not any(path.startswith(other + "/") for other in entries)
        }
    )


trees = st.dictionaries(names, contents, max_size=8).map(without_nesting)


@settings(max_examples=600, deadline=None)
@given(trees, trees, trees)
@example({"a": A}, {"a": B, "d": C}, {"d/e": A})
@example({"a": A, "d": FOLDER}, {"b": A}, {"a": B, "b/x": D})
def test_any_merge_gives_a_manifest_with_all_that_conflicts_named(
    base: Entries, ours: Entries, theirs: Entries
) -> None:
    entries, result = merged(base, ours, theirs)
    sound(entries)
    paths = [conflict.path for conflict in result.conflicts]
    assert len(set(paths)) == len(paths)
    other, back = merged(base, theirs, ours)
    sound(other)
    assert bool(result.conflicts) == bool(back.conflicts)
    if not result.conflicts:
        assert entries == other
    # Nothing that a side has is dropped without the other side's doing, or a word about it.
    for side, across in ((ours, theirs), (theirs, ours)):
        for path, entry in side.items():
            lost = entry.size > 0 and entry.blake3 not in {one.blake3 for one in entries.values()}
            if lost and path not in paths:
                assert base.get(path, entry).blake3 == entry.blake3
                assert across.get(path) != entry


@given(trees, trees)
def test_merging_with_itself_and_with_the_base_changes_nothing(base: Entries, one: Entries) -> None:
    assert clean(base, one, one) == one
    assert clean(base, one, base) == one
    assert clean(base, base, one) == one


@given(st.dictionaries(st.integers(0, 40), st.sampled_from([A, B, C, D]), max_size=30), st.data())
def test_disjoint_changes_all_take_effect(
    base_numbers: dict[int, Entry], data: st.DataObject
) -> None:
    """Without renames, the merge is the base with both sets of changes applied."""
    base = {f"{number:02d}": file(f"base {number}") for number in base_numbers}
    every = st.sampled_from([f"{number:02d}" for number in range(60)])
    touched = data.draw(st.lists(every, unique=True, max_size=20))
    half = len(touched) // 2
    sides = []
    for number, part in enumerate((touched[:half], touched[half:])):
        side = dict(base)
        for path in part:
            if path in side and data.draw(st.booleans()):
                del side[path]
            else:
                side[path] = file(f"side {number} {path}")
        sides.append(in_order(side))
    expected = dict(base)
    for side in sides:
        for path in {*base, *side}:
            if base.get(path) != side.get(path):
                if path in side:
                    expected[path] = side[path]
                else:
                    del expected[path]
    assert clean(in_order(base), sides[0], sides[1]) == in_order(expected)


# --- manifests ------------------------------------------------------------------------------


class Shards:
    """Shards in memory, which count what is read."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.loaded: set[str] = set()

    def manifest(self, entries: Entries) -> Manifest:
        built = build("dir", entries)
        self.texts |= {shard.ref.blake3: shard.text for shard in built.shards}
        return built.manifest

    def load(self, ref: ShardRef) -> Entries:
        self.loaded.add(ref.blake3)
        return decode_shard(self.texts[ref.blake3], ref)


def test_of_large_manifests_only_the_shards_that_differ_are_loaded() -> None:
    shards = Shards()
    entries = {f"f/{number:06d}": A for number in range(30_000)}
    base = shards.manifest(entries)
    ours = shards.manifest(entries | {"f/000007": B})
    theirs = shards.manifest(entries | {"f/029999": C, "f/029998x": D})
    built, conflicts = merge(base, ours, theirs, shards.load)
    assert conflicts == []
    changed = {"f/000007": B, "f/029999": C, "f/029998x": D}
    assert built.manifest == build("dir", entries | changed).manifest
    shared = {ref.blake3 for ref in base.shards} & {ref.blake3 for ref in theirs.shards}
    shared &= {ref.blake3 for ref in ours.shards}
    assert len(shared) > 1
    assert not shards.loaded & shared
    assert shards.loaded <= {ref.blake3 for ref in shards_needed(base, ours, theirs)}


def test_both_added_alike_but_for_one_shard_without_a_base() -> None:
    shards = Shards()
    entries = {f"f/{number:06d}": A for number in range(30_000)}
    ours, theirs = shards.manifest(entries), shards.manifest(entries | {"f/029999x": B})
    built, conflicts = merge(None, ours, theirs, shards.load)
    assert conflicts == []
    assert built.manifest == theirs
    assert len(shards.loaded) < len(ours.shards)


def test_an_inline_manifest_that_outgrows_its_bounds_gets_shards_and_back() -> None:
    shards = Shards()
    few = {f"{number:04d}": A for number in range(990)}
    left = few | {f"l{number}": B for number in range(9)}
    right = few | {f"r{number}": C for number in range(9)}
    base, ours, theirs = (shards.manifest(one) for one in (few, left, right))
    built, conflicts = merge(base, ours, theirs, shards.load)
    assert (conflicts, built.manifest) == ([], build("dir", left | right).manifest)
    shards.texts |= {shard.ref.blake3: shard.text for shard in built.shards}
    less = shards.manifest({path: one for path, one in left.items() if path > "0100"})
    back, conflicts = merge(ours, built.manifest, less, shards.load)
    assert conflicts == []
    assert back.manifest.entries is not None


def test_a_file_target_conflicts_as_one() -> None:
    base, ours, theirs = (Manifest("file", {SELF: one}) for one in (A, B, C))
    built, conflicts = merge(base, ours, theirs, Shards().load)
    assert built.manifest == ours
    assert [conflict.path for conflict in conflicts] == [SELF]


def test_a_file_here_that_is_a_folder_there_is_no_merge() -> None:
    with pytest.raises(ManifestError, match="folder on the other"):
        merge(None, Manifest("file", {SELF: A}), Manifest("dir", {"a": A}), Shards().load)
