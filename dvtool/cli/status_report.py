"""The report of ``dv status``, in the manner of `git status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dvtool.cli.output import Screen, count_text, documents, files_text, shell_word
from dvtool.cli.session import Frame
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


def show_status(
    frame: Frame, paths: Sequence[str], *, sources: bool = False, as_json: bool = False
) -> bool:
    """Print how targets are, with `sources` also what is new there; return whether all is clean."""
    screen = frame.screen
    with frame.repo() as repo:
        targets = repo.status(paths)
        asked = repo.imports.status(paths) if sources else None
        clean = all(target.clean for target in targets)
        if as_json:
            screen.json(documents.StatusDocument(clean, targets, asked))
        else:
            _Report(frame, screen, repo, targets).show()
            _show_sources(screen, repo, asked)
    return clean


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
    for source in asked:
        screen.line(f"{_INDENT}{source_text(repo, source)}")


def source_text(repo: Repo, source: SourceStatus) -> str:
    """Return how a target stands to its source, in a line."""
    counts = {"added": source.added, "modified": source.modified, "removed": source.removed}
    news = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    text = {
        "current": "as the source has it",
        "behind": f"behind: {news}" if news else "behind",
        "unknown": "the source does not say whether anything is new; dv update reads it",
        "unapproved": "not asked: approve it with dv update --trust",
        "failed": f"could not be asked: {source.problem}",
    }[source.standing]
    edited = ", edited here" if source.edited else ""
    return f"{printable(repo.shown(source.target))}  {text}{edited}  ({printable(source.source)})"


class _Report:
    """The sections of the report, in the manner of `git status`."""

    def __init__(
        self, frame: Frame, screen: Screen, repo: Repo, targets: Sequence[TargetStatus]
    ) -> None:
        self._frame = frame
        self._screen = screen
        self._repo = repo
        self._targets = targets

    def show(self) -> None:
        sections = [
            self._conflicts(),
            self._manifests(),
            *(self._outdated(target) for target in self._targets if target.outdated),
            *(self._changes(target) for target in self._targets if target.edited),
            self._absent(),
            self._left_out(),
            self._clean(),
            self._unpushed(),
            self._at_sources(),
        ]
        text = "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines)
        self._screen.line(text or "no targets yet (dv add PATH makes one)")

    def _conflicts(self) -> Iterator[str]:
        unmerged = [target for target in self._targets if target.manifest == "conflicted"]
        if not unmerged:
            return
        yield "Conflicts (dv resolve):"
        for target in unmerged:
            word = shell_word(self._repo.shown(target.target))
            if not target.conflicts:
                yield f"{_INDENT}{self._name(target.target)}  no true conflict: dv resolve {word}"
                continue
            shown = target.conflicts if self._frame.verbose else target.conflicts[:NAMES_SHOWN_MAX]
            for conflict in shown:
                label = self._screen.style(f"{_conflict_kind(conflict) + ':':<17}", "red")
                yield f"{_INDENT}{label} {self._name(target.target, conflict.path)}"
            if len(target.conflicts) > len(shown):
                yield f"{_INDENT}… and {len(target.conflicts) - len(shown):,} more (-v shows all)"
        yield "  (dv resolve PATH… with --ours, --theirs or --both settles them)"

    def _manifests(self) -> Iterator[str]:
        changed = [
            target for target in self._targets if target.manifest not in ("committed", "conflicted")
        ]
        if not changed:
            return
        yield "Manifests that differ from HEAD (git commit):"
        for target in changed:
            colour = _COLOURS.get(target.manifest, "green")
            label = self._screen.style(f"{target.manifest + ':':<10}", colour)
            total = f"  {files_text(target.files, target.bytes)}" if target.blake3 else ""
            yield f"{_INDENT}{label} {self._name(target.target)}{total}"
            yield from self._hash(target)

    def _outdated(self, target: TargetStatus) -> Iterator[str]:
        word = shell_word(self._repo.shown(target.target))
        count = count_text(len(target.outdated), "file")
        yield f"Outdated in {self._name(target.target)}: {count} as before the manifest changed"
        yield f"  (dv pull {word} gets what the manifest has; dv checkout -- {word} what is here):"
        yield from self._names(target, "outdated", target.outdated)

    def _changes(self, target: TargetStatus) -> Iterator[str]:
        word = shell_word(self._repo.shown(target.target))
        if target.manifest == "conflicted":
            yield f"Changes in {self._name(target.target)} against what is merged so far:"
        else:
            yield f"Changes in {self._name(target.target)} that are not added"
            yield f"  (dv add {word} keeps them, dv restore {word} undoes them):"
        yield from self._names(target, "added", target.added)
        yield from self._names(target, "modified", target.modified)
        yield from self._names(target, "deleted", target.deleted)
        if target.conflicting:
            yield from self._names(target, "conflict", target.conflicting)
            yield f"{_INDENT}(changed here and in the manifest: dv add --ours PATH keeps yours,"
            yield f"{_INDENT} dv checkout --force -- PATH takes the manifest's and saves yours)"
        for path, problem in target.faults:
            label = self._screen.style("problem: ", "red")
            yield f"{_INDENT}{label}  {self._name(target.target, path)} {printable(problem)}"

    def _names(self, target: TargetStatus, what: str, names: Sequence[str]) -> Iterator[str]:
        shown = names if self._frame.verbose else names[:NAMES_SHOWN_MAX]
        for name in shown:
            label = self._screen.style(f"{what + ':':<10}", _COLOURS[what])
            yield f"{_INDENT}{label} {self._name(target.target, name)}"
        if len(names) > len(shown):
            yield f"{_INDENT}… and {len(names) - len(shown):,} more {what} (-v shows all)"

    def _absent(self) -> Iterator[str]:
        absent = [target for target in self._targets if target.absent]
        if not absent:
            return
        yield "Not in the workspace (dv pull gets it):"
        for target in absent:
            total = files_text(len(target.absent), target.absent_bytes)
            yield f"{_INDENT}{self._name(target.target)}  {total}"

    def _unpushed(self) -> Iterator[str]:
        unpushed = [target for target in self._targets if target.unpushed]
        if not unpushed:
            return
        yield "Committed and not pushed (dv push):"
        for target in unpushed:
            total = files_text(target.unpushed_files, target.unpushed_bytes)
            yield f"{_INDENT}{self._name(target.target)}  {total}"

    def _at_sources(self) -> Iterator[str]:
        referenced = [target for target in self._targets if target.reference]
        if not referenced:
            return
        yield "Kept at the source, by reference (dv import --materialise makes a copy):"
        for target in referenced:
            total = files_text(target.files, target.bytes)
            yield f"{_INDENT}{self._name(target.target)}  {total}  {printable(target.source or '')}"

    def _left_out(self) -> Iterator[str]:
        out = [target for target in self._targets if target.left_out]
        if not out:
            return
        left_out = sum(len(target.left_out) for target in out)
        every = count_text(sum(target.files for target in self._targets), "file")
        yield f"Left out by the rules of dv sparse: {left_out:,} of {every} (dv sparse list):"
        for target in out:
            total = files_text(len(target.left_out), target.left_out_bytes)
            yield f"{_INDENT}{self._name(target.target)}  {total}"

    def _clean(self) -> Iterator[str]:
        clean = [target for target in self._targets if target.clean and not target.absent]
        clean = [
            target for target in clean if not target.files or len(target.left_out) < target.files
        ]
        if not clean:
            return
        size = sum(target.bytes - target.left_out_bytes for target in clean)
        total = files_text(sum(target.files - len(target.left_out) for target in clean), size)
        yield f"Clean: {count_text(len(clean), 'target')}, {total}"
        if self._frame.verbose:
            for target in clean:
                size = target.bytes - target.left_out_bytes
                files = files_text(target.files - len(target.left_out), size)
                yield f"{_INDENT}{self._name(target.target)}  {files}"
                yield from self._hash(target)

    def _hash(self, target: TargetStatus) -> Iterator[str]:
        if self._frame.verbose and target.blake3:
            yield f"{_INDENT}  {self._screen.style(target.blake3, 'dim')}"

    def _name(self, target: str, path: str = ".") -> str:
        return printable(self._repo.shown_in(target, path))
