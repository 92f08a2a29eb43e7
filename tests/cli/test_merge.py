"""Branches that both change data, merged by git with the driver of dv, or without it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from dvtool.format.digest import digest_of
from dvtool.format.manifest import Entries, Entry, decode
from dvtool.hooks import drivers
from dvtool.hooks.interpreter import Interpreter
from dvtool.repo import Repo
from tests.cli.conftest import ODD_NAMES, Work
from tests.cli.merging import (
    TARGET,
    WAYS,
    branches,
    change,
    conflicts,
    put_manifest,
    run,
    tree,
    with_drivers,
    without_drivers,
)

MANIFEST = f"{TARGET}.dv.json"


def entries_of(work: Work, rev: str | None = None) -> Entries:
    text = work.git("show", f"{rev}:{MANIFEST}").encode() if rev else work.read(MANIFEST)
    manifest = decode(text, MANIFEST)
    assert manifest.entries is not None
    return manifest.entries


@pytest.fixture
def driven(pushed: Work) -> Work:
    """Three files in a target, and the drivers installed."""
    with_drivers(pushed)
    return pushed


@pytest.mark.parametrize("way", WAYS)
def test_changes_to_neighbouring_files_merge(driven: Work, way: str) -> None:
    branches(driven, {"a.txt": "ours", "new.txt": "n"}, {"b.txt": "theirs", "sub/c.txt": None})
    said = WAYS[way](driven)
    assert "CONFLICT" not in said
    assert conflicts(driven) == {}
    driven.dv("checkout")
    assert tree(driven) == {"a.txt": "ours", "b.txt": "theirs", "new.txt": "n"}
    driven.dv("status", TARGET, "--exit-code", code=1 if way == "stash pop" else 0)


@pytest.mark.parametrize("way", WAYS)
def test_a_conflict_leaves_a_manifest_and_is_listed(driven: Work, way: str) -> None:
    branches(driven, {"a.txt": "ours"}, {"a.txt": "theirs!", "b.txt": "theirs"})
    said = WAYS[way](driven)
    assert f"CONFLICT (content): Merge conflict in {MANIFEST}" in said
    assert f"1 conflict in {TARGET}: dv status lists them, dv resolve settles them" in said
    merged = entries_of(driven)
    assert merged["a.txt"].size == len("ours")
    assert merged["b.txt"].size == len("theirs")
    assert conflicts(driven) == {TARGET: ["a.txt"]}
    ran = driven.dv("status", "--exit-code", code=1)
    assert ran.lines[:3] == [
        "Conflicts (dv resolve):",
        "    both modified:    data/images/a.txt",
        "  (dv resolve PATH… with --ours, --theirs or --both settles them)",
    ]
    driven.dv("resolve", "--theirs")
    assert conflicts(driven) == {}
    assert tree(driven) == {
        "a.txt": "theirs!",
        "b.txt": "theirs",
        "sub/c.txt": "content of sub/c.txt",
    }
    assert run(driven, "diff", "--name-only", "--diff-filter=U") == ""


def test_renames_carry_edits(driven: Work) -> None:
    (driven.root / TARGET / "moved").mkdir()
    branches(
        driven,
        {"a.txt": None, "moved/a.txt": "content of a.txt", "b.txt": "edited"},
        {"a.txt": "new content", "b.txt": None, "c/b.txt": "content of b.txt"},
    )
    run(driven, "merge", "--no-edit", "other")
    driven.dv("checkout")
    assert tree(driven) == {
        "moved/a.txt": "new content",
        "c/b.txt": "edited",
        "sub/c.txt": "content of sub/c.txt",
    }


def test_odd_names(driven: Work) -> None:
    names = [name for name in ODD_NAMES if not name.startswith("c1")]
    change(driven, {name: name for name in names})
    branches(
        driven,
        dict.fromkeys(names[::2], "ours"),
        dict.fromkeys(names[1::2], "theirs") | {names[0]: "other"},
    )
    assert "CONFLICT" in run(driven, "merge", "other", code=1)
    assert conflicts(driven) == {TARGET: [names[0]]}
    driven.dv("resolve", "--both")
    merged = tree(driven)
    assert merged[names[0]] == "ours"
    assert merged[names[0] + ".theirs"] == "other"
    assert all(merged[name] == "theirs" for name in names[1::2])


def test_a_manifest_with_an_odd_name(driven: Work) -> None:
    target = "data/q\"uo'te %P $(x) ü"
    driven.write(f"{target}/a", "a")
    driven.write(f"{target}/b", "b")
    driven.dv("add", target)
    driven.commit()
    branches(driven, {"a": "ours"}, {"b": "theirs"}, target)
    run(driven, "merge", "--no-edit", "other")
    driven.dv("checkout")
    assert tree(driven, target) == {"a": "ours", "b": "theirs"}


def test_the_same_target_added_on_both_sides(driven: Work) -> None:
    driven.git("checkout", "-q", "-b", "other")
    change(driven, {"x": "same", "y": "theirs"}, None, "data/new")
    driven.commit("theirs")
    driven.git("checkout", "-q", "main")
    shutil.rmtree(driven.root / "data/new")
    change(driven, {"x": "same", "z": "ours"}, None, "data/new")
    driven.commit("ours")
    run(driven, "merge", "--no-edit", "other")
    driven.dv("checkout")
    assert tree(driven, "data/new") == {"x": "same", "y": "theirs", "z": "ours"}


def test_a_file_target(driven: Work) -> None:
    branches(driven, {".": "ours"}, {".": "theirs"}, "data/table.csv")
    run(driven, "merge", "other", code=1)
    assert conflicts(driven) == {"data/table.csv": ["."]}
    assert "both modified:    data/table.csv\n" in driven.dv("status").out
    driven.dv("resolve", "--both")
    assert driven.read("data/table.csv") == b"ours"
    assert driven.read("data/table.theirs.csv") == b"theirs"
    driven.git("commit", "-qm", "merged")
    driven.dv("status", "--exit-code")


# --- large targets --------------------------------------------------------------------------

COUNT = 20_000


def numbered(*, changed: dict[int, str] | None = None) -> Entries:
    contents = changed or {}
    return {
        f"f/{number:05d}": Entry(
            blake3=digest_of(contents.get(number, str(number)).encode()).hex(),
            size=len(contents.get(number, str(number))),
        )
        for number in range(COUNT)
    }


@pytest.fixture(scope="session")
def _large(tmp_path_factory: pytest.TempPathFactory, _isolated_session: None) -> Path:
    """A repository with a target of 20,000 files that was pushed."""
    work = Work(tmp_path_factory.mktemp("large") / "work")
    work.root.mkdir()
    work.git("init", "-q")
    work.dv("init", "--remote", work.root.parent / "remote")
    for number in range(COUNT):
        place = work.root / TARGET / "f" / f"{number:05d}"
        if not number:
            place.parent.mkdir(parents=True)
        place.write_text(str(number))
    work.dv("add", TARGET)
    work.commit("Many files")
    work.dv("push")
    with_drivers(work)
    shutil.rmtree(work.root / "data/images")
    return work.root.parent


@pytest.fixture
def large(_large: Path, tmp_path: Path) -> Work:
    """A clone with none of the data in its workspace; its shards come from the remote."""
    upstream = Work(_large / "work")
    upstream.git("clone", "-q", "--bare", str(upstream.root), str(tmp_path / "up.git"))
    return clone(tmp_path, "one", _large / "remote")


def clone(folder: Path, name: str, remote: Path) -> Work:
    work = Work(folder / name)
    Work(folder).git("clone", "-q", str(folder / "up.git"), name)
    work.dv("remote", "add", "origin", remote)
    with Repo.open(str(work.root)) as repo:
        drivers.install(repo._project)
    return work


def test_two_clones_change_different_files_of_a_large_target(large: Work, _large: Path) -> None:
    other = clone(large.root.parent, "two", _large / "remote")
    for work, number in ((large, 3), (other, COUNT - 1)):
        work.write(f"{TARGET}/f/{number:05d}", f"{work.root.name} was here")
        work.dv("add", f"{TARGET}/f/{number:05d}")
        work.git("commit", "-qm", work.root.name)
        work.dv("push")
    large.git("push", "-q")
    assert "CONFLICT" not in run(other, "pull", "--no-rebase", "--no-edit")
    places = {number: other.dv("cat", f"{TARGET}/f/{number:05d}").out for number in (3, COUNT - 1)}
    assert places == {3: "one was here", COUNT - 1: "two was here"}
    changed = numbered(changed={3: "one was here", COUNT - 1: "two was here"})
    put_manifest(large, changed)
    assert large.read(MANIFEST) == other.read(MANIFEST)


def test_shards_that_cannot_be_had_fail_the_merge_cleanly(large: Work, _large: Path) -> None:
    other = clone(large.root.parent, "two", _large / "remote")
    for work, number in ((large, 3), (other, COUNT - 1)):
        put_manifest(work, numbered(changed={number: "here"}))
        work.git("commit", "-qm", work.root.name)
    large.git("push", "-q")
    ours = other.read(MANIFEST)
    said = run(other, "pull", "--no-rebase", "--no-edit", code=1)
    assert "hint: run `dv push` in the clone where the data was added" in said
    assert "CONFLICT" in said
    assert other.read(MANIFEST) == ours
    assert "cannot be compared" in other.dv("status", "--exit-code", code=1).out
    # Once the other clone has brought them, all goes on.
    for path in (large.root / ".git/dv/shards").rglob("*"):
        place = other.root / ".git/dv/shards" / path.relative_to(large.root / ".git/dv/shards")
        if path.is_file() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    other.dv("resolve")
    put_manifest(large, numbered(changed={3: "here", COUNT - 1: "here"}))
    assert large.read(MANIFEST) == other.read(MANIFEST)


def test_large_manifests_that_git_merged_as_text(large: Work) -> None:
    without_drivers(large)
    large.git("checkout", "-q", "-b", "other")
    put_manifest(large, numbered(changed={3: "theirs"}))
    large.git("commit", "-qm", "theirs")
    large.git("checkout", "-q", "main")
    put_manifest(large, numbered(changed={4: "ours"}))
    large.git("commit", "-qm", "ours")
    assert "CONFLICT" in run(large, "merge", "other", code=1)  # one shard, one line
    assert "<<<<<<<" in large.read(MANIFEST).decode()
    assert conflicts(large) == {TARGET: []}
    large.dv("resolve")
    both = large.read(MANIFEST)
    put_manifest(large, numbered(changed={3: "theirs", 4: "ours"}))
    assert large.read(MANIFEST) == both


# --- without the driver ---------------------------------------------------------------------


def test_git_without_the_driver_merges_lines_that_are_not_adjacent(pushed: Work) -> None:
    change(pushed, {f"{number}.txt": str(number) for number in range(9)})
    branches(pushed, {"1.txt": "ours"}, {"7.txt": "theirs"})
    run(pushed, "merge", "--no-edit", "other")
    assert pushed.dv("resolve").out == "nothing to resolve\n"
    pushed.dv("checkout")
    assert tree(pushed)["1.txt"] == "ours"
    assert tree(pushed)["7.txt"] == "theirs"
    pushed.dv("status", "--exit-code")


@pytest.mark.parametrize("way", WAYS)
def test_what_git_left_without_the_driver_is_settled_without_a_question(
    pushed: Work, way: str
) -> None:
    branches(pushed, {"a.txt": "ours"}, {"b.txt": "theirs"})
    assert "CONFLICT" in WAYS[way](pushed)
    assert "<<<<<<<" in pushed.read(MANIFEST).decode()
    ran = pushed.dv("status", "--exit-code", code=1)
    assert "data/images  no true conflict: dv resolve data/images" in ran.out
    pushed.dv("checkout", code=6)
    ran = pushed.dv("resolve")
    assert "data/images  staged; 1 file written, 6 B" in ran.out
    assert tree(pushed) == {
        "a.txt": "ours",
        "b.txt": "theirs",
        "sub/c.txt": "content of sub/c.txt",
    }
    assert run(pushed, "diff", "--check") == ""


def test_a_file_and_a_folder_that_git_merged_into_no_manifest(pushed: Work) -> None:
    between = {f"d{mark}x": mark for mark in "!#$%&'"}
    change(pushed, between)
    branches(pushed, {"d": "a file"}, {"d/x": "in a folder"})
    run(pushed, "merge", "--no-edit", "other")
    assert conflicts(pushed) == {TARGET: ["d/x"]}
    pushed.dv("resolve", code=1)
    pushed.dv("resolve", "--theirs")
    assert tree(pushed)["d/x"] == "in a folder"
    pushed.git("commit", "-qm", "mended")
    pushed.dv("status", "--exit-code")


def test_an_inline_manifest_that_text_merging_made_too_long(pushed: Work) -> None:
    def numbers(*more: str) -> Entries:
        names = sorted([f"m/{number:04d}" for number in range(995)] + list(more))
        return {name: Entry(blake3=digest_of(name.encode()).hex(), size=9) for name in names}

    put_manifest(pushed, numbers())
    pushed.git("commit", "-qm", "base")
    pushed.git("checkout", "-q", "-b", "other")
    put_manifest(pushed, numbers(*(f"a{n}" for n in range(5))))
    pushed.git("commit", "-qm", "theirs")
    pushed.git("checkout", "-q", "main")
    put_manifest(pushed, numbers(*(f"z{n}" for n in range(5))))
    pushed.git("commit", "-qm", "ours")
    run(pushed, "merge", "--no-edit", "other", code=None)
    assert len(pushed.dv("ls", TARGET).lines) == 1005 or conflicts(pushed)
    pushed.dv("resolve")
    assert b'"shards"' in pushed.read(MANIFEST)
    assert pushed.git("diff", "--cached", "--name-only") == MANIFEST


# --- the driver itself ----------------------------------------------------------------------


@pytest.fixture
def sides(data: Work) -> Work:
    for name in ("base", "ours", "theirs"):
        shutil.copy(data.root / MANIFEST, data.root / name)
    return data


@pytest.mark.parametrize("text", [b"", b"{", b"<<<<<<< ours\n", b'{"dv": 2}', b'{"dv": 1}'])
@pytest.mark.parametrize("side", ["base", "ours", "theirs"])
def test_a_damaged_side_leaves_ours_alone(sides: Work, side: str, text: bytes) -> None:
    sides.write(side, text)
    ours = sides.read("ours")
    nothing_before = side == "base" and not text
    ran = sides.dv(
        "merge-driver", "base", "ours", "theirs", MANIFEST, code=0 if nothing_before else 6
    )
    assert sides.read("ours") == ours
    assert nothing_before or MANIFEST in ran.err


def test_the_driver_needs_no_repository_for_inline_manifests(sides: Work, tmp_path: Path) -> None:
    lone = Work(tmp_path / "lone")
    lone.root.mkdir()
    for name in ("base", "ours", "theirs"):
        shutil.copy(sides.root / name, lone.root / name)
    lone.dv("merge-driver", "base", "ours", "theirs", MANIFEST)


def test_hidden_commands_are_not_listed(bare: Work) -> None:
    text = bare.dv("--help").out
    assert "merge-driver" not in text
    assert "textconv" not in text
    assert "resolve" in text


# --- installing -----------------------------------------------------------------------------


def test_install_and_uninstall_leave_what_was_there(work: Work) -> None:
    work.commit()
    work.write(".gitattributes", "*.bin binary\r\n*.txt text")
    before = work.read(".gitattributes"), work.read(".git/config")
    with Repo.open(str(work.root)) as repo:
        assert drivers.install(repo._project)
        assert drivers.installed(repo._project)
        assert not drivers.install(repo._project)
    lines = "".join(f"\r\n{line}" for line in drivers.LINES).encode() + b"\r\n"
    assert work.read(".gitattributes") == before[0] + lines
    assert ".gitattributes" in work.git("diff", "--cached", "--name-only")
    with Repo.open(str(work.root)) as repo:
        assert drivers.uninstall(repo._project)
        assert not drivers.installed(repo._project)
        assert not drivers.uninstall(repo._project)
    assert work.read(".gitattributes") == before[0] + b"\r\n"
    assert work.read(".git/config") == before[1]


def test_install_stages_what_an_interrupted_install_wrote(work: Work) -> None:
    work.write(".gitattributes", drivers.LINE + "\n")
    work.dv("hooks", "install")
    assert ".gitattributes" in work.git("diff", "--cached", "--name-only").splitlines()


def test_uninstall_leaves_a_committed_line_to_the_other_clones(driven: Work) -> None:
    with Repo.open(str(driven.root)) as repo:
        assert drivers.uninstall(repo._project)
    assert driven.git("status", "--porcelain") == ""


def test_an_emptied_file_goes(work: Work) -> None:
    with Repo.open(str(work.root)) as repo:
        drivers.install(repo._project)
        drivers.uninstall(repo._project)
    assert not (work.root / ".gitattributes").exists()
    assert ".gitattributes" not in work.git("ls-files")


def test_a_link_in_the_place_of_gitattributes_is_not_followed(work: Work, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (work.root / ".gitattributes").symlink_to(tmp_path / "elsewhere")
    with (
        Repo.open(str(work.root)) as repo,
        pytest.raises(Exception, match="gitattributes cannot be used: it is a symlink"),
    ):
        drivers.install(repo._project)
    assert (tmp_path / "elsewhere").read_text() == "kept"


def test_the_drivers_work_without_the_interpreter_that_installed_them(
    driven: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Interpreter(str(tmp_path / "it's gone" / "100%" / "python"))
    driven.git("config", "merge.dv.driver", drivers.merge_command(gone))
    driven.git("config", "diff.dv.textconv", drivers.textconv_command(gone))
    branches(driven, {"a.txt": "ours"}, {"b.txt": "theirs"})
    dv = tmp_path / "bin" / "dv"
    dv.parent.mkdir()
    dv.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dvtool "$@"\n')
    dv.chmod(0o755)
    monkeypatch.setenv("PATH", os.defpath)
    assert '"blake3"' in run(driven, "diff", "main", "other")
    monkeypatch.setenv("PATH", f"{dv.parent}{os.pathsep}{os.defpath}")
    assert "a.txt  4 B  " in run(driven, "diff", "main", "other")
    run(driven, "merge", "--no-edit", "other")


def test_without_any_dvtool_ours_is_left_in_place_and_the_merge_can_be_settled(
    driven: Work, tmp_path: Path
) -> None:
    command = drivers.merge_command(Interpreter(str(tmp_path / "gone"))).replace(
        "command -v dv", "false"
    )
    driven.git("config", "merge.dv.driver", command)
    branches(driven, {"a.txt": "ours"}, {"b.txt": "theirs"})
    assert "dvtool is not installed here" in run(driven, "merge", "other", code=1)
    driven.dv("resolve")
    assert tree(driven)["b.txt"] == "theirs"


def test_a_folder_named_as_the_package_is_not_run(driven: Work) -> None:
    driven.write("dvtool/__init__.py", "raise SystemExit('run')")
    driven.write("dvtool/__main__.py", "raise SystemExit('run')")
    branches(driven, {"a.txt": "ours"}, {"b.txt": "theirs"})
    run(driven, "merge", "--no-edit", "other")


def test_an_older_line_gives_way_to_the_one_of_now(work: Work) -> None:
    work.write(".gitattributes", f"{drivers.OLD_LINES[0]}\n*.bin filter=lfs\n")
    with Repo.open(str(work.root)) as repo:
        drivers.install(repo._project)
    lines = work.read(".gitattributes").decode().splitlines()
    assert lines == ["*.bin filter=lfs", *drivers.LINES]


# --- the other files that each target has a part in -----------------------------------------


def _two_branches_that_add_targets(work: Work) -> None:
    with_drivers(work)
    work.write("base/x", "x")
    work.dv("add", "base")
    work.commit("base")
    for branch in ("alice", "bob"):
        run(work, "checkout", "-q", "-b", branch, "main")
        work.write(f"{branch}/x", branch)
        work.write(".gitattributes", work.read(".gitattributes") + f"*.{branch} text\n".encode())
        work.dv("add", branch)
        work.git("config", "-f", ".dvconfig", f"remote.{branch}.url", f"s3://{branch}/data")
        work.commit(branch)


def test_two_branches_that_each_add_a_target_merge(work: Work) -> None:
    _two_branches_that_add_targets(work)
    run(work, "merge", "-q", "alice")
    assert run(work, "ls-files", "-u") == ""
    ignored = work.read(".gitignore").decode().splitlines()
    assert sorted(ignored) == ["/alice", "/base", "/bob"]
    for name in ("alice", "bob"):
        assert work.git("config", "-f", ".dvconfig", f"remote.{name}.url") == f"s3://{name}/data"
        assert f"*.{name} text" in work.read(".gitattributes").decode()
    run(work, "add", "-A")
    assert run(work, "diff", "--cached", "--name-only") == ""


def test_a_setting_that_both_changed_is_a_conflict(work: Work) -> None:
    _two_branches_that_add_targets(work)
    for branch in ("alice", "bob"):
        run(work, "checkout", "-q", branch)
        work.git("config", "-f", ".dvconfig", "hooks.autofetch", str(branch == "bob").lower())
        work.commit("a setting")
    said = run(work, "merge", "alice", code=1)
    assert "both sides changed hooks.autofetch" in said
    assert ".dvconfig" in run(work, "diff", "--name-only", "--diff-filter=U")
    assert b"<<<<<<<" in work.read(".dvconfig")


def test_a_setting_that_one_side_took_out_goes(work: Work) -> None:
    _two_branches_that_add_targets(work)
    run(work, "checkout", "-q", "main")
    run(work, "merge", "-q", "bob")
    run(work, "checkout", "-q", "-b", "less", "main")
    work.git("config", "-f", ".dvconfig", "--remove-section", "remote.bob")
    work.commit("less")
    run(work, "checkout", "-q", "main")
    work.git("config", "-f", ".dvconfig", "hooks.autofetch", "true")
    work.commit("more")
    run(work, "merge", "-q", "less")
    text = work.read(".dvconfig").decode()
    assert "s3://bob" not in text
    assert "autofetch" in text


# --- what git would do to manifests ---------------------------------------------------------


def test_a_clone_that_converts_line_ends_has_manifests_as_they_are(pushed: Work) -> None:
    with_drivers(pushed)
    place = pushed.root.parent / "crlf"
    pushed.git("clone", "-q", "-c", "core.autocrlf=true", str(pushed.root), str(place))
    assert b"\r" not in (place / "data/images.dv.json").read_bytes()


def test_line_ends_that_were_converted_before_are_put_right(pushed: Work) -> None:
    place = pushed.root.parent / "crlf"
    pushed.git("clone", "-q", "-c", "core.autocrlf=true", str(pushed.root), str(place))
    clone = Work(place)
    assert b"\r" in clone.read("data/images.dv.json")
    with_drivers(clone)
    assert b"\r" not in clone.read("data/images.dv.json")
    assert "differ from HEAD" not in clone.dv("status").out
    assert run(clone, "status", "--porcelain") == ""
