"""``dv status``: what differs between workspace, manifests and HEAD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command, paths_argument
from dvtool.cli.output import Screen, count_text, documents, files_text, shell_word
from dvtool.errors import printable

if TYPE_CHECKING:
    from dvtool.format.merge import Conflict
    from dvtool.repo import Repo
    from dvtool.verbs.imports.results import SourceStatus
    from dvtool.verbs.status import TargetStatus

NAMES_SHOWN_MAX = 20
_COLOURS = {
    "added": "green",
    "modified": "yellow",
    "deleted": "red",
    "outdated": "yellow",
    "conflict": "red",
}
_INDENT = " " * 4


@command(
    "status",
    examples=(
        "dv status",
        "dv status data/images 'data/audio/*.wav'",
        "dv status --sources                         # is anything new at the sources?",
        "dv status --exit-code || echo 'not clean'   # in a script",
    ),
    exits=(4, 6, 8),
    fails="failed; or, with --exit-code, something is not clean",
    answers_json=True,
)
@paths_argument
@click.option("--exit-code", is_flag=True, help="End with 1 unless everything is clean.")
@click.option("--sources", is_flag=True, help="Ask the sources of imported data what is new.")
def status(
    frame: Frame, paths: Sequence[str], exit_code: bool, sources: bool, as_json: bool
) -> None:
    """Show what differs between workspace, manifests and HEAD, and what was not pushed.

    Files whose size and times are unchanged are not read. With -v, all names, the clean targets
    and the manifest hashes are shown. Files that were never fetched are absent, which is not a
    change.

    No remote is asked: a target is not pushed if no push from this clone proved it on the default
    remote and no branch of git's remotes has it. dv push --check asks the remote.
    """
    screen = frame.screen
    with frame.repo() as repo:
        found = repo.status(paths)
        asked = repo.imports.status(paths) if sources else None
        if as_json:
            clean = all(one.clean for one in found)
            screen.json(documents.StatusDocument(clean, found, asked))
        else:
            _Report(frame, screen, repo, found).show()
            _show_sources(screen, repo, asked)
    if exit_code and not all(one.clean for one in found):
        raise click.exceptions.Exit(1)


def _conflict_kind(conflict: Conflict) -> str:
    if conflict.of_source:
        return "both updated"
    if conflict.ours is None:
        return "removed by us" if conflict.theirs is not None else "damaged"
    if conflict.theirs is None:
        return "removed by them"
    return "both modified" if conflict.base is not None else "both added"


def _show_sources(screen: Screen, repo: Repo, asked: Sequence[SourceStatus] | None) -> None:
    if asked is None:
        return
    screen.line("\nSources (dv update brings what is new):" if asked else "\nnothing was imported")
    for one in asked:
        screen.line(f"{_INDENT}{source_text(repo, one)}")


def source_text(repo: Repo, one: SourceStatus) -> str:
    """Return how a target stands to its source, in a line."""
    counts = {"added": one.added, "modified": one.modified, "removed": one.removed}
    news = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    text = {
        "current": "as the source has it",
        "behind": f"behind: {news}" if news else "behind",
        "unknown": "the source does not say whether anything is new; dv update reads it",
        "unapproved": "not asked: approve it with dv update --trust",
        "failed": f"could not be asked: {one.problem}",
    }[one.standing]
    edited = ", edited here" if one.edited else ""
    return f"{printable(repo.shown(one.target))}  {text}{edited}  ({printable(one.source)})"


class _Report:
    """The sections of the report, in the manner of `git status`."""

    def __init__(
        self, frame: Frame, screen: Screen, repo: Repo, found: Sequence[TargetStatus]
    ) -> None:
        self._frame = frame
        self._screen = screen
        self._repo = repo
        self._found = found

    def show(self) -> None:
        sections = [
            self._conflicts(),
            self._manifests(),
            *(self._outdated(one) for one in self._found if one.outdated),
            *(self._changes(one) for one in self._found if one.edited),
            self._absent(),
            self._left_out(),
            self._clean(),
            self._unpushed(),
            self._at_sources(),
        ]
        text = "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines)
        self._screen.line(text or "no targets yet (dv add PATH makes one)")

    def _conflicts(self) -> Iterator[str]:
        unmerged = [one for one in self._found if one.manifest == "conflicted"]
        if not unmerged:
            return
        yield "Conflicts (dv resolve):"
        for one in unmerged:
            word = shell_word(self._repo.shown(one.target))
            if not one.conflicts:
                yield f"{_INDENT}{self._name(one.target)}  no true conflict: dv resolve {word}"
                continue
            shown = one.conflicts if self._frame.verbose else one.conflicts[:NAMES_SHOWN_MAX]
            for conflict in shown:
                label = self._screen.style(f"{_conflict_kind(conflict) + ':':<17}", "red")
                yield f"{_INDENT}{label} {self._name(one.target, conflict.path)}"
            if len(one.conflicts) > len(shown):
                yield f"{_INDENT}… and {len(one.conflicts) - len(shown):,} more (-v shows all)"
        yield "  (dv resolve PATH… with --ours, --theirs or --both settles them)"

    def _manifests(self) -> Iterator[str]:
        changed = [one for one in self._found if one.manifest not in ("committed", "conflicted")]
        if not changed:
            return
        yield "Manifests that differ from HEAD (git commit):"
        for one in changed:
            colour = _COLOURS.get(one.manifest, "green")
            label = self._screen.style(f"{one.manifest + ':':<10}", colour)
            total = f"  {files_text(one.files, one.bytes)}" if one.blake3 else ""
            yield f"{_INDENT}{label} {self._name(one.target)}{total}"
            yield from self._hash(one)

    def _outdated(self, one: TargetStatus) -> Iterator[str]:
        word = shell_word(self._repo.shown(one.target))
        count = count_text(len(one.outdated), "file")
        yield f"Outdated in {self._name(one.target)}: {count} as before the manifest changed"
        yield f"  (dv pull {word} gets what the manifest has; dv checkout -- {word} what is here):"
        yield from self._names(one, "outdated", one.outdated)

    def _changes(self, one: TargetStatus) -> Iterator[str]:
        word = shell_word(self._repo.shown(one.target))
        if one.manifest == "conflicted":
            yield f"Changes in {self._name(one.target)} against what is merged so far:"
        else:
            yield f"Changes in {self._name(one.target)} that are not added"
            yield f"  (dv add {word} keeps them, dv restore {word} undoes them):"
        yield from self._names(one, "added", one.added)
        yield from self._names(one, "modified", one.modified)
        yield from self._names(one, "deleted", one.deleted)
        if one.conflicting:
            yield from self._names(one, "conflict", one.conflicting)
            yield f"{_INDENT}(changed here and in the manifest: dv add --ours PATH keeps yours,"
            yield f"{_INDENT} dv checkout --force -- PATH takes the manifest's and saves yours)"
        for path, problem in one.faults:
            label = self._screen.style("problem: ", "red")
            yield f"{_INDENT}{label}  {self._name(one.target, path)} {printable(problem)}"

    def _names(self, one: TargetStatus, what: str, names: Sequence[str]) -> Iterator[str]:
        shown = names if self._frame.verbose else names[:NAMES_SHOWN_MAX]
        for name in shown:
            label = self._screen.style(f"{what + ':':<10}", _COLOURS[what])
            yield f"{_INDENT}{label} {self._name(one.target, name)}"
        if len(names) > len(shown):
            yield f"{_INDENT}… and {len(names) - len(shown):,} more {what} (-v shows all)"

    def _absent(self) -> Iterator[str]:
        absent = [one for one in self._found if one.absent]
        if not absent:
            return
        yield "Not in the workspace (dv pull gets it):"
        for one in absent:
            total = files_text(len(one.absent), one.absent_bytes)
            yield f"{_INDENT}{self._name(one.target)}  {total}"

    def _unpushed(self) -> Iterator[str]:
        unpushed = [one for one in self._found if one.unpushed]
        if not unpushed:
            return
        yield "Committed and not pushed (dv push):"
        for one in unpushed:
            total = files_text(one.unpushed_files, one.unpushed_bytes)
            yield f"{_INDENT}{self._name(one.target)}  {total}"

    def _at_sources(self) -> Iterator[str]:
        referenced = [one for one in self._found if one.reference]
        if not referenced:
            return
        yield "Kept at the source, by reference (dv import --materialise makes a copy):"
        for one in referenced:
            total = files_text(one.files, one.bytes)
            yield f"{_INDENT}{self._name(one.target)}  {total}  {printable(one.source or '')}"

    def _left_out(self) -> Iterator[str]:
        out = [one for one in self._found if one.left_out]
        if not out:
            return
        left_out = sum(len(one.left_out) for one in out)
        every = count_text(sum(one.files for one in self._found), "file")
        yield f"Left out by the rules of dv sparse: {left_out:,} of {every} (dv sparse list):"
        for one in out:
            total = files_text(len(one.left_out), one.left_out_bytes)
            yield f"{_INDENT}{self._name(one.target)}  {total}"

    def _clean(self) -> Iterator[str]:
        clean = [one for one in self._found if one.clean and not one.absent]
        clean = [one for one in clean if not one.files or len(one.left_out) < one.files]
        if not clean:
            return
        size = sum(one.bytes - one.left_out_bytes for one in clean)
        total = files_text(sum(one.files - len(one.left_out) for one in clean), size)
        yield f"Clean: {count_text(len(clean), 'target')}, {total}"
        if self._frame.verbose:
            for one in clean:
                size = one.bytes - one.left_out_bytes
                files = files_text(one.files - len(one.left_out), size)
                yield f"{_INDENT}{self._name(one.target)}  {files}"
                yield from self._hash(one)

    def _hash(self, one: TargetStatus) -> Iterator[str]:
        if self._frame.verbose and one.blake3:
            yield f"{_INDENT}  {self._screen.style(one.blake3, 'dim')}"

    def _name(self, target: str, path: str = ".") -> str:
        return printable(self._repo.shown_in(target, path))
