"""``dv init``: prepare a repository, or a clone of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import shell_word
from dvtool.cli.plans import plan_option
from dvtool.cli.remote_options import INIT_OPTIONS, remote_options
from dvtool.errors import UsageError, printable

if TYPE_CHECKING:
    from dvtool.repo import Repo

ORIGIN = "origin"


@command(
    "init",
    examples=(
        "dv init                               # a remote can follow later",
        "dv init --remote s3://BUCKET/PREFIX   # with a bucket as the remote 'origin'",
        "dv init --remote ../data-remote       # with a folder, for this clone only",
        "dv init --no-hooks                    # git itself stays as it is",
        "dv init -n                            # what would be done; nothing is changed",
    ),
    exits=(7, 9),
)
@click.option("--remote", "url", metavar="URL", help="Where data goes: s3://BUCKET/PREFIX or DIR.")
@remote_options(INIT_OPTIONS)
@click.option("--no-hooks", is_flag=True, help="Install no git hooks and drivers in this clone.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing, also if git has other hooks.")
@plan_option
def init(
    frame: Frame,
    url: str | None,
    no_hooks: bool,
    yes: bool,
    plan_only: bool,
    **options: str | None,
) -> None:
    """Prepare this git repository, or a clone of one, for dv.

    Makes .dvconfig, which names the repository and its remotes, and stages it for git. In a clone
    that has one, prepares the local store. Installs the git hooks and drivers (see dv hooks),
    beside any that are there. Safe to repeat.
    """
    screen = frame.screen
    if url is None and any(options.values()):
        flags = " and ".join(option.flag for option in INIT_OPTIONS)
        raise UsageError(f"{flags} belong to a --remote, and none is given")
    with frame.repo(required=False) as repo:
        # Everything that can be wrong with the remote comes before the first change.
        url = _checked(repo, url, options, make=not plan_only) if url is not None else None
        if plan_only:
            _plan(frame, repo, url, hooks=not no_hooks)
            return
        fresh = repo.init()
        if fresh:
            screen.done("set up for dvtool: .dvconfig is staged for git")
        else:
            screen.done("was set up for dvtool before; this clone is ready")
        if url is not None:
            shared = repo.config.set_remote(ORIGIN, url, local=False, **options)
            where = "" if shared else " (in .git/config: for this clone only)"
            screen.done(f"remote {ORIGIN}: {printable(url)}{where}")
        if no_hooks:
            repo.hooks.refuse()
        else:
            frame.set_up_git(repo, typed=True, sure=yes)
        if fresh:
            screen.note("next: dv add PATH…, then git commit")
        elif repo.targets() and repo.config.remotes():
            screen.note("next: dv pull")


def _plan(frame: Frame, repo: Repo, url: str | None, *, hooks: bool) -> None:
    """Say what an init would do."""
    screen = frame.screen
    if repo.init(plan_only=True):
        screen.line("would be set up for dvtool: a .dvconfig, staged for git")
    else:
        screen.line("this repository is set up for dvtool already")
    if url is not None:
        screen.line(f"remote {ORIGIN}: would be {printable(url)}")
    plan = repo.hooks.ensure(dry_run=True) if hooks else None
    if plan is not None and plan.write:
        screen.line(f"git hooks would be installed: {' '.join(plan.write)}")
    screen.note("nothing was changed")


def _checked(repo: Repo, url: str, options: Mapping[str, str | None], *, make: bool = True) -> str:
    """Return the URL as it will be kept; UsageError if `origin` leads elsewhere already."""
    for option in INIT_OPTIONS:
        value = options[option.name]
        if value is not None:
            repo.config.check_value(f"remote.{ORIGIN}.{option.field}", value)
    url = repo.config.remote_url(url, options, make=make)
    repo.config.check_value(f"remote.{ORIGIN}.url", url)
    before = repo.config.remotes().get(ORIGIN)
    if before is not None and before.url != url:
        raise UsageError(
            f"the remote {ORIGIN} is {printable(before.url)} already",
            hint=f"to change it: dv remote set {ORIGIN} {shell_word(url)}",
        )
    return url
