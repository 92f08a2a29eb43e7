"""docs/format.md against the code: its examples, and a reader written from that text alone.

The first half imports nothing of dvtool. It is what somebody else would write who has only the
text, and it must be able to read what dvtool writes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xxhash
import zstandard
from blake3 import blake3

DOC = Path(__file__).parents[3] / "docs" / "format.md"
TEXT = DOC.read_text(encoding="utf-8")
_EXAMPLE = re.compile(r"^<!-- example: (\S+) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES: dict[str, str] = dict(_EXAMPLE.findall(TEXT))
ZSTD_OF_EXAMPLES = (1, 5, 7)
"""Another release may compress to other bytes, which the format allows."""

# --- a second implementation, from the text ---------------------------------------------------

EMPTY = blake3(b"").hexdigest()


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


def guard(data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(data)


def unzstd(stored: bytes, size: int) -> bytes:
    assert zstandard.frame_content_size(stored) == size
    return zstandard.ZstdDecompressor().decompress(stored, max_output_size=size)


class Columns:
    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, kind: str, count: int) -> list[Any]:
        size = struct.calcsize(f"<{kind}")
        fields = [
            struct.unpack_from(f"<{kind}", self.raw, self.at + i * size)[0] for i in range(count)
        ]
        self.at += count * size
        return fields

    def end(self) -> None:
        assert self.at == len(self.raw)


@dataclass
class Pack:
    """Chunks and recipes of a pack, every check of section 4.4 passed."""

    index: bytes
    chunks: dict[bytes, bytes]
    recipes: dict[bytes, tuple[int, list[bytes]]]


def read_pack(data: bytes) -> Pack:
    stored_size, raw_size, index_guard, version, zero, magic = struct.unpack("<IIQII8s", data[-32:])
    assert (magic, version, zero) == (b"\x89dvpack\n", 1, 0)
    index_at = len(data) - 32 - stored_size
    stored = data[index_at:-32]
    assert guard(stored) == index_guard
    raw = unzstd(stored, raw_size)
    columns = Columns(raw)
    frames, chunks, recipes, parts = columns.take("I", 4)
    frame_sizes, frame_guards = columns.take("I", frames), columns.take("Q", frames)
    names, sizes, numbers = (columns.take(kind, chunks) for kind in ("32s", "I", "I"))
    files, file_sizes, counts = (columns.take(kind, recipes) for kind in ("32s", "Q", "I"))
    named = iter(columns.take("32s", parts))
    columns.end()
    assert sum(frame_sizes) == index_at
    assert numbers == sorted(numbers)
    found = {}
    offset = 0
    for number, size in enumerate(frame_sizes):
        frame = data[offset : offset + size]
        assert guard(frame) == frame_guards[number]
        unpacked, start = read_frame(frame), 0
        for name, length, where in zip(names, sizes, numbers, strict=True):
            if where == number:
                found[name] = unpacked[start : start + length]
                assert digest(found[name]) == name
                start += length
        assert start == len(unpacked)
        offset += size
    made = {
        file: (size, [next(named) for _ in range(count)])
        for file, size, count in zip(files, file_sizes, counts, strict=True)
    }
    return Pack(raw, found, made)


def read_frame(stored: bytes) -> bytes:
    codec, body = stored[0], stored[1:]
    assert codec in (0, 1)
    if codec == 0:
        return body
    size = zstandard.frame_content_size(body)
    assert 0 <= size <= 4 << 20
    return unzstd(body, size)


@dataclass
class Place:
    pack: bytes
    pack_size: int
    frame_offset: int
    frame_size: int
    start: int
    size: int
    chunk: bytes


def read_shard_object(data: bytes) -> tuple[str, bytes, list[list[Place]]]:
    """Return canonical text, raw locations and the places of each content."""
    magic, stored, raw, places_stored, places_raw, places_guard = struct.unpack_from(
        "<8sIIIIQ", data
    )
    assert magic == b"\x89dvshrd\n"
    assert len(data) == 32 + stored + places_stored
    text = unzstd(data[32 : 32 + stored], raw).decode()
    tail = data[32 + stored :]
    assert guard(tail) == places_guard
    if not tail:
        assert places_raw == 0
        return text, b"", []
    locations = unzstd(tail, places_raw)
    return text, locations, read_locations(locations, contents(json.loads(text)))


def contents(entries: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(e["blake3"] for e in entries.values() if e.get("size", 0) > 0))


def read_locations(raw: bytes, files: list[str]) -> list[list[Place]]:
    columns = Columns(raw)
    packs, count, chunks, named = columns.take("I", 4)
    assert count == len(files)
    pack_ids, pack_sizes = columns.take("32s", packs), columns.take("I", packs)
    counts = columns.take("I", count)
    rows = zip(*(columns.take("I", chunks) for _ in range(5)), strict=True)
    names = iter(columns.take("32s", named))
    columns.end()
    found = []
    for file, number in zip(files, counts, strict=True):
        run = []
        for _ in range(number):
            pack, offset, size, start, length = next(rows)
            name = bytes.fromhex(file) if number == 1 else next(names)
            run.append(Place(pack_ids[pack], pack_sizes[pack], offset, size, start, length, name))
        found.append(run)
    assert next(rows, None) is None
    assert next(names, None) is None
    return found


def json_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # its escapes are those of RFC 8785


def entry_line(path: str, entry: dict[str, Any]) -> str:
    if "blake3" in entry:
        tail = ', "exec": true' if entry.get("exec") else ""
        value = f'{{"blake3": "{entry["blake3"]}", "size": {entry["size"]}{tail}}}'
    elif "symlink" in entry:
        value = f'{{"symlink": {json_string(entry["symlink"])}}}'
    else:
        value = '{"dir": true}'
    return f"{json_string(path)}: {value}"


def manifest_text(kind: str, entries: dict[str, Any]) -> str:
    lines = [f"  {entry_line(path, entries[path])}" for path in by_bytes(entries)]
    inner = "{\n" + ",\n".join(lines) + "\n }" if lines else "{}"
    return f'{{\n "dv": 1,\n "kind": "{kind}",\n "entries": {inner}\n}}\n'


def by_bytes(paths: Any) -> list[str]:
    return sorted(paths, key=lambda path: path.encode())


def shard_texts(entries: dict[str, Any]) -> list[str]:
    runs: list[list[str]] = []
    for path in by_bytes(entries):
        if not runs or len(runs[-1]) == 16_384 or guard(path.encode()) % 4_096 == 0:
            runs.append([])
        runs[-1].append(entry_line(path, entries[path]))
    return ["{\n" + ",\n".join(run) + "\n}" for run in runs]


def manifest_hash(kind: str, shards: list[bytes]) -> str:
    return digest(f"dv manifest 1 {kind}\n".encode() + b"".join(shards)).hex()


GEAR = [
    int.from_bytes(hashlib.md5(bytes([b]) * 64, usedforsecurity=False).digest()[:8], "big")
    for b in range(256)
]
BOUNDS = {
    64 << 10: (16 << 10, 256 << 10, 0x0000D90707537000, 0x0000D90313530000),
    256 << 10: (64 << 10, 1 << 20, 0x0000D91747537000, 0x0000D90303537000),
    1 << 20: (256 << 10, 4 << 20, 0x0000D93767537000, 0x0000D90707537000),
}


def cut_point(data: bytes, at: int, average: int) -> int:
    minimum, maximum, mask_s, mask_l = BOUNDS[average]
    left = len(data) - at
    if left <= minimum:
        return left
    end = min(left, maximum)
    middle = min(end, average) & ~1
    value = 0
    for i in range(minimum, end & ~1):
        value = (2 * value + GEAR[data[at + i]]) & 0xFFFF_FFFF_FFFF_FFFF
        if not value & (mask_s if i < middle else mask_l):
            return i
    return end


def chunk_sizes(data: bytes, average: int) -> list[int]:
    sizes: list[int] = []
    at = 0
    while at < len(data):
        sizes.append(cut_point(data, at, average))
        at += sizes[-1]
    return sizes


class Remote:
    """Reads a folder remote: from a manifest to the bytes of its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = json.loads((path / "dv.json").read_text())
        assert self.mark["dv"] == 1
        assert re.fullmatch("[0-9a-f]{32}", self.mark["id"])

    def read(self, manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes], str]:
        """Return the entries, the bytes of each content and the manifest hash."""
        if "entries" in manifest:
            shards = [digest(text.encode()) for text in shard_texts(manifest["entries"])]
        else:
            shards = [bytes.fromhex(ref["blake3"]) for ref in manifest["shards"]]
        entries: dict[str, Any] = {}
        files: dict[str, bytes] = {EMPTY: b""}
        for wanted in shards:
            name = wanted.hex()
            data = (self.path / "shards" / name[:2] / name).read_bytes()
            text, _, places = read_shard_object(data)
            assert digest(text.encode()) == wanted
            some = json.loads(text)
            assert shard_texts(some) == [text]
            for file, run in zip(contents(some), places, strict=True):
                files[file] = b"".join(self.chunk(place) for place in run)
                assert blake3(files[file]).hexdigest() == file
            entries.update(some)
        return entries, files, manifest_hash(manifest["kind"], shards)

    def chunk(self, place: Place) -> bytes:
        name = place.pack.hex()
        with (self.path / "packs" / name[:2] / name).open("rb") as file:
            assert os.fstat(file.fileno()).st_size == place.pack_size
            file.seek(place.frame_offset)
            raw = read_frame(file.read(place.frame_size))
        data = raw[place.start : place.start + place.size]
        assert digest(data) == place.chunk
        return data


# --- the text against the code ----------------------------------------------------------------

# ruff: noqa: E402
from dvtool.errors import CorruptError, ManifestError
from dvtool.format import chunker, locations as shard, manifest, pack, paths, references
from dvtool.format.manifest import Entry
from dvtool.remotes.objects import Mark, Root, RootManifest
from dvtool.remotes.tombstones import Claim, Tombstone
from dvtool.repo import Repo

GREETING, RUN = b"hello\n", b"#!/bin/sh\necho hi\n"
TWO_FILES = {
    "run.sh": Entry(blake3=blake3(RUN).hexdigest(), size=len(RUN), exec=True),
    "greeting.txt": Entry(blake3=blake3(GREETING).hexdigest(), size=len(GREETING)),
}


def hexdump(name: str) -> bytes:
    lines = EXAMPLES[name].splitlines()
    rows = [bytes.fromhex(line.partition("  ")[2]) for line in lines]
    assert [line.partition("  ")[0] for line in lines] == [
        f"{16 * n:04x}" for n in range(len(rows))
    ]
    return b"".join(rows)


def stated(what: str) -> str:
    """Return the hash in the table row that begins with `what`."""
    found = re.search(rf"^\| {re.escape(what)} \| `([0-9a-f]{{64}})` \|$", TEXT, re.MULTILINE)
    assert found, what
    return found[1]


def two_files_pack() -> tuple[bytes, pack.PackInfo]:
    file = io.BytesIO()
    writer = pack.PackWriter(file)
    for data in (GREETING, RUN):
        writer.add(digest(data), data)
    info = writer.finish()
    return file.getvalue(), info


def test_every_example_is_used() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert len(EXAMPLES) == TEXT.count("<!-- example: ") > 0
    for name in EXAMPLES:
        assert f'"{name}"' in source, name


@pytest.mark.parametrize(
    ("name", "kind", "entries"),
    [
        ("manifest", "dir", TWO_FILES),
        ("manifest-empty", "dir", {}),
        (
            "manifest-forms",
            "dir",
            {"empty": Entry(dir=True), 'a"\\\n\x01/é😀': Entry(symlink="../y")},
        ),
        ("manifest-file", "file", {".": TWO_FILES["run.sh"]}),
    ],
)
def test_manifest_examples(name: str, kind: manifest.Kind, entries: dict[str, Entry]) -> None:
    built = manifest.build(kind, entries).manifest
    text = EXAMPLES[name]
    assert manifest.encode(built).decode() == text
    assert manifest.decode(text.encode(), name) == built
    parsed = json.loads(text)
    assert manifest_text(kind, parsed["entries"]) == text
    shards = [digest(shard_text.encode()) for shard_text in shard_texts(parsed["entries"])]
    assert manifest_hash(kind, shards) == manifest.manifest_digest(built).hex()


def test_source_example() -> None:
    text = EXAMPLES["manifest-source"]
    built = manifest.decode(text.encode(), "example")
    assert manifest.encode(built).decode() == text
    assert built.source is not None
    parsed = json.loads(text)
    line = json.dumps(parsed["source"], ensure_ascii=False)
    plain = manifest_text("dir", parsed["entries"])
    assert plain.replace(' "entries"', f' "source": {line},\n "entries"') == text
    assert list(parsed["source"]) == sorted(
        parsed["source"], key=list(built.source.__struct_fields__).index
    )
    without = manifest.decode(plain.encode(), "example")
    assert manifest.manifest_digest(built) == manifest.manifest_digest(without)


def test_references_example() -> None:
    text = EXAMPLES["references"].removesuffix("\n").encode()
    content, chunk = bytes(32), b"\1" * 32
    parts = {content: ((chunk, 4), (content, 2))}
    decoded = references.decode_references(text, parts, "example")
    assert references.encode_references(list(decoded.values())) == text
    # The time is left out where it is not known.
    timed = text.replace(b',""]]', b',"",1769864400]]')
    later = references.decode_references(timed, parts, "example")
    assert later[content].modified == 1_769_864_400
    assert later[content].name == decoded[content].name
    assert references.encode_references(list(later.values())) == timed
    for wrong in (b"0", b"-1", b"1.5", b'"1"', b"1,1", b"9223372036854775808"):
        with pytest.raises(CorruptError):
            references.decode_references(timed.replace(b"1769864400", wrong), parts, "example")
    reference = decoded[content]
    (source,), ((number, *state),) = json.loads(text).values()
    assert number == 0
    assert [reference.key, reference.tag, reference.version] == state
    assert (reference.size, reference.chunks) == (6, parts[content])
    assert source == {
        "kind": reference.address.kind,
        "url": reference.address.url,
        "options": [list(pair) for pair in reference.address.options],
    }


def test_sharded_example() -> None:
    text = EXAMPLES["manifest-shards"]
    assert manifest.encode(manifest.decode(text.encode(), "example")).decode() == text


def test_worked_example_hashes() -> None:
    built = manifest.build("dir", TWO_FILES).manifest
    (one,) = manifest.shard_refs(built.entries or {})
    text = EXAMPLES["shard-text"].removesuffix("\n")
    assert one.text.decode() == text
    assert shard_texts(json.loads(EXAMPLES["manifest"])["entries"]) == [text]
    assert one.ref.blake3 == stated("shard hash") == digest(text.encode()).hex()
    whole = stated("manifest hash")
    assert manifest.manifest_digest(built).hex() == whole
    line = f"{whole}  data/hello\n".encode()
    assert digest(line).hex() == stated("data id, with no other target")
    empty, single = (json.loads(EXAMPLES[f"manifest-{name}"]) for name in ("empty", "file"))
    assert manifest_hash("dir", []) == stated("manifest hash of the manifest without entries")
    assert empty["entries"] == {}
    shards = [digest(text.encode()) for text in shard_texts(single["entries"])]
    assert manifest_hash("file", shards) == stated(
        'manifest hash of the manifest of kind `"file"` in 2.2'
    )


def test_shard_starts() -> None:
    paths = [f"p{number}" for number in range(30_000)]
    expected = json.loads(EXAMPLES["shard-starts"])
    assert [path for path in paths if manifest.starts_shard(path)] == expected
    assert [path for path in paths if guard(path.encode()) % 4_096 == 0] == expected


def test_large_manifest_is_cut_as_the_text_says() -> None:
    entries = {f"p{number}": TWO_FILES["run.sh"] for number in range(30_000)}
    plain = {path: msgspec.to_builtins(entry) for path, entry in entries.items()}
    built = manifest.build("dir", entries)
    texts = shard_texts(plain)
    assert [one.text.decode() for one in built.shards] == texts
    shards = [digest(text.encode()) for text in texts]
    assert manifest.manifest_digest(built.manifest).hex() == manifest_hash("dir", shards)


@pytest.mark.parametrize("path", json.loads(EXAMPLES["refused-paths"]))
def test_refused_paths(path: str) -> None:
    assert paths.path_fault(path) is not None
    text = manifest_text("dir", {path: {"blake3": "ab" * 32, "size": 1}})
    with pytest.raises(ManifestError):
        manifest.decode(text.encode(), "example")


@pytest.mark.parametrize("path", json.loads(EXAMPLES["accepted-paths"]))
def test_accepted_paths(path: str) -> None:
    assert paths.path_fault(path) is None
    text = manifest_text("dir", {path: {"blake3": "ab" * 32, "size": 1}})
    assert list(manifest.decode(text.encode(), "example").entries or ()) == [path]


@pytest.mark.parametrize(("path", "target"), json.loads(EXAMPLES["refused-links"]))
def test_refused_links(path: str, target: str) -> None:
    with pytest.raises(ManifestError):
        manifest.decode(manifest_text("dir", {path: {"symlink": target}}).encode(), "example")


@pytest.mark.parametrize(("path", "target"), json.loads(EXAMPLES["accepted-links"]))
def test_accepted_links(path: str, target: str) -> None:
    manifest.decode(manifest_text("dir", {path: {"symlink": target}}).encode(), "example")


def test_gear_table() -> None:
    assert f"G[0] is `{GEAR[0]:016x}`, G[1] is `{GEAR[1]:016x}`" in TEXT
    assert f"`{digest(struct.pack('<256Q', *GEAR)).hex()}`" in TEXT
    for average, (minimum, maximum, mask_s, mask_l) in BOUNDS.items():
        row = " | ".join(f"{size_text(size)}" for size in (minimum, average, maximum))
        assert f"| {row} | `{mask_s:016x}` | `{mask_l:016x}` |" in TEXT


def size_text(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


@pytest.mark.parametrize("vector", json.loads(EXAMPLES["chunking"]))
def test_chunking_vectors(vector: dict[str, Any]) -> None:
    size, average = vector["size"], vector["average"]
    data = bytes(size)
    if vector["input"] == "blake3":
        seed = b"dvtool chunking vectors"
        assert f"the {len(seed)} bytes `{seed.decode()}`" in " ".join(TEXT.split())
        data = blake3(seed).digest(length=size)
    claimed = {64 << 10: size, 256 << 10: 1 << 30, 1 << 20: 16 << 30}[average]
    cut = [len(chunk) for chunk in chunker.cut(io.BytesIO(data), file_size_bytes=claimed)]
    assert cut == vector["chunks"]
    assert chunk_sizes(data, average) == vector["chunks"]


def test_bounds_follow_from_the_size_of_the_file() -> None:
    for size, average in (
        ((1 << 30) - 1, 64 << 10),
        (1 << 30, 256 << 10),
        ((16 << 30) - 1, 256 << 10),
        (16 << 30, 1 << 20),
    ):
        assert chunker.sizes_for(size).average == average


def test_pack_example() -> None:
    data, info = two_files_pack()
    shown = hexdump("pack")
    read = read_pack(shown)
    assert read.chunks == {digest(GREETING): GREETING, digest(RUN): RUN}
    assert read.recipes == {}
    assert read.index == hexdump("pack-index") == pack.encode_index(info.index)
    assert read_pack(data) == read
    assert f"Its id is `{digest(shown).hex()}`." in TEXT
    assert f"A pack of the two chunks has {len(shown)} bytes" in TEXT
    index = pack.read_index(io.BytesIO(shown), size=len(shown), where="example")
    pack.verify_pack(io.BytesIO(shown), index, where="example")
    if zstandard.ZSTD_VERSION == ZSTD_OF_EXAMPLES:
        assert data == shown


def test_shard_object_example() -> None:
    _, info = two_files_pack()
    shown_pack, shown = hexdump("pack"), hexdump("shard-object")
    text, raw, (greeting, run) = read_shard_object(shown)
    assert text == EXAMPLES["shard-text"].removesuffix("\n")
    assert raw == hexdump("shard-locations")
    size = len(shown_pack)
    assert greeting == [Place(digest(shown_pack), size, 0, 25, 0, 6, digest(GREETING))]
    assert run == [Place(digest(shown_pack), size, 0, 25, 6, 18, digest(RUN))]
    there = shard.RemotePack(digest(shown_pack), size)
    places = {place.digest: [shard.Located(there, place)] for place in info.index.placements()}
    made = shard.encode_object(text.encode(), places)
    assert read_shard_object(made) == (text, raw, [greeting, run])
    assert shard.split_object(shown, "example") == (text.encode(), raw)
    if zstandard.ZSTD_VERSION == ZSTD_OF_EXAMPLES:
        assert made == shown
    assert read_shard_object(shard.encode_object(text.encode(), None)) == (text, b"", [])


def test_json_objects_of_a_remote() -> None:
    mark = Mark(1, "00112233445566778899aabbccddeeff", "2026-01-31T12:00:00+00:00")
    assert msgspec.json.encode(mark).decode() + "\n" == EXAMPLES["mark"]
    one = RootManifest("data/hello", stated("manifest hash"), [stated("shard hash")])
    root = Root(1, [one], "2026-01-31T12:00:00+00:00", "ffeeddccbbaa99887766554433221100")
    assert msgspec.json.encode(root).decode() + "\n" == EXAMPLES["root"]
    assert digest(EXAMPLES["root"].encode()).hex() == stated("root id of the root in 6")


def test_json_objects_below_gc() -> None:
    shown = json.loads(EXAMPLES["tombstone"])
    repo_id, when = "00112233445566778899aabbccddeeff", "2026-01-31T12:00:00+00:00"
    root = f"roots/{repo_id}/{stated('root id of the root in 6')}.json"
    tomb = Tombstone(1, when, shown["keys"], [root], repo_id, [stated("manifest hash")])
    assert msgspec.json.encode(tomb).decode() + "\n" == EXAMPLES["tombstone"]
    pack = digest(hexdump("pack")).hex()
    shard_hash = stated("shard hash")
    assert shown["keys"] == [
        f"packs/{pack[:2]}/{pack}",
        f"shards/{shard_hash[:2]}/{shard_hash}",
    ]
    claim = Claim(1, when, [shard_hash], [pack])
    assert msgspec.json.encode(claim).decode() + "\n" == EXAMPLES["claim"]


# --- the reader against a repository ----------------------------------------------------------


@pytest.fixture
def pushed(tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """Return a worktree, the folder remote it was pushed to, and target -> manifest hash."""
    top, remote = tmp_path / "work", tmp_path / "remote"
    subprocess.run(["git", "init", "-q", top], check=True)
    data = top / "data"
    (data / "sub" / "empty").mkdir(parents=True)
    noise = blake3(b"test_format_doc").digest(length=600_000)
    (data / "a.txt").write_bytes(GREETING)
    (data / "again.txt").write_bytes(GREETING)
    (data / "none").write_bytes(b"")
    (data / "run.sh").write_bytes(RUN)
    (data / "run.sh").chmod(0o755)
    (data / "large.bin").write_bytes(noise)
    (data / "larger.bin").write_bytes(noise[:400_000] + b"x" + noise[400_000:])
    (data / "text.csv").write_bytes(b"1,2,3\n" * 8_000)
    (data / "sub" / "link").symlink_to("../a.txt")
    many = top / "many"
    many.mkdir()
    for number in range(1_500):
        (many / f"{number}.txt").write_bytes(b"%d\n" % number)
    (top / "single.bin").write_bytes(noise[:70_000])
    with Repo.open(str(top)) as repo:
        repo.config.init()
        repo.config.set_remote("origin", str(remote))
        repo.add(["data", "many", "single.bin"])
        subprocess.run(["git", "-C", top, "commit", "-qm", "Add data"], check=True)
        repo.push()
        hashes = {one.target: one.blake3 for one in repo.describe().targets}
    return top, remote, hashes


@pytest.mark.parametrize("target", ["data", "many", "single.bin"])
def test_remote_can_be_read_from_the_text(
    pushed: tuple[Path, Path, dict[str, str]], target: str
) -> None:
    top, remote, hashes = pushed
    text = (top / f"{target}.dv.json").read_text(encoding="utf-8")
    parsed = json.loads(text)
    entries, files, whole = Remote(remote).read(parsed)
    assert whole == hashes[target]
    if "entries" in parsed:
        assert manifest_text(parsed["kind"], entries) == text
    for path, entry in entries.items():
        place = top / target if path == "." else top / target / path
        if "blake3" in entry:
            assert place.read_bytes() == files[entry["blake3"]]
            assert bool(place.stat().st_mode & 0o100) == entry.get("exec", False)
        elif "symlink" in entry:
            assert os.readlink(place) == entry["symlink"]
        else:
            assert list(place.iterdir()) == []
    on_disk = [path for path in (top / target).rglob("*") if not path.is_dir()]
    listed = [path for path, entry in entries.items() if "dir" not in entry]
    assert len(listed) == max(len(on_disk), 1)


def test_every_object_can_be_read_from_the_text(
    pushed: tuple[Path, Path, dict[str, str]],
) -> None:
    top, remote, hashes = pushed
    store = top / ".git" / "dv"
    for place in (remote, store):
        chunks: dict[bytes, bytes] = {}
        recipes: dict[bytes, tuple[int, list[bytes]]] = {}
        for path in place.glob("packs/*/*"):
            data = path.read_bytes()
            assert (digest(data).hex(), path.name[:2]) == (path.name, path.parent.name)
            one = read_pack(data)
            chunks |= one.chunks
            recipes |= one.recipes
        assert len(recipes) == 2  # of large.bin and larger.bin
        for file, (size, parts) in recipes.items():
            made = b"".join(chunks[part] for part in parts)
            assert (digest(made), len(made)) == (file, size)
            assert [len(chunks[part]) for part in parts] == chunk_sizes(made, 64 << 10)
    for path in (*remote.glob("shards/*/*"), *store.glob("shards/*/*")):
        text, _, _ = read_shard_object(path.read_bytes())
        assert (digest(text.encode()).hex(), path.name[:2]) == (path.name, path.parent.name)
    (root,) = remote.glob("roots/*/*.json")
    assert digest(root.read_bytes()).hex() == root.stem
    listed = json.loads(root.read_text())["manifests"]
    assert {one["target"]: one["manifest"] for one in listed} == hashes
    repo_id = subprocess.run(
        ["git", "config", "--file", top / ".dvconfig", "core.repoid"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert root.parent.name == repo_id.stdout.strip()
    known = {"dv.json", "packs", "shards", "roots", "gc"}
    assert not list(remote.glob("gc/*/*"))
    assert {path.name for path in remote.iterdir()} == known
