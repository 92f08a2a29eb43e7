"""The manifests of edited targets as their sources gave them, for the next update to merge with.

An update of an edited target commits the merged manifest alone. So the source's own state is
recorded below git's common folder, durable before the merged manifest is. Without a record an
update of such a target is refused, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from msgspec import structs

from dvtool.errors import ManifestError
from dvtool.format.digest import digest_of
from dvtool.format.manifest import MANIFEST_SIZE_MAX_BYTES, Manifest, ShardRef, decode, encode
from dvtool.format.source import DataSource
from dvtool.project.parts import Project
from dvtool.system.atomic import is_temp_name, make_folders, read_own_file, write_bytes

AS_TAKEN_FOLDER = "as-taken"
RECORDS_MAX = 16
"""Of a target so many states are kept, for other branches and for what git takes back."""


def keep_as_taken(project: Project, target: str, manifest: Manifest) -> None:
    """Record a manifest as a source gave it; its shards must be in the store."""
    assert manifest.source is not None
    path = _record_path(project, target, manifest.source)
    make_folders(os.path.dirname(path))
    write_bytes(path, encode(manifest))
    names = [entry for entry in os.scandir(os.path.dirname(path)) if not is_temp_name(entry.name)]
    for entry in sorted(names, key=lambda entry: entry.stat().st_mtime_ns)[:-RECORDS_MAX]:
        os.unlink(entry.path)


def read_as_taken(project: Project, target: str, source: DataSource) -> Manifest | None:
    """Return the manifest as the source gave it in that state; None if no record has it whole."""
    manifest = _read_record(_record_path(project, target, source))
    if manifest is None or manifest.source != structs.replace(source, edited=False):
        return None
    here = all(project.store.has_shard(ref.digest) for ref in manifest.shards)
    return manifest if here else None


def shards_as_taken(common_dir: str) -> Iterator[ShardRef]:
    """Yield the shards that the records name, which a gc keeps."""
    for folder, _, names in os.walk(os.path.join(common_dir, "dv", AS_TAKEN_FOLDER)):
        for name in names:
            manifest = _read_record(os.path.join(folder, name))
            yield from manifest.shards if manifest is not None else ()


def _record_path(project: Project, target: str, source: DataSource) -> str:
    state = digest_of(repr(structs.replace(source, edited=False)).encode()).hex()
    folder = os.path.join(project.git.common_dir, "dv", AS_TAKEN_FOLDER)
    return os.path.join(folder, digest_of(os.fsencode(target)).hex()[:32], state[:32])


def _read_record(path: str) -> Manifest | None:
    text = read_own_file(path, size_max_bytes=MANIFEST_SIZE_MAX_BYTES)
    with contextlib.suppress(ManifestError):
        return None if text is None else decode(text, path)
    return None
