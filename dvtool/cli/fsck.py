"""``dv fsck``: check that stored data is whole."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dvtool.cli.engines import engine_options, opened_engine
from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, count_text
from dvtool.errors import UsageError, printable, size_text

if TYPE_CHECKING:
    from dvtool.verbs.fsck.findings import (
        Damage,
        FsckReport,
        RemoteCounts,
        Sample,
        StoreCounts,
        WorkspaceCounts,
    )

FILES_SHOWN_MAX = 5
SEED_MAX = 1 << 32
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%?")


@command(
    "fsck",
    examples=(
        "dv fsck                         # the local store",
        "dv fsck --workspace             # and the files, byte by byte",
        "dv fsck --remote                # and the remote, downloading no data",
        "dv fsck --remote backup --deep  # the data of that remote as well",
        "dv fsck --remote --sample 5%    # or a random part of it",
        "dv fsck --repair                # repair damage",
    ),
    exits=(4, 5, 6, 7, 9),
    answers_json=True,
)
@click.option("--workspace", is_flag=True, help="Read the tracked files too, whatever their stat.")
@click.option(
    "--remote",
    metavar="[NAME]",
    is_flag=False,
    flag_value="",
    help="Check a remote too, the default one without a name.",
)
@click.option(
    "--deep", is_flag=True, help="Download and check every pack there that is needed here."
)
@click.option(
    "--sample", metavar="PERCENT", help="Download and check this share of these packs, at random."
)
@click.option("--repair", is_flag=True, help="Bring back what is damaged, from a good copy.")
@click.option("--rebuild", is_flag=True, help="Make the index of the local store again first.")
@click.option(
    "--seed", type=click.IntRange(0), help="With --sample: take the same as a run before."
)
@engine_options
def fsck(
    frame: Frame,
    workspace: bool,
    remote: str | None,
    deep: bool,
    sample: str | None,
    repair: bool,
    rebuild: bool,
    seed: int | None,
    engine: str | None,
    engine_address: str | None,
    as_json: bool,
) -> None:
    """Check that stored data is whole; name damage, the files concerned and good copies.

    Every byte of the local store is read. Of a remote, the shards are read in full, and for packs
    the remote is asked whether it has them, with the right size and MD5. Content that was never
    fetched is no damage.

    Nothing is changed without --repair or --rebuild. A repair takes good copies from packs here,
    the workspace and the remotes, in this order. Damaged objects are set aside, and never deleted.

    With --engine the workers of a cluster read the packs of the remote.
    """
    if seed is not None and sample is None:
        raise UsageError("--seed is about a sample", hint="dv fsck --remote --sample 5% --seed 1")
    if deep and sample is not None:
        raise UsageError("--deep is all packs, --sample some of them", hint="leave one of them out")
    depth = _sample(sample, seed) if sample is not None else deep
    screen = frame.screen
    with frame.repo(required=False) as repo:
        with opened_engine(engine, engine_address) as cluster:
            report = repo.fsck(
                workspace=workspace,
                remote=remote,
                deep=depth,
                repair=repair,
                rebuild=rebuild,
                engine=cluster,
            )
        if as_json:
            screen.json(report)
        else:
            _show(screen, report, deep=deep)
    if report.exit_code:
        raise click.exceptions.Exit(report.exit_code)


def _sample(text: str, seed: int | None) -> Sample:
    from dvtool.verbs.fsck.findings import Sample

    match = _PERCENT.fullmatch(text)
    if match is None:
        raise UsageError(f"not a percentage: {printable(text)}", hint="dv fsck --sample 5%")
    return Sample(float(match[1]) / 100, secrets.randbelow(SEED_MAX) if seed is None else seed)


# --- for people -----------------------------------------------------------------------------


def _show(screen: Screen, report: FsckReport, *, deep: bool) -> None:
    for damage in report.damage:
        _show_damage(screen, damage)
    screen.done(f"local store: {_store_text(report.store)}")
    for line in _store_notes(report.store):
        screen.note(line)
    if report.workspace is not None:
        screen.done(f"workspace: {_workspace_text(report.workspace)}")
    if report.remote is not None:
        screen.done(f"{printable(report.remote.url)}: {_remote_text(report.remote)}")
        unread = report.remote.packs - report.remote.packs_read
        if unread and not deep:
            verb = "was" if unread == 1 else "were"
            screen.note(
                f"{count_text(unread, 'pack')} there {verb} not read, so what is in them was not "
                "checked: dv fsck --remote --deep"
            )
        if report.remote.not_pushed:
            names = ", ".join(map(printable, report.remote.not_pushed[:FILES_SHOWN_MAX]))
            screen.note(f"not pushed there: {names}")
    for line in report.done:
        screen.done(line)
    if report.clean:
        screen.done("all damage was repaired" if report.damage else _clean_text(report))
    else:
        screen.line(screen.style(_verdict(report), "red", "bold"))


def _clean_text(report: FsckReport) -> str:
    """Say that all is whole only of what was looked at."""
    unknown = report.store.nowhere_known + report.store.lists_not_here
    if report.remote is not None or not unknown:
        return "all of it is whole"
    return "what is here is whole; nothing was asked about the rest: dv fsck --remote"


def _verdict(report: FsckReport) -> str:
    missing = sum(damage.missing for damage in report.remaining)
    damaged = len(report.remaining) - missing
    parts = [f"{damaged:,} damaged"] if damaged else []
    return ", ".join(parts + ([f"{missing:,} missing"] if missing else []))


def _show_damage(screen: Screen, damage: Damage) -> None:
    label, colour = ("missing", "yellow") if damage.missing else ("damaged", "red")
    if damage.repaired:
        label, colour = "repaired", "green"
    name = (
        f"{printable(damage.place)}: {printable(damage.name)}"
        if damage.name
        else printable(damage.place)
    )
    verb = "" if damage.name else "content "
    screen.line(f"{screen.style(label, colour)}  {name} {verb}{printable(damage.problem)}")
    for line in _touched(damage):
        screen.line(f"    {line}")
    if damage.repaired:
        screen.line(f"    {printable(damage.repaired)}")
    elif damage.failed:
        screen.line(f"    not repaired: {printable(damage.failed)}")


def _touched(damage: Damage) -> Iterator[str]:
    if damage.targets:
        yield f"targets: {', '.join(map(printable, damage.targets[:FILES_SHOWN_MAX]))}"
    for file in damage.files[:FILES_SHOWN_MAX]:
        good = ", ".join(map(printable, file.copies)) or "nowhere known"
        yield f"{printable(file.path)}  {size_text(file.size)}, good copy: {good}"
    if len(damage.files) > FILES_SHOWN_MAX:
        without = sum(not file.copies for file in damage.files)
        places = Counter(copy for file in damage.files for copy in file.copies)
        counts = [f"{printable(copy)} {count:,}" for copy, count in places.most_common()]
        counts += [f"nowhere known {without:,}"] if without else []
        yield f"… {count_text(len(damage.files), 'file')} in all; good copies: {', '.join(counts)}"
    if damage.commits:
        shown = "; ".join(f"{c.commit[:10]} {printable(c.subject)}" for c in damage.commits_shown)
        more = " …" if damage.commits > len(damage.commits_shown) else ""
        yield f"in {count_text(damage.commits, 'commit')}: {shown}{more}"


def _store_text(counts: StoreCounts) -> str:
    packs = f"{count_text(counts.packs, 'pack')}, {size_text(counts.bytes)}"
    return (
        f"{packs}, {count_text(counts.shards, 'shard')} and "
        f"{count_text(counts.recipes, 'recipe')} read; {count_text(counts.contents, 'content')} "
        "needed"
    )


def _store_notes(counts: StoreCounts) -> Iterator[str]:
    if counts.not_here:
        text = f"{counts.not_here:,} of them not here ({size_text(counts.not_here_bytes)})"
        if counts.nowhere_known:
            text += f", {counts.nowhere_known:,} not known to be on a remote: dv fsck --remote asks"
        yield text
    if counts.lists_not_here:
        yield f"{count_text(counts.lists_not_here, 'shard')} not here, nor looked into"
    if counts.unread_manifests:
        yield f"{count_text(counts.unread_manifests, 'manifest')} in history cannot be read"
    if counts.to_list:
        verb = "is" if counts.to_list == 1 else "are"
        yield (
            f"{count_text(counts.to_list, 'content')} {verb} in packs here, but not listed yet: a "
            "fetch of another version, or an interrupted command, leaves that; dv fetch or dv fsck "
            "--repair lists them"
        )
    leftovers = {
        "pack that the index does not list": counts.unindexed_packs,
        "unfinished file": counts.temporary_files,
        "unfinished drop": counts.unfinished_drops,
        "file set aside by repairs": counts.set_aside,
    }
    parts = [f"{count:,} × {what}" for what, count in leftovers.items() if count]
    if parts:
        yield f"harmless: {', '.join(parts)}"


def _workspace_text(counts: WorkspaceCounts) -> str:
    text = f"{count_text(counts.files, 'file')}, {size_text(counts.bytes)} read"
    if counts.changed:
        text += f"; {counts.changed:,} edited since dv add"
    if counts.unreadable:
        text += f"; {counts.unreadable:,} cannot be read"
    return text


def _remote_text(counts: RemoteCounts) -> str:
    text = (
        f"{count_text(counts.manifests, 'manifest')} in {count_text(counts.roots, 'root')}, "
        f"{count_text(counts.shards, 'shard')} with {counts.locations:,} places, "
        f"{count_text(counts.packs, 'pack')}, {size_text(counts.bytes)}"
    )
    if counts.md5_equal:
        text += f"; {counts.md5_equal:,} with the MD5 of the pack here"
    if counts.packs_read:
        text += f"; {count_text(counts.packs_read, 'pack')}, {size_text(counts.bytes_read)} read"
        text += f", {count_text(counts.files_made, 'large file')} put together"
    if counts.seed is not None:
        text += f" (--seed {counts.seed})"
    return text
