"""The pages of docs/reference that are made from the code.

`python -m tests.site.reference` writes them: commands and exit codes from click, settings from
their keys, the Python names from their docstrings.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import click

import dvtool
import dvtool.stream
from dvtool import cli
from dvtool.cli import group
from dvtool.cli.frame import EXIT_CODES, Command
from dvtool.project.keys import KEYS, Key
from tests.site.blocks import DOCS

LINE_MAX = 96
KINDS = {
    "str": "text",
    "bool": "`true`, `false`",
    "size": "a size",
    "int": "a number",
    "path": "a path",
    "choice": "",
}
MADE = "Made from the code by `python -m tests.site.reference`."


def write_all() -> None:
    """Write each page."""
    for name, text in pages().items():
        (DOCS / "reference" / name).write_text(text, "utf-8")


def pages() -> dict[str, str]:
    """Return the text of each page, by its name."""
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "cli.md": _commands,
        "exit-codes.md": _exit_codes,
        "settings.md": _settings,
        "api.md": _names,
    }
    return {name: "\n".join(make()).rstrip() + "\n" for name, make in makers.items()}


def every_command() -> dict[str, click.Command]:
    """Return each command that is not a group, by what is typed behind `dv`."""
    context = _context()
    return {
        line: command
        for name in group.dv.list_commands(context)
        for line, command in _below(name, group.dv.get_command(context, name))
    }


def _context() -> click.Context:
    """Return a context of `dv`: commands keep the names of the help option that they first see."""
    return click.Context(group.dv, info_name="dv", **group.dv.context_settings)


def _below(name: str, command: click.Command | None) -> Iterator[tuple[str, click.Command]]:
    assert command is not None
    if isinstance(command, click.Group):
        for inner, below in command.commands.items():
            yield from _below(f"{name} {inner}", below)
    else:
        yield name, command


# --- commands ---------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    yield from ("# Commands", "", MADE, "")
    yield "Every command has `-h` and `--help`, `-q` and `--quiet` (only warnings, errors and what"
    yield "was asked for), `-v` and `--verbose` (say more; `-vv` also writes a log to standard"
    yield "error). In front of the command may be `-C DIR`: run as if started in DIR."
    yield "Where a command has `--json`, [the reference](json.md) explains each key."
    yield ""
    commands = every_command()
    for section, names in cli.COMMANDS.items():
        yield from (f"## {section}", "")
        for line, command in commands.items():
            if line.split()[0] in names:
                yield from _command(line, command)


def _command(line: str, command: click.Command) -> Iterator[str]:
    assert isinstance(command, Command)
    context = click.Context(command, info_name=f"dv {line}", parent=_context())
    usage = " ".join(["dv", line, *command.collect_usage_pieces(context)])
    yield from (f"### dv {line}", "", "```text", usage, "```", "")
    for paragraph in inspect.cleandoc(command.help or "").replace("\b\n", "").split("\n\n"):
        yield from (_escaped(" ".join(paragraph.split())), "")
    yield from _options(command, context)
    yield from ("<!-- not run: examples -->", "```console")
    yield from (f"$ {example}" for example in command.examples if example.startswith("dv "))
    yield from ("```", "", "Exit codes: " + ", ".join(map(str, sorted(command.exits))) + ".", "")
    if command.exits[1] != EXIT_CODES[1]:
        yield from (f"1 means: {_escaped(command.exits[1])}.", "")


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = [
        param.get_help_record(context)
        for param in command.params
        if isinstance(param, click.Option) and not {"-q", "-v"} & set(param.opts)
    ]
    rows = [record for record in records if record is not None]
    if rows:
        yield from ("| option | what |", "|---|---|")
        for names, text in rows:
            shown = names.replace("|", "\\|")  # a bar ends a cell, in code too
            yield f"| `{shown}` | {_escaped(text)} |"
        yield ""


def _escaped(text: str) -> str:
    """Return a text of the help as Markdown: it has no markup of its own."""
    return re.sub(r"([|<>*_\[\]])", r"\\\1", text.replace("`", ""))


def _exit_codes() -> Iterator[str]:
    yield from ("# Exit codes", "", MADE, "")
    yield "A command that fails says why on standard error, and what to type next behind `hint:`."
    yield from ("", "| code | meaning |", "|---|---|")
    yield from (f"| {code} | {meaning} |" for code, meaning in cli.EXIT_MEANINGS)
    yield from (
        "",
        "`dv run` passes on the exit code of the command that it ran.",
    )
    yield "The errors of the Python library have the same number as `error.exit_code`:"
    yield from ("", "```text")
    tree = (inspect.getdoc(dvtool.errors) or "").split("::\n")[1]
    yield from (textwrap.dedent(tree).strip("\n"), "```")


# --- settings ---------------------------------------------------------------------------------


def _settings() -> Iterator[str]:
    yield from ("# Settings", "", MADE, "")
    yield "`dv config KEY VALUE` sets one, `dv config` lists them. A setting is looked for in the"
    yield "environment, then in git's own settings (`.git/config` with `--local`), then in"
    yield "`.dvconfig`, which is committed, then in `~/.config/dv/config` (`--global`)."
    yield "The variable is the key in capitals, with `DV_` in front and `_` for `.`:"
    yield "`DV_CORE_JOBS`, `DV_REMOTE_ORIGIN_URL`."
    yield from ("", "`*` is the name of a remote. A size may end in `K`, `M` or `G`.", "")
    for section in dict.fromkeys(key.name.split(".")[0] for key in KEYS):
        yield from (f"## {section}", "", "| key | value | not set | in `.dvconfig` | what |")
        yield "|---|---|---|---|---|"
        yield from (_setting(key) for key in KEYS if key.name.split(".")[0] == section)
        yield ""


def _setting(key: Key) -> str:
    value = ", ".join(f"`{choice}`" for choice in key.choices) or KINDS[key.kind]
    default = "" if key.default is None else f"`{_default(key)}`"
    committed = "yes" if key.committed else "no"
    return f"| `{key.name}` | {value} | {default} | {committed} | {_escaped(key.description)} |"


def _default(key: Key) -> str:
    if key.kind == "size" and isinstance(key.default, int) and key.default:
        for unit, size in (("G", 1 << 30), ("M", 1 << 20)):
            if key.default % size == 0:
                return f"{key.default // size}{unit}"
    return str(key.default).lower() if isinstance(key.default, bool) else str(key.default)


# --- Python -----------------------------------------------------------------------------------


def _names() -> Iterator[str]:
    yield from ("# Python names", "", MADE, "")
    yield "All that may be relied on, from the docstrings. [As a library](../library.md) says how"
    yield "it is used, [Read any commit from Python](../python.md) and [Training from a"
    yield "commit](../training.md) have examples."
    yield ""
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": []}
    for name in sorted(dvtool.__all__):
        thing = getattr(dvtool, name)
        if inspect.isclass(thing):
            kinds["Errors" if issubclass(thing, Exception) else "Classes"].append(name)
        elif callable(thing):
            kinds["Functions"].append(name)
    for kind, names in kinds.items():
        yield from (f"## {kind}", "")
        for name in names:
            yield from _thing(f"dvtool.{name}", getattr(dvtool, name), errors=kind == "Errors")
    yield from ("## Streams", "")
    for name in sorted(dvtool.stream.__all__):
        thing = getattr(dvtool.stream, name)
        if inspect.isclass(thing):
            yield from _thing(f"dvtool.stream.{name}", thing, errors=False)


def _thing(name: str, thing: Any, *, errors: bool) -> Iterator[str]:
    yield from (f"### {name}", "")
    if errors:
        bases = [base.__name__ for base in thing.__bases__ if issubclass(base, Exception)]
        yield from (f"Below {', '.join(f'`{base}`' for base in bases)}. {_doc(thing)}", "")
        return
    if not inspect.isclass(thing):
        yield from _signature(name, thing)
        yield from (_doc(thing), "")
        return
    yield from (_doc(thing), "")
    fields = getattr(thing, "__annotations__", {})
    shown = [f"`{field}`" for field in fields if not field.startswith("_")]
    if shown and hasattr(thing, "__struct_fields__") | hasattr(thing, "__dataclass_fields__"):
        yield from (f"Fields: {', '.join(shown)}.", "")
    for member, value in _members(thing):
        if isinstance(value, property):
            yield from (f"**`.{member}`**: {_doc(value)}", "")
        else:
            yield from _signature(f".{member}", value)
            yield from (_doc(value), "")


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    for member, raw in inspect.getmembers_static(kind):
        value = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw
        if member.startswith("_") or not (inspect.isfunction(value) or isinstance(value, property)):
            continue
        inner = value.fget if isinstance(value, property) else value
        if getattr(inner, "__module__", "").startswith("dvtool.") and inspect.getdoc(inner):
            yield member, value


class _Bare:
    """An annotation that is shown as it was written, without quotation marks."""

    def __init__(self, text: object) -> None:
        self._text = text if isinstance(text, str) else inspect.formatannotation(text)

    def __repr__(self) -> str:
        return self._text


def _signature(name: str, function: Any) -> Iterator[str]:
    written = inspect.signature(function)
    params = [
        param.replace(annotation=_Bare(param.annotation))
        if param.annotation is not param.empty
        else param
        for param in written.parameters.values()
        if param.name != "self"
    ]
    signature = inspect.Signature(params, return_annotation=_Bare(written.return_annotation))
    text = _without_addresses(f"{name}{signature}")
    lines = [text] if len(text) <= LINE_MAX else _folded(name, params, signature)
    yield from ("```text", *lines, "```", "")


def _without_addresses(text: str) -> str:
    """Return a signature in which defaults that are objects, such as functions, are dots."""
    return re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "…", text)


def _folded(
    name: str, params: list[inspect.Parameter], signature: inspect.Signature
) -> Iterator[str]:
    yield f"{name}("
    starred = False
    for param in params:
        if param.kind is param.KEYWORD_ONLY and not starred:
            starred = True
            yield "    *,"
        yield f"    {_without_addresses(str(param))},"
    yield f") -> {signature.return_annotation!r}"


def _doc(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return re.sub(r"(?<!`)``([^`]+)``(?!`)", r"`\1`", text)


if __name__ == "__main__":
    write_all()
