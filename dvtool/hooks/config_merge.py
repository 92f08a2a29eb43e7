"""Merging two versions of `.dvconfig` by key, as the merge driver does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from dvtool.git.config import GitConfig
from dvtool.git.process import Runner

Values: TypeAlias = Mapping[str, tuple[str, ...]]


def merge_config(folder: str, base: str, ours: str, theirs: str) -> list[str]:
    """Bring the changes from `base` to `theirs` into `ours`, files below the folder.

    Return the keys that both changed, each in its own way. If there are any, `ours` has the marks
    that git puts around conflicts in text.
    """
    runner = Runner(folder, {})
    config = GitConfig(runner)
    before, own, other = (_values(config.items(file)) for file in (base, ours, theirs))
    changed = {key for key in {*before, *other} if before.get(key) != other.get(key)}
    conflicts = sorted(
        key for key in changed if own.get(key) != before.get(key) and own.get(key) != other.get(key)
    )
    if conflicts:
        labels = [part for name in ("ours", "base", "theirs") for part in ("-L", name)]
        runner.run("merge-file", *labels, "--", ours, base, theirs, codes=None)
        return conflicts
    for key in sorted(changed):
        values = other.get(key)
        if values is None:
            config.unset(ours, key)
        elif values != own.get(key):
            config.set(ours, key, values[-1])
    return []


def _values(items: Sequence[tuple[str, str]]) -> Values:
    values: dict[str, tuple[str, ...]] = {}
    for key, value in items:
        values[key] = (*values.get(key, ()), value)
    return values
