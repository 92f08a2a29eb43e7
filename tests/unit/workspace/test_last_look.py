"""The last look: only what the caller believed to be there is replaced or removed."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvtool.errors import UnsavedError
from dvtool.format.digest import digest_of
from dvtool.system import rename
from dvtool.system.atomic import TEMP_PREFIX, aside_name, parse_aside
from dvtool.workspace import files, last_look
from dvtool.workspace.files import KEPT, Workspace
from dvtool.workspace.last_look import Believed, FileThere, LinkThere, There, temp_for
from dvtool.workspace.walk import walk

USER = "the user's, in no manifest"


def bytes_of(text: str) -> Callable[[int], None]:
    def fill(fd: int) -> None:
        os.write(fd, text.encode())

    return fill


def file_at(path: Path, text: str = "planned") -> Believed:
    path.write_text(text)
    return FileThere(path.stat(), digest_of(text.encode()))


def link_at(path: Path) -> Believed:
    path.symlink_to("planned")
    return LinkThere("planned")


def folder_at(path: Path) -> Believed:
    path.mkdir()
    return There.FOLDER


def nothing_at(path: Path) -> Believed:
    return There.NOTHING


def edit_in_place(path: Path) -> None:
    """Change a file and set its time back, so that its stat shows nothing."""
    before = path.stat()
    path.write_text("PLANNED")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_text(USER)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    other.rename(path)


def put_link(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.symlink_to("elsewhere")


def put_folder(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    path.mkdir(exist_ok=True)
    (path / "inside").write_text(USER)


PLANNED = {"file": file_at, "link": link_at, "folder": folder_at, "nothing": nothing_at}
MEDDLED = {"file": put_file, "link": put_link, "folder": put_folder, "edited": edit_in_place}
PAIRS = [
    (planned, meddled)
    for planned in PLANNED
    for meddled in MEDDLED
    if meddled != "edited" or planned == "file"
]
ACTS: dict[str, Callable[[Workspace, str, Believed], object]] = {
    "write_file": lambda w, path, believed: w.write_file(
        path, bytes_of("ours"), executable=False, believed=believed
    ),
    "write_link": lambda w, path, believed: w.write_link(path, "ours", believed=believed),
    "remove": lambda w, path, believed: w.remove(path, believed=believed),
}


@pytest.fixture(params=["as it is", "no exchange", "no such renames", "no links either"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system, or a disk, that has no more than that."""
    if request.param == "no exchange":
        monkeypatch.setattr(last_look, "exchange", lambda *_, **__: False)
    elif request.param != "as it is":
        monkeypatch.setattr(rename, "_call", lambda: None)
    if request.param == "no links either":

        def no_links(*_: object, **__: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(os, "link", no_links)
    return str(request.param)


def state_of(folder: Path) -> dict[str, str]:
    """Return what is in a folder and below it: what links point to, and what files have."""
    state = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            state[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            state[name] = "/"
        else:
            state[name] = path.read_text()
    return state


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("planned", PLANNED)
def test_what_was_planned_with_is_replaced_or_removed(
    workspace: Workspace, root: Path, system: str, act: str, planned: str
) -> None:
    believed = PLANNED[planned](root / "x")
    ACTS[act](workspace, "x", believed)
    done = {"write_file": {"x": "ours"}, "write_link": {"x": "-> ours"}, "remove": {}}
    assert state_of(root) == done[act]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("planned", PLANNED)
def test_what_is_gone_by_then_is_no_error(
    workspace: Workspace, root: Path, system: str, act: str, planned: str
) -> None:
    believed = PLANNED[planned](root / "x")
    if planned == "folder":
        (root / "x").rmdir()
    else:
        (root / "x").unlink(missing_ok=True)
    ACTS[act](workspace, "x", believed)
    assert state_of(root).keys() == ({"x"} if act != "remove" else set())


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("planned", "meddled"), PAIRS)
def test_what_took_its_place_before_stays(
    workspace: Workspace, root: Path, system: str, act: str, planned: str, meddled: str
) -> None:
    believed = PLANNED[planned](root / "x")
    MEDDLED[meddled](root / "x")
    before = state_of(root)
    if act == "remove" and planned == "nothing":
        ACTS[act](workspace, "x", believed)
    else:
        with pytest.raises(UnsavedError, match="x changed while dvtool was at work"):
            ACTS[act](workspace, "x", believed)
    assert state_of(root) == before


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("meddled", MEDDLED)
@pytest.mark.parametrize("planned", ["file", "link"])
def test_what_takes_its_place_after_the_look_stays(
    workspace: Workspace,
    root: Path,
    system: str,
    act: str,
    planned: str,
    meddled: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The change comes when the stat has been looked at and nothing has been moved."""
    if meddled == "edited" and planned == "link":
        return
    believed = PLANNED[planned](root / "x")
    states: list[dict[str, str]] = []

    real = last_look._is_still_there

    def meddle(name: str, folder: int | None, what: FileThere, *, content: bool) -> bool:
        answer = real(name, folder, what, content=content)
        if not states:
            MEDDLED[meddled](root / "x")
            states.append(
                {
                    name: what
                    for name, what in state_of(root).items()
                    if not name.startswith(TEMP_PREFIX)
                }
            )
        return answer

    monkeypatch.setattr(last_look, "_is_still_there", meddle)
    with pytest.raises(UnsavedError, match="x changed while dvtool was at work"):
        ACTS[act](workspace, "x", believed)
    assert state_of(root) == states[0]


def test_what_takes_the_name_while_something_is_aside_stays_too(
    workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    believed = file_at(root / "x")
    (root / "x").write_text("first")
    real, done = last_look._is_still_there, False

    def meddle(name: str, folder: int | None, what: FileThere, *, content: bool) -> bool:
        nonlocal done
        if not content:
            return True  # the first change came just after this look
        if not done:
            done = True
            (root / "second").write_text("second")
            (root / "second").rename(root / "x")
        return real(name, folder, what, content=content)

    monkeypatch.setattr(last_look, "_is_still_there", meddle)
    with pytest.raises(UnsavedError, match=r"it has the name x\.kept-1 now"):
        workspace.remove("x", believed=believed)
    assert state_of(root) == {"x": "second", "x.kept-1": "first"}


def test_a_change_through_a_mapping_that_moves_no_stamp_is_kept(
    workspace: Workspace, root: Path
) -> None:
    (root / "x").write_bytes(bytes(8192))
    with open(root / "x", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0] = 1
        believed = FileThere((root / "x").stat(), digest_of(mapped[:]))
        mapped[1] = 2  # a page that is dirty already: no stamp need move
        with pytest.raises(UnsavedError, match="x changed"):
            workspace.remove("x", believed=believed)
        with pytest.raises(UnsavedError, match="x changed"):
            workspace.write_file("x", bytes_of("ours"), executable=False, believed=believed)
        assert (root / "x").read_bytes()[:3] == b"\1\2\0"


def test_a_rename_replaces_nothing(workspace: Workspace, root: Path, system: str) -> None:
    for name in ("a", "b"):
        (root / name).mkdir()
        (root / name / "file").write_text(name)
    with pytest.raises(UnsavedError, match="b changed"):
        workspace.rename("a", "b")
    with pytest.raises(UnsavedError, match="b/file changed"):
        workspace.rename("a/file", "b/file")
    (root / "empty").mkdir()
    with pytest.raises(UnsavedError, match="empty changed"):
        workspace.rename("a", "empty")
    assert state_of(root) == {"a": "/", "a/file": "a", "b": "/", "b/file": "b", "empty": "/"}
    workspace.rename("a", "c")
    workspace.rename("c/file", "c/moved")
    assert state_of(root)["c/moved"] == "a"


# --- what a crash leaves aside --------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let what is a moment old count as left by a crash: no test can set a ctime back."""
    monkeypatch.setattr(files, "UNFINISHED_STALE_S", -5)
    return iter(())


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_crash_left_aside_goes_if_it_is_what_was_to_go(
    workspace: Workspace, root: Path, soon: None, kind: str
) -> None:
    (root / "t").mkdir()
    old = root / temp_for("t/x", PLANNED[kind](root / "t/x"))
    (root / "t/x").rename(old)
    (root / "t/x").write_text("ours")
    (folder,) = walk(str(root), "t")
    assert folder.unfinished == [old.name]
    workspace.sweep([f"t/{old.name}"])
    assert state_of(root / "t") == {"x": "ours"}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_crash_left_unfinished_goes_if_what_it_was_to_replace_is_there(
    workspace: Workspace, root: Path, soon: None, kind: str
) -> None:
    (root / "t").mkdir()
    new = root / temp_for("t/x", PLANNED[kind](root / "t/x"))
    new.write_text("half of")
    before = state_of(root / "t")
    workspace.sweep_beside("t/y")
    del before[new.name]
    assert state_of(root / "t") == before


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_crash_left_aside_gets_a_name_if_it_may_be_nowhere_else(
    workspace: Workspace, root: Path, soon: None, kind: str
) -> None:
    (root / "t").mkdir()
    believed = PLANNED[kind](root / "t/x")
    (root / "t/x").unlink()
    (root / "t/x").write_text("ours")
    for text in ("one", "two"):
        (root / temp_for("t/x", believed)).write_text(text)
    (root / temp_for("t/x", believed)).symlink_to("elsewhere")
    workspace.sweep_beside("t/x")
    state = state_of(root / "t")
    assert state.pop("x") == "ours"
    assert sorted(state.values()) == ["-> elsewhere", "one", "two"]
    assert all(name.startswith(KEPT) for name in state)


def test_what_was_to_be_removed_is_not_taken_for_what_takes_a_place(
    workspace: Workspace, root: Path, soon: None
) -> None:
    """What is at the name again, as by a checkout, says nothing of what was moved aside."""
    (root / "x").write_text("planned")
    (root / aside_name(digest_of(b"planned"), last_look.NO_MARK)).write_text("edited")
    workspace.sweep_beside("x")
    assert state_of(root) == {"x": "planned", KEPT: "edited"}


def test_what_is_aside_now_is_left_to_who_moved_it(workspace: Workspace, root: Path) -> None:
    name = aside_name(digest_of(b"planned"), last_look.NO_MARK)
    (root / name).write_text("planned")
    os.utime(root / name, (1, 1))  # the file is old, its being aside is not
    workspace.sweep([name])
    assert os.listdir(root) == [name]
    assert time.time() - (root / name).stat().st_ctime < files.UNFINISHED_STALE_S


def test_an_aside_name_says_what_it_stands_for() -> None:
    digest = digest_of(b"planned")
    aside = parse_aside(os.path.basename(temp_for("a/x", FileThere(None, digest))))
    assert aside is not None
    assert digest.hex().startswith(aside.digest)
    assert len(aside.digest) == 32
    assert digest_of(b"x").hex().startswith(aside.mark)
    assert parse_aside(TEMP_PREFIX + "1-0123456789ab") is None
