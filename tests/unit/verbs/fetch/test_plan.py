"""The packs that are read whole: those of which the larger part is needed, their index included."""

from __future__ import annotations

import pytest

from dvtool.format.digest import digest_of
from dvtool.format.locations import Located, RemotePack
from dvtool.format.pack import Placement
from dvtool.verbs.fetch.plan import plan_reads

FRAMES, CHUNKS, FRAME_BYTES, CHUNK_BYTES = 10, 1_000, 47_000, 75
INDEX_BYTES = 33 * FRAMES * CHUNKS
PACK = RemotePack(digest_of(b"pack"), FRAMES * FRAME_BYTES + INDEX_BYTES)


@pytest.mark.parametrize(("frames", "whole"), [(10, True), (7, True), (6, False), (1, False)])
def test_the_index_of_very_small_files_counts(frames: int, whole: bool) -> None:
    located = {}
    for frame in range(frames):
        for chunk in range(CHUNKS):
            digest = digest_of(b"%d %d" % (frame, chunk))
            place = (frame * FRAME_BYTES, FRAME_BYTES, chunk * CHUNK_BYTES, CHUNK_BYTES)
            located[digest] = [Located(PACK, Placement(digest, *place))]
    (read,) = plan_reads(located, set())
    assert read.whole is whole
    assert (read.size == PACK.size) is whole
