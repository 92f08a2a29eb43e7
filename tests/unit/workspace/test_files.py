"""The workspace: no link leads a read, write or removal outside."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.errors import InputError, UnsavedError
from dvtool.system.atomic import TEMP_PREFIX, temp_name
from dvtool.workspace.files import Workspace
from dvtool.workspace.held_folders import OPEN_FOLDERS_MAX
from dvtool.workspace.sparse import write_sparse
from dvtool.workspace.statcache import seen_written
from dvtool.workspace.walk import walk


def bytes_of(text: str) -> Callable[[int], None]:
    def fill(fd: int) -> None:
        os.write(fd, text.encode())

    return fill


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def no_temp_files(folder: Path) -> bool:
    return not list(folder.rglob(TEMP_PREFIX + "*"))


# --- links are never followed ---------------------------------------------------------------

ACTIONS: dict[str, Callable[[Workspace, str], object]] = {
    "write_file": lambda w, path: w.write_file(path, bytes_of("ours"), executable=False),
    "write_link": lambda w, path: w.write_link(path, "ours"),
    "make_folder": lambda w, path: w.make_folder(path + "/new"),
    "set_executable": lambda w, path: w.set_executable(path, True),
    "open_file": lambda w, path: w.open_file(path),
    "remove": lambda w, path: w.remove(path),
    "remove_empty_folder": lambda w, path: w.remove_empty_folder(path),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("path", ["link/file", "link/sub/file", "a/link/file", "a/link/sub/new"])
def test_a_link_on_the_way_stops_everything(
    workspace: Workspace, root: Path, outside: Path, action: str, path: str
) -> None:
    (root / "a").mkdir()
    (root / "link").symlink_to(outside)
    (root / "a" / "link").symlink_to(outside)
    before = content(outside)
    modes = (outside / "file").stat().st_mode
    with pytest.raises(UnsavedError, match="link"):
        ACTIONS[action](workspace, path)
    assert content(outside) == before
    assert (outside / "file").stat().st_mode == modes
    assert sorted(os.listdir(outside)) == ["file", "sub"]
    assert no_temp_files(outside.parent)


def test_what_lies_behind_a_link_is_not_there_for_readers(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside)
    assert workspace.stat("link/file") is None
    assert workspace.read_link("link/file") is None
    found = workspace.stat("link")
    assert found is not None
    assert stat.S_ISLNK(found.st_mode)
    with pytest.raises(OSError, match="link"):
        workspace.open_file("link")


def test_a_link_put_in_place_of_a_folder_in_use_is_not_followed(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    """The folder is held open from the first write; the second must notice the link."""
    workspace.write_file("data/a/1", bytes_of("one"), executable=False)
    shutil.move(root / "data", root.parent / "moved")
    (root / "data").symlink_to(root.parent / "moved")
    with pytest.raises(UnsavedError):
        workspace.write_file("data/a/1", bytes_of("two"), executable=False)
    assert content(root.parent / "moved") == {"a/1": "one"}


def test_writing_at_a_link_replaces_the_link(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside / "file")
    (root / "other").symlink_to(outside)
    workspace.write_file("link", bytes_of("ours"), executable=False)
    workspace.write_link("other", "link")
    assert (root / "link").read_text() == "ours"
    assert not (root / "link").is_symlink()
    assert os.readlink(root / "other") == "link"
    workspace.remove("other")
    assert content(outside) == {"file": "theirs", "sub/file": "theirs"}


def test_removing_a_link_leaves_what_it_points_to(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside)
    assert not workspace.remove_empty_folder("link")
    workspace.remove("link")
    assert not (root / "link").is_symlink()
    assert content(outside) == {"file": "theirs", "sub/file": "theirs"}


def test_a_file_on_the_way_is_in_the_way(workspace: Workspace, root: Path) -> None:
    (root / "file").write_text("mine")
    with pytest.raises(UnsavedError, match="file is a symlink or a file"):
        workspace.write_file("file/below", bytes_of("ours"), executable=False)
    assert workspace.stat("file/below") is None
    assert (root / "file").read_text() == "mine"


# --- writing --------------------------------------------------------------------------------


@pytest.mark.parametrize("executable", [False, True])
def test_write_file_makes_folders_and_sets_the_mode(
    workspace: Workspace, root: Path, executable: bool
) -> None:
    found = workspace.write_file("a/b/c", bytes_of("text"), executable=executable)
    assert (root / "a/b/c").read_text() == "text"
    assert bool((root / "a/b/c").stat().st_mode & stat.S_IXUSR) == executable
    assert os.path.samestat(found, (root / "a/b/c").stat())
    again = workspace.set_executable("a/b/c", not executable)
    assert bool(again.st_mode & stat.S_IXUSR) != executable


def test_set_executable_gives_it_to_those_who_may_read(workspace: Workspace, root: Path) -> None:
    (root / "file").touch()
    (root / "file").chmod(0o640)
    assert stat.S_IMODE(workspace.set_executable("file", True).st_mode) == 0o750
    assert stat.S_IMODE(workspace.set_executable("file", False).st_mode) == 0o640


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_when_fill_raises_the_old_file_stays(
    workspace: Workspace, root: Path, error: type[BaseException]
) -> None:
    (root / "a").mkdir()
    (root / "a/file").write_text("old")

    def fill(fd: int) -> None:
        os.write(fd, b"half")
        raise error

    with pytest.raises(error):
        workspace.write_file("a/file", fill, executable=False)
    with pytest.raises(error):
        workspace.write_file("a/new", fill, executable=False)
    assert content(root) == {"a/file": "old"}
    assert no_temp_files(root)


def test_an_empty_folder_gives_way_to_a_file_and_a_full_one_does_not(
    workspace: Workspace, root: Path
) -> None:
    (root / "empty").mkdir()
    (root / "full").mkdir()
    (root / "full/file").write_text("mine")
    workspace.write_file("empty", bytes_of("x"), executable=False)
    for write in (ACTIONS["write_file"], ACTIONS["write_link"]):
        with pytest.raises(UnsavedError, match="full"):
            write(workspace, "full")
    assert content(root) == {"empty": "x", "full/file": "mine"}
    assert no_temp_files(root)


def test_removing_what_is_gone_is_fine(workspace: Workspace, root: Path) -> None:
    workspace.remove("nothing")
    workspace.remove("no/folder/nothing")
    assert workspace.remove_empty_folder("nothing")
    workspace.make_folder("a/b")
    workspace.make_folder("a/b")
    assert not workspace.remove_empty_folder("a")
    assert workspace.remove_empty_folder("a/b")
    assert workspace.remove_empty_folder("a")
    assert os.listdir(root) == []


# --- folders held open ----------------------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
@pytest.mark.parametrize("shape", ["a/{}", "{}", "{0}/{0}/{0}", "a/b/c/d/{}/e"])
def test_few_folders_are_held_open_however_many_are_written(
    workspace: Workspace, root: Path, shape: str
) -> None:
    before = open_descriptors()
    for round_ in range(2):
        for number in range(3 * OPEN_FOLDERS_MAX):
            path = shape.format(number) + "/file"
            workspace.write_file(path, bytes_of(f"{path} {round_}"), executable=False)
            assert open_descriptors() <= before + OPEN_FOLDERS_MAX
    found = content(root)
    assert len(found) == 3 * OPEN_FOLDERS_MAX
    assert all(text == f"{path} 1" for path, text in found.items())
    workspace.close()
    assert open_descriptors() == before


def test_a_path_deeper_than_the_folders_held_open(workspace: Workspace, root: Path) -> None:
    path = "/".join(["d"] * (2 * OPEN_FOLDERS_MAX)) + "/file"
    for text in ("one", "two"):
        workspace.write_file(path, bytes_of(text), executable=False)
        assert (root / path).read_text() == text


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_descriptors_are_not_the_limit(workspace: Workspace, root: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + OPEN_FOLDERS_MAX + 8, hard))
    try:
        for number in range(4 * OPEN_FOLDERS_MAX):
            workspace.write_file(f"a/{number}/x", bytes_of("x"), executable=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_folder_removed_and_made_again_is_found(workspace: Workspace, root: Path) -> None:
    for number in range(3):
        workspace.write_file("a/b/c", bytes_of(str(number)), executable=False)
        assert (root / "a/b/c").read_text() == str(number)
        shutil.rmtree(root / "a")
        assert workspace.stat("a/b/c") is None
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/c").write_text("by hand")
        with open(workspace.open_file("a/b/c"), encoding="utf-8") as file:
            assert file.read() == "by hand"
        shutil.rmtree(root / "a")


def test_a_folder_moved_away_is_not_written_to(workspace: Workspace, root: Path) -> None:
    """A backup made with `mv data old` must survive the checkout that follows."""
    workspace.write_file("data/sub/file", bytes_of("old"), executable=False)
    (root / "data").rename(root / "old")
    workspace.write_file("data/sub/file", bytes_of("new"), executable=False)
    workspace.remove("old/nothing")
    assert content(root) == {"old/sub/file": "old", "data/sub/file": "new"}
    (root / "data/sub").rename(root / "elsewhere")
    workspace.remove("data/sub/file")
    assert content(root) == {"old/sub/file": "old", "elsewhere/file": "new"}


def test_a_folder_exchanged_while_a_file_in_it_is_written(workspace: Workspace, root: Path) -> None:
    """The file goes where it was begun; what is asked meanwhile is asked of what is there."""
    (root / "data").mkdir()
    (root / "other").mkdir()
    (root / "other/here").write_text("other")

    def fill(fd: int) -> None:
        (root / "data").rename(root / "old")
        (root / "other").rename(root / "data")
        assert workspace.stat("data/here") is not None
        os.write(fd, b"new")

    workspace.write_file("data/file", fill, executable=False)
    assert content(root) == {"old/file": "new", "data/here": "other"}


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../x", "./x", "a/./x", ".git/x", ".GIT/hooks/x", "a/.git", "git~1/x", ".git"],
)
@pytest.mark.parametrize("action", ["write_file", "write_link", "make_folder"])
def test_no_write_leads_out_by_its_name(
    workspace: Workspace, root: Path, action: str, path: str
) -> None:
    """Manifests with such paths are refused long before; this is the last line."""
    (root / "a").mkdir()
    (root / ".git").mkdir()
    with pytest.raises(InputError):
        ACTIONS[action](workspace, path)
    assert sorted(os.listdir(root)) == [".git", "a"]
    assert not os.listdir(root / ".git")
    assert os.listdir(root.parent) == ["root"]


# --- hard links, unfinished files, renames --------------------------------------------------


def test_the_other_names_of_a_file_keep_their_mode(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    os.link(outside / "file", root / "file")
    found = workspace.set_executable("file", True)
    assert found.st_mode & 0o111
    assert (root / "file").read_text() == "theirs"
    assert not (outside / "file").stat().st_mode & 0o111
    assert workspace.set_executable("file", True).st_ino == found.st_ino
    workspace.write_file("file", bytes_of("ours"), executable=False)
    assert content(outside) == {"file": "theirs", "sub/file": "theirs"}


def test_unfinished_files_are_swept_once_they_are_old(workspace: Workspace, root: Path) -> None:
    (root / "t").mkdir()
    old, young, own = temp_name(), temp_name(), TEMP_PREFIX + "notes"
    for name in (old, young, own):
        (root / "t" / name).write_text("half")
    for name in (old, own):
        os.utime(root / "t" / name, (1, 1))
    (folder,) = walk(str(root), "t")
    assert sorted(folder.unfinished) == sorted([old, young])
    assert folder.files.keys() == {own}
    workspace.sweep(f"t/{name}" for name in (old, young, own))
    assert sorted(os.listdir(root / "t")) == sorted([young, own])
    os.utime(root / "t" / young, (1, 1))
    workspace.sweep_beside("t/x")
    assert os.listdir(root / "t") == [own]


def test_a_rename_follows_no_link(workspace: Workspace, root: Path, outside: Path) -> None:
    (root / "a").mkdir()
    (root / "a/f").write_text("ours")
    (root / "link").symlink_to(outside)
    workspace.rename("a/f", "b/c/f")
    assert content(root / "b") == {"c/f": "ours"}
    for source, destination in (("b/c/f", "link/f"), ("link/file", "f")):
        with pytest.raises(UnsavedError, match="link"):
            workspace.rename(source, destination)
    workspace.rename("b", "d")
    assert content(root / "d") == {"c/f": "ours"}
    assert content(outside) == {"file": "theirs", "sub/file": "theirs"}


HOLE = 64 << 10


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [bytes(3 * HOLE)],
        [b"a" + bytes(4 * HOLE) + b"z"],
        [bytes(HOLE), b"x" * HOLE, bytes(2 * HOLE)],
        [bytes(HOLE - 1), b"end"],
        [b"\0" + b"x" * (HOLE - 2) + b"\0", bytes(HOLE + 7)],
        [bytes(5), bytes(HOLE), b"y", bytes(HOLE)],
    ],
)
def test_long_runs_of_zeros_are_written_as_holes(tmp_path: Path, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    path = tmp_path / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        assert write_sparse(fd, map(memoryview, parts)) == len(whole)
    finally:
        os.close(fd)
    assert path.read_bytes() == whole
    written = sum(
        HOLE for part in parts for at in range(0, len(part), HOLE) if any(part[at : at + HOLE])
    )
    assert path.stat().st_blocks * 512 <= written + 3 * HOLE


def test_a_sparse_file_takes_no_more_room_than_it_did(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        parts = [memoryview(bytes(256 << 10))] * 400 + [memoryview(b"abc")]
        assert write_sparse(fd, parts) == (100 << 20) + 3
    finally:
        os.close(fd)
    assert path.stat().st_blocks * 512 < 1 << 20


# --- stamps that can be believed ------------------------------------------------------------


def test_a_file_of_a_target_is_older_than_any_edit_of_it(workspace: Workspace, root: Path) -> None:
    """Also one in the same tick of the clock, by which the edit has the same stamp as the file."""
    for number in range(50):
        written = workspace.write_data(f"{number}", bytes_of("dv's"), executable=False)
        (new,) = workspace.write_new("", [(f"new{number}", False, [memoryview(b"dv's")])])
        for name, stamp in ((f"{number}", written), (f"new{number}", new)):
            assert stamp is not None
            seen = seen_written(stamp, b"", executable=False)
            assert seen.matches((root / name).stat())
            with open(root / name, "r+b") as file:
                file.write(b"USER")
            assert not seen.matches((root / name).stat())


def test_a_stamp_proves_nothing_where_a_disk_takes_no_time(
    workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "utime", lambda *_, **__: None)
    monkeypatch.setattr(os, "supports_fd", os.supports_fd | {os.utime})
    stamp = workspace.write_data("x", bytes_of("text"), executable=False)
    assert not seen_written(stamp, b"", executable=False).matches((root / "x").stat())
    (new,) = workspace.write_new("", [("y", False, [memoryview(b"text")])])
    assert new is not None
    assert not seen_written(new, b"", executable=False).matches((root / "y").stat())


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="no files without names here")
def test_an_edit_between_the_name_and_the_look_is_noticed(
    workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_and_edit(source: str, name: str, *, dst_dir_fd: int) -> None:
        link(source, name, dst_dir_fd=dst_dir_fd)
        if edited:
            with open(root / name, "r+b") as file:
                file.write(b"USER")

    monkeypatch.setattr(os, "link", link_and_edit)
    edited = False
    (stamp,) = workspace.write_new("", [("x", False, [memoryview(b"dv's")])])
    assert stamp is not None
    assert seen_written(stamp, b"", executable=False).matches((root / "x").stat())
    edited = True
    for name, stamp in zip(
        ("y", "z"),
        workspace.write_new("", [(name, False, [memoryview(b"dv's")]) for name in ("y", "z")]),
        strict=True,
    ):
        assert stamp is not None
        assert not seen_written(stamp, b"", executable=False).matches((root / name).stat())


@pytest.mark.parametrize("unnamed", [True, False])
def test_the_clock_is_the_disks_own(
    workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    workspace._unnamed.available = workspace._unnamed.available and unnamed
    (root / "a").mkdir()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    for place in ("a", "a/none/there", ""):
        (root / "before").write_text("x")
        now = workspace.clock_ns(place)
        (root / "after").write_text("x")
        before, after = (root / "before").stat(), (root / "after").stat()
        assert before.st_mtime_ns <= now <= after.st_mtime_ns
    assert sorted(os.listdir(root)) == ["a", "after", "before"]
    assert os.listdir(root / "a") == []


def test_a_clock_that_cannot_be_asked_is_guessed_late(
    workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    assert workspace.clock_ns("") <= time.time_ns() - 2 * 10**9
