"""Which data a worktree takes: standing rules, as sparse checkout has them for what git keeps.

A rule is a path from the top of the worktree or a glob; with ``!`` before it what it selects is
left out. The last rule that selects a path decides. A path that no rule selects is taken,
unless a rule without ``!`` is there, which says that only some of the data is wanted.
"""

from __future__ import annotations

import os

import msgspec

from dvtool.errors import DvError, InputError, printable
from dvtool.format.paths import workspace_path
from dvtool.format.selection import Selection
from dvtool.system import atomic

SPARSE_FILE = "sparse"
NOT = "!"


class SparseRules(msgspec.Struct, frozen=True):
    """The rules of a worktree, in their order; none take everything."""

    lines: tuple[str, ...] = ()

    def takes(self, target: str, path: str) -> bool:
        """Whether the entry of a target is to be in the workspace."""
        verdict = not any(not line.startswith(NOT) for line in self.lines)
        full = workspace_path(target, path)
        for line in self.lines:
            if Selection("", (line.removeprefix(NOT),)).matches(full):
                verdict = not line.startswith(NOT)
        return verdict


def rules_file(git_dir: str) -> str:
    """Return where the rules of a worktree are: below its own git folder."""
    return os.path.join(git_dir, "dv", SPARSE_FILE)


def read_rules(git_dir: str) -> SparseRules:
    """Return the rules of a worktree; InputError if they cannot be read."""
    path = rules_file(git_dir)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return SparseRules(tuple(line for line in file.read().split("\n") if line))
    except FileNotFoundError:
        return SparseRules()
    except OSError as error:
        raise InputError(
            f"{printable(path)} cannot be read: {error.strerror}", hint="run: dv sparse disable"
        ) from error


def write_rules(git_dir: str, rules: SparseRules) -> None:
    """Put the rules of a worktree in place, durably."""
    for line in rules.lines:
        if "\n" in line:
            raise DvError(f"a rule of dv sparse cannot hold a line break: {printable(line)}")
    path = rules_file(git_dir)
    atomic.make_folders(os.path.dirname(path))
    text = "".join(f"{line}\n" for line in rules.lines)
    atomic.write_bytes(path, text.encode("utf-8", "surrogateescape"))
