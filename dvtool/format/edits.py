"""Edits: what two large manifests have at the same paths, and not alike. Shards are read as text.

Of a shard that differs from another in a few lines, only these lines are made entries and checked.
The other lines are those of a shard that was checked when it came here, in its order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from dvtool.errors import ManifestError
from dvtool.format.digest import digest_of
from dvtool.format.manifest import Entries, Manifest, ShardRef, decode_run

EDITS_MAX = 1_000
"""More edits than these are not looked for: then a look at all entries is no slower."""

ShardTextOf: TypeAlias = Callable[[ShardRef], bytes]
"""Gives the canonical text of a shard, unchecked."""

_HEAD, _BETWEEN, _TAIL = b"{\n", b",\n", b"\n}"


class Edits(msgspec.Struct, frozen=True):
    """The files of two manifests that are not alike: the same paths, in the same order."""

    old: Entries
    new: Entries


def find_edits(old: Manifest, new: Manifest, text_of: ShardTextOf) -> Edits | None:
    """Return what differs between two large manifests with the same paths.

    None if anything else differs than the content or the executable bit of some `EDITS_MAX` files,
    or if a shard is not what its name says, which who decodes it tells.
    """
    if not old.shards or len(old.shards) != len(new.shards):
        return None
    before: Entries = {}
    after: Entries = {}
    for was, now in zip(old.shards, new.shards, strict=True):
        if was == now:
            continue
        edits = _edits_in(was, now, text_of)
        if edits is None or len(before) + len(edits.old) > EDITS_MAX:
            return None
        before |= edits.old
        after |= edits.new
    return Edits(before, after)


def _edits_in(was: ShardRef, now: ShardRef, text_of: ShardTextOf) -> Edits | None:
    if (was.first, was.files) != (now.first, now.files):
        return None
    lines, others = _lines_of_shard(was, text_of), _lines_of_shard(now, text_of)
    if lines is None or others is None or len(lines) != len(others):
        return None
    pairs = [(line, other) for line, other in zip(lines, others, strict=True) if line != other]
    if not 0 < len(pairs) <= EDITS_MAX:
        return None
    try:
        before, after = (
            decode_run(_HEAD + _BETWEEN.join(side) + _TAIL, f"shard {ref.blake3}")
            for ref, side in zip((was, now), zip(*pairs, strict=True), strict=True)
        )
    except ManifestError:
        return None
    grown = sum(entry.bytes for entry in after.values()) - sum(e.bytes for e in before.values())
    all_files = all(entry.is_file for entry in (*before.values(), *after.values()))
    if list(before) != list(after) or not all_files or now.bytes - was.bytes != grown:
        return None
    return Edits(before, after)


def _lines_of_shard(ref: ShardRef, text_of: ShardTextOf) -> list[bytes] | None:
    """Return the lines of a shard's entries, None if its text is not what its name says."""
    text = text_of(ref)
    if digest_of(text) != ref.digest:
        return None
    lines = text[len(_HEAD) : -len(_TAIL)].split(_BETWEEN)
    return lines if len(lines) == ref.files else None
