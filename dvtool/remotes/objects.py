"""The objects of a remote as values: dv.json, roots, shards, and the keys under which they are."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from dvtool.errors import INSTALL_NEWER, CorruptError, MarkMissing, SetupError, printable
from dvtool.format.digest import Digest, parse_hex
from dvtool.format.file_places import FilePlaces
from dvtool.format.locations import (
    ContentPlaces,
    Located,
    RemotePack,
    StoredPlaces,
    contents_of,
)
from dvtool.format.manifest import Entries
from dvtool.format.references import Reference
from dvtool.system.decoders import json_decoder

FORMAT = 1
MARK = "dv.json"


class Mark(msgspec.Struct, frozen=True):
    """dv.json: what makes a place a remote. `id` tells one remote from another at the same URL."""

    dv: int
    id: str
    created: str


class RootManifest(msgspec.Struct, frozen=True):
    """One manifest in a root: its target, its hash and the shards it needs."""

    target: str
    manifest: str
    shards: list[str]


class Root(msgspec.Struct, frozen=True):
    """The manifests that one push needs to be kept. Its id is the BLAKE3 of its bytes.

    `nonce` is random: a root that gc takes away never comes back under the same key.
    """

    dv: int
    manifests: list[RootManifest]
    created: str = ""
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class FetchedShard:
    """A shard as a remote has it, entries checked; `size` and `md5` are the object's.

    `md5` is None where the store was not seen to state the MD5 of what it holds.
    """

    entries: Entries
    text: bytes
    locations: Mapping[Digest, list[Located]]
    size: int
    md5: bytes | None = None
    references: Mapping[Digest, Reference] = field(default_factory=dict)
    """Contents that stay at their source, and are in no pack."""
    stored_places: StoredPlaces | None = None
    """Locations and references as the object has them, if it has any."""
    without_places: bytes | None = None
    """The object in the form that a local store keeps, if it is at hand."""

    @property
    def complete(self) -> bool:
        """Whether places cover placed content that the entries name."""
        return len(self.locations) + len(self.references) == len(contents_of(self.entries))

    def places(self) -> ContentPlaces:
        """Return locations and references in the order in which a shard object has them."""
        return places_in_order(self.entries, self.locations, self.references)

    def packs(self) -> set[RemotePack]:
        """Return the packs that the locations point into."""
        if isinstance(self.locations, FilePlaces):
            return self.locations.packs_used()
        return {chunk.pack for chunks in self.locations.values() for chunk in chunks}


@dataclass(frozen=True, slots=True)
class ShardAtHand:
    """The places of a shard that was fetched and checked, in little memory; see `FetchedShard`."""

    places: StoredPlaces
    size: int
    md5: bytes | None


def places_in_order(
    entries: Entries,
    locations: Mapping[Digest, list[Located]],
    references: Mapping[Digest, Reference],
) -> ContentPlaces:
    """Return where contents are in the order in which the entries first name them."""
    placed: dict[Digest, list[Located] | Reference] = {**locations, **references}
    return {digest: placed[digest] for digest in contents_of(entries) if digest in placed}


def fresh_mark() -> bytes:
    """Return the text of a new dv.json, with an id of its own."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return msgspec.json.encode(Mark(FORMAT, secrets.token_hex(16), now)) + b"\n"


def pack_key(digest: Digest) -> str:
    """Return the key of a pack."""
    name = digest.hex()
    return f"packs/{name[:2]}/{name}"


def shard_key(digest: Digest) -> str:
    """Return the key of a shard object."""
    name = digest.hex()
    return f"shards/{name[:2]}/{name}"


def root_key(repo_id: str, root: str) -> str:
    """Return the key of a root."""
    return f"roots/{repo_id}/{root}.json"


class _FormatEnvelope(msgspec.Struct):
    dv: int


def decode_mark(text: bytes, url: str) -> Mark:
    """Return the dv.json of a remote; SetupError if it is none, or of another version."""
    try:
        version = json_decoder(_FormatEnvelope).decode(text).dv
        if version <= FORMAT:
            mark = json_decoder(Mark).decode(text)
            parse_hex(mark.id * 2)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise SetupError(
            f"{url}: its {MARK} is not one of dvtool's ({printable(str(error))})",
            hint="use an empty bucket or prefix for dvtool",
        ) from error
    if version != FORMAT:
        raise _other_version(url, version)
    return mark


def decode_root(text: bytes, name: str) -> Root:
    """Return a root whose bytes were checked; CorruptError if it is none."""
    try:
        version = json_decoder(_FormatEnvelope).decode(text).dv
        if version <= FORMAT:
            root = json_decoder(Root).decode(text)
            for manifest in root.manifests:
                for digest in (manifest.manifest, *manifest.shards):
                    parse_hex(digest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise CorruptError(f"{name} is not a root ({printable(str(error))})") from error
    if version != FORMAT:
        raise _other_version(name, version)
    return root


def _other_version(name: str, version: int) -> SetupError:
    return SetupError(
        f"{name} is of format {version}; this dvtool knows format {FORMAT}",
        hint=INSTALL_NEWER,
    )


def mark_missing(url: str) -> MarkMissing:
    """Return the error for a remote that has roots and no dv.json."""
    return MarkMissing(
        f"{url} is a remote that has lost its {MARK}, without which nothing uses it",
        hint="put a new one in its place: dv fsck --remote --repair",
    )


def now_text() -> str:
    """Return the time of this machine as objects record it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
