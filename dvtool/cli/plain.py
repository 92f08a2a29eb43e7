"""The commands that prompts and git run all the time, when there is no option to read.

They begin without click; with any option, or for help, click runs them.
"""

from __future__ import annotations

from collections.abc import Sequence

from dvtool.cli.session import Frame


def run_plain(arguments: Sequence[str]) -> int:
    """Run ``status [PATH]...`` or ``hooks run NAME [ARGUMENT]...``; return the exit code."""
    if arguments[0] == "status":
        from dvtool.cli.status_report import show_status

        show_status(Frame(command_path="dv status"), arguments[1:])
        return 0
    from dvtool.cli.hook_work import do_hook

    _, _, name, *rest = arguments
    return 0 if do_hook(Frame(command_path="dv hooks run"), name, rest) else 1
