"""``dv doctor``: check that everything dv needs is there and works."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, documents
from dvtool.errors import DvError, printable, size_text
from dvtool.verbs.doctor import Check, check_examined, check_machine, failed

if TYPE_CHECKING:
    from dvtool.remotes.transports.base import Features

TEXT_WIDTH = 74
_LABELS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "failed": ("FAIL", "red")}


@command(
    "doctor",
    examples=(
        "dv doctor",
        "dv doctor --remote                     # the default remote, tried out",
        "dv doctor --remote backup --json",
    ),
    fails="failed; or a check failed",
    answers_json=True,
)
@click.option(
    "--remote",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Try out a remote, the default one without NAME, and nothing else.",
)
def doctor(frame: Frame, remote: str | None, as_json: bool) -> None:
    """Check Python, git, packages, the repository, its settings, the store, hooks and the remote.

    Nothing is changed. The default remote is contacted. With --remote, the remote is tried out:
    what it supports, what the credentials allow, how fast it is. Up to 8 MiB are read; an object of
    4 MiB is written under probe/ and removed again, unless the bucket keeps versions or does not
    let it be removed.

    For a report of a problem, repeat the command with DV_LOG=FILE and attach that file: it lists
    the requests to git and to the remote, with times. Credentials are left out.
    """
    screen = frame.screen
    checks = []
    features: list[Features] = []
    checks_made = _checks(frame) if remote is None else _remote_checks(frame, remote, features)
    for check in checks_made:
        checks.append(check)
        if not as_json:
            _show(screen, check)
    healthy = all(check.state != "failed" for check in checks)
    if as_json:
        screen.json(
            documents.DoctorDocument(healthy, checks)
            if remote is None
            else documents.RemoteDoctorDocument(healthy, checks, next(iter(features), None))
        )
    elif healthy:
        screen.done("everything that dv needs works")
    else:
        screen.note("to ask for help: repeat what fails with DV_LOG=FILE, and attach that file")
    if not healthy:
        raise click.exceptions.Exit(1)


def _checks(frame: Frame) -> Iterator[Check]:
    yield from check_machine()
    try:
        with frame.repo(required=False) as repo:
            yield from repo.check()
    except DvError as error:
        yield failed("repository", error)
    except ImportError as error:
        yield Check("repository", "failed", f"cannot be opened: {error}", "install dvtool again")


def _remote_checks(frame: Frame, name: str, features: list[Features]) -> Iterator[Check]:
    """Yield what trying a remote out finds; put the features that it shows into `features`."""
    try:
        with frame.repo(required=False) as repo:
            url, examination = repo.remotes.examine(name or None)
            features.append(examination.features)
            yield from check_examined(url, examination)
            repo.config.keep_features(name or None, examination.features)
    except DvError as error:
        yield failed("remote", error)


def _show(screen: Screen, check: Check) -> None:
    label, colour = _LABELS[check.state]
    size = f"{size_text(check.bytes)} " if check.bytes is not None else ""
    first, *others = _wrapped(f"{check.name}: {size}{check.detail}")
    screen.line(f"{screen.style(f'{label:<4}', colour)}  {first}")
    for line in [*others, *_wrapped(f"hint: {check.hint}" if check.hint else "")]:
        screen.line(f"      {line}")


def _wrapped(text: str) -> list[str]:
    """Return the lines of a text that is foreign in part, each short enough to be read."""
    lines = [textwrap.wrap(printable(line), TEXT_WIDTH) for line in text.split("\n")]
    return [part for parts in lines for part in parts]
