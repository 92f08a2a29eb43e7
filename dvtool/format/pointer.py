"""Pointers of git-lfs: the small text that stands where git-lfs took a file."""

from __future__ import annotations

from dvtool.errors import ManifestError, printable
from dvtool.format.paths import SUFFIX

LFS_FIRST_LINE = b"version https://git-lfs.github.com/spec/"
LFS_SIZES_BYTES = range(100, 1025)
"""The specification allows less than 1,024 bytes, and the keys that must be there take 100."""


def is_lfs_pointer(data: bytes) -> bool:
    """Whether these bytes of a file are a pointer of git-lfs."""
    return data.startswith(LFS_FIRST_LINE) and len(data) in LFS_SIZES_BYTES


def not_a_manifest(name: str, text: bytes, why: str) -> ManifestError:
    """Return the error for a text that is not JSON of a manifest; one of git-lfs has a cause."""
    if text.startswith(LFS_FIRST_LINE):
        return ManifestError(
            f"{name}: git-lfs took the manifest, and this is its pointer",
            hint=f"a line of .gitattributes says so (git check-attr filter -- {printable(name)}): "
            f"end that file with *{SUFFIX} -filter, as dv hooks install does; then: git lfs pull; "
            f"git add --renormalize {printable(name)}",
        )
    return ManifestError(
        f"{name}: is not a manifest ({printable(why)})",
        hint=f"see what changed it: git log -p -- {printable(name)}",
    )
