"""``dv config``: show and change settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, documents
from dvtool.errors import UsageError, printable
from dvtool.project.config import Setting
from dvtool.project.keys import KEYS, validate_key
from dvtool.remotes.transports.declaration import Value

if TYPE_CHECKING:
    from dvtool.repo import Repo

_UNSET = "-"


@command(
    "config",
    examples=(
        "dv config                              # all settings, and their sources",
        "dv config core.remote                  # one value",
        "dv config core.remote backup           # for everybody: in .dvconfig",
        "dv config --local store.keep unpushed  # for this clone: in .git/config",
        "dv config --global core.jobs 4         # for you, in all repositories",
        "dv config --unset core.remote",
    ),
    exits=(9,),
    fails="failed; or the setting asked for has no value",
    answers_json=True,
)
@click.argument("key", metavar="[KEY]", required=False)
@click.argument("value", metavar="[VALUE]", required=False)
@click.option("--list", "as_list", is_flag=True, help="List all settings; so does no KEY.")
@click.option("--unset", is_flag=True, help="Remove the setting from the file that has it.")
@click.option("--local", is_flag=True, help="For this clone only: in .git/config.")
@click.option("--global", "for_user", is_flag=True, help="For you: in ~/.config/dv/config.")
def config(
    frame: Frame,
    key: str | None,
    value: str | None,
    as_list: bool,
    unset: bool,
    local: bool,
    for_user: bool,
    as_json: bool,
) -> None:
    """Show settings, or change one.

    Settings are in .dvconfig, which git commits, and, stronger, in .git/config. Settings that must
    not come from a commit, such as a profile or a folder on this machine, go to .git/config by
    themselves. Stronger still is the environment: DV_CORE_REMOTE is core.remote. The weakest are
    your own for all repositories, in ~/.config/dv/config. With -v the list says what each setting
    is for.
    """
    _check_usage(key, value, as_list=as_list, unset=unset)
    if for_user and local:
        raise UsageError("--global is for all repositories, --local for one")
    screen = frame.screen
    with frame.repo(required=False) as repo:
        if key is None:
            _list(screen, repo, as_json=as_json, verbose=frame.verbose)
        elif unset:
            if for_user:
                source = repo.config.set_for_user(key, None)
            else:
                source = repo.config.unset(key, local=local)
            if as_json:
                screen.json(documents.ConfigDocument([_in_force(repo, key)]))
            else:
                screen.done(f"{printable(key)} is not in {source} any more")
        elif value is not None:
            if for_user:
                source = repo.config.set_for_user(key, value)
            else:
                source = repo.config.set(key, value, local=local)
            _show_set(screen, repo, key, value, source, as_json=as_json)
        else:
            _show(screen, repo, key, as_json=as_json)


def _check_usage(key: str | None, value: str | None, *, as_list: bool, unset: bool) -> None:
    if as_list and (key is not None or unset):
        raise UsageError("--list takes neither a KEY nor --unset")
    if unset and (key is None or value is not None):
        raise UsageError("--unset takes one KEY and no VALUE")


def _list(screen: Screen, repo: Repo, *, as_json: bool, verbose: bool) -> None:
    for name in repo.config.values.unknown:
        screen.warn(f"this version of dvtool does not know the setting {printable(name)}")
    settings = repo.config.values.items()
    if as_json:
        screen.json(documents.ConfigDocument(list(settings)))
        return
    rows = [(setting.key, _text(setting.value), setting.source) for setting in settings]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for key, value, source in rows:
        origin = screen.style(source, "dim")
        screen.line(f"{printable(key):<{widths[0]}}  {printable(value):<{widths[1]}}  {origin}")
        if verbose:
            screen.line(screen.style(f"    {_description(key)}", "dim"))


def _description(key: str) -> str:
    field = key.rpartition(".")[2]
    pattern = f"remote.*.{field}" if key.startswith("remote.") else key
    return next(known.description for known in KEYS if known.name == pattern)


def _text(value: Value) -> str:
    """Return a value as it may be typed again."""
    if value is None:
        return _UNSET
    return str(value).lower() if isinstance(value, bool) else str(value)


def _show(screen: Screen, repo: Repo, key: str, *, as_json: bool) -> None:
    setting = _in_force(repo, key)
    if as_json:
        screen.json(documents.ConfigDocument([setting]))
    elif setting.value is not None:
        screen.line(printable(_text(setting.value)))
    if setting.value is None:
        screen.note(f"{setting.key} has no value")
        raise click.exceptions.Exit(1)


def _in_force(repo: Repo, key: str) -> Setting:
    name, settings = validate_key(key), repo.config.values
    return Setting(name, settings.get(name), settings.source(name))


def _show_set(
    screen: Screen, repo: Repo, key: str, value: str, source: str, *, as_json: bool
) -> None:
    name = validate_key(key)
    if as_json:
        screen.json(documents.ConfigDocument([_in_force(repo, key)]))
    else:
        shown = f"{name} = {printable(value)}"
        screen.done(f"{shown}  in {source}" + (" (staged)" if source == ".dvconfig" else ""))
    strongest = repo.config.values.source(name)
    if strongest not in (source, "default"):
        screen.warn(f"the value in {_place(strongest)} is the stronger one and stays in force")
    if name == "core.remote" and value not in repo.config.remotes():
        screen.warn(f"there is no remote {printable(value)} yet (dv remote add)")


def _place(source: str) -> str:
    return "the environment" if source == "environment" else source
