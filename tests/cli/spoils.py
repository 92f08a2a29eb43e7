"""What can stand in the place of a record below git's folder."""

from __future__ import annotations

import os
from pathlib import Path

SIZE_BYTES = 1 << 30
SPOILS = ("damaged", "later", "oversized", "pipe", "folder", "link")


def spoil(record: Path, how: str, elsewhere: Path) -> None:
    """Put something else in the place of a record; `elsewhere` gets what a link leads to."""
    text = b""
    if record.is_file():
        text = record.read_bytes()
    if record.is_dir():
        record.rmdir()
    else:
        record.unlink()
    if how == "damaged":
        record.write_bytes(b'{"dv": 1, "kind": ')
    elif how == "later":
        record.write_bytes(b'{"dv": 99, "kind": "dir", "more": {}}')
    elif how == "oversized":
        record.touch()
        os.truncate(record, SIZE_BYTES)  # all of it a hole
    elif how == "pipe":
        os.mkfifo(record)
    elif how == "folder":
        record.mkdir()
    else:
        if not elsewhere.exists():
            elsewhere.write_bytes(text)
        record.symlink_to(elsewhere)
