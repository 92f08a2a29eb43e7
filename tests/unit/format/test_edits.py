"""What differs between two large manifests with the same paths, found by the lines of shards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

from dvtool.format import edits, manifest as manifests
from dvtool.format.digest import digest_of
from dvtool.format.edits import Edits, find_edits
from dvtool.format.manifest import Built, Entries, Entry, Manifest, ShardRef, build


@pytest.fixture(autouse=True)
def small_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "INLINE_ENTRIES_MAX", 4)
    monkeypatch.setattr(manifests, "SHARD_ENTRIES_AVERAGE", 8)


def file(content: str, *, executable: bool = False) -> Entry:
    data = content.encode()
    return Entry(digest_of(data).hex(), len(data), executable)


def entries_of(*names: str) -> Entries:
    return {f"{number:02}-{name}": file(name) for number, name in enumerate(names)}


PLAIN = entries_of(*"abcdefghijklmnopqrstuvwxyz")


def texts_of(*built: Built) -> Callable[[ShardRef], bytes]:
    texts = {text.ref.blake3: text.text for one in built for text in one.shards}
    return lambda ref: texts[ref.blake3]


def found(old: Entries, new: Entries) -> Edits | None:
    before, after = build("dir", old), build("dir", new)
    return find_edits(before.manifest, after.manifest, texts_of(before, after))


def test_files_that_changed_are_found_first_last_and_between() -> None:
    changed = {path: file(f"other {path}") for path in ("00-a", "07-h", "08-i", "25-z")} | {
        "13-n": file("n", executable=True)
    }
    edits_found = found(PLAIN, PLAIN | changed)
    assert edits_found is not None
    assert edits_found.new == dict(sorted(changed.items()))
    assert edits_found.old == {path: PLAIN[path] for path in sorted(changed)}
    assert found(PLAIN, PLAIN) == Edits({}, {})


@pytest.mark.parametrize(
    "change",
    [
        {"26-new": file("new")},
        {"13-n": Entry(symlink="12-m")},
        {"13-n": Entry(dir=True)},
        {"13-n": None},
        {"13-n": None, "13-m": file("n")},
    ],
)
def test_anything_else_that_differs_is_for_a_look_at_the_whole(
    change: dict[str, Entry | None],
) -> None:
    new = {path: entry for path, entry in (PLAIN | change).items() if entry is not None}
    assert found(PLAIN, new) is None
    assert found(new, PLAIN) is None


def test_small_manifests_and_many_edits_are_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(entries_of("a", "b"), entries_of("a", "c")) is None
    monkeypatch.setattr(edits, "EDITS_MAX", 3)
    assert found(PLAIN, PLAIN | {"00-a": file("x"), "13-n": file("x"), "25-z": file("x")})
    assert found(PLAIN, {path: file("x") for path in PLAIN}) is None


def spoilt(old: Built, new: Built, text: Callable[[bytes], bytes]) -> Edits | None:
    """Compare after the one shard that differs got another text, under the hash of that."""
    refs, other = [], texts_of(old, new)
    texts: dict[str, bytes] = {}
    for was, now in zip(old.manifest.shards, new.manifest.shards, strict=True):
        ref = now
        if was != now:
            spoilt_text = text(other(now))
            ref = structs.replace(now, blake3=digest_of(spoilt_text).hex())
            texts[ref.blake3] = spoilt_text
        refs.append(ref)
    manifest = Manifest("dir", None, tuple(refs))
    return find_edits(old.manifest, manifest, lambda ref: texts.get(ref.blake3) or other(ref))


def test_a_list_that_is_not_as_dvtool_writes_it_is_for_who_decodes_it() -> None:
    old, new = build("dir", PLAIN), build("dir", PLAIN | {"13-n": file("other n")})
    assert spoilt(old, new, lambda text: text) is not None
    line = b'"13-n": {"blake3": "'
    for text in (
        lambda text: text.replace(line, b'"13-n":  {"blake3": "'),
        lambda text: text.replace(line, b'"../n": {"blake3": "'),
        lambda text: text.replace(line, b'"12-m": {"blake3": "'),
        lambda text: text.replace(b'"size": 7', b'"size": 8'),
        lambda text: text.replace(line, b'"13-n": "blake3": "'),
    ):
        assert spoilt(old, new, text) is None


def test_a_list_that_is_not_what_its_name_says_is_not_believed() -> None:
    old, new = build("dir", PLAIN), build("dir", PLAIN | {"13-n": file("other n")})
    text_of = texts_of(old, new)
    evil = digest_of(b"other").hex().encode()
    honest = file("other n").blake3.encode()
    assert (
        find_edits(old.manifest, new.manifest, lambda ref: text_of(ref).replace(honest, evil))
        is None
    )
