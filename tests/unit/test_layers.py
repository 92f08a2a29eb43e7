"""The layers of the design, held by reading the imports: nobody reaches up or across."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dvtool
from tests.layers import DESIGN, ROOMS, VERB_ORDER, in_design, nodes_in, parsed, room_of

PACKAGE = Path(dvtool.__file__).parent
LINES_MAX = 70

ONLY_IN = {
    "boto3": {"remotes.transports.s3.client"},
    "botocore": {
        "remotes.transports.s3.backend",
        "remotes.transports.s3.client",
        "remotes.transports.s3.configuration",
        "remotes.transports.s3.errors",
        "remotes.transports.s3.guard",
        "remotes.transports.s3.quick_get",
    },
    "git": {"git.process"},
    "gitdb": {"git.process"},
    "sqlite3": {
        "reports.row_sqlite",
        "system.disposable",
        "project.early_look",
        "project.taken",
        "store.rooted",
        "store.database",
        "store.references",
        "store.remote_facts",
        "store.schema",
        "workspace.statcache",
    },
    "fsspec": {"filesystem.dv"},
    "uvicorn": {"serve.connections", "serve.server"},
    "pyfastcdc": {"format.chunker"},
}


def nodes_of(name: str) -> list[ast.AST]:
    return nodes_in(modules()[name])


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = path
    return found


def tree_of(name: str) -> ast.Module:
    return parsed(modules()[name])


@cache
def imports_of(name: str) -> list[str]:
    """Return the dotted names that a module imports, at its top or within functions."""
    return list(_imports_in(name))


def _imports_in(name: str) -> Iterator[str]:
    for node in nodes_of(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("dvtool.") in modules() else node.module


@cache
def inner_imports(name: str) -> frozenset[str]:
    return frozenset(
        one.removeprefix("dvtool").removeprefix(".")
        for one in imports_of(name)
        if one == "dvtool" or one.startswith("dvtool.")
    )


@cache
def below_cli() -> list[str]:
    return [name for name in modules() if not name.startswith(("cli", "__main__"))]


def room_name(name: str) -> str:
    room = room_of(name)
    assert room is not None, f"{name} is in no room: tests/layers.py lists them"
    return room.name


@pytest.mark.parametrize("name", [name for name in modules() if name not in ("", "__main__")])
def test_a_module_imports_only_from_rooms_above_its_own(name: str) -> None:
    room = room_of(name)
    assert room is not None, f"{name} is in no room: tests/layers.py lists them"
    for other in inner_imports(name) - {"", name}:
        allowed = room_name(other) in (room.name, *room.above)
        assert allowed, f"{name} imports {other}"


def test_the_rooms_are_listed_in_their_order() -> None:
    names = [room.name for room in ROOMS]
    for number, room in enumerate(ROOMS):
        assert set(room.above) <= set(names[:number]), room.name


def test_no_module_imports_itself_by_a_detour() -> None:
    arrows = {name: inner_imports(name) - {"", name} for name in below_cli()}
    TopologicalSorter(arrows).prepare()  # raises CycleError, which names them


def test_the_packages_themselves_are_free_of_imports() -> None:
    for name, path in modules().items():
        if path.name == "__init__.py" and name not in (
            "git",
            "remotes.transports",
            "stream",
            "cli",
        ):
            assert imports_when_run(name) <= {""}, name


def test_the_design_shows_the_rooms() -> None:
    text = DESIGN.read_text(encoding="utf-8")
    assert in_design(text) == text, "run: python -m tests.layers"


MAY_IMPORT = {
    "cli.cache": {"verbs.cache"},
    "cli.config": {"project.config", "project.keys", "remotes.transports.declaration"},
    "cli.doctor": {"verbs.doctor"},
    "cli.failures": {"system.room"},
    "cli.lines": {"system.heard"},
    "cli.fsck": {"verbs.fsck.findings"},
    "cli.logs": {"project.keys"},
    "cli.merge_driver": {
        *("format.manifest", "format.merge", "format.paths", "system.atomic"),
        "hooks.config_merge",
    },
    "cli.plans": {"remotes.transports.registry"},
    "cli.export": {"project.keys"},
    "cli.remote": {"project.keys"},
    "cli": {"system.interrupts", "system.programs", "project.early_look"},
    "cli.remote_options": {"project.keys", "remotes.transports.declaration"},
    "cli.urls": {"snapshots.foreign", "verbs.export.export"},
    "cli.serve": {"serve.options"},
    "cli.textconv": {"format.manifest", "format.paths"},
}
"""The names and kinds of settings; values that a command makes; and what has to work without a
repository: doctor, where a package is missing, what git runs on single files, and the PATH.
A status looks at folders before it loads the facade."""


def imports_when_run(name: str) -> set[str]:
    """Return the modules that a module imports, without those that it needs for types alone."""
    for_types = {
        id(inner)
        for node in nodes_of(name)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return {
        node.module.removeprefix("dvtool").removeprefix(".")
        for node in nodes_of(name)
        if isinstance(node, ast.ImportFrom)
        and node.module is not None
        and node.module.split(".")[0] == "dvtool"
        and id(node) not in for_types
    }


def test_the_command_uses_the_facade_and_result_types_alone() -> None:
    for name in modules():
        if name.startswith("cli"):
            others = {one for one in imports_when_run(name) if not one.startswith("cli")}
            others -= {"", "errors", "repo", "system.lazy", "system.logs", "system.progress"}
            assert others <= MAY_IMPORT.get(name, set()), name


def test_the_command_uses_public_names_alone() -> None:
    for name in modules():
        for node in nodes_of(name) if name.startswith("cli") else ():
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("repo"):
                assert not node.attr.startswith("_"), f"{name}:{node.lineno} uses {node.attr}"


def verb_line(name: str) -> int:
    verb = name.split(".")[1]
    return next(number for number, line in enumerate(VERB_ORDER) if verb in line)


def test_a_verb_imports_others_only_from_lines_above() -> None:
    for name in modules():
        if not name.startswith("verbs."):
            continue
        verb = name.split(".")[1]
        for other in inner_imports(name):
            if other.startswith("verbs.") and other.split(".")[1] != verb:
                assert verb_line(other) < verb_line(name), f"{name} imports {other}"


def test_transports_know_only_the_protocol_and_errors() -> None:
    for name in modules():
        if name.startswith("remotes.transports."):
            others = {room_name(other) for other in inner_imports(name) - {""}}
            assert others <= {"errors", "system", "format", "remotes.transports"}, name


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
            if name == "snapshots.git_bar" and top == "tqdm":
                continue  # a clone that a program's read makes may take long: somebody waits
            if name in ("jobs.dask", "jobs.ray") and top == "logging":
                continue  # their loggers write to standard error unless they are told not to
            assert top not in ("click", "tqdm", "argparse", "getpass", "logging"), f"{name}: {one}"
        for node in nodes_of(name):
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
ALLOWED = {
    "system.workers": {"os._exit"},
    "stream.torch": {"os._exit"},
    "snapshots.git_bar": {"sys.stderr"},
}
"""A forked process must not run what this program does at its end, nor wait for a dead reader."""


def test_only_the_cli_and_opening_a_repository_read_the_environment() -> None:
    readers = {
        name
        for name in below_cli()
        for node in nodes_of(name)
        if isinstance(node, ast.Attribute)
        and node.attr == "environ"
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    assert readers == {
        *("project.ledger", "git.process", "project.opening", "stream.torch"),
        "jobs.child_environment",
    }, (
        "jobs.child_environment sets variables for the processes of a cluster that it begins; "
        "git.process hands it on to the git program, and reads nothing in it; the ledger of a run "
        "is named there for all processes of its command; Repo.open and dvtool.snapshot read "
        "settings there unless their caller hands them in; the loader for PyTorch takes its rank "
        "from RANK and WORLD_SIZE, which torchrun sets"
    )


DESTROYING = {
    "os": {"unlink", "remove", "rename", "renames", "replace", "rmdir", "removedirs", "truncate"},
    "shutil": {"rmtree", "move"},
}
"""Calls by which a file or folder goes, or loses what it has."""
DESTROYS = {
    "system.atomic": "temporary files of its own, and what its callers may replace",
    "system.locking": "locks beside the store and in git's folder",
    "system.rename": "renames that replace nothing, for those below",
    "format.packing": "unfinished packs",
    "store": "packs, shards and index of the store",
    "remotes": "objects of a folder remote, and files beside the store",
    "verbs.fetch": "packs in the store's own folder",
    "verbs.push": "packs in the store's own folder",
    "verbs.gc": "shards in the store",
    "verbs.fsck": "packs and shards in the store",
    "project.as_taken": "records in git's folder",
    "project.base": "records in git's folder",
    "system.disposable": "a damaged record in git's folder",
    "project.journal": "the journal in git's folder",
    "jobs.take_to_remote": "packs in a temporary folder, once they are on the remote",
    "project.links": "a record in git's folder",
    "project.relocation": "a record in git's folder",
    "snapshots.cache": "frames in the user's cache folder, which are read again",
    "snapshots.foreign": "clones in the user's cache folder, which are made again",
    "verbs.export.folder": "symlinks that --force replaces in the folder of an export",
    "stream.index_cache": "indexes in git's folder, which are made again",
    "verbs.record": "ledgers in git's folder",
    "verbs.resolve.records": "records in git's folder",
    "hooks.install": "hooks in git's folder, each looked at before",
    "hooks.own_folder": "the folder of hooks that it made in git's folder",
    "workspace.statcache": "the cache in git's folder",
    "workspace.last_look": "the user's files: whoever wants one gone or replaced says what it is",
    "workspace.files": "unfinished links that it has just made",
    "workspace.new_file": "unfinished files that it has just made",
    "workspace.staged": "unfinished files that it has just made in a folder in git's folder",
    "verbs.imports.staging": "folders in git's folder that did not take their place",
}
"""The modules, or folders of them, that may, and what they do it to."""


def test_only_the_last_look_replaces_or_removes_the_users_files() -> None:
    found = set()
    for name in modules():
        for node in nodes_of(name):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.attr in DESTROYING.get(node.value.id, ()):
                    found.add(next((m for m in DESTROYS if f"{name}.".startswith(f"{m}.")), name))
            elif isinstance(node, ast.ImportFrom) and node.module in DESTROYING:
                assert not DESTROYING[node.module] & {one.name for one in node.names}, name
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("unlink", "rmtree") or ast.unparse(
                    node.func.value
                ) in ("os", "shutil"), name
    assert found == DESTROYS.keys()


@pytest.mark.parametrize("module", ["workspace.files", "workspace.new_file"])
def test_a_file_that_workspace_has_just_made_is_all_that_it_removes_itself(module: str) -> None:
    removed = [
        ast.unparse(node)
        for node in nodes_of(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "os"
        and node.func.attr in DESTROYING["os"]
    ]
    assert removed
    assert set(removed) == {"os.unlink(temp, dir_fd=folder)"}


@pytest.mark.parametrize("method", ["write_data", "write_link", "write_bytes", "remove"])
def test_who_replaces_or_removes_says_what_it_believes_to_be_there(method: str) -> None:
    calls = 0
    for name in below_cli():
        for node in nodes_of(name):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr != method or not ast.unparse(node.func.value).endswith("workspace"):
                continue
            calls += 1
            said = {keyword.arg for keyword in node.keywords}
            assert "believed" in said, f"{name}:{node.lineno}"
    assert calls


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
            if not (ast.get_docstring(node) or is_overload(node))
        )
    assert not missing


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def is_overload(node: Definition) -> bool:
    """Tell whether a function only states types; what it does is said where it is defined."""
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def definitions(tree: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Yield public classes and functions, and the public methods of public classes."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            if any(ast.unparse(each) == "overload" for each in node.decorator_list):
                continue  # its one contract is that of the definition behind it
            yield node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node)


def test_no_function_is_longer_than_a_person_can_hold_in_view() -> None:
    long = [
        f"{name}.{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for name in modules()
        for node in nodes_of(name)
        if isinstance(node, ast.FunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LINES_MAX
    ]
    assert not long


def test_every_module_has_postponed_annotations() -> None:
    for name in modules():
        text = modules()[name].read_text(encoding="utf-8")
        if any(isinstance(node, ast.FunctionDef) for node in nodes_of(name)):
            assert "from __future__ import annotations" in text, name


def test_the_engine_loads_without_its_heavy_libraries() -> None:
    """Commands that need neither S3 nor git should not pay for loading them."""
    program = (
        "import sys, dvtool.store.local, dvtool.jobs.ingest\n"
        "import dvtool.format.manifest, dvtool.workspace.files\n"
        "print([name for name in ('boto3', 'botocore', 'git', 'pyfastcdc', 'click', 'tqdm')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
