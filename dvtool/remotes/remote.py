"""The objects of a remote, over any backend: dv.json, packs, shards, roots.

The remote is foreign: what comes from it is checked here or by the caller, and never believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, TypeVar, cast

import msgspec

from dvtool.errors import (
    CorruptError,
    MissingError,
    ObjectMissing,
    RemoteForbidden,
    SetupError,
)
from dvtool.format.digest import Digest, digest_of
from dvtool.format.file_places import decode_fetched
from dvtool.format.locations import (
    OBJECT_SIZE_MAX_BYTES,
    decode_object,
    without_locations,
)
from dvtool.format.manifest import ShardRef
from dvtool.remotes.objects import (
    FORMAT,
    MARK,
    FetchedShard,
    Mark,
    Root,
    RootManifest,
    decode_mark,
    decode_root,
    fresh_mark,
    mark_missing,
    now_text,
    pack_key,
    root_key,
    shard_key,
)
from dvtool.remotes.transfers import StoppableFile, StoppableRoom, StoppableSink, read_checked
from dvtool.remotes.transports.base import Backend, Copying, ObjectInfo, Sink, has_room
from dvtool.system.collecting import collector_put_off
from dvtool.system.logs import Log
from dvtool.system.parallel import run_bounded

T = TypeVar("T")
PROBES = "probe/"
"""The prefix of objects that an examination writes, and removes unless it is cut off."""
MARK_SIZE_MAX_BYTES = 1 << 20
ROOT_SIZE_MAX_BYTES = 256 << 20
HEADS_MAX = 2
"""Up to this many keys are asked for by HEAD; a listing of up to 1,000 is one request as well."""
LISTED_MAX = 20_000
PAGE_KEYS = 1000
"""So many keys a request lists, on every store."""
UNSURE = "?"
"""Before the id of a remote whose dv.json may still be replaced by another first push."""
_LAST_KEY = "\x7f"
"""Greater than every key."""
_ROOT_KEY = re.compile(r"roots/([0-9a-f]{32})/([0-9a-f]{64})\.json")

_LOG = Log("remotes")


@dataclass(frozen=True, slots=True)
class Seen:
    """The objects that a remote said it has, by key.

    Of the keys up to `until` these are all that there are; "" where no listing says so.
    """

    there: Mapping[str, ObjectInfo]
    until: str = ""


def split_known_id(known_id: str | None) -> tuple[str | None, str | None]:
    """Return a remote's id as it is known: the id if it is sure, and the id if it is not."""
    if known_id is not None and known_id.startswith(UNSURE):
        return None, known_id.removeprefix(UNSURE)
    return known_id, None


class RemoteStore:
    """A remote store. Methods that only move bytes may be called from several threads.

    `known_id` is the id that the dv.json at this place had when it was used last from here, as
    `seen_id` gave it.
    """

    def __init__(self, backend: Backend, *, known_id: str | None = None) -> None:
        self.backend = backend
        self.expected_id, self._unsure_id = split_known_id(known_id)
        self._mark: Mark | None = None
        self._may_list = backend.features.list_allowed is not False

    @property
    def url(self) -> str:
        """The remote as the user wrote it."""
        return self.backend.url

    # --- dv.json --------------------------------------------------------------------------

    def mark(self) -> Mark | None:
        """Return the remote's dv.json, None if it has none; SetupError if it is not for us.

        Nor is a place for us that was another remote when it was used last.
        """
        if self._mark is None:
            mark = read_checked(self._read_mark, SetupError)
            if self.expected_id not in (None, mark.id if mark else None):
                raise self._other_remote(mark)
            self._mark = mark
        return self._mark

    def _other_remote(self, mark: Mark | None) -> SetupError:
        if mark is None and self._lost_mark():
            return mark_missing(self.url)
        if mark is None and self.backend.features.list_allowed is False:
            return SetupError(
                f"{self.url}: its {MARK}, which this clone used last, is gone or may not be read",
                hint="use credentials that may read (s3:GetObject) and list (s3:ListBucket)",
            )
        have = f"another remote (id {mark.id})" if mark else "no remote"
        return SetupError(
            f"{self.url} was a remote with the id {self.expected_id} when this clone used it "
            f"last; now there is {have}",
            hint="mount the disk that belongs there; or, if the remote is elsewhere: "
            "dv remote set NAME URL; or, to begin anew with this one: dv push --new-remote",
        )

    def seen_id(self) -> str | None:
        """Return the id of the remote for the next use, None if its dv.json was not read.

        Where the store has no conditional PUT and first pushes meet, another dv.json may still take
        the place of this one. So there an id is marked as unsure until it was seen twice.
        """
        if self._mark is None:
            return None
        known = self._mark.id in (self.expected_id, self._unsure_id)
        stays = known or self.backend.features.conditional_put
        return self._mark.id if stays else UNSURE + self._mark.id

    def _read_mark(self) -> Mark | None:
        try:
            text = self.backend.get(MARK, size_max=MARK_SIZE_MAX_BYTES)
        except ObjectMissing:
            return None
        return decode_mark(text, self.url)

    def required_mark(self) -> Mark:
        """Return the remote's dv.json; SetupError if nothing was pushed there yet."""
        mark = self.mark()
        if mark is None and self.backend.features.list_allowed is False:
            # Who may not list is told of nothing that it is absent, only that it is refused.
            raise SetupError(
                f"{self.url}: there is no {MARK} that these credentials may read",
                hint="nothing was pushed there yet (`dv push` where the data is), or the right to"
                " read is missing (s3:GetObject); with s3:ListBucket the two can be told apart",
            )
        if mark is None:
            if self._lost_mark():
                raise mark_missing(self.url)
            raise SetupError(
                f"{self.url} is not a dvtool remote yet: it has no {MARK}",
                hint="run `dv push` where the data is; or check the URL: dv remote list",
            )
        return mark

    def _first(self) -> ObjectInfo | None:
        """Return the first object of the place; None if there is none or listing is refused."""
        try:
            objects = self.backend.list("")
            return next((info for info in objects if not info.key.startswith(PROBES)), None)
        except RemoteForbidden:
            self._may_list = False
            return None

    def initialise(self) -> Mark:
        """Make a place that has no dv.json a remote; return the dv.json that is there then.

        A place that holds other objects is refused: two tools must not mix their objects.
        """
        other = self._first()
        if other is not None and other.key != MARK:
            if self._lost_mark():
                raise mark_missing(self.url)
            raise SetupError(
                f"{self.url} holds other things (such as {other.key!r}) and no {MARK}",
                hint="choose an empty bucket, prefix or folder",
            )
        if not self._may_list:
            self._see_that_reading_is_allowed()
        self.backend.put_if_absent(MARK, fresh_mark())
        # If two first pushes met, the dv.json that is there now counts for both.
        return self.required_mark()

    def _lost_mark(self) -> bool:
        """Whether there are roots, as only a remote has them."""
        with contextlib.suppress(RemoteForbidden):
            return any(_ROOT_KEY.fullmatch(info.key) for info in self.backend.list("roots/"))
        return False

    def _see_that_reading_is_allowed(self) -> None:
        """RemoteForbidden if these credentials may write but not read.

        Who may not list is refused what is not there, as who may not read is refused everything.
        Only an object of our own tells them apart; a dv.json that cannot be seen is not replaced.
        """
        key = f"{PROBES}{secrets.token_hex(16)}"
        note = secrets.token_bytes(16)
        self.backend.put(key, note)
        try:
            self.backend.get(key, size_max=len(note))
        except (ObjectMissing, RemoteForbidden) as error:
            raise RemoteForbidden(
                f"{self.url}: these credentials may write there but not read, so whether there is a"
                f" {MARK}, and what a push brought, cannot be seen",
                hint="push with credentials that may also read (s3:GetObject) and, better, list"
                " (s3:ListBucket)",
            ) from error
        finally:
            with contextlib.suppress(RemoteForbidden):
                self.backend.delete(key)

    def renew_mark(self) -> Mark:
        """Put a new dv.json, with a new id, in the place of one that is lost or damaged."""
        self.backend.put(MARK, fresh_mark())
        self._mark = self.expected_id = None
        return self.required_mark()

    # --- packs ----------------------------------------------------------------------------

    def put_pack(self, digest: Digest, file: BinaryIO) -> ObjectInfo:
        """Upload a pack, read from the start of `file`."""
        return self.backend.put(pack_key(digest), cast(BinaryIO, StoppableFile(file)))

    def read_pack(self, digest: Digest, sink: Sink, *, offset: int, size: int) -> None:
        """Write `size` bytes of a pack to `sink`, unchecked."""
        wrapped = StoppableRoom(sink) if has_room(sink) else StoppableSink(sink)
        self.backend.read_into(pack_key(digest), wrapped, offset=offset, size=size)

    def copy_pack(self, digest: Digest, file: BinaryIO, *, size: int) -> bool:
        """Have the system copy a pack, unchecked, to an empty file; False if it cannot."""
        if isinstance(self.backend, Copying):
            return self.backend.copy_into(pack_key(digest), file, size=size)
        return False

    # --- shards ---------------------------------------------------------------------------

    def put_shard(self, digest: Digest, data: bytes) -> ObjectInfo:
        """Upload a shard object."""
        return self.backend.put(shard_key(digest), data)

    def get_shard(self, ref: ShardRef) -> FetchedShard:
        """Return a shard, its entries and the form of its locations checked."""
        return read_checked(lambda: self._read_known_shard(ref))

    def _read_known_shard(self, ref: ShardRef) -> FetchedShard:
        key = shard_key(ref.digest)
        data = self.backend.get(key, size_max=OBJECT_SIZE_MAX_BYTES)
        name = f"{self.url}: {key}"
        entries, shard = decode_fetched(data, ref, name)
        md5 = self.md5_to_note([data])
        return FetchedShard(
            *(entries, shard.text, shard.locations, len(data), md5),
            *(shard.references, shard.places, without_locations(data, name)),
        )

    def read_shard_as(self, digest: Digest, decode: Callable[[bytes, str], T]) -> T:
        """Return what `decode` makes of a shard object and its name, if that is whole."""
        key = shard_key(digest)

        def read() -> T:
            data = self.backend.get(key, size_max=OBJECT_SIZE_MAX_BYTES)
            return decode(data, f"{self.url}: {key}")

        return read_checked(read)

    def read_shard(self, digest: Digest) -> FetchedShard:
        """Return a shard of which only the hash is known, checked as `get_shard` does."""
        return self.read_shard_object(digest)[0]

    def read_shard_object(self, digest: Digest) -> tuple[FetchedShard, bytes]:
        """Return a shard as `read_shard` does, and the object's bytes."""

        def decode(data: bytes, where: str) -> tuple[FetchedShard, bytes]:
            with collector_put_off():
                entries, shard = decode_object(data, digest, where)
            md5 = self.md5_to_note([data])
            fetched = FetchedShard(
                entries, shard.text, shard.locations, len(data), md5, shard.references
            )
            return fetched, data

        return self.read_shard_as(digest, decode)

    # --- roots ----------------------------------------------------------------------------

    def put_root(self, repo_id: str, manifests: list[RootManifest]) -> tuple[str, ObjectInfo]:
        """Upload a root; return its id, and the object."""
        root = Root(FORMAT, manifests, now_text(), secrets.token_hex(16))
        text = msgspec.json.encode(root) + b"\n"
        name = digest_of(text).hex()
        return name, self.backend.put(root_key(repo_id, name), text)

    def repositories(self) -> dict[str, list[str]]:
        """Return id -> the ids of its roots, for every repository that pushed here."""
        names: dict[str, list[str]] = {}
        for info in self.backend.list("roots/"):
            match = _ROOT_KEY.fullmatch(info.key)
            if match:
                names.setdefault(match[1], []).append(match[2])
        return names

    def root_names(self, repo_id: str) -> list[str]:
        """Return the ids of a repository's roots, as the remote lists them now."""
        top = f"roots/{repo_id}/"
        keys = [info.key for info in self.backend.list(top)]
        return [key[len(top) :].removesuffix(".json") for key in keys if key.endswith(".json")]

    def get_root(self, repo_id: str, name: str) -> tuple[Root, ObjectInfo]:
        """Return a root, checked against its id, and the object."""
        return read_checked(lambda: self._read_root(repo_id, name))

    def _read_root(self, repo_id: str, name: str) -> tuple[Root, ObjectInfo]:
        key = root_key(repo_id, name)
        text = self.backend.get(key, size_max=ROOT_SIZE_MAX_BYTES)
        if digest_of(text).hex() != name:
            raise CorruptError(f"{self.url}: {key} has other bytes than its name says")
        return decode_root(text, f"{self.url}: {key}"), ObjectInfo(key, len(text))

    def sound_root(self, repo_id: str, name: str) -> tuple[Root, ObjectInfo] | None:
        """Return a root as `get_root` does; None if it is damaged or gone by now."""
        try:
            return self.get_root(repo_id, name)
        except (CorruptError, MissingError):
            return None

    # --- the remote's own word ------------------------------------------------------------

    def look(self, keys: Collection[str]) -> Mapping[str, ObjectInfo]:
        """Return key -> what the remote says now of those of `keys` that it has.

        Few keys are asked for one by one, many are looked up in listings, and so are all where
        listing is not permitted.
        """
        seen = self.look_around(keys).there
        return {key: seen[key] for key in keys if key in seen}

    def look_around(self, keys: Collection[str]) -> Seen:
        """Return what `look` does, and all else that came by, at the cost of no request more."""
        if len(keys) <= HEADS_MAX or not self._may_list:
            return Seen(self._heads(keys))
        missing, infos = set(keys), dict[str, ObjectInfo]()
        try:
            for count, info in enumerate(self.backend.list(""), 1):
                infos[info.key] = info
                missing.discard(info.key)
                # A page that was asked for is read to its end.
                if not missing and count % PAGE_KEYS == 0:
                    return Seen(infos, info.key)
                if count > LISTED_MAX:
                    # So large a remote that asking for each of ours costs less than reading on.
                    rest = self._heads({key for key in missing if key > info.key})
                    return Seen(infos | rest, info.key)
        except RemoteForbidden:
            self._may_list = False
            return Seen(self._heads(keys))
        return Seen(infos, _LAST_KEY)

    def confirmed(
        self, expected: Iterable[ObjectInfo], seen: Mapping[str, ObjectInfo]
    ) -> dict[str, ObjectInfo]:
        """Return those of the expected objects that are `seen` with their size and MD5.

        An MD5 counts where both sides know it. One that differs is asked for again by itself,
        since a listing does not tell an MD5 from what stores that encrypt put in its place.
        """
        sound: dict[str, ObjectInfo] = {}
        doubtful: dict[str, ObjectInfo] = {}
        for info in expected:
            answer = seen.get(info.key)
            if answer is not None and answer.size == info.size:
                differs = None not in (info.md5, answer.md5) and info.md5 != answer.md5
                (doubtful if differs else sound)[info.key] = info
        for key, answer in self._heads(doubtful).items():
            if answer.size == doubtful[key].size and answer.md5 in (None, doubtful[key].md5):
                sound[key] = ObjectInfo(key, answer.size, answer.md5)
        with_md5 = sum(info.md5 is not None for info in sound.values())
        _LOG.note(
            "proven by its own word: %d objects with their size, %d of them with their MD5; "
            "%d were asked for again by themselves",
            *(len(sound), with_md5, len(doubtful)),
        )
        return sound

    def md5_to_note(self, blocks: Iterable[bytes]) -> bytes | None:
        """Return the MD5 of an object that was read whole and checked.

        None where the store was not seen to state MD5s: one that makes its ETags otherwise would
        seem to hold something else.
        """
        if not self.backend.features.md5_etag:
            return None
        md5 = hashlib.md5(usedforsecurity=False)
        for block in blocks:
            md5.update(block)
        return md5.digest()

    def _heads(self, keys: Collection[str]) -> dict[str, ObjectInfo]:
        infos = run_bounded(self.backend.head, keys)
        return {key: info for key, info in infos if info is not None}
