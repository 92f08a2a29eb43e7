"""What a check of stored data found: values that fsck's parts fill in and the command shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from dvtool.format.digest import Digest
from dvtool.store.packcheck import PackCheck

LOCAL = "local store"
WORKSPACE = "workspace"

Kind: TypeAlias = Literal[
    "pack", "index", "recipe", "shard", "manifest", "saved", "content", "file", "root", "mark"
]


@dataclass(frozen=True, slots=True)
class Sample:
    """Which packs of a remote to download: a share of them (1: all), chosen at random by `seed`."""

    share: float
    seed: int


@dataclass(frozen=True, slots=True)
class File:
    """A tracked file that damage touches: its path from the top of the worktree, its content.

    `copies` are the places that have, or by what is known should have, its content whole.
    """

    path: str
    digest: Digest
    size: int
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommitNote:
    """A commit as it is named in a report. `subject` is foreign text."""

    id: str
    subject: str


@dataclass(slots=True)
class Damage:
    """One thing that is not as it should be.

    `place` is `LOCAL`, `WORKSPACE` or a remote's URL; `name` a path or key there. `missing` says
    that it is not there at all, rather than wrong. `contents` and `shards` are what it is, or was,
    needed for; from these come the targets, files and commits that it touches.
    """

    place: str
    kind: Kind
    name: str
    problem: str
    missing: bool = False
    contents: frozenset[Digest] = frozenset()
    """Needed contents that are not whole because of it."""
    shards: frozenset[Digest] = frozenset()
    targets: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    commits: int = 0
    commits_shown: tuple[CommitNote, ...] = ()
    repaired: str = ""
    """What was done about it; nothing was if it is empty."""
    failed: str = ""
    """Why it could not be repaired, if that was tried."""


@dataclass(slots=True)
class StoreCounts:
    """What was looked at in the local store, and what is there but harmless."""

    packs: int = 0
    bytes: int = 0
    shards: int = 0
    recipes: int = 0
    contents: int = 0
    """Distinct contents that manifests of any commit, worktree or index need."""
    not_here: int = 0
    not_here_bytes: int = 0
    nowhere_known: int = 0
    """Of those that are not here: how many no remote is known to have."""
    lists_not_here: int = 0
    unindexed_packs: int = 0
    to_list: int = 0
    """Needed contents that packs here have whole and the index does not list, as an interrupted
    command leaves it: repeating that lists them, and so does a repair."""
    unlisted_chunks: int = 0
    temporary_files: int = 0
    unfinished_drops: int = 0
    set_aside: int = 0
    unread_manifests: int = 0
    """Versions in history that are no manifests, or that git does not have here."""


@dataclass(slots=True)
class WorkspaceCounts:
    """What was looked at in the workspace; `changed` files differ as files that were edited do."""

    files: int = 0
    bytes: int = 0
    changed: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class RemoteCounts:
    """What was looked at on a remote. `packs_read` of the packs were downloaded and verified.

    `bytes_read` is what was downloaded of packs, also what was read a second time for large files.
    """

    url: str
    packs: int = 0
    bytes: int = 0
    md5_equal: int = 0
    packs_read: int = 0
    bytes_read: int = 0
    files_made: int = 0
    """Files of several chunks that were put together; of others, the one chunk was checked."""
    shards: int = 0
    locations: int = 0
    roots: int = 0
    manifests: int = 0
    not_pushed: tuple[str, ...] = ()
    """Targets with manifests in refs here that no root there names."""
    seed: int | None = None


@dataclass(slots=True)
class Report:
    """All that a check found."""

    damage: list[Damage] = field(default_factory=list)
    store: StoreCounts = field(default_factory=StoreCounts)
    workspace: WorkspaceCounts | None = None
    remote: RemoteCounts | None = None
    done: list[str] = field(default_factory=list)
    """What was repaired, beyond what `damage` says of itself."""

    @property
    def remaining(self) -> list[Damage]:
        """What is damaged or missing now."""
        return [one for one in self.damage if not one.repaired]

    @property
    def clean(self) -> bool:
        """Whether nothing that is needed is damaged or missing."""
        return not self.remaining

    @property
    def exit_code(self) -> int:
        """0 if clean, 6 if something is damaged, 4 if things are only missing."""
        if self.clean:
            return 0
        return 4 if all(one.missing for one in self.remaining) else 6


@dataclass(slots=True)
class RemoteCheck:
    """What a check of one remote found, for the report and for repair."""

    counts: RemoteCounts
    damage: list[Damage] = field(default_factory=list)
    packs: dict[Digest, int] = field(default_factory=dict)
    """Every pack that shards point into -> the size that they state."""
    pointing: dict[Digest, set[Digest]] = field(default_factory=dict)
    """Pack -> the shards that point into it."""
    bad_packs: dict[Digest, PackCheck | None] = field(default_factory=dict)
    """Packs that are gone, damaged or other than stated; with what was found in it, if read."""
    bad_shards: set[Digest] = field(default_factory=set)
    """Shards that are gone, damaged, or point to where their content is not."""
    misplaced: dict[Digest, set[Digest]] = field(default_factory=dict)
    """Shard -> the contents that do not come out if its places are read in their order."""
    bad_roots: set[str] = field(default_factory=set)
    mark_lost: bool = False
    rooted: dict[Digest, str] = field(default_factory=dict)
    """Manifest hash -> the target that a sound root names it for."""
    shards: dict[Digest, str] = field(default_factory=dict)
    """Every shard that a root names -> a target that needs it."""
    held: set[Digest] = field(default_factory=set)
    """Of the contents that were asked for: those that sound shards and packs there have."""
