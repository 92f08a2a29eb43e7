"""The layers of the design, held by reading the imports: nobody reaches up or across."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import dvtool

PACKAGE = Path(dvtool.__file__).parent
LINES_MAX = 70

LAYERS = [
    [
        "errors",
        "digest",
        "atomic",
        "columns",
        "parallel",
        "workers",
        "progress",
        "estimate",
        "later",
    ],
    ["opener", "spelling", "folders"],
    ["look"],
    ["chunker", "manifest", "hookscripts"],
    ["pack", "compare"],
    ["shard", "threeway"],
    ["workspace", "statcache", "config", "git.*", "backend.*"],
    ["ignore"],
    [
        *("store", "store.database", "store.local", "store.remote", "store.known"),
        *("store.proof", "store.packcheck", "store.mending", "store.probe", "store.assembly"),
        *("store.tombstones", "store.survey", "store.moving"),
    ],
    ["store.examine"],
    ["selection"],
    ["ingest", "unpacking", "project", "findings"],
    ["scan", "arguments", "settings", "saved", "outgoing"],
    ["needs", "agreement"],
    ["ops.*"],
    ["instep"],
    ["resolving", "publishing", "collecting", "checking"],
    ["repairing"],
    ["automation"],
    ["repo"],
    ["cli.*", "fs"],
    ["__main__"],
]
"""A module imports from earlier lines only, and within a line as `SIDEWAYS` says."""

SIDEWAYS = {
    "columns": {"digest"},
    "workers": {"later"},
    "git": {"git.listing", "git.repository"},
    "git.config": {"git.listing", "git.process"},
    "git.repository": {"git.config", "git.listing", "git.process"},
    "manifest": {"chunker"},
    "store.local": {"store.database"},
    "store.known": {"store.database", "store.remote"},
    "store.mending": {"store.database", "store.local", "store.packcheck"},
    "store.probe": {"store.local", "store.packcheck", "store.remote"},
    "store.assembly": {"store.local", "store.packcheck", "store.probe", "store.remote"},
    "store.proof": {"store.known", "store.remote", "store.tombstones"},
    "store.tombstones": {"store.remote"},
    "store.survey": {"store.remote", "store.tombstones"},
    "store.moving": {"store.remote", "store.tombstones", "store.survey"},
}

BACKEND_PARTS = {
    "backend.s3": {"backend.connections", "backend.guard", "backend.s3errors"},
    "backend.s3errors": {"backend.guard"},
    "backend.retry": {"backend.pace", "parallel"},
    "backend.pace": {"parallel"},
}

ONLY_IN = {
    "boto3": {"backend.s3"},
    "botocore": {"backend.s3", "backend.s3errors", "backend.guard"},
    "git": {"git.process"},
    "gitdb": {"git.process"},
    "sqlite3": {"store.database", "statcache"},
    "fsspec": {"fs"},
    "pathspec": {"workspace"},
    "pyfastcdc": {"chunker"},
}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = path
    return found


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imports_of(name: str) -> Iterator[str]:
    """Yield the dotted names that a module imports, at its top or within functions."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("dvtool.") in modules() else node.module


def inner_imports(name: str) -> set[str]:
    return {
        one.removeprefix("dvtool").removeprefix(".")
        for one in imports_of(name)
        if one == "dvtool" or one.startswith("dvtool.")
    }


def layer_of(name: str) -> int:
    for number, layer in enumerate(LAYERS):
        for pattern in layer:
            if name == pattern or re.fullmatch(pattern.replace(".*", r"(\..*)?"), name):
                return number
    raise AssertionError(f"{name} has no layer: give it one in {__file__}")


@cache
def below_cli() -> list[str]:
    return [name for name in modules() if name == "" or layer_of(name) < layer_of("cli")]


def package_of(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", [name for name in modules() if name])
def test_a_module_imports_only_from_above_its_own_line(name: str) -> None:
    for other in inner_imports(name) - {"", name}:
        if package_of(name) == package_of(other) in ("cli", "backend"):
            continue  # what these may import of their own is another test's
        allowed = layer_of(other) < layer_of(name) or other in SIDEWAYS.get(name, set())
        assert allowed, f"{name} imports {other}"


def test_the_package_itself_is_free_of_imports() -> None:
    for name in ("", "ops", "store"):
        assert inner_imports(name) <= {""}, name


def test_verbs_do_not_import_each_other() -> None:
    for name in modules():
        if name.startswith("ops."):
            others = {other for other in inner_imports(name) if other.startswith("ops")}
            assert not others, f"{name} imports {others}"


def test_backends_know_only_the_protocol_and_errors() -> None:
    for name in modules():
        if name.startswith("backend."):
            allowed = {"", "errors", "atomic", "digest", "backend.base"}
            allowed |= BACKEND_PARTS.get(name, set())
            assert inner_imports(name) <= allowed, f"{name}: {inner_imports(name) - allowed}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_used_in_its_place_only(library: str) -> None:
    users = {
        name
        for name in modules()
        if any(one.partition(".")[0] == library for one in imports_of(name))
    }
    assert users <= ONLY_IN[library]


def test_below_the_cli_nothing_prints_asks_or_reads_the_environment() -> None:
    for name in below_cli():
        for one in imports_of(name):
            top = one.partition(".")[0]
            assert top not in ("click", "tqdm", "argparse", "getpass", "logging"), f"{name}: {one}"
        for node in ast.walk(tree_of(name)):
            where = f"{name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "input", "breakpoint", "exit"), where
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                dotted = f"{node.value.id}.{node.attr}"
                allowed = dotted in ALLOWED.get(name, ())
                assert allowed or dotted not in FORBIDDEN, f"{where} uses {dotted}"


FORBIDDEN = {
    *("os.getenv", "os.environb", "os.chdir", "os.umask", "os._exit"),
    *("sys.stdout", "sys.stderr", "sys.stdin", "sys.argv", "sys.exit"),
}
ALLOWED = {"look": {"os._exit"}}
"""A forked process must not run what this program does at its end."""


def test_only_the_cli_reads_the_environment() -> None:
    readers = {
        name
        for name in below_cli()
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Attribute)
        and node.attr == "environ"
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    assert readers == {"git.process"}, (
        "which hands it on to the git program, and reads nothing in it"
    )


def test_names_say_what_a_module_does() -> None:
    for name in modules():
        for part in name.split("."):
            assert not re.search(r"util|helper|common|manager|misc", part), name


def test_everything_public_outside_the_cli_says_its_contract() -> None:
    missing = []
    for name in below_cli():
        tree = tree_of(name)
        if not ast.get_docstring(tree):
            missing.append(name)
        missing.extend(
            f"{name}.{node.name}:{node.lineno}"
            for node in definitions(tree)
            if not ast.get_docstring(node)
        )
    assert not missing


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(tree: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Yield public classes and functions, and the public methods of public classes."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node)


def test_no_function_is_longer_than_a_person_can_hold_in_view() -> None:
    long = [
        f"{name}.{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for name in modules()
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.FunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LINES_MAX
    ]
    assert not long


def test_every_module_has_postponed_annotations() -> None:
    for name in modules():
        text = modules()[name].read_text(encoding="utf-8")
        if any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree_of(name))):
            assert "from __future__ import annotations" in text, name


def test_the_engine_loads_without_its_heavy_libraries() -> None:
    """Commands that need neither S3 nor git should not pay for loading them."""
    program = (
        "import sys, dvtool.store.local, dvtool.ingest, dvtool.manifest, dvtool.workspace\n"
        "print([name for name in ('boto3', 'botocore', 'git', 'pyfastcdc', 'click', 'tqdm')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
