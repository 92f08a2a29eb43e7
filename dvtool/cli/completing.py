"""Completion of a command line: the scripts for shells, and the values of arguments and options.

The shell calls ``dv`` with the line so far in the environment. It answers a line for each value:
its kind (``plain``, ``path`` or ``folder``), a tab, the value, a tab, and a help text or nothing.
"""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click
from click import shell_completion
from click.shell_completion import CompletionItem, split_arg_string

from dvtool.cli import PROGRAM

if TYPE_CHECKING:
    from dvtool.repo import Repo

SHELLS = ("bash", "zsh", "fish")


def script_of(shell: str) -> str:
    """Return the script that has a shell ask `dv` what may follow."""
    file = importlib.resources.files("dvtool.cli") / "shells" / f"dv.{shell}"
    return file.read_text(encoding="utf-8")


def answer(cli: click.Command, instruction: str) -> int:
    """Print what may follow on the line in the environment; for `bash_source` bash's script."""
    shell, _, what = instruction.partition("_")
    if shell not in SHELLS:
        return 1
    if what == "source":
        click.echo(script_of(shell), nl=False)
        return 0
    line = os.environ.get("COMP_LINE", "")
    if shell == "bash":
        line = line[: int(os.environ.get("COMP_POINT") or len(line))]
        words = split_arg_string(line)
        if line[-1:].isspace() or not words:
            words.append("")
    else:
        words = line.split("\n")
    *before, begun = words[1:] or [""]
    for item in _items(cli, before, begun):
        value = str(item.value)
        if shell == "bash":
            value = _without_broken_off(value, begun)
        elif begun.startswith("--") and "=" in begun and not value.startswith("--"):
            value = f"{begun.partition('=')[0]}={value}"
        text = (item.help or "").replace("\t", " ").replace("\n", " ")
        click.echo(f"{item.type}\t{value}\t{text}")
    return 0


def _without_broken_off(value: str, begun: str) -> str:
    """Return what bash puts in the place of the last of the words into which it breaks the one."""
    breaks = os.environ.get("COMP_WORDBREAKS", ":=")
    at = max((begun.rfind(char) for char in ":=" if char in breaks), default=-1)
    return value[at + 1 :] if at >= 0 and value.startswith(begun[: at + 1]) else value


def _items(cli: click.Command, before: list[str], begun: str) -> list[CompletionItem[str]]:
    """Return what may stand in the place of the last word."""
    arguments = list(before)
    context = shell_completion._resolve_context(cli, {}, PROGRAM, arguments)
    what, begun = shell_completion._resolve_incomplete(context, arguments, begun)
    if isinstance(what, click.Parameter):
        own = _VALUES.get(what.name or "")
        name = context.command_path.partition(" ")[2]
        own = _OF_COMMANDS.get((name, what.name or ""), own)
        if own is not None:
            try:
                return list(own(context, begun, "--" in before))
            except Exception:  # an error would only be in the way of who types
                return []
    return what.shell_complete(context, begun)


Values = Callable[[click.Context, str, bool], Iterable[CompletionItem[str]]]


def _matching(names: Iterable[str], begun: str) -> Iterator[CompletionItem[str]]:
    return (CompletionItem(name) for name in names if name.startswith(begun) and name.isprintable())


def _paths(context: click.Context, begun: str, _: bool) -> Iterator[CompletionItem[str]]:
    with _repo(context) as repo:
        rev, colon, path = begun.partition(":")
        if colon and repo.arguments.is_revision(rev):
            for each in repo.candidates(path, rev=rev):
                yield CompletionItem(f"{rev}:{each}", "folder" if each.endswith("/") else "path")
            return
        for each in repo.candidates(begun):
            yield CompletionItem(each, "folder" if each.endswith("/") else "path")


def _revisions(context: click.Context, begun: str, _: bool) -> Iterator[CompletionItem[str]]:
    before, dots, after = begun.rpartition("..")
    with _repo(context) as repo:
        for item in _matching(repo.revisions(), after):
            yield CompletionItem(before + dots + item.value)


def _revisions_and_paths(
    context: click.Context, begun: str, behind_dashes: bool
) -> Iterator[CompletionItem[str]]:
    if not behind_dashes:
        yield from _revisions(context, begun, False)
    yield from _paths(context, begun, False)


def _remotes(context: click.Context, begun: str, _: bool) -> Iterator[CompletionItem[str]]:
    with _repo(context) as repo:
        for name, remote in repo.config.remotes().items():
            if name.startswith(begun):
                yield CompletionItem(name, help=remote.url)


def _keys(context: click.Context, begun: str, _: bool) -> Iterator[CompletionItem[str]]:
    with _repo(context) as repo:
        names = {setting.key for setting in repo.config.values.items()}
    yield from _matching(sorted(names), begun)


def _repo(context: click.Context) -> Repo:
    from dvtool.repo import Repo

    folders = context.find_root().params.get("folders") or ()
    return Repo.open(os.path.join(".", *folders), environ=os.environ)


_VALUES: dict[str, Values] = {
    "paths": _paths,
    "path": _paths,
    "source": _paths,
    "destination": _paths,
    "arguments": _revisions_and_paths,
    "rev": _revisions,
    "remote": _remotes,
    "remotes": _remotes,
}
"""Name of a parameter -> what completes it, in any command."""
_OF_COMMANDS: dict[tuple[str, str], Values] = {
    ("restore", "source"): _revisions,
    ("config", "key"): _keys,
    **{
        (f"remote {name}", parameter): _remotes
        for name in ("set", "trust", "remove", "rename", "copy", "roots")
        for parameter in ("name", "source", "destination")
    },
}
"""Command and name of a parameter -> what completes it there."""
