"""Proofs of pushes from here, looked up without opening the store: nothing is made or mended."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing

from dvtool.format.digest import Digest

LOOK_TIMEOUT_S = 1.0
_PLAIN = frozenset(b"/-_.~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""The bytes that a URI has as they are. `urllib.parse` is not loaded for this: it takes 2 ms."""


def database_uri(path: str) -> str:
    """Return the URI by which SQLite opens a database for reading alone."""
    quoted = (chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in os.fsencode(path))
    return f"file:{''.join(quoted)}?mode=ro"


def rooted_at(database_path: str, address: str, manifests: Iterable[Digest]) -> set[Digest]:
    """Return those of the manifests that a root is remembered to name on the remote of an address.

    None of them if store.db is not there or cannot be read.
    """
    query = (
        "SELECT 1 FROM remote_roots JOIN remotes ON remotes.id = remote_roots.remote "
        "JOIN remote_ids ON remote_ids.id = remotes.name WHERE remote_ids.place = ? "
        "AND remote_roots.manifest = ?"
    )
    try:
        with closing(_connected(database_path)) as db:
            return {
                manifest
                for manifest in manifests
                if db.execute(query, (address, manifest)).fetchone() is not None
            }
    except sqlite3.Error:
        return set()


def _connected(path: str) -> sqlite3.Connection:
    return sqlite3.connect(database_uri(path), uri=True, timeout=LOOK_TIMEOUT_S)
