"""Reads ranges of a remote's packs, and gives the chunks in them."""

from __future__ import annotations

import io

from dvtool.format.digest import Digest
from dvtool.format.ranges import PackRange, chunks_in_range
from dvtool.remotes.objects import pack_key
from dvtool.remotes.remote import RemoteStore


def read_range(remote: RemoteStore, span: PackRange) -> list[tuple[Digest, bytes]]:
    """Return the chunks of a range, in the order of its places, checked by their names."""
    where = f"{remote.url}: {pack_key(span.pack.digest)}"
    buffer = io.BytesIO()
    remote.read_pack(span.pack.digest, buffer, offset=span.offset, size=span.size)
    return list(chunks_in_range(span, memoryview(buffer.getvalue()), where=where))
