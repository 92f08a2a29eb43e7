"""Batches: the same whatever the workers; and a batch that fails leaves nothing behind."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from dvtool.errors import DvError, InputError
from dvtool.format import chunker
from dvtool.format.digest import EMPTY, digest_of
from dvtool.format.pack import PACK_SIZE_AIM_BYTES, verify_pack
from dvtool.format.packing import discard_packs
from dvtool.jobs import chunk_packs, ingest as ingesting
from dvtool.jobs.ingest import (
    FileSource,
    IngestBatch,
    IngestResult,
    ingest,
    ingest_batches,
)
from dvtool.store.local import LocalStore
from dvtool.system.stat import stat_of

KIB, MIB = 1 << 10, 1 << 20


def noise(seed: object, size: int) -> bytes:
    return blake3(repr(seed).encode()).digest(size) if size else b""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(str(tmp_path / "dv")) as store:
        yield store


def write(root: Path, files: dict[str, bytes]) -> list[FileSource]:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return [FileSource(name, len(data)) for name, data in sorted(files.items())]


def run(root: Path, store: LocalStore, sources: Sequence[FileSource]) -> IngestResult:
    return ingest(IngestBatch(str(root), store.path, tuple(sources)))


def temp_files(store: LocalStore) -> list[str]:
    folder = Path(store.path, "tmp")
    return os.listdir(folder) if folder.exists() else []


# --- cutting into batches -------------------------------------------------------------------


def test_batches_keep_the_order_and_make_about_a_pack_each() -> None:
    sources = [FileSource(f"{n:04}", 3 * MIB) for n in range(400)]
    every = list(ingest_batches("/root", "/store", sources))
    assert [source for batch in every for source in batch.sources] == sources
    sizes = [sum(source.size for source in batch.sources) for batch in every]
    assert max(sizes) <= PACK_SIZE_AIM_BYTES - 2 * MIB
    assert min(sizes[:-1]) > 25 * MIB
    assert {(batch.root, batch.store) for batch in every} == {("/root", "/store")}


def test_batches_of_little_data_are_few_and_of_many_files_are_bounded() -> None:
    assert len(list(ingest_batches("r", "s", [FileSource("a", 15 * MIB), FileSource("b", 1)]))) == 1
    assert [len(b.sources) for b in ingest_batches("r", "s", [FileSource("x", 0)] * 120_000)] == [
        50_000,
        50_000,
        20_000,
    ]
    assert list(ingest_batches("r", "s", [])) == []


def test_a_file_larger_than_a_batch_has_one_of_its_own() -> None:
    sources = [FileSource("a", 1), FileSource("b", 1 << 40), FileSource("c", 1)]
    assert [[s.path for s in b.sources] for b in ingest_batches("r", "s", sources)] == [
        ["a"],
        ["b"],
        ["c"],
    ]


def mixed_files() -> dict[str, bytes]:
    sizes = [0, 1, 32 * KIB - 1, 32 * KIB, 64 * KIB, 64 * KIB + 1, 300 * KIB, 2 * MIB]
    files = {f"d{n % 3}/{n:02}": noise(n, size) for n, size in enumerate(sizes)}
    files["same as 07"] = files["d1/07"]
    files["same as 02"] = files["d2/02"]
    return files


def test_a_batch_gives_the_same_in_this_process_and_in_others(
    root: Path, store: LocalStore
) -> None:
    sources = write(root, mixed_files())
    jobs = [IngestBatch(str(root), store.path, tuple(sources[n::3])) for n in range(3)]
    here = [ingest(job) for job in jobs]
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            there = list(pool.map(ingest, jobs))
        for one, other in zip(here, there, strict=True):
            assert [(f.path, f.digest) for f in one.files] == [
                (f.path, f.digest) for f in other.files
            ]
            assert [info for _, info in one.packs] == [info for _, info in other.packs]
            discard_packs(other.packs)
    for result in here:
        store.adopt(result.packs)
    assert temp_files(store) == []
    with store.reader() as reader:
        for name, data in mixed_files().items():
            digest = digest_of(data)
            reader.prepare([digest])
            assert b"".join(reader.read(digest)) == data, name


@pytest.mark.parametrize("threads", [1, 3])
def test_all_chunks_of_a_larger_file_are_in_its_order(
    root: Path, store: LocalStore, threads: int
) -> None:
    """The small ones too: else a reader would ask for them apart."""
    (root / "large").write_bytes(noise("order", 3 * MIB))
    writer = chunk_packs.ChunkPacks(store, None, threads=threads)
    writer.put(digest_of(b"before"), b"before")
    with (root / "large").open("rb") as file:
        ingesting.store_stream(file, 3 * MIB, writer, chunker.sizes_for(3 * MIB))
    writer.put(digest_of(b"after"), b"after")
    ((_, info),) = packs = writer.finish()
    (recipe,) = info.index.recipes
    small = (digest_of(b"before"), digest_of(b"after"))
    sizes = dict(zip(info.index.chunk_digests, info.index.chunk_sizes, strict=True))
    assert min(sizes[chunk] for chunk in recipe.chunks) < 32 * KIB
    assert tuple(info.index.chunk_digests) == (*recipe.chunks, *small)
    assert len(info.index.frame_sizes) == len(recipe.chunks) + 1
    discard_packs(packs)


def test_a_batch_tells_each_file_as_it_was_read(root: Path, store: LocalStore) -> None:
    files = mixed_files()
    sources = write(root, files)
    result = run(root, store, sources)
    assert [file.path for file in result.files] == [source.path for source in sources]
    for file in result.files:
        assert file.digest == digest_of(files[file.path])
        assert file.stat == stat_of((root / file.path).stat())
        assert file.stat.st_mtime_ns == (root / file.path).stat().st_mtime_ns
    for temp, info in result.packs:
        assert digest_of(Path(temp).read_bytes()) == info.digest
        with open(temp, "rb") as pack:
            verify_pack(pack, info.index, where=temp)


# --- storing nothing twice ------------------------------------------------------------------


def test_a_batch_stores_each_content_once(root: Path, store: LocalStore) -> None:
    data = noise(0, 500 * KIB)
    files = {"a": data, "b": data, "c": data[: 30 * KIB], "d": data[: 30 * KIB], "e": b""}
    result = run(root, store, write(root, files))
    ((_, info),) = result.packs
    assert len(set(info.index.chunk_digests)) == len(info.index.chunk_digests)
    assert sum(info.index.chunk_sizes) == 530 * KIB
    assert len(info.index.recipes) == 1
    assert list(result.files)[-1].digest == EMPTY


def test_a_chunk_of_each_block_does_not_keep_all_blocks_in_memory(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunker, "CUT_SIZE_BYTES", MIB)
    monkeypatch.setattr(chunk_packs, "BLOCKS_SIZE_MAX_BYTES", 4 * MIB)
    block = bytearray(noise("block", MIB))
    data = bytearray()
    for number in range(48):
        block[:4] = number.to_bytes(4)
        data += block
    sources = write(root, {"a": bytes(data)})
    tracemalloc.start()
    try:
        result = run(root, store, sources)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB
    store.adopt(result.packs)
    with store.reader() as reader:
        reader.prepare([digest_of(data)])
        assert b"".join(reader.read(digest_of(data))) == data


def test_what_the_store_has_is_not_stored_again(root: Path, store: LocalStore) -> None:
    files = mixed_files()
    sources = write(root, files)
    store.adopt(run(root, store, sources).packs)
    assert run(root, store, sources).packs == []
    # Of a file that grew at its end only the end is new.
    grown = noise("first", 1 * MIB)
    store.adopt(run(root, store, write(root, {"grows": grown})).packs)
    result = run(root, store, write(root, {"grows": grown + noise("more", 50 * KIB)}))
    ((_, info),) = result.packs
    assert sum(info.index.chunk_sizes) <= (50 + 256) * KIB
    (recipe,) = info.index.recipes
    assert recipe.size == 1 * MIB + 50 * KIB
    store.adopt(result.packs)
    assert store.lacking([recipe.digest]) == set()


def test_full_packs_are_rolled_over(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvtool.format.pack.PACK_SIZE_AIM_BYTES", 200 * KIB)
    monkeypatch.setattr(chunk_packs, "PENDING_SIZE_MAX_BYTES", 100 * KIB)
    files = {f"{n:02}": noise(n, 60 * KIB) for n in range(20)} | {"large": noise("l", 1 * MIB)}
    result = run(root, store, write(root, files))
    assert len(result.packs) > 8
    assert all(
        info.size <= 200 * KIB or len(info.index.chunk_sizes) == 1 for _, info in result.packs
    )
    store.adopt(result.packs)
    assert store.lacking(digest_of(data) for data in files.values()) == set()


# --- failing --------------------------------------------------------------------------------


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("size", [10, 60 * KIB, 5 * MIB])
def test_a_file_that_changes_while_it_is_read_is_refused(
    root: Path,
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    stack: contextlib.ExitStack,
    size: int,
) -> None:
    """The change is made at the moment the first bytes have been hashed.

    The file has a writer all the time, so nobody gets a lease on it.
    """
    sources = write(root, {"a": noise("a", 20 * MIB), "b": noise("b", size)})
    hashed = []
    file = stack.enter_context(open(root / "b", "ab", buffering=0))

    def digest_and_disturb(data: bytes) -> bytes:
        if not hashed and len(data) <= size and noise("b", size).startswith(data):
            hashed.append(True)
            file.write(b"more")
        return digest_of(data)

    monkeypatch.setattr(ingesting, "digest_of", digest_and_disturb)
    with pytest.raises(InputError, match="b changed while it was read"):
        run(root, store, sources)
    assert hashed
    assert temp_files(store) == []


def test_a_file_written_to_all_the_time_is_refused_or_read_whole(
    root: Path, store: LocalStore
) -> None:
    """A real writer beside it: whatever is returned is the hash of what was stored.

    How often the two meet is up to the scheduler and to the clock of the filesystem, so no number
    of refusals is asked for; the test above makes the change at a moment of its choice.
    """
    path = root / "busy"
    path.write_bytes(bytes(3 * MIB))
    stop = threading.Event()

    def scribble() -> None:
        with open(path, "r+b", buffering=0) as file:
            while not stop.is_set():
                file.seek(0)
                file.write(os.urandom(1 * MIB))
                file.seek(2 * MIB)
                file.write(os.urandom(1 * MIB))

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        for _ in range(10):
            try:
                result = run(root, store, [FileSource("busy", 3 * MIB)])
            except InputError as error:
                assert "busy changed while it was read" in str(error)
                assert temp_files(store) == []
                continue
            store.adopt(result.packs)
            digest = next(iter(result.files)).digest
            with store.reader() as reader:
                reader.prepare([digest])
                assert digest_of(b"".join(reader.read(digest))) == digest
    finally:
        stop.set()
        writer.join()


def test_files_that_cannot_be_read_are_refused_by_name(root: Path, store: LocalStore) -> None:
    good = write(root, {"a": noise("a", 20 * MIB)})
    (root / "folder").mkdir()
    (root / "link").symlink_to("a")
    os.mkfifo(root / "pipe")
    for name in ("gone", "folder", "link", "pipe", "a/below"):
        with pytest.raises(InputError, match=name):
            run(root, store, [*good, FileSource(name, 1)])
        assert temp_files(store) == []


@pytest.mark.parametrize("size", [0, 1000, 100 * KIB])
def test_a_file_that_the_disk_cannot_read_is_named(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    sources = write(root, {"a": noise(1, size)})

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("pread", "read", "readv"):
        monkeypatch.setattr(os, name, fail)
    monkeypatch.setattr(ingesting, "store_stream", fail)
    with pytest.raises(DvError, match=r"^a: Input/output error$"):
        run(root, store, sources)
    monkeypatch.undo()
    os.close(os.open(root / "a", os.O_WRONLY | os.O_NONBLOCK))  # no lease is left
    assert temp_files(store) == []


def test_links_are_followed_only_when_asked_to(root: Path, store: LocalStore) -> None:
    write(root, {"file": b"content"})
    (root / "link").symlink_to("file")
    result = ingest(IngestBatch(str(root), store.path, (FileSource("link", 7),), follow_links=True))
    assert next(iter(result.files)).digest == digest_of(b"content")
    discard_packs(result.packs)
    discard_packs(result.packs)
    assert temp_files(store) == []


def test_a_name_from_a_dataset_cannot_write_to_the_terminal(root: Path, store: LocalStore) -> None:
    with pytest.raises(InputError) as caught:
        run(root, store, [FileSource("evil\x1b[2J", 1)])
    assert "\x1b" not in str(caught.value)


def test_a_full_disk_leaves_no_temporary_files(root: Path, store: LocalStore) -> None:
    """The limit on a file's size stands for the end of the disk: writes fail half way."""
    write(root, {"a": noise("a", 5 * MIB), "b": noise("b", 5 * MIB)})
    store.lacking([digest_of(b"")])  # the index is there before the disk is full
    store.db.held_chunks([])
    store.close()
    program = (
        "import resource, sys\n"
        "from dvtool.errors import DvError\n"
        "from dvtool.jobs.ingest import IngestBatch, FileSource, ingest\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({3 * MIB}, {resource.RLIM_INFINITY}))\n"
        "try:\n"
        "    sources = (FileSource('a', 1), FileSource('b', 1))\n"
        f"    ingest(IngestBatch({str(root)!r}, {store.path!r}, sources))\n"
        "except (DvError, OSError) as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "File too large" in done.stdout
    assert temp_files(store) == []


def test_an_interrupted_batch_leaves_no_temporary_files(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = write(root, {"a": noise("a", 20 * MIB), "b": noise("b", 20 * MIB)})
    count = []

    def digest_or_interrupt(data: bytes) -> bytes:
        count.append(len(data))
        if sum(count) > 30 * MIB:
            raise KeyboardInterrupt
        return digest_of(data)

    monkeypatch.setattr(ingesting, "digest_of", digest_or_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(root, store, sources)
    assert temp_files(store) == []


def test_a_file_that_grows_past_a_bound_stores_what_it_grew_by(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunker, "GIB", 2 * MIB)
    data = noise("log", 2 * MIB - 50_000)
    first = run(root, store, write(root, {"log": data}))
    store.adopt(first.packs)
    (before,) = first.files
    for grown in (100_000, 200_000):
        (source,) = write(root, {"log": data + noise("more", grown)})
        result = run(root, store, [source._replace(earlier=before.digest)])
        assert sum(info.size for _, info in result.packs) < grown + 600 * KIB
        store.adopt(result.packs)
        (before,) = result.files
    (source,) = write(root, {"log": data + noise("more", 300_000)})
    anew = run(root, store, [source])  # of a file whose earlier version nobody knows
    assert sum(info.size for _, info in anew.packs) > MIB
    discard_packs(anew.packs)
