"""What the user, or git, changes while a command is at work: it stays, whatever it is."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvtool.errors import UnsavedError
from dvtool.repo import Repo
from dvtool.verbs import drop
from dvtool.verbs.add import publish
from dvtool.verbs.checkout import restore, write
from dvtool.verbs.edit import move as edit_move, remove as edit_remove
from dvtool.verbs.resolve import settle
from tests.scenario import Clone, Remote, noise

USER = b"the user's, in no manifest"


@pytest.fixture
def mine(tmp_path: Path) -> Clone:
    return Clone.new(tmp_path / "mine", Remote(str(tmp_path / "remote")))


def just_before(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, act: Callable[[], object]
) -> None:
    """Let `act` happen, once, when a function of a module is called."""
    real = getattr(module, name)
    left = [act]

    def first_act(*args: Any, **keywords: Any) -> Any:
        while left:
            left.pop()()
        return real(*args, **keywords)

    monkeypatch.setattr(module, name, first_act)


def just_after(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, act: Callable[[], object]
) -> None:
    """Let `act` happen each time a function of a module has done its work."""
    real = getattr(module, name)

    def then_act(*args: Any, **keywords: Any) -> Any:
        result = real(*args, **keywords)
        act()
        return result

    monkeypatch.setattr(module, name, then_act)


# --- files, links and folders ---------------------------------------------------------------

KINDS = ("file", "link", "folder", "nothing")


def gone(clone: Clone) -> None:
    if os.path.lexists(clone.path / "data/x"):
        clone.remove("data/x")


def put(clone: Clone, kind: str) -> None:
    gone(clone)
    if kind == "file":
        clone.write("data/x", b"planned")
    elif kind == "link":
        clone.link("data/x", "y")
    elif kind == "folder":
        (clone.path / "data/x").mkdir()


@pytest.mark.parametrize("after", KINDS)
@pytest.mark.parametrize("before", KINDS)
def test_what_a_user_puts_in_its_place_during_a_checkout_stays(
    mine: Clone, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    if before == after:
        return
    mine.write("data/y", b"y")
    put(mine, after)
    mine.add("data")
    mine.commit("one")
    put(mine, before)
    mine.add("data")
    mine.commit("two")

    def meddle() -> None:
        gone(mine)
        mine.write("data/x", USER)

    just_before(monkeypatch, write, "_apply", meddle)
    # A folder that is no entry any more is left where something is in it: nothing is in the way.
    stays = (before, after) == ("folder", "nothing")
    expected = contextlib.nullcontext() if stays else pytest.raises(UnsavedError, match="data/x")
    with mine.repo() as repo, expected:
        repo.checkout("HEAD~1")
    assert (mine.path / "data/x").read_bytes() == USER
    mine.remove("data/x")
    with mine.repo() as repo:
        repo.checkout("HEAD~1")
    assert os.path.lexists(mine.path / "data/x") == (after != "nothing")


@pytest.mark.parametrize("kind", ["file", "link"])
@pytest.mark.parametrize("verb", ["rm", "drop"])
def test_what_a_user_puts_in_its_place_before_it_is_removed_stays(
    mine: Clone, monkeypatch: pytest.MonkeyPatch, verb: str, kind: str
) -> None:
    mine.write("data/y", b"y")
    put(mine, kind)
    mine.add("data")
    mine.commit("one")
    with mine.repo() as repo:
        repo.push()

    def meddle() -> None:
        gone(mine)
        mine.write("data/x", USER)

    module, name = (edit_remove, "keep_uncommitted") if verb == "rm" else (drop, "_clear")
    just_before(monkeypatch, module, name, meddle)
    with mine.repo() as repo, pytest.raises(UnsavedError, match="data/x changed"):
        repo.rm(["data"], data=True) if verb == "rm" else repo.drop(["data"])
    assert (mine.path / "data/x").read_bytes() == USER
    with mine.repo() as repo:
        assert (mine.path / "data.dv.json").exists()
        assert repo.targets() == ["data"]


# --- manifests ------------------------------------------------------------------------------


def colleague(clone: Clone, **files: bytes) -> bytes:
    """Return the manifest that another user of the repository makes with these changes."""
    other = Clone(clone.path.with_name(f"colleague-{len(files)}-{'-'.join(files)}"))
    clone.git("clone", "-q", str(clone.path), str(other.path))
    for name, data in files.items():
        other.write(f"data/{name}", data)
    with Repo.open(str(other.path)) as repo:
        new = not repo.targets()
        repo.add(["data"] if new else [f"data/{name}" for name in files])
    return (other.path / "data.dv.json").read_bytes()


def entries(clone: Clone) -> set[str]:
    with clone.repo() as repo:
        return {line.path for line in repo.ls(["data"])}


def test_an_add_keeps_what_a_pull_brought_meanwhile(
    mine: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine.write("data/x", b"x")
    mine.add("data")
    mine.commit("one")
    theirs = colleague(mine, theirs=b"theirs")
    mine.write("data/ours", noise(1000))
    just_after(
        monkeypatch,
        publish,
        "store_files",
        lambda: (mine.path / "data.dv.json").write_bytes(theirs),
    )
    with mine.repo() as repo:
        (added,) = repo.add(["data"])
    assert added.added == 1
    assert "changed while dvtool was at work" in added.warnings[0]
    assert entries(mine) == {"data/x", "data/ours", "data/theirs"}
    staged = mine.git("show", ":data.dv.json")
    assert '"theirs"' in staged
    assert '"ours"' in staged
    with mine.repo() as repo:
        (status,) = repo.status()
    assert (status.modified, status.deleted) == ([], [])


def test_an_add_of_what_a_pull_changed_too_is_refused_and_goes_on_when_repeated(
    mine: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine.write("data/x", b"x")
    mine.add("data")
    mine.commit("one")
    theirs = colleague(mine, x=b"theirs", y=b"more")
    mine.write("data/x", b"ours")
    just_after(
        monkeypatch,
        publish,
        "store_files",
        lambda: (mine.path / "data.dv.json").write_bytes(theirs),
    )
    with pytest.raises(UnsavedError, match=r"at work, in entries.*\n  data/x\n?"):
        mine.add("data")
    assert (mine.path / "data.dv.json").read_bytes() == theirs
    monkeypatch.undo()
    with mine.repo() as repo:
        (added,) = repo.add(["data"], ours=True)
        assert added.stored_bytes == 0, "the content was stored before"
    assert entries(mine) == {"data/x", "data/y"}


def test_a_first_add_of_what_is_a_target_by_then_is_merged_too(
    mine: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine.write("code", b"pass")
    mine.git("add", "code")
    mine.commit("code")
    theirs = colleague(mine, theirs=b"theirs")
    mine.write("data/ours", b"ours")
    just_after(
        monkeypatch,
        publish,
        "store_files",
        lambda: (mine.path / "data.dv.json").write_bytes(theirs),
    )
    mine.add("data")
    assert entries(mine) == {"data/ours", "data/theirs"}


def test_an_add_makes_no_target_again_of_what_was_taken_out_meanwhile(
    mine: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine.write("data/x", b"x")
    mine.add("data")
    mine.commit("one")
    mine.write("data/y", b"y")
    manifest = mine.path / "data.dv.json"
    just_after(monkeypatch, publish, "store_files", manifest.unlink)
    with pytest.raises(UnsavedError, match=r"data\.dv\.json was removed"):
        mine.add("data")
    assert not manifest.exists()


WRITERS: dict[str, tuple[Any, str, Callable[[Repo], object]]] = {
    "rm": (edit_remove, "update", lambda repo: repo.rm(["data/x"])),
    "rm, all": (edit_remove, "unignore_target", lambda repo: repo.rm(["data"])),
    "mv": (edit_move, "update", lambda repo: repo.mv("data/x", "data/z")),
    "mv, all": (edit_move, "_move_seen", lambda repo: repo.mv("data", "other")),
    "checkout of a path": (restore, "update", lambda repo: repo.checkout("HEAD~1", ["data/x"])),
    "checkout": (restore, "apply_checkout", lambda repo: repo.checkout("HEAD~1")),
    "resolve": (settle, "update", lambda repo: repo.resolve(side="theirs")),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_no_writer_of_a_manifest_undoes_what_a_pull_brought_meanwhile(
    mine: Clone, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    mine.write("data/x", b"x")
    mine.add("data")
    mine.commit("one")
    mine.write("data/x", b"two")
    mine.add("data")
    mine.commit("two")
    theirs = colleague(mine, theirs=b"theirs")
    if writer == "resolve":
        mine.git("branch", "side", "HEAD~1")
        mine.git("checkout", "-q", "side")
        with mine.repo() as repo:
            repo.checkout()
        mine.write("data/x", b"side")
        mine.add("data")
        mine.commit("side")
        mine.git("checkout", "-q", "main")
        with mine.repo() as repo:
            repo.checkout()
        subprocess.run(["git", "merge", "side"], cwd=mine.path, capture_output=True)
    module, name, run = WRITERS[writer]
    manifest = mine.path / "data.dv.json"
    just_before(monkeypatch, module, name, lambda: manifest.write_bytes(theirs))
    with mine.repo() as repo, pytest.raises(UnsavedError, match=r"data\.dv\.json changed"):
        run(repo)
    assert manifest.read_bytes() == theirs


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes"])
def test_a_line_that_the_user_adds_meanwhile_stays(
    mine: Clone, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from dvtool.hooks import drivers
    from dvtool.workspace import gitignore

    mine.write(name, b"*.old one\n")
    mine.write("data/x", b"x")
    module = drivers if name == ".gitattributes" else gitignore

    def edited() -> None:
        mine.write(name, b"*.old one\n*.new two\n")

    reading = "_attribute_lines" if name == ".gitattributes" else "_lines"
    just_after(monkeypatch, module, reading, edited)
    with mine.repo() as repo, pytest.raises(UnsavedError, match=f"{name} changed"):
        repo.hooks.install() if name == ".gitattributes" else repo.add(["data"])
    assert (mine.path / name).read_bytes() == b"*.old one\n*.new two\n"
    monkeypatch.undo()
    with mine.repo() as repo:
        repo.hooks.install() if name == ".gitattributes" else repo.add(["data"])
    assert (mine.path / name).read_bytes().startswith(b"*.old one\n*.new two\n")
