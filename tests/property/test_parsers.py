"""Every parser of foreign bytes: it reads them in one way only, or refuses them with its own error.

Bytes come in two ways: valid ones with a few bytes changed, and texts built from pieces that a
format is made of. Whatever is accepted must be written again as the canonical form says.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings, strategies as st

from dvtool.errors import CorruptError, DvError, ManifestError, SetupError, UsageError
from dvtool.format.digest import digest_of, guard_of
from dvtool.format.locations import (
    HEADER,
    Located,
    RemotePack,
    contents_of,
    decode_locations,
    encode_object,
    split_object,
)
from dvtool.format.manifest import (
    Built,
    Entry,
    Manifest,
    ShardRef,
    build,
    decode,
    decode_shard,
    encode,
    encode_entries,
    manifest_digest,
    shard_refs,
)
from dvtool.format.pack import (
    FRAME_RAW_SIZE_MAX_BYTES,
    PACK_SIZE_MAX_BYTES,
    TRAILER,
    PackInfo,
    PackWriter,
    Placement,
    Recipe,
    encode_index,
    read_index,
    unpack_frame,
    verify_pack,
)
from dvtool.format.source import DataSource
from dvtool.project.config import Config
from dvtool.remotes.objects import decode_mark, decode_root
from dvtool.store.database import Database
from dvtool.workspace.statcache import StatCache, seen_other

MIB = 1 << 20


class Quiet(bytes):
    """Bytes that a report of a failure does not list."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


fuzzing = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# --- changing bytes -------------------------------------------------------------------------

Change = Callable[[bytes], bytes]


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Draw one small change of some bytes."""
    kind = draw(st.sampled_from(["set", "insert", "cut", "repeat", "end", "number"]))
    where, other = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    fresh = draw(st.binary(min_size=1, max_size=8))
    number = draw(st.sampled_from([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))

    def change(data: bytes) -> bytes:
        at, to = sorted((int(where * len(data)), int(other * len(data))))
        match kind:
            case "set":
                return data[:at] + fresh + data[at + len(fresh) :]
            case "insert":
                return data[:at] + fresh + data[at:]
            case "cut":
                return data[:at] + data[min(to, at + 64) :]
            case "repeat":
                return data[:to] + data[at:to] + data[to:]
            case "end":
                return data[:at]
        at -= at % 4
        return data[:at] + struct.pack("<I", number) + data[at + 4 :]

    return change


def changed(data: bytes, some: list[Change]) -> bytes:
    for one in some:
        data = one(data)
    return data


several = st.lists(changes(), min_size=1, max_size=3)

# --- manifests ------------------------------------------------------------------------------

HEX = "ab" * 32
ENTRIES = {
    "a": Entry(blake3=HEX, size=3),
    "b/é": Entry(blake3=HEX, size=3, exec=True),
    "c": Entry(symlink="b"),
    'd"\\\n': Entry(dir=True),
}
SHARDED = Manifest(
    "dir",
    None,
    (ShardRef("a", 900, 3, HEX), ShardRef("b", 900, 0, "cd" * 32), ShardRef("é", 1, 1, HEX)),
)
MANIFESTS = [encode(build("dir", ENTRIES).manifest), encode(SHARDED)]
SOURCE = DataSource("s3", "s3://b/p/", HEX, options={"region": "eu"}, include=("*.a",), limit=3)
MANIFESTS.append(encode(build("file", {".": Entry(blake3=HEX, size=3)}, SOURCE).manifest))

texts = st.one_of(
    st.sampled_from(["", ".", "..", "a", "a/b", "../x", "/x", ".git", "\x00", "\ud800", HEX, "é"]),
    st.text(max_size=5),
)
numbers = st.one_of(st.integers(), st.sampled_from([0, -1, 1, 2, 2**63, 10**400]), st.floats())
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
keys = st.sampled_from(
    ["dv", "kind", "entries", "shards", "blake3", "size", "exec", "symlink", "dir", "first", "x"]
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(keys, texts), inner, max_size=5),
    ),
    max_leaves=12,
)
entries = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "blake3": st.one_of(st.just(HEX), scalars),
            "size": st.one_of(st.integers(0, 9), scalars),
            "exec": st.one_of(st.just(True), scalars),
            "symlink": texts,
            "dir": st.one_of(st.just(True), scalars),
        },
    ),
    st.builds(lambda size: {"blake3": HEX, "size": size}, st.integers(1, 9)),
    documents,
)
near_manifests = st.fixed_dictionaries(
    {"dv": st.one_of(st.just(1), scalars), "kind": st.one_of(st.just("dir"), texts)},
    optional={
        "source": st.one_of(
            st.fixed_dictionaries(
                {"kind": texts, "url": texts, "state": st.one_of(st.just(HEX), texts)},
                optional={
                    "limit": numbers,
                    "edited": scalars,
                    "options": documents,
                    "rows": numbers,
                },
            ),
            documents,
        ),
        "entries": st.one_of(st.dictionaries(texts, entries, max_size=4), documents),
        "shards": st.one_of(
            st.lists(
                st.fixed_dictionaries(
                    {
                        "first": texts,
                        "files": st.one_of(st.just(5), scalars),
                        "bytes": st.one_of(st.just(5), scalars),
                        "blake3": st.one_of(st.just(HEX), scalars),
                    }
                ),
                max_size=3,
            ),
            documents,
        ),
    },
)


def check_manifest(text: bytes) -> None:
    try:
        manifest = decode(text, "data.dv.json")
    except ManifestError as error:
        assert str(error).isprintable() or "\n" in str(error)
        return
    canonical = encode(manifest)
    assert decode(canonical, "again") == manifest
    assert encode(decode(canonical, "again")) == canonical
    manifest_digest(manifest)
    # One state has one meaning to any reader of JSON, not only to this one.
    document = json.loads(text)
    if manifest.entries is not None:
        assert list(manifest.entries) == sorted(document["entries"])
        for path, entry in manifest.entries.items():
            said = {name: getattr(entry, name) for name in document["entries"][path]}
            assert said == document["entries"][path]
            assert all(said.values()) or said["size"] == 0


@fuzzing
@given(st.sampled_from(MANIFESTS), several)
def test_manifests_with_bytes_changed(text: bytes, some: list[Change]) -> None:
    check_manifest(changed(text, some))


@fuzzing
@given(st.one_of(near_manifests, documents))
def test_manifests_made_up(document: Any) -> None:
    check_manifest(json.dumps(document).encode("utf-8", "surrogatepass"))


@fuzzing
@given(several)
def test_shard_texts_with_bytes_changed(some: list[Change]) -> None:
    (shard,) = shard_refs(ENTRIES)
    text = changed(shard.text, some)
    ref = ShardRef(shard.ref.first, shard.ref.files, shard.ref.bytes, digest_of(text).hex())
    try:
        found = decode_shard(text, ref)
    except ManifestError:
        return
    assert encode_entries(found) == text


@pytest.mark.parametrize("deep", [b"[", b'{"a":', b'{"dv":1,"kind":"dir","entries":{"a":['])
def test_json_of_any_depth_is_refused(deep: bytes) -> None:
    text = deep * (10_000_000 // len(deep))
    with pytest.raises(ManifestError):
        decode(text, "data.dv.json")
    for parse in (decode_mark, decode_root):
        with pytest.raises(DvError):
            parse(text, "remote")


# --- packs ----------------------------------------------------------------------------------


def made_pack() -> bytes:
    file = io.BytesIO()
    writer = PackWriter(file)
    chunks = [bytes([n]) * (n * 999 + 1) for n in range(12)] + [b"large" * 20_000]
    for chunk in chunks:
        writer.add(digest_of(chunk), chunk)
    whole = b"".join(chunks)
    writer.add_recipe(Recipe(digest_of(whole), len(whole), tuple(map(digest_of, chunks))))
    writer.finish()
    return file.getvalue()


PACK = made_pack()


def check_pack(data: bytes) -> None:
    file = io.BytesIO(data)
    try:
        index = read_index(file, size=len(data), where="pack")
        verify_pack(file, index, where="pack")
    except CorruptError:
        return
    assert sum(index.frame_sizes) == index.data_size
    assert all(place.start + place.size <= FRAME_RAW_SIZE_MAX_BYTES for place in index.placements())
    raw_size = TRAILER.unpack(data[-TRAILER.size :])[1]
    assert len(encode_index(index)) == raw_size


@fuzzing
@given(several)
def test_packs_with_bytes_changed(some: list[Change]) -> None:
    check_pack(changed(PACK, some))


@fuzzing
@given(several)
def test_indexes_with_bytes_changed_under_a_true_guard(some: list[Change]) -> None:
    """The guard protects against no intent: who forges an index makes the guard anew."""
    stored_size, _, _, version, zero, magic = TRAILER.unpack(PACK[-TRAILER.size :])
    frames = PACK[: len(PACK) - TRAILER.size - stored_size]
    raw = zstandard.ZstdDecompressor().decompress(PACK[len(frames) : -TRAILER.size])
    raw = changed(raw, some)
    stored = zstandard.ZstdCompressor().compress(raw)
    trailer = TRAILER.pack(len(stored), len(raw), guard_of(stored), version, zero, magic)
    check_pack(frames + stored + trailer)


@fuzzing
@given(st.one_of(st.binary(max_size=200), several.map(lambda some: changed(PACK[:9000], some))))
def test_frames_made_up(stored: bytes) -> None:
    with contextlib.suppress(CorruptError):
        assert len(unpack_frame(stored, where="frame")) <= FRAME_RAW_SIZE_MAX_BYTES + len(stored)


@contextlib.contextmanager
def little_memory(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def bomb(size: int) -> bytes:
    """A zstd frame of a few bytes that says truly that it unpacks to `size`."""
    return zstandard.ZstdCompressor(level=19).compress(bytes(size))


def test_bombs_are_not_unpacked() -> None:
    stored = bomb(FRAME_RAW_SIZE_MAX_BYTES + 1)
    with little_memory(MIB), pytest.raises(CorruptError, match="claims to unpack"):
        unpack_frame(b"\x01" + stored, where="frame")
    stored = bomb(PACK_SIZE_MAX_BYTES + 1)
    trailer = struct.pack(
        "<IIQII8s", len(stored), PACK_SIZE_MAX_BYTES + 1, guard_of(stored), 1, 0, b"\x89dvpack\n"
    )
    with little_memory(MIB), pytest.raises(CorruptError, match="cannot be as large"):
        read_index(io.BytesIO(stored + trailer), size=len(stored + trailer), where="pack")
    # That says less than it is: only as much as it says is ever made.
    honest = bomb(8 * MIB)
    size_at = honest.index(struct.pack("<I", 8 * MIB))
    lying = honest[:size_at] + struct.pack("<I", 1000) + honest[size_at + 4 :]
    with little_memory(MIB), pytest.raises(CorruptError):
        unpack_frame(b"\x01" + lying, where="frame")


def test_what_stands_behind_a_zstd_frame_is_refused() -> None:
    stored = zstandard.ZstdCompressor().compress(b"x" * 100)
    assert unpack_frame(b"\x01" + stored, where="frame") == b"x" * 100
    for behind in (b"y", stored, b"\x50\x2a\x4d\x18\x04\x00\x00\x00junk"):
        with pytest.raises(CorruptError, match="cannot be unpacked"):
            unpack_frame(b"\x01" + stored + behind, where="frame")


# --- shard objects --------------------------------------------------------------------------


def located() -> tuple[Built, bytes]:
    one, two = b"1" * 40, b"2" * 90
    built = build(
        "dir",
        {
            "one": Entry(blake3=digest_of(one).hex(), size=len(one)),
            "two": Entry(blake3=digest_of(two).hex(), size=len(two)),
        },
    )
    assert built.manifest.entries is not None
    pack = RemotePack(digest_of(b"pack"), 500)
    places = {
        digest_of(one): [Located(pack, Placement(digest_of(one), 0, 50, 0, 40))],
        digest_of(two): [
            Located(pack, Placement(digest_of(b"x"), 50, 60, 0, 60)),
            Located(pack, Placement(digest_of(b"y"), 110, 30, 0, 30)),
        ],
    }
    (shard,) = shard_refs(built.manifest.entries)
    return built, encode_object(shard.text, places)


BUILT, OBJECT = located()


def check_object(data: bytes) -> None:
    try:
        _, raw = split_object(data, "shard")
        assert BUILT.manifest.entries is not None
        locations = decode_locations(raw, BUILT.manifest.entries, "shard")
    except CorruptError:
        return
    wanted = contents_of(BUILT.manifest.entries)
    for digest, chunks in locations.items():
        assert sum(chunk.placement.size for chunk in chunks) == wanted[digest]
        for chunk in chunks:
            place = chunk.placement
            assert place.frame_offset + place.frame_size <= chunk.pack.size <= PACK_SIZE_MAX_BYTES


@fuzzing
@given(several)
def test_shard_objects_with_bytes_changed(some: list[Change]) -> None:
    check_object(changed(OBJECT, some))


@fuzzing
@given(several)
def test_locations_with_bytes_changed_under_a_true_guard(some: list[Change]) -> None:
    text, raw = split_object(OBJECT, "shard")
    raw = changed(raw, some)
    compress = zstandard.ZstdCompressor().compress
    stored_text, stored = compress(text), compress(raw)
    head = HEADER.pack(
        OBJECT[:8], len(stored_text), len(text), len(stored), len(raw), guard_of(stored)
    )
    check_object(head + stored_text + stored)


# --- dv.json and roots ----------------------------------------------------------------------

MARK = b'{"dv":1,"id":"00112233445566778899aabbccddeeff","created":"2026-01-31T12:00:00+00:00"}\n'
ROOT = b'{"dv":1,"manifests":[{"target":"data/hello","manifest":"%s","shards":["%s","%s"]}]}\n' % (
    HEX.encode(),
    HEX.encode(),
    HEX.encode(),
)


@fuzzing
@given(st.one_of(several.map(lambda some: changed(MARK, some)), documents.map(json.dumps)))
def test_marks(text: bytes | str) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    with contextlib.suppress(SetupError):
        mark = decode_mark(data, "s3://b")
        assert mark.dv == 1
        assert len(bytes.fromhex(mark.id)) == 16


@fuzzing
@given(st.one_of(several.map(lambda some: changed(ROOT, some)), documents.map(json.dumps)))
def test_roots(text: bytes | str) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    with contextlib.suppress(CorruptError, SetupError):
        root = decode_root(data, "root")
        assert root.dv == 1
        for one in root.manifests:
            assert all(len(bytes.fromhex(name)) == 32 for name in (one.manifest, *one.shards))


# --- settings -------------------------------------------------------------------------------

setting_names = st.one_of(
    st.sampled_from(
        [
            "core.remote", "core.repoid", "core.jobs", "remote.a.url", "remote.a.endpointurl",
            "remote.../x.url", "remote.a.region", "remote.a.profile", "remote.a.secretaccesskey",
            "hooks.install", "hooks.maxfilesize", "store.path", "store.keep", "alias.x",
            "filter.x.clean",
            "a", "", ".", "remote.", "remote..url", "REMOTE.A.URL",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip
setting_values = st.one_of(
    st.sampled_from(
        [
            "", "true", "s3://bucket/x", "s3://a:b@bucket", "/etc", "../x", "data/remote", ".git/x",
            "file:///etc", "ext::sh -c id", "http://h:99999", "http://[::1", "10k", "9" * 5000,
            "\x1b[2J", "x\x00", "0" * 32, "~/x", "C:/x", "a/../../b", "https://h/\u202e",
        ]
    ),
    st.text(max_size=20),
)  # fmt: skip


@fuzzing
@given(
    st.lists(st.tuples(setting_names, setting_values), max_size=4),
    st.lists(st.tuples(setting_names.map(lambda name: "dv." + name), setting_values), max_size=2),
)
def test_settings(committed: list[tuple[str, str]], local: list[tuple[str, str]]) -> None:
    try:
        config = Config.load(committed, local, {})
        for setting in config.items():
            assert config.get(setting.key) == setting.value
        remotes = config.remotes()
        config.default_remote()
    except (SetupError, UsageError) as error:
        assert all(line.isprintable() for line in str(error).splitlines())
        return
    for remote in remotes.values():
        if remote.source == ".dvconfig":
            inside = remote.url.split("/")
            assert remote.url.startswith("s3://") or not {"..", ".git", ""} & set(inside[:1])
    for setting in config.items():
        if setting.source == ".dvconfig":
            assert setting.key.rpartition(".")[2] not in ("profile", "path", "jobs", "keep")


# --- caches ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("cache") / "statcache.db"
    with StatCache(str(path)) as cache:
        cache.save({f"f{n}": {"a": seen_other("x", tracked=True)} for n in range(20)})
    return Quiet(path.read_bytes())


@fuzzing
@given(some=several)
def test_a_damaged_statcache_is_of_no_effect(
    tmp_path: Path, cache_bytes: bytes, some: list[Change]
) -> None:
    path = tmp_path / "statcache.db"
    path.write_bytes(changed(cache_bytes, some))
    with StatCache(str(path)) as cache:
        cache.folders_below("")
        cache.folder("f1")
        cache.save({"f1": {"b": seen_other(tracked=False)}})
        cache.forget_below("f2")


@pytest.fixture(scope="module")
def index_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("index") / "store.db"
    database = Database(str(path))
    index = read_index(io.BytesIO(PACK), size=len(PACK), where="pack")
    database.add_packs([PackInfo(digest_of(PACK), len(PACK), index)])
    database.set_complete()
    database._db.execute("PRAGMA journal_mode = DELETE")
    database.close()
    return Quiet(path.read_bytes())


@fuzzing
@given(some=several)
def test_a_damaged_index_of_the_store_is_said_to_be(
    tmp_path: Path, index_bytes: bytes, some: list[Change]
) -> None:
    path = tmp_path / "store.db"
    for leftover in tmp_path.iterdir():
        leftover.unlink()
    path.write_bytes(changed(index_bytes, some))
    wanted = [
        place.digest
        for place in read_index(io.BytesIO(PACK), size=len(PACK), where="p").placements()
    ]
    try:
        database = Database(str(path))
    except DvError:
        return
    try:
        database.held_chunks(wanted)
        database.places(wanted)
        database.recipes(wanted)
        database.packs()
    except (DvError, sqlite3.Error):  # which the command line puts into words
        pass
    finally:
        database.close()
