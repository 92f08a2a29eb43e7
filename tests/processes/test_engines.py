"""Engines: the same results in the same order whoever works, and nothing is left when cancelled."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dvtool.errors import InputError
from dvtool.format.pack import read_index
from dvtool.jobs import engine as engines, ingest, unpack
from dvtool.jobs.engine import Begin, Engine, ExecutorEngine, InProcess, LocalPool
from dvtool.repo import Repo
from tests.scenario import Clone, Remote, noise

KIB = 1 << 10


class Number(int):
    """A batch of which as much is to be done."""

    @property
    def size_bytes(self) -> int:
        return int(self)


def half(batch: Number, tell: Callable[[int], None] | None = None) -> int:
    if tell is not None:
        tell(batch.size_bytes)
    if batch == 13:
        raise InputError("13 brings bad luck", hint="take 14")
    return batch // 2


def process_of(batch: Number, tell: object = None) -> int:
    return os.getpid()


@pytest.fixture(params=["in process", "pool", "executor"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "in process":
        yield InProcess()
    elif request.param == "pool":
        yield LocalPool(2)
    else:
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            yield ExecutorEngine(executor, 2)


def numbers(count: int) -> Iterator[Number]:
    return map(Number, range(count))


def test_results_come_in_the_order_of_the_batches(engine: Engine) -> None:
    told: list[int] = []
    results = engine.map(half, numbers(12), tell=told.append)
    assert list(results) == [number // 2 for number in range(12)]
    assert sum(told) == sum(range(12))
    assert list(engine.map(half, numbers(0))) == []


def test_an_error_comes_after_the_results_before_it(engine: Engine) -> None:
    threads = threading.active_count()
    undone: list[int] = []
    results = engine.map(half, numbers(20), undo=undone.append)
    done: list[int] = []
    with pytest.raises(InputError, match="bad luck") as caught:
        done.extend(results)
    assert caught.value.hint == "take 14"
    assert done == [number // 2 for number in range(13)]
    assert set(undone) <= {7, 8, 9}
    assert threading.active_count() <= threads + 2


def test_who_cancels_gets_every_result_undone_that_was_not_taken(engine: Engine) -> None:
    read: list[int] = []
    undone: list[int] = []

    def batches() -> Iterator[Number]:
        for number in numbers(1000):
            read.append(number)
            yield number

    with closing(engine.map(half, (n for n in batches() if n != 13), undo=undone.append)) as done:
        assert [next(done), next(done), next(done)] == [0, 0, 1]
    assert undone[0] == 1  # the last one taken: whoever took it may not have come to keep it
    assert len(undone) <= 5
    assert len(read) <= 8


def test_a_pool_works_in_other_processes_and_one_batch_here() -> None:
    assert os.getpid() not in set(LocalPool(2).map(process_of, numbers(6)))
    assert list(LocalPool(2).map(process_of, numbers(1))) == [os.getpid()]
    assert list(LocalPool(1).map(process_of, numbers(2))) == [os.getpid()] * 2


def test_beside_other_threads_no_worker_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("forked beside another thread")

    monkeypatch.setattr(os, "fork", refuse)
    (tmp_path / "file").write_bytes(b"content")
    batch = ingest.IngestBatch(
        str(tmp_path), str(tmp_path / "store"), (ingest.FileSource("file", 7),)
    )
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert list(LocalPool(2).map(process_of, numbers(2), begin="copied")) == [os.getpid()] * 2
        done = list(LocalPool(2).map(ingest.ingest, [batch] * 3))
        assert [len(result.files) for result in done] == [1, 1, 1]
    finally:
        stop.set()
        thread.join()


# --- the same data, whoever works -----------------------------------------------------------


def go_elsewhere(folder: str) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Engine]:
    """An executor that knows nothing of dvtool, in other process groups and another folder."""
    (tmp_path / "elsewhere").mkdir()
    with concurrent.futures.ProcessPoolExecutor(
        2,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=go_elsewhere,
        initargs=(str(tmp_path / "elsewhere"),),
    ) as executor:
        assert executor.submit(os.getpgid, 0).result() != os.getpgid(0)
        assert executor.submit(os.getcwd).result() == str(tmp_path / "elsewhere")
        yield ExecutorEngine(executor, 2)


def contents(path: Path) -> dict[str, bytes]:
    """Return files of all sizes; a few contents are in several files."""
    files = {f"data/{n % 7}/{n}": noise(40 * n, n // 2) for n in range(200)}
    files |= {f"data/large/{n}": noise(300 * KIB + n, n) for n in range(12)}
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return files


def packs_of(store: str) -> tuple[set[object], set[object]]:
    """Return the chunks and the recipes of all packs."""
    chunks: set[object] = set()
    recipes: set[object] = set()
    for path in Path(store, "packs").rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                index = read_index(file, size=path.stat().st_size, where=str(path))
            chunks |= {place.digest for place in index.placements()}
            recipes |= {(one.digest, one.size, one.chunks) for one in index.recipes}
    return chunks, recipes


def test_a_foreign_executor_adds_and_writes_the_same_bytes(
    tmp_path: Path, foreign: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "PARALLEL_MIN_FILES", 1)
    monkeypatch.setattr(ingest, "BATCH_FILES_MAX", 11)
    monkeypatch.setattr(unpack, "UNPACK_FILES_MAX", 11)
    made = {}
    for name, engine in (("one", InProcess()), ("pool", LocalPool(3)), ("foreign", foreign)):
        clone = Clone.new(tmp_path / name, Remote(str(tmp_path / "remote")))
        files = contents(clone.path)
        with Repo.open(str(clone.path)) as repo:
            repo.add([str(clone.path / "data")], engine=engine)
            store = repo._project.store.path
        manifest = (clone.path / "data.dv.json").read_bytes()
        shards = {one.name: one.read_bytes() for one in Path(store, "shards").rglob("?" * 64)}
        made[name] = (manifest, shards, *packs_of(store))
        assert not os.listdir(Path(store, "tmp"))
        shutil.rmtree(clone.path / "data")
        restore(clone.path, engine)
        assert {path: (clone.path / path).read_bytes() for path in files} == files
    assert made["one"] == made["pool"] == made["foreign"]
    assert len(made["one"][2]) > 100
    assert len(made["one"][3]) == 12


def restore(root: Path, engine: Engine) -> None:
    from dvtool.format.selection import Selection
    from dvtool.verbs.checkout.plan import plan_checkout
    from dvtool.verbs.checkout.write import apply_checkout

    with Repo.open(str(root)) as repo:
        manifest = repo._project.manifest("data")
        plan = plan_checkout(repo._project, Selection("data"), manifest)
        apply_checkout(repo._project, plan, engine=engine)


@pytest.mark.parametrize("begin", ["quick", "anew"])
def test_a_pool_that_begins_anew_ingests_the_same(
    tmp_path: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "BATCH_FILES_MAX", 50)
    files = contents(tmp_path)
    sources = [ingest.FileSource(path, len(data)) for path, data in sorted(files.items())]
    batches = list(ingest.ingest_batches(str(tmp_path), str(tmp_path / "store"), sources))
    here = [ingest.ingest(batch) for batch in batches]
    there = list(LocalPool(2).map(ingest.ingest, batches, begin=begin))
    for one, other in zip(here, there, strict=True):
        assert [(f.path, f.digest) for f in one.files] == [(f.path, f.digest) for f in other.files]
        assert [info for _, info in one.packs] == [info for _, info in other.packs]
