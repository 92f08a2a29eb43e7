"""docs/imports.md: every command in it is one that dv takes, options and all."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from dvtool.cli import group
from dvtool.cli.frame import Frame
from tests.layers import PROJECT

TEXT = (PROJECT / "docs" / "imports.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ dv (.+)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_text_is_one(line: str) -> None:
    name, *arguments = shlex.split(line)
    context = click.Context(group.dv, info_name="dv", obj=Frame())
    command = group.dv.get_command(context, name)
    assert command is not None
    command.make_context(name, arguments, parent=context).close()


def test_there_are_some_of_each_kind() -> None:
    assert {line.split()[0] for line in COMMANDS} >= {"import", "import-sql", "update", "status"}


def test_what_it_refers_to_is_there() -> None:
    for link in re.findall(r"\]\((decisions/[^)]+)\)", TEXT):
        assert (PROJECT / "docs" / link).is_file(), link
