"""``dv completion``: print a script that completes dv commands in a shell."""

from __future__ import annotations

import click

from dvtool.cli.completing import SHELLS, script_of
from dvtool.cli.frame import Frame, command


@command(
    "completion",
    examples=(
        'eval "$(dv completion bash)"   # in ~/.bashrc',
        'eval "$(dv completion zsh)"    # in ~/.zshrc, before or after compinit',
        "dv completion fish > ~/.config/fish/completions/dv.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(frame: Frame, shell: str) -> None:
    """Print a script that completes dv commands in your shell.

    It knows commands, options, files, targets, entries of targets (also those that are not here),
    revisions, remotes and settings.
    """
    click.echo(script_of(shell), nl=False)
