"""Sources of manifests: their one text, what is refused, and how they merge."""

from __future__ import annotations

import pytest
from msgspec import structs

from dvtool.errors import ManifestError
from dvtool.format.digest import digest_of
from dvtool.format.manifest import Entries, Entry, Manifest, build, decode, encode, manifest_digest
from dvtool.format.merge import merge
from dvtool.format.paths import SOURCE_PATH
from dvtool.format.source import DataSource, as_edited, encode_source, holds_credentials

FIRST = DataSource("s3", "s3://b/p/", "1" * 64, options={"region": "eu", "anonymous": "true"})
SECOND = structs.replace(FIRST, state="2" * 64)
THIRD = structs.replace(FIRST, state="3" * 64)


def entries(**contents: str) -> Entries:
    return {
        name: Entry(blake3=digest_of(text.encode()).hex(), size=len(text))
        for name, text in contents.items()
    }


def manifest(source: DataSource | None, **contents: str) -> Manifest:
    return build("dir", entries(**contents), source).manifest


def merged(
    base: Manifest | None, ours: Manifest, theirs: Manifest
) -> tuple[DataSource | None, list]:  # type: ignore[type-arg]
    def none_there(ref: object) -> Entries:
        raise AssertionError(ref)

    built, conflicts = merge(base, ours, theirs, none_there)
    return built.manifest.source, [conflict.path for conflict in conflicts]


def test_the_text_has_one_form_and_comes_back() -> None:
    said = f'{{"kind": "s3", "url": "s3://b/p/", "state": "{FIRST.state}"'
    options = '"options": {"anonymous": "true", "region": "eu"}'
    assert encode_source(FIRST) == f"{said}, {options}}}"
    one = manifest(FIRST, a="x")
    assert decode(encode(one), "m") == one
    shuffled = encode(one).replace(
        b'"anonymous": "true", "region": "eu"', b'"region":"eu","anonymous":"true"'
    )
    assert encode(decode(shuffled, "m")) == encode(one)


def test_the_source_is_no_part_of_the_hash() -> None:
    hashes = {manifest_digest(manifest(source, a="x")) for source in (None, FIRST, SECOND)}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "S3"}, "no kind"),
        ({"url": "s3://b/\n"}, "no address"),
        ({"url": "x" * 5_000}, "no address"),
        ({"url": "https://me@example.org/"}, "credentials"),
        ({"url": "postgresql://me:pw@db/x"}, "credentials"),
        ({"state": ""}, "no state"),
        ({"options": {"Region": "x"}}, "options"),
        ({"options": {"region": ""}}, "options"),
        ({"include": ("",)}, "empty glob"),
        ({"limit": -1}, "impossible count"),
        ({"rows": -2}, "impossible count"),
        ({"query": "a\0b"}, "NUL"),
    ],
)
def test_what_can_be_no_source_is_refused(change: dict[str, object], says: str) -> None:
    bad = structs.replace(FIRST, **change)
    with pytest.raises(ManifestError, match=f"m: its source .*{says}|below zero"):
        decode(encode(manifest(bad, a="x")), "m")


def test_a_user_alone_is_no_credential_but_of_a_web_server() -> None:
    assert not holds_credentials("ssh://git@example.org/x")
    assert not holds_credentials("postgresql://me@db/x")
    assert not holds_credentials("https://example.org/a@b:c")
    assert holds_credentials("HTTPS://token@example.org/x")


def test_one_side_updated_and_the_other_did_nothing() -> None:
    base, new = manifest(FIRST, a="x"), manifest(SECOND, a="y")
    assert merged(base, new, base) == merged(base, base, new) == (SECOND, [])


def test_one_side_updated_and_the_other_edited_another_entry() -> None:
    base, new = manifest(FIRST, a="x", b="x"), manifest(SECOND, a="y", b="x")
    here = manifest(as_edited(FIRST), a="x", b="mine")
    assert merged(base, new, here) == merged(base, here, new) == (as_edited(SECOND), [])


def test_both_updated_to_the_same_state() -> None:
    base, new = manifest(FIRST, a="x"), manifest(SECOND, a="y")
    assert merged(base, new, new) == (SECOND, [])


def test_both_updated_and_one_sides_entries_win() -> None:
    base = manifest(FIRST, a="x", b="x")
    earlier, later = manifest(SECOND, a="y", b="x"), manifest(THIRD, a="y", b="y")
    assert merged(base, earlier, later) == merged(base, later, earlier) == (THIRD, [])


def test_both_updated_and_neither_wins_is_a_conflict_with_a_name() -> None:
    base = manifest(FIRST, a="x", b="x")
    one, other = manifest(SECOND, a="y", b="x"), manifest(THIRD, a="x", b="y")
    assert merged(base, one, other) == (SECOND, [SOURCE_PATH])
    assert merged(base, other, one) == (THIRD, [SOURCE_PATH])


def test_imported_on_one_side_alone() -> None:
    plain = manifest(None, a="x")
    assert merged(plain, manifest(FIRST, a="x"), plain) == (FIRST, [])
    assert merged(None, plain, manifest(FIRST, a="x")) == (FIRST, [])
    assert merged(None, manifest(None, b="x"), manifest(FIRST, a="x")) == (as_edited(FIRST), [])
