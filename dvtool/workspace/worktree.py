"""The parts of an opened repository that a look at its workspace needs. `Project` has them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dvtool.format.manifest import Entries, ShardRef
from dvtool.system.progress import Progress
from dvtool.workspace.files import Workspace
from dvtool.workspace.statcache import StatCache


class Worktree(Protocol):
    """The user's files, and what is remembered of them."""

    @property
    def root(self) -> str:
        """The top of the worktree."""

    @property
    def workspace(self) -> Workspace:
        """The files below it."""

    @property
    def statcache(self) -> StatCache:
        """The cache of their stats and hashes."""

    @property
    def progress(self) -> Progress:
        """The receiver of progress."""

    def absolute(self, path: str) -> str:
        """Return a path from the top of the worktree as an absolute one."""


class ShardStore(Protocol):
    """The shards on this disk."""

    def load_shard(self, ref: ShardRef) -> Entries:
        """Return the checked entries of a shard that is here; nobody changes them."""


class Shards(Protocol):
    """The shards on this disk, and where missing ones come from."""

    def need(self, refs: Iterable[ShardRef]) -> object:
        """See that the shards are here."""

    def load(self, ref: ShardRef) -> Entries:
        """Return the checked entries of a shard; nobody changes them."""


class StoredWorktree(Worktree, Protocol):
    """A worktree with the store that has the shards of its manifests."""

    @property
    def store(self) -> ShardStore:
        """The shards on this disk."""

    @property
    def shards(self) -> Shards:
        """The same, and where missing ones come from."""
