"""Every command is documented, with an example and its exit codes, within 80 columns."""

from __future__ import annotations

import re

import click
import pytest

from dvtool import cli
from dvtool.cli import group
from dvtool.cli.foreign_words import OPTIONS, WORDS
from dvtool.cli.frame import EXIT_CODES, Command
from tests.cli.conftest import Work


def _commands() -> dict[str, click.Command]:
    context = click.Context(group.dv, info_name="dv")
    found: dict[str, click.Command] = {}
    for name in group.dv.list_commands(context):
        command = group.dv.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= {f"{name} {sub}": one for sub, one in command.commands.items()}
        else:
            found[name] = command
    return found


COMMANDS = _commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(bare: Work, name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    text = bare.dv(*name.split(), "--help").out
    assert command.help
    assert f"Usage: dv {name} " in text
    assert "Examples:" in text
    assert any(example.startswith(f"dv {name}") for example in command.examples) or (
        "dv completion" in text
    )
    assert "Exit codes:" in text
    for code in (0, 1, 2, 3, 130):
        assert f"\n  {code} " in text
    assert all(len(line) <= 80 for line in text.splitlines())
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, param.name
    options = {option for param in command.params for option in param.opts}
    assert {"-q", "--quiet", "-v", "--verbose"} <= options
    assert ("JSON:" in text) == ("--json" in options)
    assert text == bare.dv(*name.split(), "-h").out


def test_short_helps_are_there_and_short() -> None:
    for section in cli.COMMANDS.values():
        for text in section.values():
            assert text.endswith(".")
            assert len(text) <= 66


def test_the_group_lists_every_exit_code(bare: Work) -> None:
    text = bare.dv("--help").out
    for code in EXIT_CODES:
        assert f"\n  {code} " in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_no_command_prints_help(bare: Work) -> None:
    assert bare.dv(code=2).out == bare.dv("--help").out


def test_remote_help(bare: Work) -> None:
    text = bare.dv("remote", "--help").out
    assert "Examples:" in text
    assert "Exit codes:" in text


@pytest.mark.parametrize(
    ("typed", "meant"), [("pul", "pull"), ("statsu", "status"), ("chekout", "checkout")]
)
def test_unknown_command_suggests_the_nearest(bare: Work, typed: str, meant: str) -> None:
    ran = bare.dv(typed, code=2)
    assert ran.err == f"error: there is no command {typed}\nhint: did you mean: dv {meant}\n"


def test_unknown_command_without_a_near_one(bare: Work) -> None:
    ran = bare.dv("x\x1b[31m", code=2)
    assert "dv --help" in ran.err
    assert "\x1b" not in ran.err


def test_unknown_option(bare: Work) -> None:
    assert "hint: run: dv add --help" in bare.dv("add", "--nope", "x", code=2).err
    assert "hint: run: dv --help" in bare.dv("--nope", code=2).err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("commit", "git commit"),
        ("repro", "dv add"),
        ("track", "dv add"),
        ("prune", "dv gc"),
        ("move", "dv mv"),
        ("stash", "git stash"),
        ("archive", "dv export"),
        ("fetch-all", "dv fetch"),
        ("login", "dv doctor --remote"),
    ],
)
def test_words_of_git_dvc_and_git_lfs_are_answered(bare: Work, typed: str, hint: str) -> None:
    ran = bare.dv(typed, code=2)
    assert ran.err.startswith(f"error: dv has no command {typed}\n")
    assert hint in ran.err


def test_no_command_of_dv_is_a_foreign_word_and_every_hint_is_one_that_runs() -> None:
    assert not set(WORDS) & set(COMMANDS)
    for hint in (*WORDS.values(), *OPTIONS.values()):
        for name in re.findall(r"\bdv ([a-z]+)", hint.replace("dv COMMAND", "")):
            known = {one.partition(" ")[0] for one in COMMANDS}
            assert name in known or f"dv {name}" not in hint.partition(": ")[2], hint
    for command, _ in OPTIONS:
        assert command in COMMANDS


def test_options_of_git_dvc_and_git_lfs_are_answered(data: Work) -> None:
    assert "hint: run: dv push --remote NAME" in data.dv("push", "-r", "x", code=2).err
    assert "git switch -c" in data.dv("checkout", "-b", "x", code=2).err
