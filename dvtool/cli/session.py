"""One run of the command: its global options, its screen, its progress, its repository."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from dvtool.cli import PROGRAM, STARTED_S
from dvtool.cli.output import Screen, hold_progress
from dvtool.errors import DvError, printable
from dvtool.system.progress import SILENT, Progress

if TYPE_CHECKING:
    from dvtool.cli.bars import Bars
    from dvtool.cli.lines import Lines
    from dvtool.repo import Repo

OTHERS_WRITE = ("dv run", "dv runs", "dv serve")
"""Commands in which another program, or a log, has the terminal."""
LOG_VERBOSITY = 2


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


class Frame(msgspec.Struct):
    """The global options, and what follows from them."""

    folder: str = "."
    quiet: bool = False
    verbosity: int = 0
    """How often -v was given."""
    progress_mode: str = "auto"
    """When to show progress: auto, always or never."""
    command_path: str = PROGRAM
    """The command, with the groups that it is in."""

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
        import click  # most commands ask nothing

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
        waiting = self.command_path
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
