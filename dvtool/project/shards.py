"""The source of shards that the local store may lack.

The store answers from its disk alone. A verb that needs a shard asks the project's `ShardSource`,
which has the missing ones fetched: from the default remote, from a named one, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec.structs import replace

from dvtool.errors import MissingError, RemoteError, SetupError
from dvtool.format.digest import Digest
from dvtool.format.manifest import Entries, ShardRef
from dvtool.store.local import LocalStore
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.remotes import objects
    from dvtool.remotes.objects import FetchedShard, ShardAtHand
else:
    objects = later("dvtool.remotes.objects")

AT_HAND_MAX_BYTES = 32 << 20
"""Locations that came with shards stay in memory up to this size; of a file they take some 5 bytes.
"""


class ShardFetcher(Protocol):
    """Fetches shards into the local store from the remote of this name, None for the default one.

    Raises SetupError, MissingError or RemoteError if it cannot.
    """

    def __call__(self, remote: str | None, refs: Sequence[ShardRef], *, places: bool) -> None:
        """Fetch the shards; with `places` remember where they say that content is."""


class ListedShards(msgspec.Struct):
    """Entries of shards that were fetched and checked just now, for the first `load` of each."""

    wanted: bool = False
    """Whether any are kept: a verb that takes few of the entries has no memory for all of them."""
    entries: dict[ShardRef, Entries] = msgspec.field(default_factory=dict)


class ShardSource(msgspec.Struct, frozen=True):
    """The shards of a local store, and the remote that gives those which the store lacks.

    Without a `fetcher` there is no such remote, and a shard that is not in the store is missing.
    """

    store: LocalStore
    fetcher: ShardFetcher | None = None
    remote: str | None = None
    """The name of the remote to ask; None asks the default one."""
    places: bool = True
    """Whether it is remembered where fetched shards say that content is. A fetch of the content
    remembers that itself, once it knows which packs are here."""
    at_hand: dict[tuple[str, Digest], ShardAtHand] = msgspec.field(default_factory=dict)
    """The places that shards name, by URL of the remote and hash: see `keep_at_hand`."""
    listed: ListedShards = msgspec.field(default_factory=ListedShards)
    """Entries that a fetch leaves here: see `keep_listed`."""

    def at(self, remote: str | None) -> ShardSource:
        """Return the source that asks this remote, or the default one for None."""
        return replace(self, remote=remote)

    def nowhere(self) -> ShardSource:
        """Return the source that asks no remote."""
        return replace(self, fetcher=None)

    def without_places(self) -> ShardSource:
        """Return the same source, for a verb that goes on to fetch the content that it lacks."""
        return replace(self, places=False)

    def keep_at_hand(self, url: str, shards: Mapping[Digest, FetchedShard]) -> None:
        """Keep what shards that a remote sent say of places, for the fetch of content that follows.

        It takes that, once, in place of reading the shards from that remote again.
        """
        size = sum(len(kept.places.stored) for kept in self.at_hand.values())
        for digest, shard in shards.items():
            places = shard.stored_places
            if places is None or size + len(places.stored) > AT_HAND_MAX_BYTES:
                continue
            size += len(places.stored)
            self.at_hand[url, digest] = objects.ShardAtHand(places, shard.size, shard.md5)

    def keep_listed(self, shards: Iterable[tuple[ShardRef, Entries]]) -> None:
        """Keep checked entries of fetched shards, for a verb that wants them: it takes all entries.

        Its first `load` of a shard takes them, in place of reading the shard again.
        """
        if self.listed.wanted:
            self.listed.entries.update(shards)

    def let_go(self) -> None:
        """Let go of what was kept and not taken."""
        self.at_hand.clear()
        self.listed.entries.clear()
        self.listed.wanted = False

    def take_at_hand(self, url: str, digests: Iterable[Digest]) -> dict[Digest, ShardAtHand]:
        """Return what is at hand of these shards from this remote, and let go of it."""
        keys = [(url, digest) for digest in digests if (url, digest) in self.at_hand]
        return {key[1]: self.at_hand.pop(key) for key in keys}

    def need(self, refs: Iterable[ShardRef]) -> None:
        """See that the store has these shards; the missing ones are fetched all at once.

        MissingError if that fails. Without a remote to ask nothing is raised; reading a shard that
        is missing raises then.
        """
        absent = {ref.digest: ref for ref in refs if not self.store.has_shard(ref.digest)}
        if not absent or self.fetcher is None:
            return
        try:
            self.fetcher(self.remote, list(absent.values()), places=self.places)
        except (SetupError, MissingError, RemoteError) as error:
            raise MissingError(
                f"shards of large manifests that are not here ({len(absent):,}) cannot be fetched: "
                f"{error}",
                hint=error.hint or "see that the remote can be reached, then repeat the command",
            ) from error

    def load(self, ref: ShardRef) -> Entries:
        """Return the entries of a shard, checked; fetched first if the store lacks it.

        MissingError, which names the shard, if there is no remote to ask. All callers share the
        entries, so nobody changes them.
        """
        if (entries := self.listed.entries.pop(ref, None)) is not None:
            self.store.keep_shard(ref, entries)
            return entries
        self.need([ref])
        return self.store.load_shard(ref)
