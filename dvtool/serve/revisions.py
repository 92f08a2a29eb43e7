"""The revisions that are served, by the names that they have in keys, and their snapshots.

In a key a ``/`` ends the revision. In a revision it is written ``..``, which git allows in no name
of a branch or tag, and which no client changes: ``feature..x`` is the branch ``feature/x``.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property

from dvtool.errors import SetupError, UsageError
from dvtool.git import Git
from dvtool.git.listing import OBJECT_ID
from dvtool.snapshots.snapshot import Snapshot

SLASH = ".."
NAME_LENGTH_MAX = 1024
KEPT_MAX = 8
"""So many snapshots are kept, of the commits that were read last."""
KEYS_KEPT_MAX = 1_000_000
"""So many keys of them are kept together, but always those of the snapshot that was listed last."""
_LISTED = ("refs/heads/", "refs/tags/")


def key_name(rev: str) -> str:
    """Return the name that a revision has in keys."""
    return rev.replace("/", SLASH)


class ServedCommit:
    """The data of one commit, and its keys once they are asked for."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._lock = threading.Lock()
        self._paths: list[str] | None = None

    @property
    def paths(self) -> list[str]:
        """The sorted paths of all files."""
        with self._lock:
            if self._paths is None:
                self._paths = self.snapshot.find()
            return self._paths

    @property
    def held(self) -> int:
        """How many paths are in memory."""
        return len(self._paths or ())

    def release(self) -> None:
        """Let go of the paths; they are made again when they are asked for."""
        self._paths = None

    @cached_property
    def modified(self) -> int:
        """When the commit was made, in seconds since 1970."""
        return self.snapshot.commit_time


class ServedRevisions:
    """The revisions of a server: given ones, or all that git resolves. For several threads.

    `load` gives the snapshot of a commit. UsageError for a given revision that is unknown.
    """

    def __init__(self, git: Git, load: Callable[[str], Snapshot], revs: Sequence[str] = ()) -> None:
        self._git = git
        self._load = load
        self._given = {key_name(rev): rev for rev in revs}
        self._commits: OrderedDict[str, ServedCommit] = OrderedDict()
        self._lock = threading.Lock()
        for rev in revs:
            git.resolve(rev)

    def names(self) -> list[str]:
        """Return the names that a listing shows, in the order of their keys.

        They are the given revisions or else branches, tags and HEAD.
        """
        if self._given:
            names = set(self._given)
        else:
            refs = self._git.all_refs()
            names = {
                key_name(ref.removeprefix(kind))
                for ref in refs
                for kind in _LISTED
                if ref.startswith(kind) and ref.isprintable()
            }
            names |= {"HEAD"} if self._git.head() is not None else set()
        return sorted(names, key=lambda name: name + "/")

    def plain_prefix(self, prefix: str) -> str:
        """Return the prefix that a client means which encodes ``~`` and ``^`` once too often.

        Polars does so when it lists for a glob. No branch has these two in its name; one whose name
        has what they become comes first.
        """
        name, slash, rest = prefix.partition("/")
        plain = name.replace("%7E", "~").replace("%5E", "^")
        if plain == name or self.commit(name) is not None or self.commit(plain) is None:
            return prefix
        return plain + slash + rest

    def commit(self, name: str) -> str | None:
        """Return the commit that a name leads to now; None if none does, or it is not served."""
        rev = self._given.get(name) if self._given else name.replace(SLASH, "/")
        if not rev or len(name) > NAME_LENGTH_MAX or not rev.isprintable():
            return None
        try:
            if OBJECT_ID.fullmatch(rev) and rev in self._commits:
                return rev
            return self._git.resolve(rev)
        except (UsageError, SetupError):  # unknown, or HEAD before the first commit
            return None

    def at(self, commit: str) -> ServedCommit:
        """Return the data of a commit, from among those that were read last if it is there."""
        with self._lock:
            served = self._commits.get(commit)
            if served is None:
                served = ServedCommit(self._load(commit))
                self._commits[commit] = served
            self._commits.move_to_end(commit)
            while len(self._commits) > KEPT_MAX:
                self._commits.popitem(last=False)
            self._release_keys(served)
            return served

    def _release_keys(self, used: ServedCommit) -> None:
        held = sum(served.held for served in self._commits.values())
        for served in list(self._commits.values()):
            if held > KEYS_KEPT_MAX and served is not used:
                held -= served.held
                served.release()
