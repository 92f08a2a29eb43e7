"""New files out of packs: by one process or several the same, and nothing is ever replaced."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dvtool.errors import CorruptError, InputError, UnsavedError
from dvtool.format.digest import EMPTY, digest_of
from dvtool.jobs import engine, unpack
from dvtool.jobs.engine import LOCAL_POOL
from dvtool.jobs.ingest import FileSource, ingest, ingest_batches
from dvtool.jobs.unpack import Piece, Stamps, write_pieces
from dvtool.store.local import LocalStore
from dvtool.store.reader import ContentReader
from dvtool.workspace.files import Workspace
from tests.scenario import noise

LARGE_BYTES = 300_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(str(tmp_path / "store")) as store:
        yield store


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "root").mkdir()
    with Workspace(str(tmp_path / "root")) as workspace:
        yield workspace


def stored(store: LocalStore, folder: Path, contents: dict[str, bytes]) -> list[Piece]:
    """Bring contents into the store; return the pieces to write them, every third executable."""
    folder.mkdir()
    for name, data in contents.items():
        (folder / name.replace("/", "-")).write_bytes(data)
    sources = [FileSource(name.replace("/", "-"), len(data)) for name, data in contents.items()]
    for batch in ingest_batches(str(folder), store.path, sources):
        store.adopt(ingest(batch).packs)
    return [
        (name, digest_of(data) if data else EMPTY, len(data), number % 3 == 0)
        for number, (name, data) in enumerate(contents.items())
    ]


def many() -> dict[str, bytes]:
    contents = {f"data/{n % 5}/{n}": noise(1_000 + n, seed=n) for n in range(60)}
    return contents | {"data/large": noise(LARGE_BYTES), "data/0/empty": b"", "top": b"x"}


def read(root: str, place: str) -> bytes:
    return Path(root, place).read_bytes()


def leftovers(root: str) -> list[str]:
    return [name for _, _, names in os.walk(root) for name in names if name.startswith(".dv-")]


def in_order(
    workspace: Workspace, store: LocalStore, reader: ContentReader, pieces: Sequence[Piece]
) -> list[tuple[Sequence[Piece], Stamps]]:
    """Write pieces, in two runs, by as many processes as they are worth."""
    much = engine.engine_for(LOCAL_POOL, files=len(pieces), size_bytes=0)
    runs = [pieces[:2], pieces[2:]]
    return list(write_pieces(much, workspace, store, reader, runs))


@pytest.mark.parametrize("by_workers", [False, True])
def test_what_is_written_is_what_was_stored(
    store: LocalStore,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by_workers: bool,
) -> None:
    monkeypatch.setattr(engine, "PARALLEL_MIN_FILES", 1 if by_workers else 1_000)
    monkeypatch.setattr(unpack, "UNPACK_FILES_MAX", 7)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    contents = many()
    pieces = stored(store, tmp_path / "source", contents)
    with store.reader() as reader:
        reader.prepare(piece[1] for piece in pieces)
        done = in_order(workspace, store, reader, pieces)
        assert [piece for batch, _ in done for piece in batch] == pieces
        assert len(done) >= 9
    for batch, stamps in done:
        for (path, _, _, executable), stamp in zip(batch, stamps, strict=True):
            found = os.lstat(os.path.join(workspace.root, path))
            assert read(workspace.root, path) == contents[path]
            assert bool(found.st_mode & stat.S_IXUSR) == executable
            assert stamp == (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
    assert len(store.db.packs()) >= 1  # the index is still this process's


@pytest.mark.parametrize("there", ["file", "link", "folder"])
def test_what_is_in_the_way_stays_and_the_others_are_written(
    store: LocalStore, workspace: Workspace, tmp_path: Path, there: str
) -> None:
    pieces = stored(store, tmp_path / "source", {"a/1": b"one", "a/2": b"two", "a/3": b"three"})
    place = Path(workspace.root, "a/2")
    place.parent.mkdir()
    if there == "file":
        place.write_text("mine")
    elif there == "link":
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
    with store.reader() as reader:
        reader.prepare(piece[1] for piece in pieces)
        done = in_order(workspace, store, reader, pieces)
    stamps = [stamp for _, batch in done for stamp in batch]
    assert [stamp is None for stamp in stamps] == [False, True, False]
    assert read(workspace.root, "a/1") + read(workspace.root, "a/3") == b"onethree"
    assert there != "file" or place.read_text() == "mine"
    assert there != "link" or place.is_symlink()
    assert not (tmp_path / "elsewhere").exists()
    assert not leftovers(workspace.root)


def test_without_files_that_have_no_name_nothing_is_written(
    store: LocalStore, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no-proc").mkdir()
    monkeypatch.setattr("dvtool.workspace.unnamed.DESCRIPTORS", str(tmp_path / "no-proc"))
    pieces = stored(store, tmp_path / "source", {"a/1": b"one", "a/2": b"two"})
    with store.reader() as reader:
        reader.prepare(piece[1] for piece in pieces)
        done = in_order(workspace, store, reader, pieces)
    stamps = [stamp for _, batch in done for stamp in batch]
    assert stamps == [None, None]
    assert os.listdir(os.path.join(workspace.root, "a")) == []


@pytest.mark.parametrize("by_workers", [False, True])
def test_a_damaged_content_never_gets_its_name(
    store: LocalStore,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by_workers: bool,
) -> None:
    monkeypatch.setattr(engine, "PARALLEL_MIN_FILES", 1 if by_workers else 1_000)
    monkeypatch.setattr(unpack, "UNPACK_FILES_MAX", 1)
    pieces = stored(
        store, tmp_path / "source", {"a/1": noise(50_000), "b/2": noise(LARGE_BYTES, 1)}
    )
    for path, _ in store.files("packs"):
        data = bytearray(Path(path).read_bytes())
        data[40_000] ^= 1
        data[200_000] ^= 1
        Path(path).write_bytes(data)
    with store.reader() as reader:
        reader.prepare(piece[1] for piece in pieces)
        for piece in pieces:
            with pytest.raises(CorruptError):
                in_order(workspace, store, reader, [piece, piece])
    assert [name for _, _, names in os.walk(workspace.root) for name in names] == []


@pytest.mark.parametrize("place", [".git/config", "a/.git/x", "a/../b", ".git"])
def test_no_place_is_written_that_is_not_the_users(
    store: LocalStore, workspace: Workspace, tmp_path: Path, place: str
) -> None:
    (piece,) = stored(store, tmp_path / "source", {"x": b"x"})
    with store.reader() as reader, pytest.raises(InputError):
        reader.prepare([piece[1]])
        in_order(workspace, store, reader, [(place, *piece[1:])])
    assert not [name for _, _, names in os.walk(workspace.root) for name in names]


def test_a_link_on_the_way_is_not_followed(
    store: LocalStore, workspace: Workspace, tmp_path: Path
) -> None:
    (piece,) = stored(store, tmp_path / "source", {"x": b"x"})
    (tmp_path / "outside").mkdir()
    Path(workspace.root, "link").symlink_to(tmp_path / "outside")
    with store.reader() as reader, pytest.raises(UnsavedError, match="link"):
        reader.prepare([piece[1]])
        in_order(workspace, store, reader, [("link/x", *piece[1:])])
    assert os.listdir(tmp_path / "outside") == []
