"""The source of shards that the local store may lack.

The store answers from its disk alone. A verb that needs a shard asks the project's `ShardSource`,
which has the missing ones fetched: from the default remote, from a named one, or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec.structs import replace

from dvtool.errors import MissingError, RemoteError, SetupError
from dvtool.format.digest import Digest
from dvtool.format.manifest import Entries, ShardRef
from dvtool.store.local import LocalStore

if TYPE_CHECKING:
    from dvtool.remotes.objects import FetchedShard

AT_HAND_MAX_FILES = 65_536
"""Of so many files the locations that came with shards stay in memory, about 1 KB each."""


class ShardFetcher(Protocol):
    """Fetches shards into the local store from the remote of this name, None for the default one.

    Raises SetupError, MissingError or RemoteError if it cannot.
    """

    def __call__(self, remote: str | None, refs: Sequence[ShardRef], *, places: bool) -> None:
        """Fetch the shards; with `places` remember where they say that content is."""


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
    at_hand: dict[tuple[str, Digest], FetchedShard] = msgspec.field(default_factory=dict)
    """Shards with what they say of places, by URL of the remote and hash: see `keep_at_hand`."""

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
        """Keep shards as a remote sent them for the fetch of content that follows, if they are few.

        It takes them, once, in place of reading them from that remote again.
        """
        kept = sum(len(shard.entries) for shard in self.at_hand.values())
        if kept + sum(len(shard.entries) for shard in shards.values()) <= AT_HAND_MAX_FILES:
            self.at_hand.update(((url, digest), shard) for digest, shard in shards.items())

    def take_at_hand(self, url: str, digests: Collection[Digest]) -> dict[Digest, FetchedShard]:
        """Return those of the shards that are at hand from this remote, and let go of them."""
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
        self.need([ref])
        return self.store.load_shard(ref)
