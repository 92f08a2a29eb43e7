"""``dv diff``: which files changed, between commits or in the workspace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command, revisions_and_paths
from dvtool.cli.output import Screen, growth_text
from dvtool.errors import UsageError, printable, size_text

if TYPE_CHECKING:
    from dvtool.format.compare import Difference
    from dvtool.format.manifest import Entry
    from dvtool.repo import Repo
    from dvtool.verbs.diff import TargetDiff

_MARKS = {
    "added": ("A", "green"),
    "modified": ("M", "yellow"),
    "removed": ("D", "red"),
    "renamed": ("R", "cyan"),
}


@dataclass(slots=True)
class _Total:
    """How many entries changed in one way, and by how many bytes that changed the data."""

    count: int = 0
    bytes: int = 0


@command(
    "diff",
    examples=(
        "dv diff                        # the workspace against HEAD",
        "dv diff v1.0 v2.0 --stat       # two revisions, in totals",
        "dv diff HEAD~3 -- data/images  # the workspace against a commit, one target",
    ),
    exits=(4, 6, 7, 8),
    json_keys=(
        '{"targets": [{"target", "totals": {"added", "modified", "removed", "renamed"}, '
        '"changes": [{"change", "path", "old_path", "old", "new"}]}], "totals"}; each total is '
        '{"count", "bytes"}, bytes being the growth; old and new are null or an entry: '
        '{"type", "size", "blake3", "exec", "symlink"}. With --stat there is no "changes".'
    ),
    splits=True,
)
@click.argument("arguments", metavar="[A [B]] [--] [PATH]...", nargs=-1, type=click.Path())
@click.option("--stat", is_flag=True, help="Only totals for each target.")
@click.option("--name-only", is_flag=True, help="Only the names of changed files, one a line.")
def diff(
    frame: Frame, arguments: Sequence[str], stat: bool, name_only: bool, as_json: bool
) -> None:
    """Show which files changed from A to B: added, removed, modified or renamed.

    Without B, from A to the workspace; without A too, from HEAD to the workspace. A file that is
    gone and a new one with the same content are one rename. PATHs may be globs.
    """
    if stat + name_only + as_json > 1 and not (stat and as_json):
        raise UsageError("--name-only goes neither with --stat nor with --json")
    screen = frame.screen
    with frame.repo() as repo:
        revisions, paths = revisions_and_paths(repo, arguments, revisions_max=2)
        old, new = [*revisions, None, None][:2]
        found = [one for one in repo.diff(old, new, paths) if one.differences or _appears(one)]
        if as_json:
            targets = [_as_json(one, stat=stat) for one in found]
            changes = [change for one in found for change in one.differences]
            screen.json({"targets": targets, "totals": _totals_json(changes)})
        elif name_only:
            for one in found:
                for change in one.differences:
                    screen.line(_name(repo, one.target, change.path))
        else:
            _show(screen, repo, found, stat=stat)


def _appears(one: TargetDiff) -> bool:
    """Whether the target itself came or went, be it with no file in it."""
    return (one.old is None) != (one.new is None)


# --- JSON -----------------------------------------------------------------------------------


def _as_json(one: TargetDiff, *, stat: bool) -> dict[str, object]:
    found: dict[str, object] = {"target": one.target, "totals": _totals_json(one.differences)}
    if not stat:
        found["changes"] = [
            {
                "change": change.change,
                "path": change.path,
                "old_path": change.source or (change.path if change.old else None),
                "old": entry_json(change.old),
                "new": entry_json(change.new),
            }
            for change in one.differences
        ]
    return found


def entry_json(entry: Entry | None) -> dict[str, object] | None:
    """Return an entry as `dv diff --json` and `dv ls --json` show it."""
    if entry is None:
        return None
    if entry.is_file:
        content = {"size": entry.size, "blake3": entry.blake3, "exec": entry.exec}
        return {"type": "file", **content}
    if entry.symlink:
        return {"type": "symlink", "symlink": entry.symlink}
    return {"type": "folder"}


def _totals(changes: Sequence[Difference]) -> dict[str, _Total]:
    totals = {what: _Total() for what in _MARKS}
    for change in changes:
        total = totals[change.change]
        total.count += 1
        total.bytes += change.growth
    return totals


def _totals_json(changes: Sequence[Difference]) -> dict[str, object]:
    return {
        what: {"count": total.count, "bytes": total.bytes}
        for what, total in _totals(changes).items()
    }


# --- text -----------------------------------------------------------------------------------


def _show(screen: Screen, repo: Repo, found: Sequence[TargetDiff], *, stat: bool) -> None:
    for one in found:
        state = " (new target)" if one.old is None else " (target removed)" if not one.new else ""
        name = screen.style(printable(repo.shown(one.target)), "bold")
        if stat:
            screen.line(f"{name}{state}: {_totals_text(one.differences)}")
            continue
        screen.line(f"{name}{state}")
        for line in _lines(screen, repo, one):
            screen.line(line)
    if not found:
        screen.line("no difference")
    elif len(found) > 1 or not stat:
        changes = [change for one in found for change in one.differences]
        screen.line(f"total: {_totals_text(changes)}")


def _lines(screen: Screen, repo: Repo, one: TargetDiff) -> Iterator[str]:
    for change in one.differences:
        mark, colour = _MARKS[change.change]
        name = _name(repo, one.target, change.path)
        if change.source is not None:
            name = f"{_name(repo, one.target, change.source)} -> {name}"
        size = f"{_size_text(change):>12}"
        note = " (executable bit)" if _only_mode(change) else ""
        yield f"  {screen.style(mark, colour)} {size}  {name}{note}"


def _size_text(change: Difference) -> str:
    if change.change == "renamed" and change.new is not None:
        return size_text(change.new.bytes)
    return growth_text(change.growth)


def _only_mode(change: Difference) -> bool:
    old, new = change.old, change.new
    return bool(old and new and old.is_file and old.blake3 == new.blake3 and old.exec != new.exec)


def _totals_text(changes: Sequence[Difference]) -> str:
    parts = []
    for what, total in _totals(changes).items():
        if total.count:
            size = "" if what == "renamed" else f" ({growth_text(total.bytes)})"
            parts.append(f"{total.count:,} {what}{size}")
    return ", ".join(parts) or "no file changed"


def _name(repo: Repo, target: str, path: str) -> str:
    return printable(repo.shown_in(target, path))
