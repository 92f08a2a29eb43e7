"""Walks see what git sees, and follow no link."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from dvtool.errors import InputError
from dvtool.system.atomic import temp_name
from dvtool.workspace import walk as walks
from dvtool.workspace.walk import refuse_faults, walk
from tests.unit.workspace.walking import faults, files, walked


def test_a_walk_sees_files_links_and_empty_folders(root: Path, outside: Path) -> None:
    (root / "t/a/b").mkdir(parents=True)
    (root / "t/empty").mkdir()
    (root / "t/a/file").write_text("x")
    (root / "t/a/link").symlink_to("file")
    (root / "t/out").symlink_to(outside)
    (root / "t/dangling").symlink_to("nowhere")
    (root / "t/a" / temp_name()).write_text("unfinished")
    found = walked(root, "t")
    assert list(found) == ["", "a", "a/b", "empty"]
    assert found["a"].files.keys() == {"file"}
    assert found["a"].links == {"link": "file"}
    assert found[""].links == {"out": str(outside), "dangling": "nowhere"}
    assert found["empty"].empty
    assert found["a/b"].empty
    assert not found["a"].empty


def test_what_cannot_be_versioned_is_named(root: Path) -> None:
    (root / "t/sub").mkdir(parents=True)
    os.mkfifo(root / "t/sub/pipe")
    short = os.path.relpath(root / "t/sub/socket")  # the path of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(short if len(short) < 100 else str(root / "t/sub/socket"))
        os.mkdir(os.fsencode(root) + b"/t/bad \xff")
        Path(os.fsdecode(os.fsencode(root) + b"/t/sub/name \xfe")).touch()
        found = faults(root, "t")
    assert found == {
        "sub/pipe": "is a named pipe, not a file",
        "sub/socket": "is a socket, not a file",
        "bad \udcff": "has a name that is not valid UTF-8",
        "sub/name \udcfe": "has a name that is not valid UTF-8",
    }
    with pytest.raises(InputError) as caught:
        refuse_faults(list(found.items()), "t")
    assert "t/sub/pipe is a named pipe" in str(caught.value)
    assert "\\udcff" in str(caught.value)
    str(caught.value).encode()


def test_a_device_is_named(root: Path) -> None:
    try:
        os.mknod(root / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make devices")
    assert faults(root) == {"null": "is a device, not a file"}


def test_a_folder_that_cannot_be_read_is_a_fault(root: Path) -> None:
    (root / "t/closed").mkdir(parents=True)
    (root / "t/closed").chmod(0)
    try:
        if os.geteuid():
            found = faults(root, "t")
        else:
            found = as_nobody(root)
    finally:
        (root / "t/closed").chmod(0o700)
    assert found == {"closed": "cannot be read (Permission denied)"}


def as_nobody(root: Path) -> dict[str, str]:
    """Walk in a child process without root's rights, for which no folder is closed."""
    for folder in [root, *root.parents]:
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65_534)
            os.setuid(65_534)
            os.write(start, repr(faults(root, "t")).encode())
        finally:
            os._exit(0)
    os.close(start)
    os.waitpid(child, 0)
    with open(end, encoding="utf-8") as file:
        found: dict[str, str] = eval(file.read())
    return found


def test_a_folder_that_vanishes_during_the_walk_is_a_fault(root: Path) -> None:
    (root / "t/a").mkdir(parents=True)
    folders = walk(str(root), "t")
    assert next(folders).folders == ["a"]
    (root / "t/a").rmdir()
    (gone,) = folders
    assert gone.faults == [("a", "cannot be read (No such file or directory)")]


def test_dereferencing_takes_links_for_what_they_point_to(root: Path, outside: Path) -> None:
    (root / "t/real").mkdir(parents=True)
    (root / "t/real/x").write_text("x")
    (root / "t/alias").symlink_to("real")
    (root / "t/again").symlink_to("real")
    (root / "t/out").symlink_to(outside)
    (root / "t/file").symlink_to(outside / "file")
    assert files(root, "t", follow=lambda *_: True) == {
        "real/x",
        "alias/x",
        "again/x",
        "out/file",
        "out/sub/file",
        "file",
    }
    assert not faults(root, "t", follow=lambda *_: True)


def test_dereferencing_names_loops_and_links_to_nothing(root: Path) -> None:
    (root / "t/a").mkdir(parents=True)
    (root / "t/a/up").symlink_to("..")
    (root / "t/self").symlink_to("self")
    (root / "t/nothing").symlink_to("nowhere")
    found = faults(root, "t", follow=lambda *_: True)
    assert found.keys() == {"a/up", "self", "nothing"}
    assert found["a/up"] == "is a symlink to a folder it is in"
    assert found["nothing"] == "is a symlink to nothing"


def test_a_folder_replaced_by_a_link_during_a_walk_is_not_followed(
    root: Path, outside: Path
) -> None:
    (root / "t/a/sub").mkdir(parents=True)
    (root / "t/a/file").write_text("ours")
    folders = walk(str(root), "t")
    assert next(folders).folders == ["a"]
    shutil.move(root / "t/a", root / "moved")
    (root / "t/a").symlink_to(outside)
    assert [folder.faults for folder in folders] == [
        [("a", "cannot be read (a symlink or a file is where a folder on the way should be)")]
    ]


def test_a_file_replaced_by_a_folder_during_a_walk_is_no_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "t").mkdir()
    (root / "t/f").write_text("x")
    sort_file = walks._sort_file

    def meanwhile(*file: Any, followed: bool) -> None:
        (root / "t/f").unlink()
        (root / "t/f").mkdir()
        sort_file(*file, followed=followed)

    monkeypatch.setattr(walks, "_sort_file", meanwhile)
    assert faults(root, "t") == {"f": "was replaced while it was looked at"}
