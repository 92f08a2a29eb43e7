"""Rules of `.dvignore` mean what they mean to git, and take a bounded number of steps."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dvtool.errors import DvError, InputError
from dvtool.workspace.rules import IGNORE_SIZE_MAX_BYTES
from dvtool.workspace.walk import walk
from tests.unit.workspace.walking import faults, files

# --- what rules mean ------------------------------------------------------------------------


PLACES = ["", "a", "a/b", "c"]
NAMES = ["a", "b", "ab", "c", "x.txt", "[a]"]
PATTERNS = [
    *["a", "b", "a/", "/a", "a/b", "b/", "a/b/", "/a/b", "x.txt", "c/x.txt"],
    *["*", "*b", "?", "[ab]", "[!a]", "*.txt", "/*", "*/", "a*", "\\[a]", "[[]a]"],
    *["**", "**/", "**/b", "a/**", "a/**/b", "**/a/**", "/**", "a**b", "**/*.txt"],
    *["*a*", "*.t?t", "?b", "[a-b]*", "[]a]*", "[!]a]", "[\\]a]", "[a-]", "[z-a]", "[^z-a]", "[a"],
    *["[[:alpha:]]", "[[:alpha:][]*", "[![:punct:]]b", "[[:no:]]", "[[:a]", "[[:]a]", "a[/]b"],
    *["a[b/]b", "a\\/b", "a/***/b", "***", "a/**/**", "**/**", "**/a/**/b/**", "a/*/[a-b]"],
    *["# a", "\\#", "", " ", "a ", "a\\ ", "b\r", "/", "//", "a//b"],
]
lines = st.tuples(st.sampled_from(["", "", "!"]), st.sampled_from(PATTERNS)).map("".join)
rule_files = st.dictionaries(
    st.sampled_from(PLACES), st.lists(lines, min_size=1, max_size=4), min_size=1, max_size=3
)


@pytest.fixture(scope="module")
def ignore_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the same names at every depth, as folders and as files."""
    root = tmp_path_factory.mktemp("ignore")
    subprocess.run(["git", "init", "-q", root], check=True)
    for one in NAMES[:4]:
        for two in NAMES:
            if two in ("x.txt", "c"):
                (root / one).mkdir(exist_ok=True)
                (root / one / two).touch()
                continue
            (root / one / two).mkdir(parents=True)
            for three in NAMES:
                (root / one / two / three).touch()
    (root / "x.txt").touch()
    return root


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rules=rule_files)
def test_rules_mean_what_they_mean_to_git(ignore_tree: Path, rules: dict[str, list[str]]) -> None:
    for place in PLACES:
        for name in (".dvignore", ".gitignore"):
            path = ignore_tree / place / name
            path.unlink(missing_ok=True)
            if place in rules:
                path.write_bytes("\n".join(rules[place]).encode())
    command = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ignore_tree, capture_output=True, check=True)
    expected = {path for path in done.stdout.decode().split("\0") if path}
    found = {path for path in files(ignore_tree) if not path.startswith(".git/")}
    below = {"a/b/" + path for path in files(ignore_tree, "a/b")}
    assert without_rules(found) == without_rules(expected)
    assert without_rules(below) == {p for p in without_rules(expected) if p.startswith("a/b/")}


def without_rules(paths: set[str]) -> set[str]:
    return {path for path in paths if not path.endswith("ignore")}


def test_rules_above_the_target_apply_to_it(root: Path) -> None:
    (root / "data/images/cats").mkdir(parents=True)
    for name in ("1.jpg", "1.tmp", "keep.tmp", "cats/2.jpg", "cats/2.tmp", "cats/.DS_Store"):
        (root / "data/images" / name).touch()
    (root / ".dvignore").write_text("*.tmp\n.DS_Store\n")
    (root / "data/.dvignore").write_text("/images/cats/2.jpg\n")
    (root / "data/images/.dvignore").write_text("!keep.tmp\n")
    assert files(root, "data/images") == {"1.jpg", "keep.tmp", ".dvignore"}


def test_what_is_ignored_is_no_fault(root: Path) -> None:
    os.mkfifo(root / "pipe")
    Path(os.fsdecode(os.fsencode(root) + b"/bad \xff")).touch()
    (root / ".dvignore").write_bytes(b"pipe\nbad \xff\n")
    assert faults(root) == {}


def test_a_dvignore_need_not_be_utf8_and_may_have_a_mark(root: Path) -> None:
    for name in ("a", "b"):
        (root / name).touch()
    (root / ".dvignore").write_bytes(b"\xef\xbb\xbfa\n# caf\xe9\n")
    assert files(root) == {"b", ".dvignore"}


def test_a_pattern_that_is_none_is_refused_by_its_file(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub/.dvignore").write_text("fine\nbroken\\\n")
    with pytest.raises(DvError, match=r"sub/\.dvignore"):
        files(root)


def test_a_folder_called_dvignore_has_no_rules(root: Path) -> None:
    (root / ".dvignore").mkdir()
    (root / "a").touch()
    assert files(root) == {"a"}


# --- what comes with a repository from anybody ----------------------------------------------


@pytest.mark.parametrize("folder", ["", "t", "t/sub"])
def test_an_ignore_file_that_is_a_link_or_a_pipe_is_refused(
    root: Path, outside: Path, folder: str
) -> None:
    (root / "t/sub").mkdir(parents=True)
    place = root / folder / ".dvignore"
    place.symlink_to(outside / "file")
    with pytest.raises(InputError, match="dvignore cannot be read: it is a symlink"):
        list(walk(str(root), "t"))
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(InputError, match="is a named pipe"):
        list(walk(str(root), "t"))
    place.unlink()
    place.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(InputError, match="more than"):
        list(walk(str(root), "t"))


def test_rules_that_could_match_in_countless_ways_take_no_time(root: Path) -> None:
    """As regular expressions are used as a rule, these would run for years."""
    folder = root / "t" / "/".join("a" * 60)
    folder.mkdir(parents=True)
    (folder / ("a" * 250)).touch()
    (folder / ("a" * 200 + "b")).touch()
    (root / ".dvignore").write_text("**/a/" * 30 + "b\n" + "*a" * 40 + "b\n")
    assert {name.rpartition("/")[2] for name in files(root, "t")} == {"a" * 250}


@pytest.mark.parametrize(
    "text",
    [
        " " * (IGNORE_SIZE_MAX_BYTES - 1) + "x",
        "*a" * (IGNORE_SIZE_MAX_BYTES // 2),
        "**/" * (IGNORE_SIZE_MAX_BYTES // 3 - 1) + "x",
        "[[:" * (IGNORE_SIZE_MAX_BYTES // 3 - 1) + "]",
        "\n".join(f"t/{number}" for number in range(120_000)),
        "\n".join(f"*{number % 7}x" for number in range(200_000)),
    ],
    ids=["spaces", "stars", "double stars", "brackets", "many rules", "the same rules"],
)
def test_the_largest_file_of_rules_takes_no_time(root: Path, text: str) -> None:
    """Tried one by one with each file, or read in steps that are a square, they take an hour."""
    (root / "t").mkdir()
    for number in range(300):
        (root / "t" / f"f{number}").touch()
    (root / ".dvignore").write_text(text)
    assert len(files(root, "t")) == 300
