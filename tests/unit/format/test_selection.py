"""What paths and globs on the command line select."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings, strategies as st

from dvtool.format.selection import Selection, select

TARGETS = ["data/images", "data/images2", "data/labels.csv", "model"]


def selected(*paths: str, targets: list[str] = TARGETS) -> dict[str, tuple[str, ...]]:
    selections, unmatched = select(targets, paths)
    assert not unmatched
    return {one.target: one.patterns for one in selections}


def matches(path: str, full: str, *, target: str = "data/images") -> bool:
    """Whether the argument `path` selects the workspace path `full` of a target."""
    selections, _ = select([target], [path])
    return any(one.matches(full.removeprefix(target + "/")) for one in selections)


# --- targets --------------------------------------------------------------------------------


def test_a_target_selects_itself_whole_and_not_its_namesakes() -> None:
    assert selected("data/images") == {"data/images": ()}


def test_a_folder_above_selects_every_target_in_it() -> None:
    assert list(selected("data")) == ["data/images", "data/images2", "data/labels.csv"]
    assert list(selected("")) == list(selected(".")) == TARGETS
    assert all(patterns == () for patterns in selected("data").values())


def test_a_path_below_selects_within_one_target() -> None:
    assert selected("data/images/cats") == {"data/images": ("cats",)}
    assert selected("model/a/b") == {"model": ("a/b",)}


def test_the_whole_target_wins_over_parts_of_it() -> None:
    assert selected("data/images/cats", "data/images") == {"data/images": ()}
    assert selected("data/images", "data/images/cats", "model/x") == {
        "data/images": (),
        "model": ("x",),
    }


def test_several_paths_in_one_target_are_one_selection() -> None:
    assert selected("model/a", "model/b", "model/a") == {"model": ("a", "b")}


@pytest.mark.parametrize(
    "path", ["dat", "data/image", "data/images3", "modelx", "x/model", "other/*.jpg", "*.jpg"]
)
def test_a_path_that_is_in_no_target_is_reported(path: str) -> None:
    assert select(TARGETS, [path, "model"]) == ([Selection("model")], [path])


def test_no_path_selects_nothing_and_no_target_matches_nothing() -> None:
    assert select(TARGETS, []) == ([], [])
    assert select([], ["data", "*"]) == ([], ["data", "*"])


# --- paths within a target ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("cats", "cats", True),
        ("cats", "cats/1.jpg", True),
        ("cats", "cats2/1.jpg", False),
        ("cats", "cats.txt", False),
        ("cats", "big/cats", False),
        ("*.jpg", "1.jpg", True),
        ("*.jpg", "cats/1.jpg", False),
        ("*.jpg", "1.jpg.txt", False),
        ("*", "a", True),
        ("*", "a/b", True),
        ("c*", "cats/1.jpg", True),
        ("*/1.jpg", "cats/1.jpg", True),
        ("*/1.jpg", "a/cats/1.jpg", False),
        ("**/1.jpg", "1.jpg", True),
        ("**/1.jpg", "cats/1.jpg", True),
        ("**/1.jpg", "a/cats/1.jpg", True),
        ("**/1.jpg", "a/x1.jpg", False),
        ("**.jpg", "a/b/1.jpg", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/**/z", "a/bz", False),
        ("a/**", "a/b/c", True),
        ("a/**", "ab/c", False),
        ("?.jpg", "1.jpg", True),
        ("?.jpg", "12.jpg", False),
        ("a?b", "a/b", False),
        ("[12].jpg", "1.jpg", True),
        ("[12].jpg", "3.jpg", False),
        ("[0-5].jpg", "3.jpg", True),
        ("[!1].jpg", "3.jpg", True),
        ("[^1].jpg", "1.jpg", False),
        ("a[!x]b", "a/b", False),
        ("[]].jpg", "].jpg", True),
        ("[!]].jpg", "].jpg", False),
        ("[a-]x", "-x", True),
        ("[\\]x", "\\x", True),
        ("[^^]x", "^x", False),
        ("[[]x", "[x", True),
        ("[&&~]x", "&x", True),
        ("[z-a]x", "zx", False),
        ("[!z-a]x", "zx", True),
        ("[z-ab]x", "bx", True),
        ("a\nb*", "a\nbc\nd", True),
        ("é*", "é1", True),
        (".*", "x", False),
        ("(a|b)*", "(a|b)c", True),
        ("(a|b)*", "ac", False),
    ],
)
def test_globs(pattern: str, path: str, expected: bool) -> None:
    assert Selection("t", (pattern,)).matches(path) == expected


@pytest.mark.parametrize("name", ["a[1].jpg", "what?", "*", "**", "[", "a[!]", "x[z-a]y", "[]"])
def test_a_name_with_glob_characters_selects_itself(name: str) -> None:
    selection = Selection("t", (name,))
    assert selection.matches(name)
    assert selection.matches(name + "/below")
    assert selection.may_match_between(name, None)
    assert selected(f"t/{name}", targets=["t"]) == {"t": (name,)}
    assert selected(f"{name}/x", targets=[name]) == {name: ("x",)}
    assert selected(name, targets=[name]) == {name: ()}


@settings(max_examples=400, deadline=None)
@given(st.text("ab/*?[]!^-\\&|.\n", max_size=8), st.text("ab/]-\n", max_size=6))
def test_no_glob_is_an_error_and_star_and_classes_stay_within_a_folder(
    pattern: str, path: str
) -> None:
    result = Selection("t", (pattern,)).matches(path)
    assert result == (Selection("t", (pattern,)).matches(path + "/below") and result)
    if "**" not in pattern and "/" not in pattern and path.partition("/")[0] != path:
        # Without a slash a glob names the first component, and with it what is below.
        assert result == Selection("t", (pattern,)).matches(path.partition("/")[0])


# --- globs over targets ---------------------------------------------------------------------


def test_globs_name_targets() -> None:
    assert list(selected("data/*")) == ["data/images", "data/images2", "data/labels.csv"]
    assert selected("data/images?") == {"data/images2": ()}
    assert selected("data/labels.*") == {"data/labels.csv": ()}
    assert list(selected("d*")) == ["data/images", "data/images2", "data/labels.csv"]
    assert all(patterns == () for patterns in selected("d*").values())


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("data/*/cats/*.jpg", "data/images/cats/1.jpg", True),
        ("data/*/cats/*.jpg", "data/images/dogs/1.jpg", False),
        ("*/*/1.jpg", "data/images/1.jpg", True),
        ("**/1.jpg", "data/images/1.jpg", True),
        ("**/1.jpg", "data/images/cats/1.jpg", True),
        ("**/images/*.jpg", "data/images/1.jpg", True),
        ("**/images/*.jpg", "data/images/images/1.jpg", True),
        ("**/images/*.jpg", "data/images/cats/1.jpg", False),
        ("data/**/1.jpg", "data/images/1.jpg", True),
        ("data/**/1.jpg", "data/images/cats/1.jpg", True),
        ("data/**/cats/*", "data/images/a/cats/1.jpg", True),
        ("data/**/cats/*", "data/images/a/dogs/1.jpg", False),
        ("data/**.jpg", "data/images/a/1.jpg", True),
        ("data/im**.jpg", "data/images/a/1.jpg", True),
        ("data/im**.jpg", "data/images/a/1.png", False),
        ("model/**/1.jpg", "data/images/1.jpg", False),
        ("**", "data/images/a/b", True),
        ("data/**", "data/images/a/b", True),
        ("data/images/**", "data/images/a/b", True),
        ("data/[hi]mages/a", "data/images/a/b", True),
    ],
)
def test_globs_reach_into_targets(glob: str, path: str, expected: bool) -> None:
    assert matches(glob, path) == expected


def test_two_stars_reach_into_a_target_at_the_top() -> None:
    assert matches("**/1.jpg", "data/a/b/1.jpg", target="data")
    assert matches("**/1.jpg", "data/1.jpg", target="data")
    assert not matches("**/1.jpg", "data/a/2.jpg", target="data")


component = st.sampled_from(["a", "b", "*", "?", "**", "a*", "[ab]"])
glob_texts = st.lists(component, min_size=1, max_size=4).map("/".join)
plain_paths = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map("/".join)


@settings(max_examples=600, deadline=None)
@given(glob=glob_texts, target=plain_paths, inner=plain_paths)
def test_a_glob_selects_the_same_wherever_the_target_begins(
    glob: str, target: str, inner: str
) -> None:
    """Splitting a glob at the target must not change which workspace paths it names."""
    full = f"{target}/{inner}"
    assert matches(glob, full, target=target) == (reference(glob).match(full) is not None)


def reference(glob: str) -> re.Pattern[str]:
    """The documented meaning, for globs whose components are ``**`` or have none."""
    parts = []
    names = glob.split("/")
    for number, name in enumerate(names):
        last = number == len(names) - 1
        if name == "**":
            parts.append(".*" if last else "(?:.*/)?")
        else:
            plain = name.replace("*", "[^/]*").replace("?", "[^/]")
            parts.append(plain + ("" if last else "/"))
    return re.compile("(?:" + "".join(parts) + r")(?:/.*)?\Z")


# --- shards ---------------------------------------------------------------------------------

sorted_paths = st.lists(
    st.text("ab/\U0010ffff", min_size=1, max_size=4), min_size=1, max_size=12, unique=True
).map(sorted)
patterns = st.text("ab/*?[]\U0010ffff", min_size=1, max_size=5)


@settings(max_examples=500, deadline=None)
@given(paths=sorted_paths, pattern=patterns, cut=st.integers(0, 12), length=st.integers(1, 12))
def test_no_run_with_a_selected_path_is_passed_over(
    paths: list[str], pattern: str, cut: int, length: int
) -> None:
    run = paths[cut : cut + length]
    following = paths[cut + length] if cut + length < len(paths) else None
    selection = Selection("t", (pattern,))
    if any(selection.matches(path) for path in run):
        assert selection.may_match_between(run[0], following)


def test_runs_without_a_selected_path_are_passed_over() -> None:
    selection = Selection("t", ("cats/1*.jpg",))
    assert not selection.may_match_between("a", "b")
    assert not selection.may_match_between("cats/2", None)
    assert not selection.may_match_between("a", "cats/1")
    assert selection.may_match_between("a", "cats/2")
    assert selection.may_match_between("cats/15", "cats/16")
    assert Selection("t").may_match_between("z", None)
