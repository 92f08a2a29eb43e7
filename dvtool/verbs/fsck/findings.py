"""The findings of a check: values that fsck's parts fill in and the command shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from dvtool.format.digest import Digest
from dvtool.store.packcheck import PackCheck

LOCAL = "local store"
WORKSPACE = "workspace"

Kind: TypeAlias = Literal[
    "pack", "index", "recipe", "shard", "manifest", "saved", "content", "file", "root", "mark",
    "object",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """Which packs of a remote to download: a share of them (1: all), chosen at random by `seed`."""

    share: float
    seed: int


@dataclass(frozen=True, slots=True)
class File:
    """A tracked file that damage touches."""

    json_keys: ClassVar = ("path", "blake3", "bytes", "copies")

    path: str
    """Its path from the top of the worktree."""
    digest: Digest
    size: int
    copies: tuple[str, ...] = ()
    """The places that have, or by what is known should have, its content whole."""

    @property
    def blake3(self) -> str:
        """BLAKE3 of its content, in hex."""
        return self.digest.hex()

    @property
    def bytes(self) -> int:
        """Its size in bytes."""
        return self.size


@dataclass(frozen=True, slots=True)
class CommitNote:
    """A commit as it is named in a report. `subject` is foreign text."""

    commit: str
    """The commit, in hex."""
    subject: str
    """The first line of its message."""


@dataclass(slots=True)
class Damage:
    """One object or file that is not as it should be.

    `contents` and `shards` are the data that it is, or was, needed for; from these come the
    targets, files and commits that the damage touches.
    """

    json_keys: ClassVar = (
        *("place", "kind", "name", "problem", "missing", "repaired", "failed", "targets"),
        *("files", "commits", "commits_shown"),
    )

    place: str
    """Where it is: `local store`, `workspace` or the URL of a remote."""
    kind: Kind
    """pack, index, recipe, shard, manifest, saved, content, file, root, mark, or the object at a
    source that data refers to."""
    name: str
    """Its path or key there."""
    problem: str
    """The problem, in words."""
    missing: bool = False
    """Whether it is missing, rather than wrong."""
    contents: frozenset[Digest] = frozenset()
    """Needed contents that are not whole because of it."""
    shards: frozenset[Digest] = frozenset()
    targets: tuple[str, ...] = ()
    """Targets that it touches, as paths from the top of the worktree."""
    files: tuple[File, ...] = ()
    """Files that it touches."""
    commits: int = 0
    """How many commits it touches."""
    commits_shown: tuple[CommitNote, ...] = ()
    """Some of these commits."""
    repaired: str | None = None
    """The repair, in words; null if there was none."""
    failed: str | None = None
    """Why it could not be repaired, in words; null if that was not tried or did not fail."""


@dataclass(slots=True)
class StoreCounts:
    """The counts of the check of the local store, and of harmless surplus there."""

    packs: int = 0
    """Packs that were read."""
    bytes: int = 0
    """Bytes of these packs."""
    shards: int = 0
    """Shards that were read."""
    recipes: int = 0
    """Recipes of large files that were read."""
    contents: int = 0
    """Distinct contents that manifests of any commit, worktree or index need."""
    not_here: int = 0
    """How many of these contents are not here, which is no damage."""
    not_here_bytes: int = 0
    """Bytes of the contents that are not here."""
    nowhere_known: int = 0
    """How many of the contents that are not here no remote is known to have."""
    lists_not_here: int = 0
    """Shards that are not here, so that nobody looked into them."""
    unindexed_packs: int = 0
    """Packs that the index does not list; harmless."""
    to_list: int = 0
    """Needed contents that packs here have whole and the index does not list, as an interrupted
    command leaves it: repeating that lists them, and so does a repair."""
    unlisted_chunks: int = 0
    """Chunks in packs here that the index does not list; harmless."""
    temporary_files: int = 0
    """Unfinished files; harmless."""
    unfinished_drops: int = 0
    """Drops that were interrupted; harmless."""
    set_aside: int = 0
    """Files that repairs set aside."""
    unread_manifests: int = 0
    """Versions in history that are no manifests, or that git does not have here."""


@dataclass(slots=True)
class WorkspaceCounts:
    """The counts of the check of the workspace."""

    files: int = 0
    """Files that were read."""
    bytes: int = 0
    """Bytes of these files."""
    changed: int = 0
    """Files that differ as files that were edited do."""
    unreadable: int = 0
    """Files that cannot be read."""


@dataclass(slots=True)
class RemoteCounts:
    """The counts of the check of a remote."""

    url: str
    """URL of the remote."""
    packs: int = 0
    """Packs that shards there point into."""
    bytes: int = 0
    """Bytes of these packs."""
    md5_equal: int = 0
    """Packs with the MD5 of the same pack here."""
    packs_read: int = 0
    """Packs that were downloaded and verified."""
    bytes_read: int = 0
    """Bytes that were downloaded, some of them twice for large files."""
    files_made: int = 0
    """Files of several chunks that were put together; of others, the one chunk was checked."""
    shards: int = 0
    """Shards that were read."""
    locations: int = 0
    """Places of contents that they state."""
    roots: int = 0
    """Roots that were read."""
    manifests: int = 0
    """Manifests that these roots name."""
    not_pushed: tuple[str, ...] = ()
    """Targets with manifests in refs here that no root there names."""
    seed: int | None = None
    """With --sample: what makes the same choice again; null otherwise."""


@dataclass(slots=True)
class FsckReport:
    """All that a check found."""

    json_keys: ClassVar = ("clean", "damage", "store", "workspace", "remote", "done")

    damage: list[Damage] = field(default_factory=list)
    """Each thing that is damaged or missing, or was before the repair."""
    store: StoreCounts = field(default_factory=StoreCounts)
    """The counts of the check of the local store."""
    workspace: WorkspaceCounts | None = None
    """The counts of the check of the workspace; null without --workspace."""
    remote: RemoteCounts | None = None
    """The counts of the check of the remote; null without --remote."""
    done: list[str] = field(default_factory=list)
    """The repairs, beyond those that `damage` lists."""

    @property
    def remaining(self) -> list[Damage]:
        """The objects and files that are damaged or missing now."""
        return [damage for damage in self.damage if not damage.repaired]

    @property
    def clean(self) -> bool:
        """Whether nothing that is needed is damaged or missing."""
        return not self.remaining

    @property
    def exit_code(self) -> int:
        """0 if clean, 6 if something is damaged, 4 if things are only missing."""
        if self.clean:
            return 0
        return 4 if all(damage.missing for damage in self.remaining) else 6


@dataclass(slots=True)
class RemoteCheck:
    """The findings of a check of one remote, for the report and for repair."""

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
