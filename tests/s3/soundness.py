"""Whether a remote holds, down to the last byte, what its roots say that it holds.

It trusts nothing but hashes: root -> shards -> locations -> chunks in packs -> files.
"""

from __future__ import annotations

import io

import msgspec

from dvtool.format.digest import Digest, digest_of, hasher
from dvtool.format.locations import Located, contents_of, decode_locations, split_object
from dvtool.format.manifest import Entry, ShardRef, decode_shard
from dvtool.format.pack import chunk_in, read_index, unpack_frame, verify_pack
from dvtool.remotes.objects import pack_key, shard_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.base import Backend
from dvtool.remotes.transports.registry import open_backend
from tests.scenario import Remote

OBJECT_SIZE_MAX_BYTES = 256 << 20


def check_remote(remote: Remote) -> set[str]:
    """Return the manifest hashes that all roots name; an error if anything behind one is not so."""
    backend = open_backend(remote.url, {"endpoint_url": remote.endpoint_url})
    store = RemoteStore(backend)
    store.required_mark()
    manifests: set[str] = set()
    shards: set[str] = set()
    for info in list(backend.list("roots/")):
        _, repo_id, name = info.key.split("/")
        for one in store.get_root(repo_id, name.removesuffix(".json"))[0].manifests:
            manifests.add(one.manifest)
            shards.update(one.shards)
    packs: dict[Digest, bytes] = {}
    for shard in sorted(shards):
        _check_shard(backend, shard, packs)
    return manifests


def _check_shard(backend: Backend, name: str, packs: dict[Digest, bytes]) -> None:
    key = shard_key(bytes.fromhex(name))
    text, raw = split_object(backend.get(key, size_max=OBJECT_SIZE_MAX_BYTES), key)
    entries = msgspec.json.decode(text, type=dict[str, Entry])
    size = sum(entry.bytes for entry in entries.values())
    decode_shard(text, ShardRef(next(iter(entries)), len(entries), size, name))
    locations = decode_locations(raw, entries, key)
    assert locations.keys() == contents_of(entries).keys(), f"{key}: not every file is located"
    for digest, chunks in locations.items():
        whole = hasher()
        for chunk in chunks:
            whole.update(_chunk(backend, chunk, packs))
        assert whole.digest() == digest, f"{key}: the chunks of {digest.hex()} make another file"


def _chunk(backend: Backend, chunk: Located, packs: dict[Digest, bytes]) -> memoryview:
    key = pack_key(chunk.pack.digest)
    if chunk.pack.digest not in packs:
        packs[chunk.pack.digest] = _checked_pack(backend, chunk.pack.digest)
    data = packs[chunk.pack.digest]
    assert len(data) == chunk.pack.size, f"{key}: has another size than its shards say"
    place = chunk.placement
    stored = memoryview(data)[place.frame_offset :][: place.frame_size]
    raw = unpack_frame(stored, where=key)
    return chunk_in(raw, place.start, place.size, place.digest, where=key)


def _checked_pack(backend: Backend, digest: Digest) -> bytes:
    key = pack_key(digest)
    data = backend.get(key, size_max=OBJECT_SIZE_MAX_BYTES)
    assert digest_of(data) == digest, f"{key}: its bytes are not what its name says"
    index = read_index(io.BytesIO(data), size=len(data), where=key)
    verify_pack(io.BytesIO(data), index, where=key)
    return data
