"""A folder as a remote: links, modes, unfinished files, full disks."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dvtool.errors import (
    ObjectMissing,
    RemoteError,
    RemoteForbidden,
    RemoteTransient,
)
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.system.atomic import TEMP_PREFIX
from tests.contract import BODY, keys, read


def test_missing_root(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path / "nowhere"), url="file:///nowhere")
    attempts: list[Callable[[], object]] = [
        lambda: backend.get("k", size_max=1),
        lambda: backend.head("k"),
        lambda: backend.put("k", b""),
        lambda: backend.put_if_absent("k", b""),
        lambda: keys(backend),
        lambda: backend.delete("k"),
    ]
    for attempt in attempts:
        with pytest.raises(RemoteError, match="file:///nowhere does not exist") as caught:
            attempt()
        assert caught.value.hint
    assert not (tmp_path / "nowhere").exists()


def test_create(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path / "deep" / "remote"))
    backend.create()
    backend.create()
    backend.put("a/b", b"x")
    assert (tmp_path / "deep" / "remote" / "a" / "b").read_bytes() == b"x"


@pytest.fixture
def group_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that a group shares, and a umask that shares nothing."""
    root = tmp_path / "remote"
    root.mkdir()
    root.chmod(0o2770)
    before = os.umask(0o077)
    yield root
    os.umask(before)


def test_what_is_put_into_a_groups_folder_is_the_groups(group_folder: Path) -> None:
    backend = LocalBackend(str(group_folder))
    backend.put("a/b/c", b"x")
    assert backend.put_if_absent("a/d", b"y")
    for path in group_folder.rglob("*"):
        wanted = 0o2070 if path.is_dir() else 0o060
        assert path.stat().st_mode & wanted == wanted, path
        assert not path.stat().st_mode & 0o007, path
    LocalBackend(str(group_folder / "below/remote")).create()
    assert (group_folder / "below/remote").stat().st_mode & 0o2070 == 0o2070


def test_a_folder_that_was_made_and_not_shared_is_shared_later(group_folder: Path) -> None:
    """Whoever made it was killed in between, or was an earlier version."""
    (group_folder / "a").mkdir()
    assert not (group_folder / "a").stat().st_mode & stat.S_IWGRP
    LocalBackend(str(group_folder)).put("a/b", b"x")
    assert (group_folder / "a").stat().st_mode & 0o2070 == 0o2070


def test_no_mode_is_changed_beyond_a_link(group_folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (group_folder / "a").symlink_to(outside)
    with pytest.raises(RemoteError, match="symbolic link"):
        LocalBackend(str(group_folder)).put("a/b", b"x")
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700


def test_a_folder_of_ones_own_stays_ones_own(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        LocalBackend(str(tmp_path)).put("a/b", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o600


def test_root_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    backend = LocalBackend(str(tmp_path / "file"))
    with pytest.raises(RemoteError, match="is not a directory"):
        backend.head("k")
    with pytest.raises(RemoteError):
        backend.create()


def test_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    LocalBackend(str(tmp_path / "link")).put("k", b"x")
    assert (root / "k").read_bytes() == b"x"


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../k", "a/../k", "a//k", "a/", ".", "a/./k", "ä", "a\0b", "a\nb"],
)
def test_keys_cannot_leave_the_root(local: LocalBackend, key: str) -> None:
    for attempt in (
        lambda: local.put(key, b"x"),
        lambda: local.put_if_absent(key, b"x"),
        lambda: local.get(key, size_max=10),
        lambda: local.head(key),
        lambda: local.delete(key),
    ):
        with pytest.raises(RemoteError, match="is not a key"):
            attempt()


def test_linked_folder_is_not_followed(local: LocalBackend, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1").write_bytes(b"secret")
    (root / "packs").symlink_to(outside)
    for attempt in (
        lambda: local.put("packs/2", b"x"),
        lambda: local.put("packs/aa/2", b"x"),
        lambda: local.put_if_absent("packs/2", b"x"),
        lambda: local.get("packs/1", size_max=10),
        lambda: local.delete("packs/1"),
    ):
        with pytest.raises(RemoteError, match="is a symbolic link") as caught:
            attempt()
        assert "not followed" in (caught.value.hint or "")
    assert os.listdir(outside) == ["1"]
    assert keys(local) == []


def test_linked_object_is_not_followed(local: LocalBackend, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (root / "k").symlink_to(outside)
    assert local.head("k") is None
    assert keys(local) == []
    with pytest.raises(ObjectMissing):
        local.get("k", size_max=10)
    with pytest.raises(ObjectMissing):
        read(local, "k")
    assert local.put_if_absent("k", b"new") is False
    local.put("k", b"new")
    assert outside.read_bytes() == b"secret"
    assert not (root / "k").is_symlink()
    assert local.get("k", size_max=10) == b"new"


def test_dangling_link_is_not_written_through(
    local: LocalBackend, root: Path, tmp_path: Path
) -> None:
    (root / "k").symlink_to(tmp_path / "created-by-attack")
    local.put_if_absent("k", b"x")
    local.put("k", b"x")
    assert not (tmp_path / "created-by-attack").exists()


def test_fifo_does_not_hang(local: LocalBackend, root: Path) -> None:
    os.mkfifo(root / "k")
    with pytest.raises(ObjectMissing):
        local.get("k", size_max=10)
    assert keys(local) == []


def test_unfinished_files_are_never_seen(local: LocalBackend, root: Path) -> None:
    local.put("packs/1", b"x")
    (root / "packs" / f"{TEMP_PREFIX}1-abc").write_bytes(b"half")
    (root / f"{TEMP_PREFIX}dir").mkdir()
    (root / f"{TEMP_PREFIX}dir" / "k").write_bytes(b"half")
    assert keys(local) == ["packs/1"]
    with pytest.raises(RemoteError, match="unfinished"):
        local.get(f"packs/{TEMP_PREFIX}1-abc", size_max=10)


def test_failed_put_leaves_what_was_there(local: LocalBackend, root: Path) -> None:
    local.put("packs/1", b"old")

    class Breaks(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 0:
                raise KeyboardInterrupt
            return super().read(1000)

    with pytest.raises(KeyboardInterrupt):
        local.put("packs/1", Breaks(BODY))
    assert os.listdir(root / "packs") == ["1"]
    assert local.get("packs/1", size_max=10) == b"old"


def test_put_if_absent_has_one_winner(local: LocalBackend, root: Path) -> None:
    for turn in range(20):
        barrier = threading.Barrier(8)

        def write(number: int, key: str, barrier: threading.Barrier) -> bool:
            barrier.wait()
            return local.put_if_absent(key, b"%d" % number * 1000)

        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(write, n, f"k{turn}", barrier) for n in range(8)]
            winners = [n for n, future in enumerate(futures) if future.result()]
        assert len(winners) == 1
        assert (root / f"k{turn}").read_bytes() == b"%d" % winners[0] * 1000
    assert sorted(os.listdir(root)) == sorted(f"k{turn}" for turn in range(20))


def test_put_if_absent_without_hard_links(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert local.put_if_absent("a/k", b"first") is True
    assert local.put_if_absent("a/k", b"second") is False
    assert local.get("a/k", size_max=10) == b"first"
    assert keys(local) == ["a/k"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(
    local: LocalBackend, root: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RemoteError, match="disk is full") as caught:
        local.put("packs/1", BODY)
    assert not isinstance(caught.value, RemoteTransient)
    assert caught.value.hint
    assert os.listdir(root / "packs") == []


def test_forbidden() -> None:
    # Outside of tmp_path, which belongs to one user: root must become another one here.
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        (folder / "packs").mkdir(mode=0o755)
        (folder / "packs" / "1").write_bytes(b"x")
        (folder / "packs" / "1").chmod(0o000)
        (folder / "packs").chmod(0o555)
        backend = LocalBackend(str(folder))
        with unprivileged():
            for attempt in (
                lambda: backend.get("packs/1", size_max=10),
                lambda: backend.put("packs/2", b"x"),
                lambda: backend.put_if_absent("packs/2", b"x"),
                lambda: backend.delete("packs/1"),
            ):
                with pytest.raises(RemoteForbidden, match="Permission denied") as caught:
                    attempt()
                assert caught.value.hint
    finally:
        (folder / "packs").chmod(0o755)
        shutil.rmtree(folder)


def test_modes_follow_the_umask(local: LocalBackend, root: Path) -> None:
    before = os.umask(0o002)
    try:
        local.put("packs/1", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "packs").stat().st_mode) == 0o775
    assert stat.S_IMODE((root / "packs" / "1").stat().st_mode) == 0o664


def test_list_is_lazy(local: LocalBackend, root: Path) -> None:
    for name in ("a/1", "b/1"):
        local.put(name, b"")
    found = local.list("")
    assert next(found).key == "a/1"
    local.delete("b/1")
    (root / "b").rmdir()
    assert list(found) == []


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for a while if we are root, whom permissions do not stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


LARGE = bytes(range(256)) * 4096 * 3


@pytest.mark.parametrize("able", [True, False])
def test_a_file_goes_to_a_folder_and_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr("dvtool.remotes.transports.local.backend.COPY_STEP_BYTES", 1_000_000)
    calls = []
    real = getattr(os, "copy_file_range", None)

    def copy(*args: int, **options: int) -> int:
        calls.append(args)
        if not able and len(calls) % 2 == 0:
            raise OSError(errno.EXDEV, "injected")
        assert real is not None
        return int(real(*args, **options))

    monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
    if real is None:
        pytest.skip("this system copies nothing by itself")
    backend = LocalBackend(str(tmp_path))
    (tmp_path / "body").write_bytes(LARGE)
    with open(tmp_path / "body", "rb") as body:
        body.seek(5)
        assert backend.put("packs/ab", body).size == len(LARGE)
    assert (tmp_path / "packs/ab").read_bytes() == LARGE
    with open(tmp_path / "back", "xb") as file:
        assert backend.copy_into("packs/ab", file, size=len(LARGE)) == able
        if not able:
            assert os.fstat(file.fileno()).st_size == 0
            backend.read_into("packs/ab", file)
    assert (tmp_path / "back").read_bytes() == LARGE
    assert calls


def test_an_object_that_is_too_short_is_not_copied(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path))
    backend.put("k", b"short")
    with open(tmp_path / "back", "xb") as file:
        with pytest.raises(RemoteTransient):
            backend.copy_into("k", file, size=6)
        with pytest.raises(ObjectMissing):
            backend.copy_into("none", file, size=6)
    assert (tmp_path / "back").read_bytes() == b""
