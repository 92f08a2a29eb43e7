"""The group of all commands, read from the command line by click."""

from __future__ import annotations

import importlib
import keyword
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import click

from dvtool import __version__
from dvtool.cli import COMMANDS, EXIT_MEANINGS, HIDDEN, PROGRAM

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def run_group(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; return its exit code."""
    try:
        with dv.make_context(PROGRAM, list(arguments)) as context:
            dv.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


class _LazyGroup(click.Group):
    """The group of all commands, each imported from the module of its name when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in (*self.list_commands(ctx), *HIDDEN):
            return None
        name = cmd_name.replace("-", "_") + "_" * keyword.iskeyword(cmd_name)
        module = importlib.import_module(f"dvtool.cli.{name}")
        return cast(click.Command, getattr(module, name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = (*self.list_commands(ctx), *HIDDEN)
        if name in known or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from dvtool.cli.failures import unknown_command

        raise unknown_command(name, self.list_commands(ctx))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in (
                "dv init --remote s3://BUCKET/PREFIX",
                "dv add data/images",
                "git commit -m 'Add the images'",
                "dv push",
            ):
                formatter.write_text(line)
        with formatter.section("Exit codes"):
            formatter.write_dl(EXIT_MEANINGS)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=text)
            for section in COMMANDS.values()
            for name, text in section.items()
            if name.startswith(incomplete)
        ]


@click.command(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-C",
    "folders",
    metavar="DIR",
    multiple=True,
    type=click.Path(file_okay=False),
    help="Run as if started in DIR; repeated, each is relative to the one before.",
)
@click.option("-q", "--quiet", is_flag=True, help="Only warnings, errors and what was asked for.")
@click.option(
    "-v", "--verbose", count=True, help="Say more; -vv also writes a log to standard error."
)
@click.option(
    "--progress",
    type=click.Choice(("auto", "always", "never")),
    default="auto",
    help="Show bars: on a terminal (auto; else a line every 10 s), always or never.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def dv(
    context: click.Context, folders: tuple[str, ...], quiet: bool, verbose: int, progress: str
) -> None:
    """Version data with git: large files in object storage, small manifests in commits.

    Every command explains itself: dv COMMAND --help.
    """
    from dvtool.cli.session import Frame

    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)
    folder = os.path.join(".", *folders)
    # A group that is given no command of its own works by itself: others put their name here.
    path = f"{PROGRAM} {context.invoked_subcommand}"
    frame = Frame(folder=folder, quiet=quiet, progress_mode=progress, command_path=path)
    context.obj = frame
    frame.say_more(verbose)
