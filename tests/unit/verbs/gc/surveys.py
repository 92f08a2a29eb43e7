"""Surveys of remotes that are not there, for what plans a gc or a sweep."""

from __future__ import annotations

import datetime
import time
from array import array

from dvtool.format.digest import Digest, digest_of
from dvtool.remotes.objects import Root, RootManifest, pack_key, root_key, shard_key
from dvtool.remotes.survey import RootThere, ShardUse, Survey, frame_number
from dvtool.remotes.transports.base import ObjectInfo

REPO, OTHER = "0" * 31 + "1", "0" * 31 + "2"
NOW_S = time.time()
MIB = 1 << 20


def named(text: str) -> Digest:
    return digest_of(text.encode())


def there(
    roots: dict[str, tuple[str, dict[str, list[str]]]],
    shards: dict[str, dict[str, int]],
    packs: dict[str, int],
) -> Survey:
    """Make a survey: roots (repo, manifest -> shards), shards (pack -> bytes), packs (size)."""
    result = Survey()
    for name, (repo, manifests) in roots.items():
        key = root_key(repo, named(name).hex())
        root = Root(
            1,
            [
                RootManifest("data", named(m).hex(), [named(s).hex() for s in some])
                for m, some in manifests.items()
            ],
            datetime.datetime.fromtimestamp(NOW_S - 3600, datetime.UTC).isoformat(),
        )
        info = ObjectInfo(key, 100, modified_s=NOW_S - 3600)
        result.roots[key] = RootThere(key, info, root)
    for name, pointed in shards.items():
        frames = {
            named(pack): array("Q", [frame_number(0, size)]) for pack, size in pointed.items()
        }
        sizes = {named(pack): packs.get(pack, 1) for pack in pointed}
        result.shards[named(name).hex()] = ShardUse(frames, sizes, 1)
        key = shard_key(named(name))
        result.objects[key] = ObjectInfo(key, 10)
    for name, size in packs.items():
        key = pack_key(named(name))
        result.objects[key] = ObjectInfo(key, size)
        result.data_bytes[key] = size
    return result


def keys(found: tuple[ObjectInfo, ...]) -> set[str]:
    return {info.key for info in found}
