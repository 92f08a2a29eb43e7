"""The story that every tool goes through: add, push, clone, edit, push again, switch versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import Dataset, Edit, place_copy, same
from benchmarks.measure import Bench, BenchError, Stored, Taken, stored
from benchmarks.results import Run
from benchmarks.tools import (
    ADD,
    ADD_AGAIN,
    ADD_EDIT,
    BACK,
    BACKUP,
    BACKUP_AGAIN,
    BACKUP_EDIT,
    CHECKOUT_AGAIN,
    COMMIT,
    COMMIT_EDIT,
    FETCH_AGAIN,
    FORTH,
    PULL,
    PULL_AGAIN,
    PUSH,
    PUSH_AGAIN,
    PUSH_EDIT,
    SETTLE,
    SETUP,
    STATUS,
    Place,
    Steps,
    Tool,
)

BEFORE_EDIT = (ADD, COMMIT, SETTLE, STATUS, ADD_AGAIN, PUSH, BACKUP, PUSH_AGAIN, BACKUP_AGAIN)
IN_CLONE = (PULL, PULL_AGAIN, FETCH_AGAIN, CHECKOUT_AGAIN)
AFTER_EDIT = (ADD_EDIT, COMMIT_EDIT, PUSH_EDIT, BACKUP_EDIT, BACK, FORTH)
UNMEASURED = {SETUP, COMMIT, COMMIT_EDIT, SETTLE}
NO_OPS = {ADD_AGAIN, PUSH_AGAIN, BACKUP_AGAIN, PULL_AGAIN, FETCH_AGAIN, CHECKOUT_AGAIN}
EDITING = set(AFTER_EDIT)
COPIES = 7
"""How often a workload's data lie on the disk at a time, at most."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A workload: data, who takes part, and which steps."""

    name: str
    title: str
    dataset: Dataset
    tools: tuple[str, ...]
    cold: bool = False
    leave_out: frozenset[str] = frozenset()
    """Steps that this workload does not need."""
    curve: str | None = None
    x: int | None = None
    rounds: int | None = None
    """If fewer than the main workloads have."""

    @property
    def room_bytes(self) -> int:
        """About how much of the disk it needs; data on a curve are linked, not copied."""
        return self.dataset.disk_bytes * (COPIES - 2 if self.curve else COPIES)


class Story:
    """One tool's way through one chapter, in a folder of its own."""

    def __init__(self, bench: Bench, tool: Tool, chapter: Chapter, *, memory: bool) -> None:
        self._bench = bench
        self._tool = tool
        self._chapter = chapter
        self._memory = memory
        self._place = Place(bench.work / "run")
        self._steps: Steps = tool.steps(self._place)
        self._taken: dict[str, Taken] = {}
        self._stored: dict[str, Stored] = {}

    def play(self, before: Path, edit: Edit, *, number: int, check: bool) -> Run:
        """Go through all steps; with `check`, compare what came back. Raises BenchError."""
        place = self._place
        self._bench.put_away(place.top)
        self._bench.make_room(self._chapter.room_bytes)
        place.top.mkdir(parents=True)
        self._bench.run(*self._steps[SETUP])
        place_copy(before, place.repo / "data", link=self._chapter.curve is not None)
        for step in BEFORE_EDIT:
            self._do(step)
        self._note_stored()
        for step in IN_CLONE:
            self._do(step)
        if check:
            self._check_clone(before)
        self._bench.put_away(place.clone)
        edit.apply(place.repo / "data")
        for step in AFTER_EDIT:
            self._do(step)
            if check and step == BACK and BACK in self._taken:
                self._check(before, place.repo / "data", step)
        if check and FORTH in self._taken:
            self._check_forth(before, edit)
        if "remote" in self._stored and (PUSH_EDIT in self._taken or BACKUP_EDIT in self._taken):
            remote = self._tool.remote(place)
            self._stored["growth"] = stored(remote) - self._stored["remote"]
        self._bench.put_away(place.top)
        return Run(self._chapter.name, self._tool.name, number, self._taken, self._stored)

    def _do(self, step: str) -> None:
        if step not in self._steps or step in self._chapter.leave_out:
            return
        if step in UNMEASURED:
            self._bench.run(*self._steps[step])
            return
        self._taken[step] = self._bench.take(
            self._steps[step], memory=self._memory, cold=self._chapter.cold
        )

    def _note_stored(self) -> None:
        place = self._place
        if self._tool.kept:
            self._stored["local"] = stored(place.repo / self._tool.kept)
        remote = self._tool.remote(place)
        if remote.exists():
            self._stored["remote"] = stored(remote)

    def _check_clone(self, before: Path) -> None:
        if PULL in self._taken:
            top = self._place.clone / "data"
            self._check(before, top, PULL)

    def _check_forth(self, before: Path, edit: Edit) -> None:
        after = self._place.top / "after"
        place_copy(before, after, link=self._chapter.curve is not None)
        edit.apply(after)
        self._check(after, self._place.repo / "data", FORTH)
        self._bench.put_away(after)

    def _check(self, expected: Path, found: Path, step: str) -> None:
        if not same(expected, found):
            raise BenchError(
                f"{self._tool.title}: after {step!r} the data are not what they should be"
            )


def play_rounds(
    bench: Bench,
    chapter: Chapter,
    tools: Sequence[Tool],
    rounds: int,
    keep: Callable[[Run], None],
    fail: Callable[[Tool, BenchError], None],
) -> None:
    """Play a chapter tool by tool, round by round, after a warm-up round that looks at memory.

    Each round begins with another tool. One that fails is told of, and takes no further part.
    """
    cache = bench.work / "data"
    cache.mkdir(exist_ok=True)
    before, edit = chapter.dataset.ready(cache)
    taking_part = list(tools)
    for number in range(rounds + 1):
        first = number % max(1, len(tools))
        for tool in (*tools[first:], *tools[:first]):
            if tool not in taking_part:
                continue
            try:
                story = Story(bench, tool, chapter, memory=number == 0)
                keep(story.play(before, edit, number=number, check=number == 0))
            except BenchError as error:
                fail(tool, error)
                taking_part.remove(tool)
                bench.put_away(bench.work / "run")
    if chapter.curve:
        bench.put_away(before.parent)
