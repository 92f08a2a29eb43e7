"""Streams of real commits: order, resuming anywhere, kinds of samples, damage."""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

import blake3
import pytest
from hypothesis import given, strategies as st

import dvtool
from dvtool import InputError, MissingError, UsageError
from dvtool.stream import Epoch, Stream
from dvtool.stream.samples import data_key, list_files
from tests.scenario import Clone
from tests.unit.stream.conftest import FILES

SMALL = 4000
"""A window, and so a block, of a few samples."""


@pytest.fixture(scope="session")
def images(stored: Clone) -> Stream:
    return Stream("images", repo=stored.path, seed=3, window=SMALL)


def keys(epoch: Epoch) -> list[str]:
    return [sample.key for sample in epoch]


def test_an_epoch_has_every_file_once_with_its_bytes(stored: Clone, images: Stream) -> None:
    samples = list(images.epoch(0))
    files = [p for p in (stored.path / "images").rglob("*") if p.is_file()]
    assert len(samples) == len(images) == len(files) == FILES
    assert {s.key: s.data for s in samples} == {
        p.relative_to(stored.path).as_posix(): p.read_bytes() for p in files
    }
    assert [s.key for s in samples] != sorted(s.key for s in samples)


@pytest.mark.parametrize(
    ("path", "suffixes"),
    [("images", ()), ("images/2", ()), ("shard.tar", ()), ("", ()), ("", (".json", ".csv"))],
)
def test_the_key_of_the_data_is_of_paths_and_contents(
    stored: Clone, path: str, suffixes: tuple[str, ...]
) -> None:
    files = list_files(dvtool.snapshot(repo=stored.path), path, suffixes)
    parts = (f"{file.path}\0".encode() + file.digest for file in files)
    assert data_key("files", files) == blake3.blake3(b"files\0" + b"".join(parts)).digest()


def test_epochs_and_seeds_differ_and_repeat(stored: Clone, images: Stream) -> None:
    other = Stream("images", repo=stored.path, seed=4, window=SMALL)
    orders = [keys(images.epoch(0)), keys(images.epoch(1)), keys(other.epoch(0))]
    assert len({tuple(order) for order in orders}) == 3
    assert keys(Stream("images", repo=stored.path, seed=3, window=SMALL).epoch(1)) == orders[1]


def test_unshuffled_it_is_the_order_of_paths(stored: Clone) -> None:
    stream = Stream("images", repo=stored.path, shuffle=False, window=SMALL)
    assert keys(stream.epoch(5)) == dvtool.snapshot(repo=stored.path).find("images")


@given(st.integers(0, FILES), st.sampled_from([1, 2, 3, 8]), st.sampled_from([1, 2, 3, 8]))
def test_resuming_after_any_sample_with_any_world_goes_on(
    images: Stream, steps: int, before: int, after: int
) -> None:
    whole = keys(images.epoch(2))
    first = images.epoch(2, rank=0, world_size=before)
    taken = len([*itertools.islice(first, steps // before)])
    state = json.loads(json.dumps(images.state_dict()))
    assert state["place"] == taken * before
    images.load_state_dict(state)
    ranks = [keys(images.epoch(2, rank, after, place=state["place"])) for rank in range(after)]
    rest = [key for step in itertools.zip_longest(*ranks) for key in step if key is not None]
    assert rest == whole[taken * before :]


def test_only_the_epoch_of_the_state_is_taken_up(images: Stream) -> None:
    images.load_state_dict(images.state_at(4, 50))
    assert len(keys(images.epoch(4))) == FILES - 50
    assert len(keys(images.epoch(4))) == FILES
    images.load_state_dict(images.state_at(4, 50))
    assert len(keys(images.epoch(5))) == FILES


def test_a_state_of_another_order_is_refused(stored: Clone, images: Stream) -> None:
    state = images.state_dict()
    with pytest.raises(UsageError, match="differs in seed"):
        Stream("images", repo=stored.path, seed=9, window=SMALL).load_state_dict(state)
    with pytest.raises(UsageError, match="differs in the data, kind"):
        Stream("pairs", repo=stored.path, seed=3, window=SMALL, samples="stems").load_state_dict(
            state
        )
    for damaged in ({}, {**state, "version": 1}, {**state, "place": -1}, {**state, "epoch": "1"}):
        with pytest.raises(UsageError):
            images.load_state_dict(damaged)


def test_nodes_have_parts_that_no_number_of_ranks_changes(stored: Clone) -> None:
    stream = Stream("images", repo=stored.path, window=SMALL, nodes=2)
    both = [keys(stream.epoch(0, node, 2)) for node in range(2)]
    assert sorted(both[0] + both[1]) == dvtool.snapshot(repo=stored.path).find("images")
    four = [keys(stream.epoch(0, rank, 4)) for rank in range(4)]
    for node in range(2):
        steps = itertools.zip_longest(*four[2 * node : 2 * node + 2])
        assert [key for step in steps for key in step if key is not None] == both[node]
    with pytest.raises(UsageError, match="3 ranks do not divide among 2 nodes"):
        stream.epoch(0, 0, 3)


def test_padding_and_dropping(stored: Clone) -> None:
    for tail, length in (("pad", 8), ("drop", 7)):
        stream = Stream("images", repo=stored.path, window=SMALL, tail=tail)  # type: ignore[arg-type]
        ranks = [keys(stream.epoch(0, rank, 8)) for rank in range(8)]
        assert {len(rank) for rank in ranks} == {length}
        assert len(stream.epoch(0, 0, 8)) == length


def test_stems_make_one_sample_of_their_files(stored: Clone) -> None:
    stream = Stream("pairs", repo=stored.path, samples="stems")
    samples = {sample.key: sample.data for sample in stream.epoch(0)}
    assert sorted(samples) == [f"pairs/{n:03}" for n in range(7)]
    for number in range(7):
        fields = samples[f"pairs/{number:03}"]
        assert sorted(fields) == ["jpg", "json", "seg.png"]
        assert json.loads(fields["json"]) == {"label": number}


@pytest.mark.parametrize("again", [False, True], ids=["first", "from the kept index"])
def test_rows_of_tables_are_samples(stored: Clone, again: bool) -> None:
    stream = Stream("tables", repo=stored.path, samples="rows")
    samples = {sample.key: sample.data for sample in stream.epoch(0)}
    assert len(samples) == 75
    for number in range(25):
        assert samples[f"tables/a.parquet#{number}"] == {"n": number, "name": f"p{number}"}
        assert samples[f"tables/b.jsonl#{number}"] == {"n": number, "name": f"ä{number}"}
        name = f'line\nbreak, and "quote" {number}'
        assert samples[f"tables/c.csv#{number}"] == {"n": str(number), "name": name}


def test_members_of_tar_files_are_samples(stored: Clone) -> None:
    stream = Stream("shard.tar", repo=stored.path, samples="tar")
    samples = {sample.key: sample.data for sample in stream.epoch(0)}
    assert samples == {
        f"shard.tar#s/{n:03}": {"jpg": b"%d jpg" % n, "cls": b"%d cls" % n} for n in range(9)
    }


def test_decode_is_called_with_the_data(stored: Clone) -> None:
    stream = Stream("images", repo=stored.path, decode=len)
    assert {s.key: s.data for s in stream.epoch(0)} == {
        path: (stored.path / path).stat().st_size
        for path in dvtool.snapshot(repo=stored.path).find("images")
    }


def test_bad_input_is_named(stored: Clone) -> None:
    for options in (
        {"window": 0},
        {"nodes": 0},
        {"tail": "cut"},
        {"samples": "pictures"},
        {"on_damage": "ignore"},
    ):
        with pytest.raises(UsageError):
            Stream("images", repo=stored.path, **options)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        Stream("nowhere", repo=stored.path).epoch(0)
    with pytest.raises(InputError, match=r"no file that ends in \.tar.* below images"):
        Stream("images", repo=stored.path, samples="tar").epoch(0)
    with pytest.raises(UsageError):
        Stream("images", "no-such-revision", repo=stored.path)


def digest_of_epoch(stream: Stream, answers: Any) -> None:
    answers.put(order_digest(stream))


def order_digest(stream: Stream) -> str:
    state = hashlib.sha256()
    for sample in stream.epoch(1):
        state.update(sample.key.encode() + sample.data)
    return state.hexdigest()


def read_asking_git(stream: Stream, answers: Any, changed: dict[str, str]) -> None:
    """Tell how many bytes the cache may hold by the settings, and whether a program was started."""
    os.environ.update(changed)
    started: list[str] = []
    sys.addaudithook(lambda event, _: started.append(event) if "subprocess" in event else None)
    list(stream.epoch(0))
    answers.put((stream.snapshot.cache_bytes_max, bool(started)))


def test_a_forked_worker_asks_git_again_only_in_another_environment(stored: Clone) -> None:
    stream = Stream("images", repo=stored.path, window=SMALL)
    list(stream.epoch(0))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def answer(changed: dict[str, str]) -> tuple[int, bool]:
        worker = context.Process(target=read_asking_git, args=(stream, answers, changed))
        worker.start()
        told: tuple[int, bool] = answers.get(timeout=120)
        worker.join()
        return told

    assert answer({}) == (stream.snapshot.cache_bytes_max, False)
    assert answer({"DV_CACHE_SIZE": "12345678"}) == (12345678, True)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(images: Stream, method: str) -> None:
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    process = context.Process(target=digest_of_epoch, args=(images, answers))
    process.start()
    digest = answers.get(timeout=120)
    process.join()
    assert digest == order_digest(images)


def test_a_stream_pickles_small(images: Stream) -> None:
    assert len(images.samples.sizes) == FILES
    pickled = pickle.dumps(images)
    assert len(pickled) < 1000
    assert keys(pickle.loads(pickled).epoch(0)) == keys(images.epoch(0))


def test_a_sample_that_is_nowhere_is_raised_or_skipped(
    stored: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file was taken out of every store: the others still come, in their order."""
    stream = Stream("images", repo=stored.path, window=SMALL)
    whole = keys(stream.epoch(0))
    lost = whole[20]
    read: Callable[..., list[Any]] = stream.samples.read

    def fails(numbers: list[int]) -> list[Any]:
        if lost in [stream.samples.key(number) for number in numbers]:
            raise MissingError("gone")
        return read(numbers)

    monkeypatch.setattr(stream.samples, "read", fails)
    monkeypatch.setattr(stream.samples, "direct", lambda numbers, window=None: fails)
    with pytest.raises(MissingError, match=f"sample {lost} cannot be read: gone"):
        keys(stream.epoch(0))
    stream.on_damage = "skip"
    epoch = stream.epoch(0)
    assert keys(epoch) == [key for key in whole if key != lost]
    assert stream.skipped == [lost]
    assert epoch.consumed == len(whole) and stream.state_dict()["place"] == len(whole)
