"""Files that are written into a folder which takes its place later: whole, or not there at all."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvtool.errors import UnsavedError
from dvtool.system import rename as renaming
from dvtool.workspace.files import Workspace
from dvtool.workspace.staged import StagedFiles, makes_alike


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[StagedFiles]:
    with StagedFiles(str(tmp_path)) as files:
        yield files


def test_a_stamp_is_that_of_the_file_and_of_a_later_change_no_more(
    staged: StagedFiles, tmp_path: Path
) -> None:
    for path in ("a/b/one", "a/two", "a/b/three", "four"):
        stamp = staged.write(path, b"data")
        assert stamp is not None
        now = (tmp_path / path).stat()
        assert stamp == (now.st_mtime_ns, now.st_ctime_ns, now.st_size, now.st_ino)
        (tmp_path / path).write_bytes(b"else")  # in the same tick, maybe
        assert (tmp_path / path).stat().st_mtime_ns != stamp.st_mtime_ns


def test_a_file_in_the_way_stays(staged: StagedFiles, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    assert staged.write("a", b"new") is None
    assert staged.write("a/b", b"new") is None
    assert staged.write("c", b"new") is not None
    assert (tmp_path / "a").read_bytes() == b"old"


def test_of_a_file_that_could_not_be_written_nothing_stays(
    staged: StagedFiles, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert staged.write("long", bytes(range(200)) * 10) is None
        assert staged.write("short", b"short") is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["short"]


def test_folders_that_hand_on_something_else_are_told_apart(tmp_path: Path) -> None:
    plain, other, setgid = (tmp_path / name for name in ("plain", "other", "setgid"))
    for folder in (plain, other, setgid):
        folder.mkdir()
    setgid.chmod(0o2755)
    assert makes_alike(str(plain), str(other))
    assert not makes_alike(str(plain), str(setgid))
    assert not makes_alike(str(plain), "/proc")
    assert not makes_alike(str(plain), str(tmp_path / "nothing"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
def test_a_folder_of_another_group_may_hand_it_on(tmp_path: Path) -> None:
    """As on a disk that is mounted with grpid, which a folder does not show."""
    plain, other = tmp_path / "plain", tmp_path / "other"
    for folder in (plain, other):
        folder.mkdir()
    os.chown(other, -1, 12345)
    assert not makes_alike(str(plain), str(other))


def test_a_folder_is_brought_to_where_nothing_is_alone(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "a").write_bytes(b"new")
    root = tmp_path / "root"
    (root / "taken").mkdir(parents=True)
    with Workspace(str(root)) as workspace:
        with pytest.raises(UnsavedError):
            workspace.bring_in(str(new), "taken")
        assert os.listdir(root / "taken") == []
        workspace.bring_in(str(new), "deep/free")
    assert (root / "deep/free/a").read_bytes() == b"new"
    assert not new.exists()


def test_a_folder_that_appears_in_the_last_moment_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, place = tmp_path / "new", tmp_path / "root/free"
    new.mkdir()
    place.parent.mkdir()

    def after_it_appears(call: Callable[..., Any]) -> Callable[..., Any]:
        def rename(*args: Any, **options: Any) -> Any:
            place.mkdir(exist_ok=True)
            return call(*args, **options)

        return rename

    by_system = renaming._call()
    if by_system is None:
        pytest.skip("this system cannot rename without replacing")
    monkeypatch.setattr(os, "rename", after_it_appears(os.rename))
    monkeypatch.setattr(renaming, "_call", lambda: after_it_appears(by_system))
    with Workspace(str(place.parent)) as workspace, pytest.raises(UnsavedError):
        workspace.bring_in(str(new), "free")
    assert new.exists()
