"""References: contents that stay where they came from, as the locations of a shard name them.

A reference says which object of which source has a content, in which state, and of which chunks the
content is made. So every range of it is checked by the names of chunks, as if it were in a pack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated

import msgspec

from dvtool.errors import CorruptError, ManifestError, MissingError, printable, size_text
from dvtool.format.digest import Digest, digest_of
from dvtool.format.source import DataSource, check_source
from dvtool.system.decoders import json_decoder

KEY_LENGTH_MAX = 1_024
"""Characters of a key, of a tag and of a version that a reference may have."""
REFERENCE_TEXT_MAX_BYTES = 16 << 10
"""Bytes that the text of one reference, its address included, may take before compression."""
TIME_MAX_S = (1 << 63) - 1


class SourceAddress(msgspec.Struct, frozen=True, order=True):
    """The address of a source, as `source` of a manifest has it; it is asked only if approved."""

    kind: str
    url: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, source: DataSource) -> SourceAddress:
        """Return the address in a manifest's source."""
        return cls(source.kind, source.url, tuple(sorted(source.options.items())))

    @property
    def source(self) -> DataSource:
        """The address as a source without a state."""
        return DataSource(self.kind, self.url, "", options=dict(self.options))


class Reference(msgspec.Struct, frozen=True, dict=True):
    """One content at its source. `size` is in bytes; `version` is "" where there are none.

    `chunks` are names and sizes, in order; a content of one chunk has that chunk's name. `modified`
    is when the object had last been written as the bytes were read, in seconds since 1970 by the
    source's clock; 0 if nobody knows. It is a hint to read again, and no part of the state.
    """

    address: SourceAddress
    key: str
    size: int
    tag: str
    version: str
    chunks: tuple[tuple[Digest, int], ...]
    modified: int = 0

    @cached_property
    def name(self) -> Digest:
        """A name for this state of this object."""
        parts = (self.address, self.key, self.size, self.tag, self.version)
        return digest_of(b"dv reference 1\n" + msgspec.json.encode(parts))


class _Object(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One object: number of its source, key, tag, version; and time, which is left out if 0."""

    source: int
    key: str
    tag: str
    version: str
    modified: Annotated[int, msgspec.Meta(ge=1, le=TIME_MAX_S)] = 0


class _Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sources: list[SourceAddress]
    objects: list[_Object]


def encode_references(references: Sequence[Reference]) -> bytes:
    """Return references as JSON, without their chunks; nothing for none."""
    if not references:
        return b""
    numbers: dict[SourceAddress, int] = {}
    objects = [
        (
            numbers.setdefault(reference.address, len(numbers)),
            reference.key,
            reference.tag,
            reference.version,
            *([reference.modified] if reference.modified else []),
        )
        for reference in references
    ]
    return msgspec.json.encode({"sources": list(numbers), "objects": objects})


def decode_references(
    text: bytes, chunks: Mapping[Digest, tuple[tuple[Digest, int], ...]], name: str
) -> dict[Digest, Reference]:
    """Return content -> reference, in the order of `chunks`; CorruptError if they do not fit."""
    if not chunks and not text:
        return {}
    try:
        said = json_decoder(_Text).decode(text)
        for source in said.sources:
            check_source(msgspec.structs.replace(source.source, state="-"), None, name)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ManifestError) as error:
        raise CorruptError(f"{name}: its references cannot be read ({error})") from error
    if len(said.objects) != len(chunks):
        raise CorruptError(f"{name}: its references do not fit its entries")
    decoded = {}
    for (content, parts), each in zip(chunks.items(), said.objects, strict=True):
        state = each.key, each.tag, each.version
        if not 0 <= each.source < len(said.sources) or not is_nameable(*state):
            raise CorruptError(f"{name}: a reference names no object")
        size = sum(part for _, part in parts)
        address = said.sources[each.source]
        decoded[content] = Reference(
            address, each.key, size, each.tag, each.version, parts, each.modified
        )
    return decoded


def is_nameable(key: str, tag: str, version: str) -> bool:
    """Whether a reference can name an object in a state."""
    texts = (key, tag, version)
    return bool(key and tag) and all(
        len(text) <= KEY_LENGTH_MAX and "\0" not in text and text.isprintable() for text in texts
    )


class ReferenceLost(MissingError):
    """An object at a source is gone, or is not what was taken any more."""

    def __init__(self, reference: Reference, change: str) -> None:
        super().__init__(
            f"{shown(reference)} {change}; {expected_text(reference)}, and there is no copy",
            hint="take what is there now: dv update TARGET; or put the object back as it was; what "
            "still matches can be copied: dv import --materialise PATH",
        )

    def __reduce__(self) -> tuple[type[MissingError], tuple[str]]:
        return MissingError, (str(self),)


class ReferenceDiffers(CorruptError):
    """An object at a source claims that it did not change, and has other bytes than were taken."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(
            f"{shown(reference)} has other bytes than were taken, though it says that it did not "
            f"change; {expected_text(reference)}",
            hint="put the object back as it was. A store that does this is no place to refer to: "
            "import a copy of the data beside it, without --reference",
        )

    def __reduce__(self) -> tuple[type[CorruptError], tuple[str]]:
        return CorruptError, (str(self),)


def shown(reference: Reference) -> str:
    """Return the address of the object, for messages."""
    bucket = reference.address.url.partition("://")[2].partition("/")[0]
    return f"s3://{printable(bucket)}/{printable(reference.key)}"


def expected_text(reference: Reference) -> str:
    """Return the state that was taken, for messages."""
    version = f", version {printable(reference.version)}" if reference.version else ""
    return f"taken were {size_text(reference.size)}, ETag {printable(reference.tag)}{version}"
