"""Manifests: one canonical text for one content, and nothing hostile gets past `decode`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dvtool.errors import ManifestError
from dvtool.format import manifest as manifests
from dvtool.format.digest import EMPTY, digest_of
from dvtool.format.manifest import (
    Built,
    Entries,
    Entry,
    Kind,
    Manifest,
    ShardRef,
    build,
    decode,
    decode_shard,
    encode,
    encode_entries,
    manifest_digest,
    shard_refs,
    update,
)
from dvtool.format.paths import link_fault, path_fault

HEX = digest_of(b"x").hex()
FILE = f'{{"blake3": "{HEX}", "size": 1}}'
NAME = "data/images.dv.json"


def file_entry(number: int, *, executable: bool = False) -> Entry:
    """A file of `number` bytes."""
    digest = digest_of(b"%d" % number) if number else EMPTY
    return Entry(blake3=digest.hex(), size=number, exec=executable)


def many(count: int) -> Entries:
    return {f"folder {n % 7}/{n:06}.bin": file_entry(n) for n in range(count)}


def document(entries: str, *, kind: str = "dir", version: int = 1) -> bytes:
    return f'{{"dv": {version}, "kind": "{kind}", "entries": {entries}}}'.encode()


def refusal(text: bytes) -> str:
    with pytest.raises(ManifestError) as caught:
        decode(text, NAME)
    message = str(caught.value)
    assert NAME in message
    return message


class Shelf:
    """Shards by hash, and which of them were asked for."""

    def __init__(self, *builts: Built) -> None:
        self.texts: dict[str, bytes] = {}
        self.loaded: list[str] = []
        for built in builts:
            self.keep(built)

    def keep(self, built: Built) -> None:
        self.texts.update({shard.ref.blake3: shard.text for shard in built.shards})

    def load(self, ref: ShardRef) -> Entries:
        self.loaded.append(ref.blake3)
        return decode_shard(self.texts[ref.blake3], ref)

    def entries(self, manifest: Manifest) -> Entries:
        if manifest.entries is not None:
            return manifest.entries
        every: Entries = {}
        for ref in manifest.shards:
            every.update(self.load(ref))
        return every


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so low that a few dozen entries meet every case."""
    monkeypatch.setattr(manifests, "INLINE_ENTRIES_MAX", 6)
    monkeypatch.setattr(manifests, "SHARD_ENTRIES_AVERAGE", 4)
    monkeypatch.setattr(manifests, "SHARD_ENTRIES_MAX", 5)
    monkeypatch.setattr(manifests, "SHARD_CHUNKS_MAX", 20)


# --- the canonical text ---------------------------------------------------------------------


def test_canonical_text_is_as_the_format_says() -> None:
    entries = {
        "z": Entry(symlink='a "b"\n'),
        "run.sh": Entry(blake3=HEX, size=312, exec=True),
        "é/ü.txt": Entry(blake3=HEX, size=4),
        "empty": Entry(dir=True),
        "\U0001f600": Entry(blake3=HEX, size=2),
        "\uffee": Entry(blake3=HEX, size=3),
    }
    expected = f"""\
{{
 "dv": 1,
 "kind": "dir",
 "entries": {{
  "empty": {{"dir": true}},
  "run.sh": {{"blake3": "{HEX}", "size": 312, "exec": true}},
  "z": {{"symlink": "a \\"b\\"\\n"}},
  "é/ü.txt": {{"blake3": "{HEX}", "size": 4}},
  "\uffee": {{"blake3": "{HEX}", "size": 3}},
  "\U0001f600": {{"blake3": "{HEX}", "size": 2}}
 }}
}}
"""
    assert encode(build("dir", entries).manifest).decode() == expected


def test_an_empty_folder_and_a_single_file_have_their_forms() -> None:
    empty = encode(build("dir", {}).manifest)
    assert empty == b'{\n "dv": 1,\n "kind": "dir",\n "entries": {}\n}\n'
    assert decode(empty, NAME) == Manifest("dir", {})
    single = Manifest("file", {".": file_entry(5)})
    assert decode(encode(single), NAME) == single


def test_sharded_text_holds_one_shard_a_line_and_nothing_derived() -> None:
    built = build("dir", many(9_000))
    text = encode(built.manifest)
    assert built.manifest.entries is None
    assert len(built.manifest.shards) > 1
    lines = text.decode().splitlines()
    assert lines[:4] == ["{", ' "dv": 1,', ' "kind": "dir",', ' "shards": [']
    assert len(lines) == 4 + len(built.manifest.shards) + 2
    assert json.loads(text)["shards"][0].keys() == {"first", "files", "bytes", "blake3"}
    assert decode(text, NAME) == built.manifest
    assert built.manifest.files == 9_000
    assert built.manifest.bytes == sum(range(9_000))


def test_the_manifest_hash_is_pinned() -> None:
    """It stands in papers and model cards: no version of dvtool may give another."""
    built = build("dir", many(3))
    assert manifest_digest(built.manifest).hex() == (
        "bd82438cbf920ac24261216487ca74ea00bce32309a1672513b445cf1b87953c"
    )
    large = build("dir", many(9_000))
    assert manifest_digest(large.manifest).hex() == (
        "eb7dc5335b9f4bb7b1a6405db3a3b22bc340c4d81c9ef9edcf2a5242ffb9d145"
    )


def test_a_manifest_goes_inline_up_to_a_thousand_entries() -> None:
    assert build("dir", many(1_000)).manifest.entries is not None
    assert build("dir", many(1_001)).manifest.entries is None


def test_no_shard_is_larger_than_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "SHARD_ENTRIES_AVERAGE", 1 << 62)
    built = build("dir", many(40_000))
    assert [ref.files for ref in built.manifest.shards] == [16_384, 16_384, 40_000 - 2 * 16_384]


def test_large_files_fill_a_shard_sooner() -> None:
    """The shard object lists where each of their chunks lies, and has a largest size."""
    entries = {f"{n:04}": file_entry((10 << 30) + n) for n in range(1_100)}
    shards = build("dir", entries).manifest.shards
    assert len(shards) > 100
    assert max(ref.bytes for ref in shards) < 256 << 30


names = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="/\x00\\"), min_size=1, max_size=6
).filter(lambda name: path_fault(name) is None)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
entry_values = st.one_of(
    st.builds(file_entry, st.integers(0, 1 << 40), executable=st.booleans()),
    st.builds(Entry, dir=st.just(True)),
    st.builds(Entry, symlink=names),
)


def without_nesting(entries: Mapping[str, Entry]) -> Entries:
    """Leave out what lies below another entry, which no tree on a disk can have."""
    kept: Entries = {}
    for path in sorted(entries, key=lambda path: path.count("/")):
        parts = path.split("/")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if not above & kept.keys():
            kept[path] = entries[path]
    return kept


trees = st.dictionaries(paths, entry_values, max_size=25).map(without_nesting)
fixture_is_constant = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@settings(fixture_is_constant, max_examples=150)
@given(entries=trees)
def test_what_encode_writes_decode_reads(entries: Entries, small_shards: None) -> None:
    built = build("dir", entries)
    manifest = decode(encode(built.manifest), NAME)
    assert manifest == built.manifest
    assert Shelf(built).entries(manifest) == entries
    assert list(Shelf(built).entries(manifest)) == sorted(entries, key=str.encode)
    assert manifest.files == len(entries)
    assert manifest.bytes == sum(entry.bytes for entry in entries.values())


@settings(fixture_is_constant, max_examples=60)
@given(entries=trees, seed=st.randoms(use_true_random=False))
def test_the_order_of_insertion_does_not_matter(
    entries: Entries, seed: object, small_shards: None
) -> None:
    shuffled = list(entries.items())
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert build("dir", dict(shuffled)) == build("dir", entries)


@settings(fixture_is_constant, max_examples=60)
@given(entries=trees)
def test_the_manifest_hash_is_the_same_inline_and_in_shards(
    entries: Entries, small_shards: None
) -> None:
    inline = Manifest("dir", manifests.in_order(entries))
    sharded = Manifest("dir", None, tuple(shard.ref for shard in shard_refs(inline.entries or {})))
    assert manifest_digest(inline) == manifest_digest(sharded)
    assert manifest_digest(inline) != manifest_digest(Manifest("file", inline.entries))


# --- update ---------------------------------------------------------------------------------

# Few distinct paths, so that changes meet entries that are there, and boundaries, often.
numbered = st.integers(0, 59).map(lambda number: f"p/{number:02}")
some_sizes = st.one_of(st.integers(0, 9), st.integers(0, 9).map(lambda n: n * 200_000))
some_files = st.builds(file_entry, some_sizes)
some_entries = st.dictionaries(numbered, some_files, max_size=60)
some_changes = st.dictionaries(numbered, st.one_of(st.none(), some_files), max_size=30)


@settings(fixture_is_constant, max_examples=400)
@given(before=some_entries, rounds=st.lists(some_changes, min_size=1, max_size=4))
def test_update_makes_what_build_makes_from_scratch(
    before: Entries, rounds: list[dict[str, Entry | None]], small_shards: None
) -> None:
    built = build("dir", before)
    shelf = Shelf(built)
    entries = dict(before)
    for changes in rounds:
        built = update(built.manifest, changes, shelf.load)
        shelf.keep(built)
        for path, entry in changes.items():
            if entry is None:
                entries.pop(path, None)
            else:
                entries[path] = entry
        assert encode(built.manifest) == encode(build("dir", entries).manifest)
        assert shelf.entries(built.manifest) == entries


def test_removing_the_first_path_of_a_shard_joins_it_to_the_one_before(small_shards: None) -> None:
    entries = many(200)
    built = build("dir", entries)
    for ref in built.manifest.shards:
        shelf = Shelf(built)
        left = {path: entry for path, entry in entries.items() if path != ref.first}
        after = update(built.manifest, {ref.first: None}, shelf.load)
        assert after.manifest == build("dir", left).manifest


def test_removing_everything_leaves_an_empty_manifest(small_shards: None) -> None:
    built = build("dir", many(50))
    after = update(built.manifest, dict.fromkeys(many(50)), Shelf(built).load)
    assert after == Built(Manifest("dir", {}), ())


def test_update_loads_and_cuts_only_the_shards_that_change() -> None:
    entries = many(60_000)
    built = build("dir", entries)
    shards = built.manifest.shards
    assert len(shards) > 8
    place = shards[5].first + "a"  # just behind the first path of the sixth shard
    for changes in ({shards[5].first: file_entry(7)}, {place: file_entry(7)}):
        shelf = Shelf(built)
        after = update(built.manifest, changes, shelf.load)
        assert shelf.loaded == [shards[5].blake3]
        assert len(set(after.manifest.shards) - set(shards)) == len(after.shards) == 1
        assert after.manifest == build("dir", entries | changes).manifest


# --- merging as text ------------------------------------------------------------------------


def git_merge(folder: Path, base: bytes, ours: bytes, theirs: bytes) -> tuple[int, bytes]:
    for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
        (folder / name).write_bytes(text)
    command = ["git", "merge-file", "--stdout", "ours", "base", "theirs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("count", [40, 60_000], ids=["inline", "sharded"])
def test_git_merges_changes_that_are_not_adjacent_as_text(tmp_path: Path, count: int) -> None:
    entries = many(count)
    built = build("dir", entries)
    paths = sorted(entries)
    mine: dict[str, Entry | None] = {paths[3]: file_entry(1 << 20)}
    yours: dict[str, Entry | None] = {paths[-4]: None}
    load = Shelf(built).load
    versions = [encode(update(built.manifest, change, load).manifest) for change in (mine, yours)]
    conflicts, merged = git_merge(tmp_path, encode(built.manifest), *versions)
    assert conflicts == 0
    assert decode(merged, NAME) == update(built.manifest, mine | yours, load).manifest


def test_a_conflict_in_the_text_is_refused_with_a_way_out(tmp_path: Path) -> None:
    versions = [
        encode(build("dir", {"a": file_entry(1), "b": file_entry(n)}).manifest) for n in (1, 2, 3)
    ]
    conflicts, merged = git_merge(tmp_path, *versions)
    assert conflicts == 1
    with pytest.raises(ManifestError, match="conflict markers") as caught:
        decode(merged, NAME)
    assert NAME in str(caught.value)
    assert caught.value.hint is not None
    assert "dv resolve" in caught.value.hint


# --- hostile manifests ----------------------------------------------------------------------

HOSTILE_PATHS = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    ".",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "a\\..\\..\\x",
    "..\\x",
    "\\x",
    ".git",
    ".git/config",
    "a/.git/hooks/post-checkout",
    ".GIT",
    ".Git/config",
    ".git.",
    ".git ",
    ".git . .",
    ".git::$INDEX_ALLOCATION/config",
    ".git :x",
    ".git..:x/config",
    "git~1",
    "GIT~1/config",
    "git~1 ",
    "git~1.",
    "git~1:x",
    "\u200c.git",
    ".g\u200dit/config",
    ".git\ufeff",
    "\u202e.GiT",
    "a\\.git\\config",
    "a\x00b",
    "C:",
    "c:/windows",
    "C:x",
]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_path_that_could_lead_outside_is_refused(path: str) -> None:
    for others in ({}, {"fine": Entry(blake3=HEX, size=1)}):
        entries = {path: Entry(blake3=HEX, size=1), **others}
        text = document(encode_entries(entries).decode())
        assert repr(path) in refusal(text) or path == "."
        shard = encode_entries(manifests.in_order(entries))
        if path == "." and not others:
            continue  # the one entry of a single file's shard
        ref = ShardRef(min(entries), len(entries), len(entries), digest_of(shard).hex())
        with pytest.raises(ManifestError, match="path"):
            decode_shard(shard, ref)


@pytest.mark.parametrize(
    "path",
    [".gitignore", ".github/x", "git", "git~2", "a.git", "...", "..a", "a..", "ab:c", "é\n "],
)
def test_an_ordinary_path_is_not_refused(path: str) -> None:
    entries = {path: Entry(blake3=HEX, size=1)}
    assert decode(document(encode_entries(entries).decode()), NAME).entries == entries


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from("./\\gGiIt~1: \u200cC"), max_size=9),
    st.sampled_from(["", "ok/"]),
    st.lists(st.sampled_from(["x", "x\ny", "é"]), max_size=2, unique=True),
)
def test_the_quick_look_at_all_paths_misses_none(path: str, before: str, others: list[str]) -> None:
    """`check_entries` looks closer only where one regular expression says so."""
    entries = {name: Entry(blake3=HEX, size=1) for name in [*others, before + path]}
    fault = path_fault(before + path)
    try:
        manifests.check_entries(entries, NAME)
    except ManifestError as error:
        assert fault or "has paths below" in str(error)
    else:
        assert fault is None or before + path == "."


@pytest.mark.parametrize(
    ("path", "target", "fault"),
    [
        ("a", "/etc/passwd", "is absolute"),
        ("a", "\\\\server\\share", "is absolute"),
        ("a", "C:\\x", "is absolute"),
        ("a", "..", "leads outside"),
        ("a", "../x", "leads outside"),
        ("a", "b/../../x", "leads outside"),
        ("b/a", "../../x", "leads outside"),
        ("a", "..\\x", "leads outside"),
        ("b/a", "..\\../x", "leads outside"),
        ("a", "x\x00y", "NUL"),
    ],
)
def test_a_symlink_that_leads_outside_is_refused(path: str, target: str, fault: str) -> None:
    assert fault in (link_fault(path, target) or "")
    text = document(encode_entries({path: Entry(symlink=target)}).decode())
    message = refusal(text)
    assert fault in message
    assert repr(path) in message


@pytest.mark.parametrize(
    ("path", "target"), [("a", "b"), ("b/a", "../x"), ("b/a", "./..//x/y"), ("a", "...")]
)
def test_a_symlink_within_its_target_is_kept(path: str, target: str) -> None:
    entries = {path: Entry(symlink=target)}
    assert decode(document(encode_entries(entries).decode()), NAME).entries == entries


@pytest.mark.parametrize(
    "entries",
    [
        f'{{"a": {FILE}, "a/b": {FILE}}}',
        f'{{"a": {{"symlink": "x"}}, "a/b/c": {FILE}}}',
        f'{{"a": {{"dir": true}}, "a/b": {FILE}}}',
        f'{{"a": {FILE}, "a.b": {FILE}, "a/b": {FILE}}}',
    ],
)
def test_a_path_below_something_that_is_no_folder_is_refused(entries: str) -> None:
    assert "has paths below 'a'" in refusal(document(entries))


@pytest.mark.parametrize(
    "entry",
    [
        "{}",
        "null",
        "[]",
        '{"size": 1}',
        f'{{"blake3": "{HEX}"}}',
        f'{{"blake3": "{HEX}", "size": -1}}',
        f'{{"blake3": "{HEX}", "size": -5}}',
        f'{{"blake3": "{HEX}", "size": 0}}',
        f'{{"blake3": "{EMPTY.hex()}", "size": 1}}',
        f'{{"blake3": "{HEX}", "size": 1.5}}',
        f'{{"blake3": "{HEX}", "size": "1"}}',
        f'{{"blake3": "{HEX}", "size": true}}',
        f'{{"blake3": "{HEX}", "size": {1 << 63}}}',
        f'{{"blake3": "{HEX}", "size": {"9" * 5_000}}}',
        f'{{"blake3": "{HEX.upper()}", "size": 1}}',
        f'{{"blake3": "{HEX[1:]}", "size": 1}}',
        f'{{"blake3": "{HEX}0", "size": 1}}',
        f'{{"blake3": "{HEX}\\n", "size": 1}}',
        f'{{"blake3": "{HEX}", "size": 1, "dir": true}}',
        f'{{"blake3": "{HEX}", "size": 1, "symlink": "x"}}',
        f'{{"blake3": "{HEX}", "size": 1, "mode": 7}}',
        '{"symlink": ""}',
        '{"symlink": "x", "dir": true}',
        '{"symlink": "x", "size": 3}',
        '{"symlink": "x", "exec": true}',
        '{"dir": false}',
        '{"dir": true, "exec": true}',
    ],
)
def test_an_entry_of_no_known_form_is_refused(entry: str) -> None:
    refusal(document(f'{{"a": {entry}}}'))


@pytest.mark.parametrize(
    "text",
    [
        document(f'{{"a": {FILE}, "b": {FILE}, "a": {FILE}}}'),
        document(f'{{"a": {FILE}, "\\u0061": {FILE}}}'),
        f'{{"dv": 1, "kind": "dir", "entries": {{}}, "entries": {{"a": {FILE}}}}}'.encode(),
    ],
)
def test_a_path_named_twice_is_refused(text: bytes) -> None:
    assert "twice" in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00",
        b"[]",
        b"{}",
        b"null",
        b"not json",
        b'{"dv": 1}',
        b'{"dv": 1, "kind": "dir"}',
        b'{"dv": 0, "kind": "dir", "entries": {}}',
        b'{"dv": -1, "kind": "dir", "entries": {}}',
        b'{"dv": "1", "kind": "dir", "entries": {}}',
        b'{"dv": 1, "kind": "tree", "entries": {}}',
        b'{"dv": 1, "kind": "dir", "entries": []}',
        b'{"dv": 1, "kind": "dir", "entries": {}, "shards": []}',
        b'{"dv": 1, "kind": "dir", "entries": {}, "note": 1}',
        b'{"dv": 1, "kind": "dir", "entries": {}} x',
        b'\xef\xbb\xbf{"dv": 1, "kind": "dir", "entries": {}}',
        b'{"dv": 1, "kind": "dir", "entries": {"\xff": {"dir": true}}}',
        b'{"dv": 1, "kind": "dir", "entries": {"\\ud800": {"dir": true}}}',
        b'{"dv": 1, "kind": "dir", "shards": []}',
        b"[" * 200_000,
        b'{"dv": 1, "x": ' + b"[" * 200_000,
        b'{"dv": 1, "kind": "dir", "entries": {"a": {"x": ' + b'{"a":' * 200_000,
        b'{"dv": ' + b"9" * 10_000 + b"}",
        b" " * (manifests.MANIFEST_SIZE_MAX_BYTES + 1),
    ],
    ids=lambda text: repr(text[:50]),
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    refusal(text)


def test_every_manifest_cut_short_is_refused() -> None:
    text = encode(build("dir", many(3)).manifest)
    for length in range(len(text) - 1):  # without the newline at its end it is whole
        refusal(text[:length])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_text_is_refused_or_reads_as_some_manifest(data: st.DataObject) -> None:
    built = build("dir", many(3)) if data.draw(st.booleans()) else build("dir", many(1_001))
    text = bytearray(encode(built.manifest))
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        manifest = decode(bytes(text), NAME)
    except ManifestError as error:
        assert NAME in str(error)
    else:
        assert decode(encode(manifest), NAME) == manifest


def test_a_newer_format_is_refused_by_its_number() -> None:
    with pytest.raises(ManifestError, match="format 2") as caught:
        decode(b'{"dv": 2, "kind": "lake", "tables": {"x": 1}}', NAME)
    assert NAME in str(caught.value)
    assert caught.value.hint is not None
    assert "newer dvtool" in caught.value.hint


@pytest.mark.parametrize("entry", [FILE, '{"symlink": "x"}', '{"dir": true}'])
@pytest.mark.parametrize("kind", ["dir", "file"])
def test_only_a_single_file_is_its_own_entry(kind: str, entry: str) -> None:
    """A folder's manifest that had `.` as a symlink would replace the target itself."""
    text = document(f'{{".": {entry}}}', kind=kind)
    if kind == "file" and entry == FILE:
        assert decode(text, NAME).files == 1
    else:
        refusal(text)
    refusal(document(f'{{".": {FILE}, "a": {FILE}}}', kind=kind))


# --- shards ---------------------------------------------------------------------------------


def sharded(*refs: object, kind: Kind = "dir") -> bytes:
    return json.dumps({"dv": 1, "kind": kind, "shards": refs}).encode()


def ref_of(**changes: object) -> dict[str, object]:
    return {"first": "a", "files": 1, "bytes": 1, "blake3": HEX} | changes


def test_a_sound_list_of_shards_is_read() -> None:
    manifest = decode(sharded(ref_of(), ref_of(first="b")), NAME)
    assert [ref.first for ref in manifest.shards] == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        sharded(ref_of(), kind="file"),
        sharded(ref_of(blake3="../../x")),
        sharded(ref_of(blake3=HEX.upper())),
        sharded(ref_of(files=0)),
        sharded(ref_of(files=-1)),
        sharded(ref_of(files=16_385)),
        sharded(ref_of(bytes=-1)),
        sharded(ref_of(bytes=1 << 63)),
        sharded(ref_of(extra=1)),
        sharded(ref_of(first="b"), ref_of(first="a")),
        sharded(ref_of(first="a"), ref_of(first="a")),
        sharded(ref_of(first=".")),
        sharded(ref_of(first="../a")),
        sharded(ref_of(first=".git/config")),
    ],
)
def test_an_unsound_list_of_shards_is_refused(text: bytes) -> None:
    refusal(text)


def shard(entries: Mapping[str, Entry], text: bytes | None = None) -> tuple[bytes, ShardRef]:
    text = encode_entries(entries) if text is None else text
    size = sum(entry.bytes for entry in entries.values())
    return text, ShardRef(next(iter(entries)), len(entries), size, digest_of(text).hex())


def test_a_shard_must_have_its_hash() -> None:
    text, ref = shard(many(3))
    assert decode_shard(text, ref) == many(3)
    for at in range(len(text)):
        with pytest.raises(ManifestError, match=ref.blake3):
            decode_shard(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :], ref)


@pytest.mark.parametrize(
    "text",
    [
        f'{{\n"b": {FILE},\n"a": {FILE}\n}}'.encode(),
        f'{{\n"a": {FILE},\n"a": {FILE}\n}}'.encode(),
        f'{{"a": {FILE}, "b": {FILE}}}'.encode(),
        f'{{\n"\\u0061": {FILE},\n"b": {FILE}\n}}'.encode(),
    ],
    ids=["order", "repeated", "spacing", "escape"],
)
def test_a_shard_that_is_not_canonical_is_refused(text: bytes) -> None:
    first = next(iter(json.loads(text)))
    with pytest.raises(ManifestError, match="canonical"):
        decode_shard(text, ShardRef(first, 2, 2, digest_of(text).hex()))


@pytest.mark.parametrize("wrong", [{"first": "0"}, {"files": 2}, {"bytes": 2}])
def test_a_shard_must_be_as_the_manifest_describes_it(wrong: dict[str, object]) -> None:
    text, _ = shard({"a": file_entry(1)})
    said = ref_of(blake3=digest_of(text).hex()) | wrong
    with pytest.raises(ManifestError, match="describes it wrongly"):
        decode_shard(text, ShardRef(**said))  # type: ignore[arg-type]


def test_an_empty_shard_is_refused() -> None:
    with pytest.raises(ManifestError):
        decode_shard(b"{}", ShardRef("a", 1, 0, digest_of(b"{}").hex()))
