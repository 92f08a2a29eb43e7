"""``dv completion``: print a script that completes dv commands in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dvtool.cli import COMPLETION_VARIABLE, PROGRAM, dv
from dvtool.cli.frame import Frame, command

SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    examples=(
        'eval "$(dv completion bash)"   # in ~/.bashrc',
        'eval "$(dv completion zsh)"    # in ~/.zshrc',
        "dv completion fish > ~/.config/fish/completions/dv.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(frame: Frame, shell: str) -> None:
    """Print a script that completes dv commands, options and paths in your shell."""
    kind = get_completion_class(shell)
    assert kind is not None  # click knows the shells above
    frame.screen.line(kind(dv, {}, PROGRAM, COMPLETION_VARIABLE).source())
