"""The results of imports and updates, done or planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

SourceStanding: TypeAlias = Literal["current", "behind", "unknown", "unapproved", "failed"]


@dataclass(slots=True)
class Imported:
    """The result of `import` or `update` for one target. Paths are relative to it."""

    target: str
    """The target, as a path from the top of the worktree."""
    source: str
    """Where its data comes from."""
    state: str
    """The identity of the state that was taken."""
    files: int = 0
    """How many entries its manifest has now."""
    bytes: int = 0
    """Bytes of all its files together."""
    read: int = 0
    """How many objects were read from the source; the others were known."""
    stored_bytes: int = 0
    """Bytes that the local store grew by."""
    uploaded_bytes: int = 0
    """Bytes of packs that the workers of a cluster put on the remote."""
    remote: str = ""
    """The remote that they put them on; of a plan, the one that another repository's data is on.
    Else empty."""
    added: int = 0
    """How many entries are new in the manifest."""
    modified: int = 0
    """How many entries changed."""
    removed: list[str] = field(default_factory=list)
    """Paths that are no more at the source, and no more here."""
    written: int = 0
    """How many files were written into the workspace."""
    changed: bool = False
    """Whether the manifest is another now."""
    warnings: list[str] = field(default_factory=list)
    """Sentences for people, such as that a limit left something out."""


@dataclass(slots=True)
class SqlPlan:
    """The rows that `import_sql` would read. Nothing was kept."""

    target: str
    """The target, as a path from the top of the worktree."""
    source: str
    """Address of the database."""
    query: str
    """The query that would run."""
    columns: list[str]
    """Name and type of each column, as `id int64`; of SQLite, by the first rows."""
    rows: int | None
    """How many rows the query gives now; null if the database cannot count them."""
    warnings: list[str] = field(default_factory=list)
    """Sentences for people, such as that the rows have no order."""


@dataclass(slots=True)
class SourceStatus:
    """How one target stands to its source. Counts are 0 where that is not known."""

    target: str
    """The target, as a path from the top of the worktree."""
    source: str
    """Where its data comes from."""
    standing: SourceStanding
    """current, behind, unknown (the source does not tell its states apart, so dv update has to read
    it), unapproved (this clone does not ask there) or failed (it did not answer)."""
    edited: bool = False
    """Whether the target was changed here since it was taken."""
    added: int = 0
    """Objects that are new at the source."""
    modified: int = 0
    """Objects that changed at the source."""
    removed: int = 0
    """Objects that are no more at the source."""
    problem: str | None = None
    """Why it could not be asked; null if it was."""
