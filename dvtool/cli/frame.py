"""The parts all commands share: shape and help, the options -q, -v and --json, the repository."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import msgspec

from dvtool.cli import STARTED_S
from dvtool.cli.output import Screen, hold_progress, shell_word
from dvtool.errors import DvError, UsageError, printable
from dvtool.system.progress import SILENT, Progress

if TYPE_CHECKING:
    from dvtool.cli.bars import Bars
    from dvtool.cli.lines import Lines
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
OTHERS_WRITE = ("dv run", "dv runs", "dv serve")
"""Commands in which another program, or a log, has the terminal."""
ALWAYS = (0, 1, 2, 3, 130)
LOG_VERBOSITY = 2
_BEHIND_DASHES = "dvtool.behind_dashes"


def shared_hooks_text(shared: str, folder: str) -> str:
    """Say where hooks go if git looks for those of all repositories in one folder."""
    return (
        f"core.hooksPath is {printable(shared)} for all your repositories, which is left as it is; "
        f"git hooks and drivers are installed for this one alone, in {printable(folder)} "
        "(core.hooksPath in .git/config), and run yours first; dv hooks uninstall takes them out"
    )


def on_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


Function: TypeAlias = Callable[..., Any]


class Frame(msgspec.Struct):
    """The global options, and what follows from them."""

    folder: str = "."
    quiet: bool = False
    verbosity: int = 0
    """How often -v was given."""
    progress_mode: str = "auto"
    """When to show progress: auto, always or never."""

    @property
    def verbose(self) -> bool:
        """Whether to say more."""
        return self.verbosity > 0

    def say_more(self, times: int) -> None:
        """Take -v, `count` times: from the second on, notes go to standard error."""
        self.verbosity += times
        if self.verbosity >= LOG_VERBOSITY:
            from dvtool.cli.logs import begin_on_stderr

            begin_on_stderr(sys.argv[1:])

    @property
    def screen(self) -> Screen:
        """Where the command prints."""
        return Screen(environ=os.environ, quiet=self.quiet)

    def environ_given(self) -> dict[str, str]:
        """Return the environment that a command of the user's is to have: that of dv itself."""
        from dvtool import cli

        environ = dict(os.environ)
        for name, text in cli.given.items():
            if text is None:
                environ.pop(name, None)
            else:
                environ[name] = text
        return environ

    @contextlib.contextmanager
    def repo(self, *, required: bool = True) -> Iterator[Repo]:
        """Open the repository; SetupError if it is `required` to be set up and is not."""
        from dvtool.repo import Repo

        with (
            self.showing_progress() as progress,
            Repo.open(self.folder, environ=os.environ, progress=progress) as repo,
        ):
            if required and not repo.set_up:
                repo.config.require_init()
            yield repo

    @contextlib.contextmanager
    def showing_progress(self) -> Iterator[Progress]:
        """Yield whom to tell of progress; nothing of it is left on the screen after the block."""
        shown = self._progress()
        if shown is None:
            yield SILENT
            return
        shown.begin()
        try:
            yield shown
        finally:
            shown.end()  # no half bar before an error's message

    def set_up_git(self, repo: Repo, *, typed: bool = False, sure: bool = False) -> None:
        """Install hooks and drivers, once in a clone, before a command changes the workspace.

        Where the user's own settings name a folder of hooks for all repositories, git is told of
        another one here only if a person agrees: on a terminal by an answer, elsewhere by having
        `typed` a command that sets a repository up; `sure` is an answer given before.
        """
        try:
            shared = repo.hooks.overridden_folder()
            if shared and not sure and not self.agrees_to_override(shared):
                repo.hooks.refuse()
                return
            if shared and not (sure or typed or on_terminal()):
                self.screen.warn(
                    f"core.hooksPath is {printable(shared)} for all your repositories, so no hooks "
                    "are installed here, and git push takes no data along; dv hooks install "
                    "installs them for this repository alone, dv hooks uninstall ends this warning"
                )
                return
            plan = repo.hooks.ensure()
            if plan is not None and plan.shared:
                self.screen.warn(shared_hooks_text(plan.shared, plan.folder))
            elif plan is not None:
                self.screen.note(
                    "git hooks and drivers are installed, so that git carries the data along "
                    "(dv hooks uninstall takes them out)"
                )
        except (DvError, OSError) as error:
            # The command itself can be done without them.
            self.screen.warn(f"the git hooks could not be installed: {error}")

    def agrees_to_override(self, shared: str) -> bool:
        """Ask, on a terminal, whether git may look for hooks elsewhere than in a folder for all."""
        if not on_terminal():
            return True
        hold_progress()
        return click.confirm(
            f"core.hooksPath is {printable(shared)} for all your repositories. Install the hooks "
            "of dvtool for this one alone, in .git, so that they run yours first?",
            default=True,
            err=True,
        )

    def trust_first_use(self, repo: Repo, *, falls_back: bool) -> None:
        """Trust the remotes of .dvconfig if this is the first command about them in this clone.

        For commands that a person typed to transfer data; hooks never trust. A command that
        `falls_back` on other remotes than the default one names the untrusted ones.
        """
        trusted = repo.config.trust_first_use()
        if trusted:
            named = "; ".join(f"{name} ({repo.config.address_text(name)})" for name in trusted)
            self.screen.note(f"from now on this clone trusts what .dvconfig says now: {named}")
        others = repo.config.untrusted_others() if falls_back else []
        for name in others:
            self.screen.note(
                f"remote {name} is not asked, since it is not trusted: dv remote trust {name}"
            )

    @contextlib.contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield the progress of work that is not that of a repository here."""
        with self.showing_progress() as progress:
            yield progress

    def _progress(self) -> Bars | Lines | None:
        if self.progress_mode == "never":
            return None
        context = click.get_current_context(silent=True)
        waiting = context.command_path if context is not None else "dv"
        if self.progress_mode == "auto":
            if self.quiet or self.verbosity >= LOG_VERBOSITY:
                return None
            if waiting.startswith(OTHERS_WRITE):
                return None
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if self.progress_mode == "always" or (terminal and not os.environ.get("CI")):
            from dvtool.cli.bars import Bars

            return Bars(sys.stderr, waiting=waiting, began_s=STARTED_S)
        from dvtool.cli.lines import Lines

        return Lines(sys.stderr, waiting=waiting)


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
