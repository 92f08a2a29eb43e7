"""What holds for every place, world and order of use: by hypothesis, on a real commit."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

import dvtool
from dvtool.project.ledger import VARIABLE, entry_of, lines_in
from dvtool.stream import Stream
from tests.scenario import Clone
from tests.unit.stream.conftest import FILES
from tests.unit.stream.test_stream import SMALL, keys

WORLDS = st.sampled_from([1, 2, 3, 8])


@pytest.fixture(scope="module")
def made(stored: Clone) -> Stream:
    return Stream("images", repo=stored.path, seed=11, window=SMALL)


def fresh(stored: Clone, **options: int) -> Stream:
    """Return a stream as a new process has it, over a snapshot that is open."""
    return Stream("images", repo=opened(stored), seed=11, window=SMALL, **options)  # type: ignore[arg-type]


def opened(stored: Clone) -> dvtool.Snapshot:
    if stored.path not in _OPEN:
        _OPEN[stored.path] = dvtool.snapshot(repo=stored.path)
    return _OPEN[stored.path]


_OPEN: dict[object, dvtool.Snapshot] = {}


def merged(ranks: list[list[str]]) -> list[str]:
    """Return what ranks read, one sample of each in turn."""
    return [key for step in itertools.zip_longest(*ranks) for key in step if key is not None]


def test_every_place_is_taken_up_from_its_state(stored: Clone, made: Stream) -> None:
    whole = keys(made.epoch(1))
    epoch = made.epoch(1)
    for place in range(FILES + 1):
        resumed = fresh(stored)
        resumed.load_state_dict(json.loads(json.dumps(made.state_dict())))
        assert keys(resumed.epoch(1)) == whole[place:]
        next(epoch, None)


@given(st.integers(0, FILES), WORLDS, WORLDS)
def test_the_state_of_one_rank_is_taken_up_by_any_world(
    stored: Clone, made: Stream, steps: int, before: int, after: int
) -> None:
    whole = keys(made.epoch(4))
    steps = min(steps, FILES // before)
    one = fresh(stored)
    taken = len(list(itertools.islice(one.epoch(4, before - 1, before), steps)))
    assert taken == steps
    ranks = []
    for rank in range(after):
        resumed = fresh(stored)
        resumed.load_state_dict(one.state_dict())
        ranks.append(keys(resumed.epoch(4, rank, after)))
    assert merged(ranks) == whole[steps * before :]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, FILES)), max_size=6))
def test_an_epoch_does_not_depend_on_what_was_read_before(
    stored: Clone, made: Stream, reads: list[tuple[int, int]]
) -> None:
    used = fresh(stored)
    for number, count in reads:
        list(itertools.islice(used.epoch(number), count))
    assert keys(used.epoch(2)) == keys(made.epoch(2))


@given(st.sampled_from([1, 2, 3]), WORLDS, WORLDS, st.integers(0, 20))
def test_each_node_goes_on_with_any_number_of_ranks(
    stored: Clone, nodes: int, before: int, after: int, steps: int
) -> None:
    stream = fresh(stored, nodes=nodes)
    parts = [keys(stream.epoch(0, node, nodes)) for node in range(nodes)]
    assert sorted(itertools.chain(*parts)) == stream.snapshot.find("images")
    steps = min(steps, min(map(len, parts)) // before)
    list(itertools.islice(stream.epoch(0, 0, nodes * before), steps))
    state = stream.state_dict()
    for node, part in enumerate(parts):
        ranks = []
        for rank in range(after):
            resumed = fresh(stored, nodes=nodes)
            resumed.load_state_dict(state)
            ranks.append(keys(resumed.epoch(0, node * after + rank, nodes * after)))
        assert merged(ranks) == part[steps * before :]


READING = """
import sys
from dvtool.stream import Stream
for samples, path in (("files", "images"), ("stems", "pairs"), ("rows", "tables/b.jsonl")):
    for sample in Stream(path, repo=sys.argv[1], samples=samples).epoch(0):
        pass
"""


def test_a_run_knows_the_entries_that_a_stream_read(
    stored: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = tmp_path_factory.mktemp("ledger") / "ledger"
    ledger.touch()
    monkeypatch.setenv(VARIABLE, str(ledger))
    subprocess.run([sys.executable, "-c", READING, str(stored.path)], check=True)
    noted = {(e.path, e.blake3) for line in lines_in(str(ledger)) if (e := entry_of(line))}
    data = opened(stored)
    paths = [*data.find("images"), *data.find("pairs"), "tables/b.jsonl"]
    assert noted == {(path, data.info(path).blake3) for path in paths}
