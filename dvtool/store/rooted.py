"""Proofs of pushes from here, looked up without opening the store: nothing is made or mended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from urllib.parse import quote

from dvtool.format.digest import Digest

LOOK_TIMEOUT_S = 1.0


def rooted_at(database_path: str, address: str, manifests: Iterable[Digest]) -> set[Digest]:
    """Return those of the manifests that a root is remembered to name on the remote of an address.

    None of them if store.db is not there or cannot be read.
    """
    query = (
        "SELECT 1 FROM remote_roots JOIN remotes ON remotes.id = remote_roots.remote "
        "JOIN remote_ids ON remote_ids.id = remotes.name WHERE remote_ids.place = ? "
        "AND remote_roots.manifest = ?"
    )
    uri = f"file:{quote(database_path)}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=LOOK_TIMEOUT_S)) as db:
            return {
                manifest
                for manifest in manifests
                if db.execute(query, (address, manifest)).fetchone() is not None
            }
    except sqlite3.Error:
        return set()
