"""The entries that a run read, from its ledger, each once, and a Merkle root over them."""

from __future__ import annotations

import os

from dvtool.format.digest import digest_of
from dvtool.project.ledger import ReadEntry, entry_of, lines_in
from dvtool.system import atomic
from dvtool.system.sorting import Sorter
from dvtool.verbs.record.records import Reads

ENTRIES_LISTED_MAX = 1_000


class MerkleTree:
    """The root of a tree of hashes over texts, in their order, without holding them.

    As in RFC 6962, with BLAKE3: a leaf is H(0 text), a node is H(1 left right), and a tree that is
    not full is split at the largest power of two.
    """

    def __init__(self) -> None:
        self._full: list[tuple[int, bytes]] = []
        """The roots of full trees, with the number of leaves of each, the largest first."""

    def add(self, text: bytes) -> None:
        """Take the next text."""
        size, root = 1, digest_of(b"\0" + text)
        while self._full and self._full[-1][0] == size:
            root = digest_of(b"\1" + self._full.pop()[1] + root)
            size *= 2
        self._full.append((size, root))

    @property
    def root(self) -> str | None:
        """The root over the texts so far, in hex; None if there are none."""
        if not self._full:
            return None
        *left, (_, root) = self._full
        for _, other in reversed(left):
            root = digest_of(b"\1" + other + root)
        return root.hex()


def collect_reads(ledger: str, path: str) -> Reads:
    """Return what a ledger says was read, and write all of it, sorted, to the file `path`."""
    tree = MerkleTree()
    count = 0
    entries: list[ReadEntry] = []
    if not os.path.exists(ledger) or not os.path.getsize(ledger):
        return Reads()
    with Sorter() as sorter:
        for line in lines_in(ledger):
            sorter.add(line)
        atomic.make_folders(os.path.dirname(path))
        with atomic.replacing(path) as file:
            for line in sorter.unique():
                tree.add(line)
                file.write(line + b"\n")
                count += 1
                if len(entries) <= ENTRIES_LISTED_MAX and (entry := entry_of(line)) is not None:
                    entries.append(entry)
    listed = entries if count <= ENTRIES_LISTED_MAX else []
    return Reads(count=count, root=tree.root, entries=listed, file=os.path.basename(path))
