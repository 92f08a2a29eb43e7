"""cache: what reading without a checkout left in the user's cache folder, and removing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dvtool.errors import SetupError
from dvtool.project.opening import close_project, environment, open_project
from dvtool.snapshots.cache import FrameCache, cache_of
from dvtool.snapshots.foreign import cache_folder, clones, remove_clones
from dvtool.system.progress import SILENT

_SIZE_DEFAULT_BYTES = 10 << 30


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The contents of the cache: frames that were read from remotes, and clones of git URLs."""

    path: str
    """Its folder."""
    limit_bytes: int
    """How many bytes of frames stay (`cache.size`)."""
    files: int
    """In how many files, of packs and of shards, frames are kept."""
    file_bytes: int
    """Bytes of these together, without holes."""
    clones: int
    """How many clones of git URLs are there."""
    clone_bytes: int
    """Bytes of these together."""


def cache_status(folder: str = ".", *, environ: Mapping[str, str] | None = None) -> CacheStatus:
    """Return what is in the cache that the repository around a folder uses; else the user's."""
    used = environment(environ)
    cache = _cache(folder, used)
    usage = cache.usage()
    sizes = [size for _, size in clones(cache_folder(used))]
    return CacheStatus(
        cache.folder, cache.size_max_bytes, usage.files, usage.bytes, len(sizes), sum(sizes)
    )


def clean_cache(folder: str = ".", *, environ: Mapping[str, str] | None = None) -> CacheStatus:
    """Remove all that is in the cache; return what was removed.

    Whoever reads from it meanwhile gets it again. BusyError while a clone is being made.
    """
    used = environment(environ)
    before = cache_status(folder, environ=used)
    _cache(folder, used).clean()
    remove_clones(cache_folder(used))
    return before


def _cache(folder: str, environ: Mapping[str, str]) -> FrameCache:
    try:
        project, _ = open_project(folder, environ, SILENT, reading=True)
    except SetupError:  # not in a repository
        return FrameCache(cache_folder(environ), _SIZE_DEFAULT_BYTES)
    try:
        return cache_of(project, environ) or FrameCache(cache_folder(environ), 0)
    finally:
        close_project(project)
