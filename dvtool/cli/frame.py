"""The parts all commands share: shape and help, the options -q, -v and --json, arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from dvtool.cli.output import shell_word
from dvtool.cli.session import Frame as Frame, shared_hooks_text as shared_hooks_text
from dvtool.errors import UsageError, printable

if TYPE_CHECKING:
    from dvtool.repo import Repo

EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "wrong usage",
    3: "not set up: no git repository, commit or remote, or bad configuration",
    4: "content is missing, here and on the remote",
    5: "unsaved changes would be lost",
    6: "stored data is corrupt, or a manifest is damaged",
    7: "the remote failed",
    8: "something in the data cannot be versioned",
    9: "another process is busy here",
    130: "interrupted",
}
"""All exit codes, but for 141: the reader of the output went away, as in `dv ls | head`."""
ALWAYS = (0, 1, 2, 3, 130)
_BEHIND_DASHES = "dvtool.behind_dashes"

Function: TypeAlias = Callable[..., Any]


class Command(click.Command):
    """A command whose help ends with examples, the keys of its JSON, and its exit codes.

    `examples` are command lines, with what they do behind ``#``. With `splits`, arguments behind
    ``--`` are kept apart: see `revisions_and_paths`.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str],
        exits: Mapping[int, str],
        answers_json: bool,
        splits: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.exits = exits
        self.answers_json = answers_json
        self._splits = splits

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with the arguments behind ``--`` set aside."""
        if self._splits and "--" in args:
            at = args.index("--")
            ctx.meta[_BEHIND_DASHES] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, whose name the progress shows."""
        frame = ctx.find_object(Frame)
        if frame is not None:
            frame.command_path = ctx.command_path
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections that follow the options."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        if self.answers_json:
            from dvtool.cli.json_keys import JSON_KEYS

            with formatter.section("JSON"):
                for text in JSON_KEYS[ctx.command_path.partition(" ")[2]]:
                    formatter.write_text(text)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in sorted(self.exits.items())])


def command(
    name: str,
    *,
    examples: Sequence[str],
    exits: Sequence[int] = (),
    fails: str | None = None,
    answers_json: bool = False,
    splits: bool = False,
) -> Callable[[Function], Command]:
    """Make a function a command; it gets the `Frame` first.

    `exits` are the exit codes it can end with besides those that every command has; `fails` says
    what 1 means here. A command that `answers_json` has --json, and is listed in
    `documents.ANSWERS`.
    """
    meanings = {code: EXIT_CODES[code] for code in (*ALWAYS, *exits)}
    if fails is not None:
        meanings[1] = fails

    def wrap(function: Function) -> Command:
        callback = click.pass_obj(function)
        if answers_json:
            callback = _json_option(callback)
        for option in (_progress_option, _verbose_option, _quiet_option):
            callback = option(callback)
        return click.command(
            name,
            cls=Command,
            examples=examples,
            exits=meanings,
            answers_json=answers_json,
            splits=splits,
        )(callback)

    return wrap


def _set_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    frame = ctx.find_object(Frame)
    if frame is not None and value:
        frame.quiet = True


def _set_verbose(ctx: click.Context, _: click.Parameter, value: int) -> None:
    frame = ctx.find_object(Frame)
    if frame is not None and value:
        frame.say_more(value)


_quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_set_quiet,
    help="Only warnings, errors and what was asked for.",
)
_verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_set_verbose,
    help="Say more; -vv also writes a log to standard error.",
)
PROGRESS = click.Choice(("auto", "always", "never"))
PROGRESS_HELP = "Show bars: on a terminal (auto; else a line every 10 s), always or never."


def _set_progress(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    frame = ctx.find_object(Frame)
    if frame is not None and value:
        frame.progress_mode = value


_progress_option = click.option(
    "--progress", type=PROGRESS, expose_value=False, callback=_set_progress, help=PROGRESS_HELP
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")

paths_argument = click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
"""Paths or globs; none means everything."""
remote_option = click.option(
    "--remote", metavar="NAME", help="The remote to use instead of the default one."
)


def behind_dashes() -> list[str]:
    """Return the arguments of this command that were behind ``--``; it must be one that splits."""
    return list(click.get_current_context().meta.get(_BEHIND_DASHES) or ())


def revisions_and_paths(
    repo: Repo,
    arguments: Sequence[str],
    *,
    revisions_max: int | None = None,
    ranges: bool = False,
    remotes: str | None = None,
) -> tuple[list[str], list[str]]:
    """Tell revisions from paths as git does: arguments behind ``--`` are paths, all before not.

    Without ``--``, the revisions end at the first argument that is a path. With `ranges`, ``A..B``
    is A and B. `remotes` is the command, `push`, in which git would take a remote first.
    """
    behind: list[str] | None = click.get_current_context().meta.get(_BEHIND_DASHES)
    if remotes is not None and arguments:
        _refuse_remote(repo, arguments, command=remotes)
    revisions, paths = repo.arguments.sort_arguments(arguments, behind, ranges=ranges)
    if revisions_max is not None and len(revisions) > revisions_max:
        raise UsageError(
            f"too many revisions: {' '.join(map(printable, revisions))}",
            hint=f"this takes {revisions_max} at most; put paths behind `--`",
        )
    return revisions, paths


def revision_and_paths(
    repo: Repo, rev: str | None, paths: Sequence[str]
) -> tuple[str | None, list[str]]:
    """Return the one revision of --rev and of any ``REV:PATH`` among paths, and all paths."""
    revisions = [] if rev is None else [rev]
    plain = []
    for path in paths:
        named, rest = repo.arguments.split_revision(path)
        plain.append(rest)
        if named is not None and named not in revisions:
            revisions.append(named)
    if len(revisions) > 1:
        raise UsageError(
            f"too many revisions: {' '.join(map(printable, revisions))}",
            hint="this takes paths of one revision",
        )
    return (revisions[0] if revisions else None), plain


def _refuse_remote(repo: Repo, arguments: Sequence[str], *, command: str) -> None:
    """Refuse `dv push origin main`, as git would take it: for git `origin` is a revision, too."""
    name, rest = arguments[0], arguments[1:]
    if name not in repo.config.remotes() or repo.arguments.is_path_or_branch(name):
        return
    words = " ".join(map(shell_word, ["--remote", name, *rest]))
    raise UsageError(
        f"{printable(name)} is a remote, which is named with --remote",
        hint=f"run: dv {command} {words}",
    )
