"""What `import dvtool` gives: the names that users may rely on, lightly and with their types."""

from __future__ import annotations

import ast
import importlib.resources
import inspect
import json
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import dvtool
from dvtool import errors
from tests.layers import PROJECT

LIBRARY = PROJECT / "docs" / "library.md"
PRIVATE_PARTS = {"arguments", "hooks", "for_git"}
"""What of `Repo` serves the command line, the commands that git runs, and dv hooks."""
LIGHT = """
import json, sys
before = set(sys.modules)
import dvtool
names = dir(dvtool)
json.dump([sorted(set(sys.modules) - before), names], sys.stdout)
"""


def test_importing_dvtool_imports_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    loaded, names = json.loads(done.stdout)
    assert [name for name in loaded if name.startswith("dvtool")] == ["dvtool"]
    assert not set(loaded) & {"msgspec", "git", "boto3", "blake3", "click", "importlib.metadata"}
    assert names == sorted(dvtool.__all__)


@pytest.mark.parametrize("name", dvtool.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(dvtool, name) is not None


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="'dvtool' has no attribute 'Backend'"):
        getattr(dvtool, "Backend")  # noqa: B009 a type checker knows that it is not there


def test_type_checkers_see_the_names_from_the_same_places() -> None:
    tree = ast.parse(Path(dvtool.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == dvtool._HOMES
    assert {*imported, "__version__"} == set(dvtool.__all__)


def test_every_error_is_public() -> None:
    kinds = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.DvError) and name[0] != "_"
    }
    assert kinds <= set(dvtool.__all__)


def _names_in(annotation: ast.expr) -> set[str]:
    """Return the classes that an annotation names, `Added` for `list[publish.Added]`."""
    return {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(annotation)
        if isinstance(node, (ast.Attribute, ast.Name))
    } - set(dir(typing))


def test_what_the_methods_of_a_repository_return_is_public() -> None:
    tree = ast.parse((Path(dvtool.__file__).parent / "repo.py").read_text(encoding="utf-8"))
    (repo,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Repo")
    private = {
        f"{method.name}: {name}"
        for method in repo.body
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
        if method.name not in PRIVATE_PARTS and method.returns is not None
        for name in _names_in(method.returns)
        if name[0].isupper() and name not in {*dvtool.__all__, "AbstractContextManager"}
    }
    assert not private


def test_the_package_says_that_it_has_types() -> None:
    assert importlib.resources.files(dvtool).joinpath("py.typed").is_file()


def test_the_documentation_names_every_public_name() -> None:
    text = LIBRARY.read_text(encoding="utf-8")
    missing = [name for name in dvtool.__all__ if f"`{name}`" not in text]
    assert not missing
