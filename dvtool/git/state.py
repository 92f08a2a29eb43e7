"""Objects that git remembers beside branches and reflogs: in its state files, stashes and notes.

State files are those of a merge, rebase, am, bisect, cherry-pick or revert under way, and the
likes of FETCH_HEAD and ORIG_HEAD. Only some of them are refs, and `git log --all` follows none.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator

from dvtool.git.listing import OBJECT_ID
from dvtool.git.process import Runner
from dvtool.git.repository import Git

STATE_FOLDERS = ("rebase-merge", "rebase-apply", "sequencer")
_ID = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b")
_STEP = re.compile(r"[a-z]+ (?:-[cC] )?([0-9a-f]{4,64})\b")
"""A line of a list of steps; git writes those of a cherry-pick, and of an edited rebase, short."""
_PATCH = re.compile(r"index ([0-9a-f]{4,64})\.\.([0-9a-f]{4,64})\b")


def names_in_state(git_dir: str) -> set[str]:
    """Return the object ids, whole or abbreviated, that the state files of one worktree hold.

    HEAD is among the files, and is an id if it is detached. What is no object may be among the
    names.
    """
    names: set[str] = set()
    for name in os.listdir(git_dir):
        if re.fullmatch("[A-Z_]+", name):
            names.update(_names_in(os.path.join(git_dir, name)))
    for name in STATE_FOLDERS:
        for folder, _, files in os.walk(os.path.join(git_dir, name)):
            for file in files:
                names.update(_names_in(os.path.join(folder, file), short=True))
    return names


def _names_in(path: str, *, short: bool = False) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):  # git may just have finished with it
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                yield from _ID.findall(line)
                step = (_PATCH.match(line) or _STEP.match(line)) if short else None
                if step is not None:
                    yield from step.groups()


def objects_of_refs(git: Git) -> dict[str, str]:
    """Return every ref of this worktree and the object that it names, of whatever kind."""
    listing = _runner(git).run("for-each-ref", "--format=%(refname) %(objectname)").stdout
    lines = (line.rpartition(" ") for line in os.fsdecode(listing).split("\n")[:-1])
    return {name: object_id for name, _, object_id in lines}


def by_kind(git: Git, names: Collection[str]) -> dict[str, set[str]]:
    """Return kind (commit, tree, blob) -> the ids of the objects that are here and named so.

    Tags are peeled. Names are whole or abbreviated ids.
    """
    found: dict[str, set[str]] = defaultdict(set)
    lines = "".join(f"{name}^{{}}\n" for name in sorted(names)).encode("ascii")
    answer = _runner(git).run("cat-file", "--batch-check", stdin=lines).stdout if names else b""
    for line in answer.decode("ascii", "replace").splitlines():
        object_id, *rest = line.split(" ")
        if len(rest) == 2 and OBJECT_ID.fullmatch(object_id):
            found[rest[0]].add(object_id)
    return found


def stashes(git: Git) -> list[str]:
    """Return the commits of all stashes; the reflog of refs/stash alone has the older ones."""
    walk = ("rev-list", "--walk-reflogs", "--ignore-missing", "refs/stash", "--")
    return _runner(git).run(*walk, codes=(0, 128)).stdout.decode("ascii").split()


def blobs_of_notes(git: Git) -> set[str]:
    """Return the blobs that the notes of all notes refs are, or once were."""
    listing = _runner(git).run(
        *("rev-list", "--objects", "--no-object-names", "--ignore-missing", "--glob=refs/notes/*")
    )
    return by_kind(git, set(listing.stdout.decode("ascii").split()))["blob"]


def _runner(git: Git) -> Runner:
    worktree = {"GIT_WORK_TREE": git.worktree} if git.worktree else {}
    return Runner(git.worktree or git.git_dir, {"GIT_DIR": git.git_dir} | worktree)
