"""``dv textconv``: a manifest as lines for people, which `git diff` then compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import files_text
from dvtool.errors import DvError, ManifestError, printable, size_text

if TYPE_CHECKING:
    from dvtool.format.manifest import Entry, Manifest, ShardRef
    from dvtool.repo import Repo

HASH_SHOWN = 12


@command(
    "textconv",
    examples=("dv textconv data/images.dv.json   # git diff and git log -p do",),
    exits=(9,),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def textconv(frame: Frame, file: str) -> None:
    """Show a manifest as lines: path, size, start of the BLAKE3, kind.

    For git. A text that is no manifest (it may have conflict markers) is shown as it is.
    """
    from dvtool.format.manifest import decode

    with open(file, "rb") as opened:
        text = opened.read()
    try:
        manifest = decode(text, file)
    except ManifestError:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        return
    screen = frame.screen
    kind = "folder" if manifest.kind == "dir" else "file"
    screen.line(f"# {kind}, {files_text(manifest.files, manifest.bytes)}")
    if manifest.source is not None:
        edited = ", edited since" if manifest.source.edited else ""
        screen.line(f"# from {printable(manifest.source.url)}, {manifest.source.state}{edited}")
    for line in _lines(frame, manifest):
        screen.line(line)


def _lines(frame: Frame, manifest: Manifest) -> Iterator[str]:
    if manifest.entries is not None:
        yield from (_line(path, entry) for path, entry in manifest.entries.items())
        return
    try:
        with frame.repo(required=False) as repo:
            for ref in manifest.shards:
                yield from _shard_lines(repo, ref)
    except DvError:
        # Outside of a repository, say: `git diff --no-index`.
        yield from (_ref_line(ref) for ref in manifest.shards)


def _shard_lines(repo: Repo, ref: ShardRef) -> Iterator[str]:
    try:
        entries = repo.for_git.entries_here(ref)  # a diff is not worth a download
    except DvError:
        yield _ref_line(ref)
        return
    for path, entry in entries.items():
        yield _line(path, entry)


def _line(path: str, entry: Entry) -> str:
    name = printable(path)
    if entry.symlink:
        return f"{name}  -> {printable(entry.symlink)}"
    if entry.dir:
        return f"{name}/  empty folder"
    kind = "executable" if entry.exec else "file"
    return f"{name}  {size_text(entry.size)}  {entry.blake3[:HASH_SHOWN]}  {kind}"


def _ref_line(ref: ShardRef) -> str:
    total = files_text(ref.files, ref.bytes)
    note = "its shard is not here (dv fetch)"
    return f"{printable(ref.first)} …  {total}  {ref.blake3[:HASH_SHOWN]}  {note}"
