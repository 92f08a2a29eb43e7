"""Settling what merges left: each kind of conflict, for each side, and what the data then is."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cli.conftest import Work
from tests.cli.merging import (
    TARGET,
    branches,
    change,
    conflicts,
    run,
    tree,
    with_drivers,
    without_drivers,
)

MANIFEST = f"{TARGET}.dv.json"
REST = {"b.txt": "content of b.txt", "sub/c.txt": "content of sub/c.txt"}


@pytest.fixture(params=["driver", "text"])
def either(pushed: Work, request: pytest.FixtureRequest) -> Work:
    """A repository where git has the driver, and one where it has not."""
    (with_drivers if request.param == "driver" else without_drivers)(pushed)
    return pushed


@pytest.fixture
def driven(pushed: Work) -> Work:
    with_drivers(pushed)
    return pushed


KINDS: dict[str, tuple[dict[str, str | None], dict[str, str | None], dict[str, dict[str, str]]]] = {
    "both modified": (
        {"a.txt": "ours"},
        {"a.txt": "theirs"},
        {
            "ours": {"a.txt": "ours"},
            "theirs": {"a.txt": "theirs"},
            "both": {"a.txt": "ours", "a.theirs.txt": "theirs"},
        },
    ),
    "removed by us": (
        {"a.txt": None},
        {"a.txt": "theirs"},
        {"ours": {}, "theirs": {"a.txt": "theirs"}, "both": {"a.txt": "theirs"}},
    ),
    "removed by them": (
        {"a.txt": "ours"},
        {"a.txt": None},
        {"ours": {"a.txt": "ours"}, "theirs": {}, "both": {"a.txt": "ours"}},
    ),
    "both added": (
        {"a.txt": None, "aa": "ours"},
        {"a.txt": None, "aa": "theirs"},
        {
            "ours": {"aa": "ours"},
            "theirs": {"aa": "theirs"},
            "both": {"aa": "ours", "aa.theirs": "theirs"},
        },
    ),
}


@pytest.mark.parametrize("side", ["ours", "theirs", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_conflict_for_each_side(either: Work, kind: str, side: str) -> None:
    ours, theirs, results = KINDS[kind]
    branches(either, ours, theirs)
    run(either, "merge", "other", code=1)
    assert f"    {kind + ':':<17} data/images/a" in either.dv("status").out
    assert either.dv("resolve", code=1).lines[0].startswith("data/images  1 conflict left")
    ran = either.dv("resolve", f"--{side}")
    assert ran.lines[0].startswith("data/images  1 conflict settled; staged")
    assert tree(either) == results[side] | REST
    either.git("commit", "-qm", "merged")
    either.dv("status", "--exit-code")
    assert either.dv("resolve").out == "nothing to resolve\n"


def test_entries_one_by_one_and_by_glob(either: Work) -> None:
    change(either, {f"d/{number}": str(number) for number in range(6)})
    branches(
        either,
        {f"d/{number}": f"o{number}" for number in range(6)} | {"a.txt": "ours"},
        {f"d/{number}": f"t{number}" for number in range(6)} | {"b.txt": "theirs"},
    )
    run(either, "merge", "other", code=1)
    either.dv("resolve", "--theirs", f"{TARGET}/d/0", code=1)
    assert conflicts(either)[TARGET] == [f"d/{number}" for number in range(1, 6)]
    either.dv("resolve", "--both", "images/d/[12]", code=1, cwd="data")
    ran = either.dv("resolve", "--ours", f"{TARGET}/d/3", "--json", code=1)
    assert ran.json["targets"][0]["settled"] == ["d/3"]
    assert ran.json["targets"][0]["left"] == ["d/4", "d/5"]
    assert MANIFEST in run(either, "diff", "--name-only", "--diff-filter=U")
    ran = either.dv("resolve", "--theirs", f"{TARGET}/d/0", code=2)
    assert "no conflict in data/images matches" in ran.err
    either.dv("resolve", "--theirs", TARGET)
    wanted = {"0": "t0", "1": "o1", "1.theirs": "t1", "2": "o2", "2.theirs": "t2"}
    wanted |= {"3": "o3", "4": "t4", "5": "t5"}
    assert tree(either) == {f"d/{name}": content for name, content in wanted.items()} | {
        "a.txt": "ours",
        "b.txt": "theirs",
        "sub/c.txt": "content of sub/c.txt",
    }
    either.git("commit", "-qm", "merged")
    either.dv("status", "--exit-code")


def test_a_merge_begun_again_forgets_what_was_settled(driven: Work) -> None:
    branches(driven, {"a.txt": "ours", "b.txt": "ours"}, {"a.txt": "theirs", "b.txt": "theirs"})
    run(driven, "merge", "other", code=1)
    driven.dv("resolve", "--theirs", f"{TARGET}/a.txt", code=1)
    run(driven, "checkout", "-m", "--", MANIFEST)
    assert conflicts(driven) == {TARGET: ["a.txt", "b.txt"]}
    run(driven, "merge", "--abort")
    driven.dv("checkout")
    assert conflicts(driven) == {}
    assert driven.dv("resolve").out == "nothing to resolve\n"


@pytest.mark.parametrize("side", ["ours", "theirs", "both"])
@pytest.mark.parametrize("removed_by", ["ours", "theirs"])
def test_a_target_removed_on_one_side_and_changed_on_the_other(
    either: Work, side: str, removed_by: str
) -> None:
    either.git("checkout", "-q", "-b", "other")
    if removed_by == "theirs":
        either.dv("rm", "--data", TARGET)
        either.commit("theirs")
    else:
        change(either, {"a.txt": "changed"})
    either.git("checkout", "-q", "main")
    either.dv("checkout", "--force")
    if removed_by == "ours":
        either.dv("rm", "--data", TARGET)
        either.commit("ours")
    else:
        change(either, {"a.txt": "changed"})
    assert "modify/delete" in run(either, "merge", "other", code=1)
    assert conflicts(either) == {TARGET: ["."]}
    kind = "removed by us" if removed_by == "ours" else "removed by them"
    assert f"{kind + ':':<17} data/images\n" in either.dv("status").out
    either.dv("resolve", code=1)
    either.dv("resolve", f"--{side}")
    either.git("commit", "-qm", "merged")
    if side == removed_by:
        assert not (either.root / MANIFEST).exists()
        assert not (either.root / TARGET).exists()
    else:
        assert tree(either) == {"a.txt": "changed"} | REST
    either.dv("status", "--exit-code")


@pytest.mark.parametrize("side", ["ours", "theirs", "both"])
def test_a_file_on_one_side_and_a_folder_on_the_other(driven: Work, side: str) -> None:
    driven.git("checkout", "-q", "-b", "other")
    driven.write("data/new", "a file")
    driven.dv("add", "data/new")
    driven.commit("theirs")
    driven.git("checkout", "-q", "main")
    (driven.root / "data/new").unlink()
    change(driven, {"x": "in a folder"}, None, "data/new")
    driven.commit("ours")
    said = run(driven, "merge", "other", code=1)
    assert "one side made a file of what is a folder on the other" in said
    assert conflicts(driven) == {"data/new": ["."]}
    driven.dv("resolve", f"--{side}")
    if side == "theirs":
        assert driven.read("data/new") == b"a file"
    else:
        assert tree(driven, "data/new") == {"x": "in a folder"}
    if side == "both":
        assert driven.read("data/new.theirs") == b"a file"
    driven.git("commit", "-qm", "merged")
    driven.dv("status", "--exit-code")


def test_a_folder_over_a_file_and_back(driven: Work) -> None:
    branches(driven, {"d/x": "x", "d/y": "y"}, {"d": "a file"})
    run(driven, "merge", "other", code=1)
    assert conflicts(driven) == {TARGET: ["d"]}
    driven.dv("resolve", "--both")
    assert tree(driven)["d.theirs"] == "a file"
    run(driven, "merge", "--abort")
    driven.dv("checkout")
    run(driven, "merge", "other", code=1)
    driven.dv("resolve", "--theirs")
    assert tree(driven)["d"] == "a file"


def test_unsaved_changes_are_left_and_named(driven: Work) -> None:
    branches(driven, {"a.txt": "ours"}, {"a.txt": "theirs", "b.txt": "theirs", "sub/c.txt": None})
    run(driven, "merge", "other", code=1)
    driven.write(f"{TARGET}/b.txt", "unsaved")
    driven.write(f"{TARGET}/sub/c.txt", "unsaved too")
    ran = driven.dv("resolve", "--theirs")
    assert "saved nowhere" in ran.err
    assert "  data/images/b.txt\n  data/images/sub/c.txt\n" in ran.err
    assert tree(driven) == {"a.txt": "theirs", "b.txt": "unsaved", "sub/c.txt": "unsaved too"}


def test_content_that_is_not_here_is_named(driven: Work) -> None:
    other = driven.clone("other")
    other.dv("pull")
    with_drivers(other)
    change(other, {"a.txt": "theirs", "b.txt": "theirs, too"}, "theirs")
    other.dv("push")
    change(driven, {"a.txt": "ours"}, "ours")
    run(driven, "pull", "--no-rebase", "../other", code=1)
    ran = driven.dv("resolve", "--theirs", "--json")
    (one,) = ran.json["targets"]
    assert one["missing"] == ["data/images/a.txt", "data/images/b.txt"]
    assert one["missing_bytes"] == len("theirs" + "theirs, too")
    assert tree(driven)["a.txt"] == "ours"
    driven.dv("pull")
    assert tree(driven)["b.txt"] == "theirs, too"


def test_what_was_never_fetched_stays_absent(driven: Work) -> None:
    other = driven.clone("part")
    with_drivers(other)
    other.dv("pull", f"{TARGET}/a.txt")
    branches_in_part = {"a.txt": "theirs", "b.txt": "theirs"}
    change(driven, branches_in_part, "theirs")
    driven.dv("push")
    change(other, {"a.txt": "ours"}, "ours")
    run(other, "pull", "--no-rebase", "origin", "main", code=1)
    other.dv("fetch", TARGET)
    other.dv("resolve", "--ours")
    assert tree(other) == {"a.txt": "ours"}
    assert other.dv("status", "--json").json["targets"][0]["absent"] == ["b.txt", "sub/c.txt"]


def test_sides_in_a_rebase_are_gits(driven: Work) -> None:
    branches(driven, {"a.txt": "of main"}, {"a.txt": "of other"})
    driven.git("checkout", "-q", "other")
    run(driven, "rebase", "main", code=1)
    driven.dv("resolve", "--theirs")
    run(driven, "-c", "core.editor=true", "rebase", "--continue")
    assert tree(driven)["a.txt"] == "of other"
    words = " ".join(driven.dv("resolve", "--help").out.split())
    assert "in a rebase, ours is the branch you rebase onto" in words


def test_add_waits_until_the_merge_is_settled(driven: Work) -> None:
    branches(driven, {"a.txt": "ours"}, {"a.txt": "theirs"})
    run(driven, "merge", "other", code=1)
    ran = driven.dv("add", TARGET, code=2)
    assert "hint: settle them first: dv resolve" in ran.err


def test_a_side_with_conflict_markers_in_it(driven: Work) -> None:
    branches(driven, {"a.txt": "ours"}, {"a.txt": "theirs"})
    driven.git("checkout", "-q", "other")
    driven.write(MANIFEST, "<<<<<<< ours\n")
    driven.git("commit", "-qam", "markers")
    driven.git("checkout", "-q", "main")
    run(driven, "merge", "other", code=1)
    assert "conflict markers" in driven.dv("status", "--exit-code", code=1).out
    driven.dv("resolve", "--theirs", code=6)
    driven.dv("resolve", "--ours")
    assert tree(driven)["a.txt"] == "ours"
    assert conflicts(driven) == {}


def test_one_side_only(work: Work) -> None:
    assert "exclude each other" in work.dv("resolve", "--ours", "--both", code=2).err


def test_json_of_status_names_the_sides(driven: Work) -> None:
    branches(driven, {"a.txt": "ours"}, {"a.txt": None})
    run(driven, "merge", "other", code=1)
    images = driven.dv("status", "--json").json["targets"][0]
    (conflict,) = images["conflicts"]
    assert images["manifest"] == "conflicted"
    assert (conflict["path"], conflict["theirs"]) == ("a.txt", None)
    assert conflict["ours"]["size"] == 4
    assert json.dumps(conflict["base"])


def test_a_deleted_manifest_still_shows(driven: Work) -> None:
    branches(driven, {"a.txt": "ours"}, {"a.txt": "theirs"})
    run(driven, "merge", "other", code=1)
    (driven.root / MANIFEST).unlink()
    shutil.rmtree(driven.root / TARGET)
    assert conflicts(driven) == {TARGET: ["a.txt"]}
    driven.dv("resolve", "--ours")
    driven.dv("checkout")


@pytest.mark.parametrize("state", ["merging", "merged"])
def test_what_only_the_merged_commits_manifest_locates_is_fetched(driven: Work, state: str) -> None:
    """A merged manifest was never pushed: where its content lies, the other side's says."""
    other = driven.clone("other")
    other.dv("pull")
    with_drivers(other)
    change(other, {"b.txt": "theirs", "a.txt": "theirs, too"}, "theirs")
    other.dv("push")
    change(driven, {"sub/c.txt": "ours"} | ({"a.txt": "ours"} if state == "merging" else {}))
    code = 1 if state == "merging" else 0
    run(driven, "pull", "--no-rebase", "--no-edit", "../other", code=code)
    driven.dv("resolve", "--both")
    driven.dv("pull")
    assert tree(driven)["b.txt"] == "theirs"
    assert tree(driven)["sub/c.txt"] == "ours"


def test_a_dry_run_says_what_would_be_settled_and_settles_nothing(either: Work) -> None:
    branches(either, {"a.txt": "ours", "b.txt": "ours"}, {"a.txt": "theirs", "b.txt": "theirs"})
    run(either, "merge", "other", code=1)
    before = either.git("ls-files", "-u"), either.read(MANIFEST), tree(either)
    ran = either.dv("resolve", "-n", code=1)
    assert "2 conflicts would be left" in ran.out
    ran = either.dv("resolve", "--dry-run", "--theirs", f"{TARGET}/a.txt", code=1)
    assert "1 conflict would be settled; 1 conflict would be left" in ran.out
    assert ran.err == "nothing was changed\n"
    assert either.dv("resolve", "-n", "--ours", "--json").json["targets"][0]["left"] == []
    assert (either.git("ls-files", "-u"), either.read(MANIFEST), tree(either)) == before
    assert conflicts(either) == {TARGET: ["a.txt", "b.txt"]}
    either.dv("resolve", "--theirs")
    assert either.dv("resolve", "-n").out == "nothing to resolve\n"
