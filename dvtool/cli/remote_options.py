"""The options of remotes on the command line, as the transports declare them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from dvtool.cli.frame import Function
from dvtool.project.keys import REMOTE_OPTIONS
from dvtool.remotes.transports.declaration import Option

ORIGIN_OPTIONS = tuple(option for option in REMOTE_OPTIONS if not option.of_writing)
"""The options of a bucket that data is imported from."""
INIT_OPTIONS = tuple(option for option in REMOTE_OPTIONS if option.at_init)
"""The options that `dv init` takes."""


def remote_options(options: Sequence[Option]) -> Callable[[Function], Function]:
    """Give a command these options; each is None where it is not typed."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = click.option(option.flag, metavar=option.metavar, help=option.help)(function)
        return function

    return decorate
