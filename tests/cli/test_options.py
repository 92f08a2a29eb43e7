"""One meaning of each option that several commands have, and a dry run where much changes.

See docs/decisions/083-options-of-one-meaning.md. A new command is entered in one of the tables.
"""

from __future__ import annotations

import re

import click
import pytest

from dvtool.cli.plans import plan_option
from tests.cli.test_help import COMMANDS

WITHOUT_DRY_RUN = {
    "clone": "nothing is there yet that could change; dv pull --plan says how much a clone lacks",
    "remote add": "a setting",
    "remote set": "a setting",
    "remote remove": "a setting; nothing on the remote is touched",
    "remote rename": "a setting; nothing on the remote is touched",
    "config": "a setting",
    "hooks run": "what git calls",
    "run": "runs a command of the user's, of which nobody knows what it will do",
    "runs reproduce": "writes a worktree of its own",
    "fsck": "is the dry run of fsck --repair",
    "cache clean": "dv cache shows what would go; all of it comes again when it is read",
    "serve": "serves, and changes nothing",
    **dict.fromkeys(
        (
            *("remote list", "hooks status", "doctor", "completion", "status", "sparse list"),
            *("runs list", "runs show", "check-overlap", "diff", "show", "log", "ls", "cat"),
            *("cache show", "describe"),
        ),
        "only looks",
    ),
}
"""The commands without --dry-run, and why."""

REMOTE_METAVARS = {
    "init": "URL",  # no remote has a name yet
    "clone": "URL",
    "doctor": "[NAME]",
    "gc": "[NAME]",
    "fsck": "[NAME]",
}
"""What --remote takes, where it is not the NAME of a remote."""

MEANINGS = {
    "--force": r"(Replace|With --data: also files that are saved nowhere)",
    "--all": r"(All refs|Copy what every repository)",
    "--json": r"Print one JSON document\.",
    "--jobs": r"Worker processes",
    "--engine": r"Work by the workers of a Dask or Ray cluster\.",
    "--stat": r"(Only totals for each target|With the bytes)",
    "--no-checkout": r"Write no files? into the workspace\.",
    "--yes": r"Ask nothing",
    "--key": r"(Rows are the same if this column is|With --rows: match rows by this column)",
    "--exit-code": r"End with 1",
    "--check": r"End with 1",
    "--exclude": r"Leave",
}
"""Option -> how its help begins in every command that has it."""


def _options(command: click.Command) -> dict[str, click.Option]:
    return {
        name: param
        for param in command.params
        if isinstance(param, click.Option)
        for name in param.opts
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_dry_run_or_a_reason_to_have_none(name: str) -> None:
    has = "--dry-run" in _options(COMMANDS[name])
    assert has != (name in WITHOUT_DRY_RUN), name


@pytest.mark.parametrize("name", COMMANDS)
def test_dry_runs_have_three_names_and_one_meaning(name: str) -> None:
    options = _options(COMMANDS[name])
    if "-n" in options and options["-n"].hidden:
        assert name == "log"  # git's -n, which is in no help; a command that only looks
        return
    plain = click.Command("plain", callback=plan_option(lambda plan_only: None))
    (model,) = plain.callback.__click_params__  # type: ignore[union-attr]
    for option in model.opts:
        if option in options:
            assert options[option].opts == model.opts
            assert options[option].help == model.help


@pytest.mark.parametrize("name", COMMANDS)
def test_a_revision_and_a_remote_are_named_alike(name: str) -> None:
    options = _options(COMMANDS[name])
    if "--rev" in options:
        assert options["--rev"].metavar == "REV"
        assert "commit" in (options["--rev"].help or "")
    if "--remote" in options:
        assert options["--remote"].metavar == REMOTE_METAVARS.get(name, "NAME")
        assert ("[" in options["--remote"].metavar) == options["--remote"]._flag_needs_value


@pytest.mark.parametrize("name", COMMANDS)
def test_options_of_one_name_say_the_same(name: str) -> None:
    for option, found in _options(COMMANDS[name]).items():
        if option in MEANINGS:
            assert re.match(MEANINGS[option], found.help or ""), option


def test_an_option_of_one_letter_has_one_long_name() -> None:
    long_names: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for option, found in _options(command).items():
            if len(option) == 2 and not found.hidden:
                long_names.setdefault(option, set()).add(found.opts[1])
    assert {option: names for option, names in long_names.items() if len(names) > 1} == {}
