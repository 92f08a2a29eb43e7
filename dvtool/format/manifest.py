"""Manifests: the JSON beside a target, committed to git; and shards, their runs of entries.

A manifest names all that a target holds. Up to `INLINE_ENTRIES_MAX` entries are written in the
manifest itself; a larger one refers to shards. Bytes in, values out: nothing here touches a disk.

The canonical form of entries is one JSON object, one entry a line, sorted by the UTF-8 bytes of
the path. A shard's hash is the BLAKE3 of that text; the manifest's is a root over its shards'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import eq
from typing import Literal, TypeAlias

import msgspec
import xxhash
from msgspec import structs

from dvtool.errors import INSTALL_NEWER, ManifestError, ManifestNewer, printable
from dvtool.format.chunker import chunks_expected
from dvtool.format.digest import EMPTY, HEX_LENGTH, Digest, digest_of, hasher, parse_hex
from dvtool.format.loose import refuse_loose
from dvtool.format.paths import SELF, check_nesting, link_fault, path_fault, path_faults
from dvtool.format.pointer import not_a_manifest
from dvtool.format.shown import ShownEntry, shown_entry
from dvtool.format.source import DataSource, check_source, encode_source
from dvtool.system.decoders import json_decoder

MANIFEST_VERSION = 1
INLINE_ENTRIES_MAX = 1_000
SHARD_ENTRIES_AVERAGE = 4_096
SHARD_ENTRIES_MAX = 16_384
SHARD_CHUNKS_MAX = 1 << 18
"""A shard object has a location for each chunk, so large files fill a shard sooner."""
MANIFEST_SIZE_MAX_BYTES = 64 << 20
ENTRY_SIZE_MAX_BYTES = (1 << 63) - 1
"""The largest size that a file, or a shard's files together, can have on any system."""
EMPTY_HEX = EMPTY.hex()

Kind: TypeAlias = Literal["dir", "file"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One path of a manifest: a file, a symlink or an empty folder.

    A file has `blake3` (64 hex characters), `size` in bytes and, if set, the executable bit; a
    symlink only `symlink`, its target as it is on the disk; an empty folder only `dir`.
    """

    blake3: str = ""
    size: int = -1
    exec: bool = False
    symlink: str = ""
    dir: bool = False

    @property
    def is_file(self) -> bool:
        """Whether this is a file, which alone has content in the store."""
        return bool(self.blake3)

    @property
    def digest(self) -> Digest:
        """The file's BLAKE3 as 32 bytes."""
        return bytes.fromhex(self.blake3)

    @property
    def bytes(self) -> int:
        """The size that counts in totals: a symlink's or a folder's is 0."""
        return max(self.size, 0)

    @property
    def json_value(self) -> ShownEntry:
        """How results show it."""
        return shown_entry(self.size, self.blake3, self.exec, self.symlink)


Entries: TypeAlias = dict[str, Entry]
"""Path within the target -> entry, in canonical order."""


class ShardRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One line of a large manifest. `files` counts the entries, `bytes` the sizes of the files."""

    first: str
    files: int
    bytes: int
    blake3: str

    @property
    def digest(self) -> Digest:
        """The shard's hash as 32 bytes."""
        return bytes.fromhex(self.blake3)


class Manifest(msgspec.Struct, frozen=True):
    """A manifest as git holds it: either all `entries`, or `shards` and no entries."""

    kind: Kind
    entries: Entries | None
    shards: tuple[ShardRef, ...] = ()
    source: DataSource | None = None
    """Where the data came from, if it was imported; no part of the manifest hash."""

    @property
    def files(self) -> int:
        """The number of entries."""
        if self.entries is not None:
            return len(self.entries)
        return sum(shard.files for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of all files together."""
        if self.entries is not None:
            return sum(entry.bytes for entry in self.entries.values())
        return sum(shard.bytes for shard in self.shards)


class ShardText(msgspec.Struct, frozen=True):
    """A shard and its canonical text."""

    ref: ShardRef
    text: bytes
    stored: bytes | None = None
    """The object for a local store, if it is at hand, of which the text was unpacked."""


LoadShard: TypeAlias = Callable[[ShardRef], Entries]

# --- entries and shards ---------------------------------------------------------------------

_entries_decoder = json_decoder(dict[str, Entry])
_encode_json = msgspec.json.encode


def encode_entries(entries: Mapping[str, Entry], *, indent: str = "") -> bytes:
    """Return the canonical text of sorted entries: one JSON object, one entry a line."""
    if not entries:
        return b"{}"
    lines = [_entry_line(path, entry) for path, entry in entries.items()]
    inner = "\n" + indent
    return f"{{{inner}{f',{inner}'.join(lines)}\n{indent[1:]}}}".encode()


def _entry_line(path: str, entry: Entry) -> str:
    key = _encode_json(path).decode()
    if entry.blake3:
        tail = ', "exec": true' if entry.exec else ""
        return f'{key}: {{"blake3": "{entry.blake3}", "size": {entry.size}{tail}}}'
    if entry.dir:
        return f'{key}: {{"dir": true}}'
    return f'{key}: {{"symlink": {_encode_json(entry.symlink).decode()}}}'


def decode_shard(text: bytes, ref: ShardRef) -> Entries:
    """Return the entries of a shard, checked against its hash and for canonical form."""
    entries = decode_any_shard(text, ref.digest)
    if ref_of(entries, ref.blake3) != ref:
        raise ManifestError(f"shard {ref.blake3}: the manifest describes it wrongly")
    return entries


def decode_any_shard(text: bytes, digest: Digest) -> Entries:
    """Return the entries of the shard of this hash, whichever manifest it belongs to, checked."""
    name = f"shard {digest.hex()}"
    if digest_of(text) != digest:
        raise ManifestError(f"{name}: its bytes are not what its name says")
    return decode_run(text, name)


def decode_run(text: bytes, name: str) -> Entries:
    """Return the entries of a run in canonical form: of a shard, or some lines of one; checked."""
    entries = _decode_entries(text, name)
    if not entries or encode_entries(in_order(entries)) != text:
        raise ManifestError(f"{name}: not in canonical form (order, repeated keys or spacing)")
    check_entries(entries, name)
    return entries


def ref_of(entries: Entries, blake3: str) -> ShardRef:
    """Return how a manifest refers to a shard of these entries, which has this hash."""
    size = sum(entry.bytes for entry in entries.values())
    return ShardRef(first=next(iter(entries)), files=len(entries), bytes=size, blake3=blake3)


def _decode_entries(text: bytes, name: str) -> Entries:
    try:
        return _entries_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{name}: cannot be read ({printable(str(error))})") from error


def shard_refs(entries: Mapping[str, Entry]) -> Iterator[ShardText]:
    """Cut sorted entries into shards; see `cut_shards`."""
    return cut_shards(entries.items())


def cut_shards(entries: Iterable[tuple[str, Entry]]) -> Iterator[ShardText]:
    """Cut sorted entries, not all of which are ever held, at the content-defined boundaries.

    A shard starts at each path whose XXH3-64 is a multiple of `SHARD_ENTRIES_AVERAGE`, and where
    one more entry would make it more than `SHARD_ENTRIES_MAX` entries, or more than
    `SHARD_CHUNKS_MAX` expected chunks. So an inserted path moves only the boundaries next to it.
    """
    run: Entries = {}
    chunks = 0
    for path, entry in entries:
        more = chunks_expected(entry.bytes)
        full = len(run) == SHARD_ENTRIES_MAX or chunks + more > SHARD_CHUNKS_MAX
        if run and (full or starts_shard(path)):
            yield _shard_text(run)
            run, chunks = {}, 0
        run[path] = entry
        chunks += more
    if run:
        yield _shard_text(run)


def manifest_shards(manifest: Manifest) -> list[ShardRef]:
    """Return the shards of a manifest: those that it names, or those cut from its entries."""
    if manifest.entries is None:
        return list(manifest.shards)
    return [text.ref for text in shard_refs(manifest.entries)]


def starts_shard(path: str) -> bool:
    """Whether a shard begins at this path, whatever path comes before."""
    return xxhash.xxh3_64_intdigest(path.encode()) % SHARD_ENTRIES_AVERAGE == 0


def _shard_text(run: Entries) -> ShardText:
    text = encode_entries(run)
    ref = ShardRef(
        first=next(iter(run)),
        files=len(run),
        bytes=sum(entry.bytes for entry in run.values()),
        blake3=digest_of(text).hex(),
    )
    return ShardText(ref, text)


def in_order(entries: Mapping[str, Entry]) -> Entries:
    """Return the entries in canonical order: by UTF-8 bytes, which is by code point.

    A dict that is in this order is returned as it is: of a million entries a copy takes 80 MB.
    """
    paths = sorted(entries)
    if isinstance(entries, dict) and all(map(eq, paths, entries)):
        return entries
    return {path: entries[path] for path in paths}


# --- manifests ------------------------------------------------------------------------------


class Built(msgspec.Struct, frozen=True):
    """A manifest made from entries, with the shards that must be kept outside git.

    `shards` holds the text of every shard of a sharded manifest that was cut anew.
    """

    manifest: Manifest
    shards: tuple[ShardText, ...]


def build(kind: Kind, entries: Mapping[str, Entry], source: DataSource | None = None) -> Built:
    """Make the one manifest that these entries have."""
    ordered = in_order(entries)
    if len(ordered) <= INLINE_ENTRIES_MAX:
        return Built(Manifest(kind, ordered, source=source), ())
    shards = tuple(shard_refs(ordered))
    return Built(Manifest(kind, None, tuple(shard.ref for shard in shards), source), shards)


def update(manifest: Manifest, changes: Mapping[str, Entry | None], load_shard: LoadShard) -> Built:
    """Return the manifest, of the same source, with some entries set or (None) removed.

    Of a sharded manifest only the shards that change are loaded and cut again.
    """
    if manifest.entries is not None:
        return build(manifest.kind, _with_changes(manifest.entries, changes), manifest.source)
    kept: list[ShardRef] = []
    fresh: list[ShardText] = []
    for group, group_changes in _shard_groups(manifest.shards, changes):
        if not group_changes:
            kept.extend(group)
            continue
        entries: Entries = {}
        for ref in group:
            entries.update(load_shard(ref))
        texts = list(shard_refs(in_order(_with_changes(entries, group_changes))))
        kept.extend(text.ref for text in texts)
        fresh.extend(texts)
    if sum(ref.files for ref in kept) > INLINE_ENTRIES_MAX:
        return Built(structs.replace(manifest, shards=tuple(kept)), tuple(fresh))
    texts_by_hash = {text.ref.blake3: text.text for text in fresh}
    few: Entries = {}
    for ref in kept:
        text = texts_by_hash.get(ref.blake3)
        few.update(load_shard(ref) if text is None else _decode_entries(text, ref.first))
    return build(manifest.kind, few, manifest.source)


def _with_changes(entries: Entries, changes: Mapping[str, Entry | None]) -> Entries:
    merged = dict(entries)
    for path, entry in changes.items():
        if entry is None:
            merged.pop(path, None)
        else:
            merged[path] = entry
    return merged


def _shard_groups(
    shards: tuple[ShardRef, ...], changes: Mapping[str, Entry | None]
) -> Iterator[tuple[list[ShardRef], dict[str, Entry | None]]]:
    """Yield runs of shards that must be cut together, with the changes that fall into each.

    A run goes from one natural boundary to the next: a shard that begins because the one before
    was full depends on it. When a run's first path is removed, the run joins the one before.
    """
    groups: list[tuple[list[ShardRef], dict[str, Entry | None]]] = []
    pending = sorted(changes)
    at = 0
    for number, ref in enumerate(shards):
        following = shards[number + 1].first if number + 1 < len(shards) else None
        shard_changes: dict[str, Entry | None] = {}
        while at < len(pending) and (following is None or pending[at] < following):
            shard_changes[pending[at]] = changes[pending[at]]
            at += 1
        removed_first = ref.first in shard_changes and shard_changes[ref.first] is None
        if groups and (removed_first or not starts_shard(ref.first)):
            groups[-1][0].append(ref)
            groups[-1][1].update(shard_changes)
        else:
            groups.append(([ref], shard_changes))
    yield from groups


def encode(manifest: Manifest) -> bytes:
    """Return the text that git holds."""
    head = f'{{\n "dv": {MANIFEST_VERSION},\n "kind": "{manifest.kind}",\n'
    if manifest.source is not None:
        head += f' "source": {encode_source(manifest.source)},\n'
    if manifest.entries is not None:
        body = b' "entries": ' + encode_entries(manifest.entries, indent="  ")
        return head.encode() + body + b"\n}\n"
    lines = [
        f'  {{"first": {_encode_json(ref.first).decode()}, "files": {ref.files}, '
        f'"bytes": {ref.bytes}, "blake3": "{ref.blake3}"}}'
        for ref in manifest.shards
    ]
    return (head + ' "shards": [\n' + ",\n".join(lines) + "\n ]\n}\n").encode()


class _Envelope(msgspec.Struct):
    dv: int = 0


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    dv: int
    kind: Kind
    source: DataSource | None = None
    entries: dict[str, Entry] | None = None
    shards: list[ShardRef] | None = None


_envelope_decoder = json_decoder(_Envelope)
_document_decoder = json_decoder(_Document)


def decode(text: bytes, name: str) -> Manifest:
    """Return the manifest in `text`; messages about it use `name`, its path.

    Foreign input: all but format 1 in full is a ManifestError that says what to do.
    """
    name = printable(name)
    if len(text) > MANIFEST_SIZE_MAX_BYTES:
        raise ManifestError(
            f"{name}: has more than the {MANIFEST_SIZE_MAX_BYTES >> 20} MiB of a manifest"
        )
    if re.search(rb"^(<<<<<<<|=======|>>>>>>>)", text, re.MULTILINE):
        raise ManifestError(
            f"{name}: has git's conflict markers in it",
            hint="settle it: dv resolve (dv status lists what conflicts)",
        )
    try:
        version = _envelope_decoder.decode(text).dv
        if version > MANIFEST_VERSION:
            raise ManifestNewer(
                f"{name}: is of format {version}, this dvtool reads format {MANIFEST_VERSION}",
                hint=INSTALL_NEWER,
            )
        document = _document_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise not_a_manifest(name, text, str(error)) from error
    if document.dv != MANIFEST_VERSION or (document.entries is None) == (document.shards is None):
        raise ManifestError(f"{name}: is not a manifest of format {MANIFEST_VERSION}")
    entries = None if document.entries is None else in_order(document.entries)
    manifest = Manifest(document.kind, entries, tuple(document.shards or ()), document.source)
    written = refuse_loose(text, name) if encode(manifest) != text else {}
    if document.source is not None:
        check_source(document.source, written.get("source"), name)
    if document.entries is None:
        _check_shards(manifest, name)
        return manifest
    check_entries(document.entries, name)
    single = document.entries.get(SELF)
    if (document.kind == "file") != (single is not None) or (single and not single.is_file):
        raise ManifestError(f'{name}: only a manifest of kind "file" has the one entry "{SELF}"')
    return manifest


def _check_shards(manifest: Manifest, name: str) -> None:
    shards = manifest.shards
    if manifest.kind != "dir" or not shards:
        raise ManifestError(f"{name}: only a folder with entries can have shards")
    for before, ref in zip((None, *shards), shards, strict=False):
        try:
            parse_hex(ref.blake3)
        except ValueError as error:
            raise ManifestError(f"{name}: {error}") from error
        if not 0 < ref.files <= SHARD_ENTRIES_MAX or not 0 <= ref.bytes <= ENTRY_SIZE_MAX_BYTES:
            raise ManifestError(f"{name}: shard {ref.blake3} has impossible counts")
        reason = path_fault(ref.first)
        if reason:
            raise ManifestError(f"{name}: the path {ref.first!r} {reason}")
        if before is not None and before.first >= ref.first:
            raise ManifestError(f"{name}: its shards are not in order at {ref.first!r}")


def manifest_digest(manifest: Manifest) -> Digest:
    """Return the manifest hash: a BLAKE3 root over kind and shard hashes.

    It is the same whether the entries are in the manifest or in shards.
    """
    root = hasher(f"dv manifest {MANIFEST_VERSION} {manifest.kind}\n".encode())
    if manifest.entries is None:
        for ref in manifest.shards:
            root.update(ref.digest)
    else:
        for shard in shard_refs(manifest.entries):
            root.update(shard.ref.digest)
    return root.digest()


# --- checks on foreign entries --------------------------------------------------------------

_HEX = re.compile(r"[0-9a-f]*")
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_entries(entries: Mapping[str, Entry], name: str) -> None:
    """Refuse entries that are not well formed or whose paths could leave the target."""
    for path, fault in path_faults(entries):
        if not (path == SELF and len(entries) == 1):
            raise ManifestError(f"{name}: the path {path!r} {fault}")
    # One look at all hashes is quicker than one at each, which follows where it finds fault.
    hashes = [entry.blake3 for entry in entries.values() if entry.blake3]
    are_hashes = set(map(len, hashes)) <= {HEX_LENGTH} and bool(_HEX.fullmatch("".join(hashes)))
    for path, entry in entries.items():
        blake3, size = entry.blake3, entry.size
        if blake3:
            sound = (
                0 <= size <= ENTRY_SIZE_MAX_BYTES
                and (size == 0) == (blake3 == EMPTY_HEX)
                and not (entry.dir or entry.symlink)
                and (are_hashes or _HEX_DIGEST.fullmatch(blake3) is not None)
            )
        else:
            sound = entry.size == -1 and not entry.exec and entry.dir != bool(entry.symlink)
            reason = link_fault(path, entry.symlink) if entry.symlink else None
            if reason:
                raise ManifestError(f"{name}: the symlink {path!r} {reason}")
        if not sound:
            raise ManifestError(
                f"{name}: {path!r} is neither a file (blake3 and size), a symlink nor a folder"
            )
    check_nesting(entries, name)
