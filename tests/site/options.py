"""Whether the `dv` commands in a shell command exist, with the options that they are given."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click

from dvtool.cli import group as commands

_SEPARATORS = frozenset({"|", "||", "&&", ";", "(", ")", "&"})
_ANYTHING = frozenset({"…", "..."})


def dv_commands(command: str) -> Iterator[list[str]]:
    """Yield the arguments of each `dv` in a shell command."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in (*lexer, ";"):
        if word not in _SEPARATORS:
            words.append(word)
            continue
        while words and "=" in words[0]:
            words.pop(0)
        if words and words[0] == "dv":
            redirected = next(
                (at for at, text in enumerate(words) if text[:1] in ("<", ">")), len(words)
            )
            yield words[1:redirected]
        words = []


def refusal(arguments: list[str]) -> str | None:
    """Return why `dv` would not take these arguments, None if it would."""
    words = [word for word in arguments if word not in _ANYTHING]
    if not words:
        return None
    try:
        context = commands.dv.make_context("dv", list(words))
        rest = [*context._protected_args, *context.args]
        group: click.Group = commands.dv
        while rest:
            _, command, rest = group.resolve_command(context, rest)
            assert command is not None
            context = command.make_context(command.name, rest, parent=context)
            if not isinstance(command, click.Group):
                return None
            group, rest = command, [*context._protected_args, *context.args]
    except click.exceptions.Exit:
        return None
    except Exception as error:
        return f"dv {' '.join(words)}: {error}"
    return None if group.invoke_without_command else f"dv {' '.join(words)}: a command is missing"
