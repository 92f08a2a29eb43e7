"""The description of the JSON says what the classes say, and the help texts do too."""

from __future__ import annotations

import click
import pytest

from dvtool.cli import documents, group
from dvtool.cli.frame import Command
from dvtool.cli.json_keys import JSON_KEYS
from tests import json_reference
from tests.json_reference import HELP, JSON_SCHEMA, REFERENCE, answers, keys

ANEW = "run: python -m tests.json_reference"


def test_the_reference_is_up_to_date() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == json_reference.reference(), ANEW
    assert JSON_SCHEMA.read_text(encoding="utf-8") == json_reference.json_schema_text(), ANEW


def test_the_help_shows_the_same_keys() -> None:
    wanted = {command: tuple(texts) for command, texts in json_reference.help_texts().items()}
    assert wanted == JSON_KEYS, f"{ANEW}, which writes {HELP}"


@pytest.mark.parametrize(("line", "kind"), list(answers()), ids=str)
def test_every_key_is_explained(line: str, kind: type) -> None:
    for one in {kind, *json_reference._below(kind)}:
        for key in keys(one):
            assert key.meaning.endswith("."), f"{one.__name__}.{key.name}"


def _commands(group: click.Group, name: str = "") -> dict[str, click.Command]:
    context = click.Context(group)
    found: dict[str, click.Command] = {}
    for inner in group.list_commands(context):
        command = group.get_command(context, inner)
        assert command is not None
        line = f"{name} {inner}".strip()
        found |= _commands(command, line) if isinstance(command, click.Group) else {line: command}
    return found


def test_every_command_with_json_is_listed() -> None:
    assert {
        line
        for line, command in _commands(group.dv).items()
        if isinstance(command, Command) and command.answers_json
    } == set(documents.ANSWERS)
