"""Splits, as check-overlap names them: parts of targets, of git's index or of a revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dvtool.errors import UsageError, printable
from dvtool.format.manifest import Entry, Manifest, decode
from dvtool.format.paths import SUFFIX, workspace_path
from dvtool.format.selection import Selection, select
from dvtool.project.arguments import Arguments
from dvtool.project.parts import Project, chosen


@dataclass(frozen=True, slots=True)
class Part:
    """The entries of one target that a split has."""

    manifest: Manifest
    selection: Selection

    def files(self, project: Project) -> Iterator[tuple[str, Entry]]:
        """Yield path, from the top of the worktree, and entry of each file that has bytes.

        Of a large manifest one shard at a time is held.
        """
        for entries in project.runs(self.manifest, self.selection):
            for path, entry in entries.items():
                if entry.size > 0:
                    yield workspace_path(self.selection.target, path), entry


@dataclass(frozen=True, slots=True)
class Split:
    """One side of the comparison: its name as it was typed, and where its files are."""

    name: str
    parts: tuple[Part, ...]


def find_splits(project: Project, arguments: Arguments, names: Sequence[str]) -> list[Split]:
    """Return the split that each name means.

    ``PATH`` is as a user types it, of what is staged in git's index (in a bare repository: of
    HEAD). ``REV:PATH`` is from the top of the worktree, of that revision, as git has it;
    ``REV:./PATH`` is relative to the current folder. UsageError for a name that means nothing.
    """
    if len(names) < 2:
        raise UsageError(
            "one split alone overlaps with nothing",
            hint="name two or more: dv check-overlap data/train data/val",
        )
    staged = _manifests_staged(project)
    return [_find_split(project, arguments, name, staged) for name in names]


def _find_split(
    project: Project, arguments: Arguments, name: str, staged: dict[str, Manifest]
) -> Split:
    rev, colon, inner = name.partition(":")
    if not colon or _is_path(arguments, name, staged):
        return _split(name, staged, arguments.relative(name), rev="")
    path = arguments.relative(inner) if inner.startswith(("./", "../")) else inner.strip("/")
    if not rev:
        return _split(name, staged, path, rev="")
    manifests = project.manifests_at(project.git.resolve(rev))
    return _split(name, manifests, path, rev=rev)


def _is_path(arguments: Arguments, name: str, staged: dict[str, Manifest]) -> bool:
    """Whether a name with a colon in it is the path of something staged."""
    try:
        return bool(select(sorted(staged), [arguments.relative(name)])[0])
    except UsageError:
        return False


def _split(name: str, manifests: dict[str, Manifest], path: str, *, rev: str) -> Split:
    try:
        selections = chosen(sorted(manifests), [path])
    except UsageError as error:
        where = f"at {printable(rev)}" if rev else "in git's index"
        hint = f"see what there is: dv ls --rev {printable(rev)}"
        if not rev:
            hint = "`dv status` lists the targets; a manifest that is not staged: git add its file"
        raise UsageError(
            f"{printable(name)} is and holds no target of dvtool {where}", hint=hint
        ) from error
    return Split(
        name, tuple(Part(manifests[selection.target], selection) for selection in selections)
    )


def _manifests_staged(project: Project) -> dict[str, Manifest]:
    """Return target -> manifest of what the next commit would have."""
    git = project.git
    if git.worktree is None:
        return project.manifests_here()
    return {
        path.removesuffix(SUFFIX): decode(git.read_blob(blob), path)
        for path, blob in sorted(git.manifests_in_index().items())
    }
