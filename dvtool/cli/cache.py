"""``dv cache``: what reading without a checkout keeps on this machine."""

from __future__ import annotations

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import count_text
from dvtool.errors import printable, size_text
from dvtool.verbs.cache import CacheStatus, cache_status, clean_cache


@click.group("cache", invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """Show or clean what reading without a checkout keeps on this machine.

    Frames that were read from remotes, up to cache.size (10 GiB), the least recently used going
    first, and clones, without files, of repositories that were named by a URL. Nothing in it is
    needed: it comes again when it is read again. Without a command, shows it.

    \b
    Examples:
      dv cache
      dv cache clean

    \b
    Exit codes: those of the commands below; see dv cache COMMAND --help.
    """
    if context.invoked_subcommand is None:
        context.invoke(show, as_json=False)


@command("show", examples=("dv cache show --json",), answers_json=True)
def show(frame: Frame, as_json: bool) -> None:
    """Show where the cache is and how much is in it."""
    status = cache_status(frame.folder)
    if as_json:
        frame.screen.json(status)
        return
    frame.screen.line(f"path    {printable(status.path)}")
    limit = size_text(status.limit_bytes)
    frame.screen.line(f"files   {_counted(status.files, status.file_bytes)}, at most {limit}")
    frame.screen.line(f"clones  {_counted(status.clones, status.clone_bytes)}")


@command(
    "clean",
    examples=("dv cache clean",),
    exits=(9,),
    answers_json=True,
)
def clean(frame: Frame, as_json: bool) -> None:
    """Remove all that is in the cache: frames, and clones of URLs with what they trusted."""
    removed: CacheStatus = clean_cache(frame.folder)
    if as_json:
        frame.screen.json(removed)
        return
    size = size_text(removed.file_bytes + removed.clone_bytes)
    files = count_text(removed.files, "file")
    clones = count_text(removed.clones, "clone")
    frame.screen.line(f"removed {files} of frames and {clones}, {size}")


def _counted(count: int, size: int) -> str:
    return f"{count:,}, {size_text(size)}"


cache.add_command(show)
cache.add_command(clean)
