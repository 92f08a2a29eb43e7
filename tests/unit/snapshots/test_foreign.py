"""Repositories named by a git URL: cloned once, refreshed for branches, trusted at first use."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dvtool
from dvtool import DvError, PathMissing, SetupError, UsageError
from dvtool.git import Git
from dvtool.snapshots.foreign import cached_clone, clone_folder, is_url, without_password
from dvtool.snapshots.git_bar import git_bar
from tests.scenario import Clone, Remote, noise


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """Somebody's repository, pushed to a folder remote, which the environment names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    remote = Remote(str(tmp_path / "remote"))
    clone = Clone.new(tmp_path / "theirs", remote)
    clone.write("data/value", b"one")
    clone.write("data/large", noise(100_000, 5))
    clone.write("code.py", b"print()\n" * 1_000)
    clone.git("add", "code.py")
    clone.add("data")
    clone.commit("one")
    clone.git("config", "uploadpack.allowFilter", "true")
    clone.git("config", "uploadpack.allowAnySHA1InWant", "true")
    with clone.repo() as repo:
        repo.push()
    monkeypatch.setenv("DV_REMOTE_ORIGIN_URL", remote.url)
    return clone


def changed(theirs: Clone, value: bytes) -> str:
    theirs.write("data/value", value)
    theirs.add("data")
    commit = theirs.commit(f"value {value!r}")
    with theirs.repo() as repo:
        repo.push()
    return commit


def url_of(clone: Clone) -> str:
    return f"file://{clone.path}"


def test_a_url_is_read_from_a_clone_without_files(theirs: Clone) -> None:
    with dvtool.snapshot(repo=url_of(theirs)) as data:
        assert data.read("data/value") == b"one"
        assert data.repo == url_of(theirs)
    theirs.write("code.py", b"print(1)\n")
    theirs.git("add", "code.py")
    second = changed(theirs, b"two")
    assert dvtool.snapshot("main", url_of(theirs)).read("data/value") == b"two"
    folder = clone_folder(url_of(theirs), os.environ)
    listed = subprocess.run(
        ["git", "-C", folder, "rev-list", "--objects", "--all", "--missing=print"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    missing = {line[1:] for line in listed.splitlines() if line.startswith("?")}
    for commit in (second, f"{second}~1"):
        assert theirs.git("rev-parse", f"{commit}:code.py") in missing


def test_branches_are_refreshed_and_full_ids_are_not(
    theirs: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = theirs.git("rev-parse", "HEAD")
    assert dvtool.snapshot("main", url_of(theirs)).read("data/value") == b"one"
    second = changed(theirs, b"two")
    assert dvtool.snapshot(first, url_of(theirs)).read("data/value") == b"one"
    assert dvtool.snapshot(second, url_of(theirs)).read("data/value") == b"two"
    theirs.git("branch", "--move", "main", "trunk")
    changed(theirs, b"three")
    assert dvtool.snapshot(repo=url_of(theirs)).read("data/value") == b"three"
    with pytest.raises(UsageError, match="unknown revision: main") as raised:
        dvtool.snapshot("main", url_of(theirs))
    assert "git ls-remote file://" in (raised.value.hint or "")
    theirs.path.rename(theirs.path.with_name("away"))
    with pytest.raises(DvError) as caught:
        dvtool.snapshot("trunk", url_of(theirs))
    assert "full commit id" in (caught.value.hint or "")
    assert dvtool.snapshot(first, url_of(theirs)).read("data/value") == b"one"


def test_open_and_read_take_urls(theirs: Clone) -> None:
    assert dvtool.read("data/value", repo=url_of(theirs)) == b"one"
    with dvtool.open("data/value", repo=url_of(theirs)) as file:
        assert file.read() == "one"
    assert [each.path for each in dvtool.ls("data", repo=url_of(theirs))] == [
        "data/large",
        "data/value",
    ]


def test_a_pickle_has_the_url_and_clones_where_it_is_loaded(theirs: Clone) -> None:
    text = pickle.dumps(dvtool.snapshot(repo=url_of(theirs)))
    assert len(text) < 1_000
    shutil.rmtree(clone_folder(url_of(theirs), os.environ))
    assert pickle.loads(text).read("data/value") == b"one"
    assert without_password("https://me:secret@host/x.git") == "https://me@host/x.git"
    assert without_password("git@host:x.git") == "git@host:x.git"


def read_in_child(url: str) -> bytes:
    return dvtool.snapshot(repo=url).read("data/value")


def test_processes_clone_once_and_wait_for_each_other(theirs: Clone) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(read_in_child, [url_of(theirs)] * 3) == [b"one"] * 3
    folder = Path(clone_folder(url_of(theirs), os.environ))
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_an_unfinished_clone_is_begun_again(theirs: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another folder: the git of one that was killed may still write into the first."""
    folder = Path(clone_folder(url_of(theirs), os.environ))
    begun: list[str] = []
    clone_bare = Git.clone_bare

    def noted(url: str, place: str, **options: Any) -> None:
        assert not any(Path(each).exists() for each in begun)
        begun.append(place)
        clone_bare(url, place, **options)
        if len(begun) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Git, "clone_bare", noted)
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as left:
        left.setattr(shutil, "rmtree", lambda *_, **__: None)
        dvtool.snapshot(repo=url_of(theirs))
    unfinished = Path(begun.pop())
    assert unfinished.exists() and not folder.exists()
    begun.append(str(unfinished))
    assert dvtool.snapshot(repo=url_of(theirs)).read("data/value") == b"one"
    assert len(set(begun)) == 2
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_a_server_that_gives_no_file_later_gives_all(
    theirs: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old protocol allows no request for a file that is left out of a clone."""
    theirs.git("config", "uploadpack.allowAnySHA1InWant", "false")
    for name, value in (("COUNT", "1"), ("KEY_0", "protocol.version"), ("VALUE_0", "0")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert dvtool.snapshot(repo=url_of(theirs)).read("data/value") == b"one"
    changed(theirs, b"two")
    assert dvtool.snapshot("main", url_of(theirs)).read("data/value") == b"two"


def test_a_url_that_is_none_says_so(theirs: Clone, tmp_path: Path) -> None:
    with pytest.raises(DvError, match="git clone failed"):
        dvtool.snapshot(repo=f"file://{tmp_path}/nothing")
    with pytest.raises(UsageError, match="there is no folder"):
        dvtool.snapshot(repo="nothing-here")
    with pytest.raises(UsageError, match="there is no folder"):
        dvtool.snapshot(repo="ext::sh -c touch% made")


@pytest.mark.parametrize(
    ("repo", "expected"),
    [
        ("https://example.org/x.git", True),
        ("ssh://git@example.org/x", True),
        ("git@example.org:team/x.git", True),
        ("example.org:x", True),
        ("file:///srv/x", True),
        ("/srv/x", False),
        ("../x", False),
        ("x", False),
        ("ext::sh -c true", False),
        ("", False),
    ],
)
def test_urls_are_told_from_folders(repo: str, expected: bool) -> None:
    assert is_url(repo) is expected


def test_a_folder_that_is_there_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host:x").mkdir()
    assert not is_url("host:x")


def test_the_first_use_trusts_what_the_default_branch_says_then(
    theirs: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DV_REMOTE_ORIGIN_URL")
    theirs.git("config", "--unset", "dv.remote.origin.url")

    def say(url: str, endpoint: str) -> None:
        path = str(theirs.path / ".dvconfig")
        theirs.git("config", "--file", path, "remote.origin.url", url)
        theirs.git("config", "--file", path, "remote.origin.endpointurl", endpoint)
        theirs.git("commit", "--quiet", "-am", url)

    say("s3://first/x", "https://127.0.0.1:9")
    from dvtool.project.opening import close_project, open_project
    from dvtool.project.settings import Settings
    from dvtool.system.progress import SILENT

    def trusted() -> bool:
        folder = cached_clone(url_of(theirs), None, os.environ, None)
        project, cwd = open_project(folder, os.environ, SILENT, bare=True)
        try:
            return Settings(project, cwd, os.environ).trusts("origin")
        finally:
            close_project(project)

    assert trusted()
    say("s3://evil/x", "https://127.0.0.1:9")
    assert not trusted()
    with pytest.raises(SetupError, match="not trusted"):
        dvtool.snapshot(repo=url_of(theirs)).read("data/value")


def test_git_says_how_far_it_is(theirs: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    cached_clone(url_of(theirs), None, os.environ, lambda *news: told.append(news))
    assert any(stage == "receiving" and done == whole > 0 for stage, done, whole in told)


def test_nobody_who_does_not_look_gets_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with git_bar("cloning") as show:
        assert show is None
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with git_bar("cloning x") as show:
        assert show is not None
        show("receiving", 5, 10)
    assert "cloning x: receiving" in capsys.readouterr().err


def test_the_cache_is_shown_and_cleaned(theirs: Clone) -> None:
    dvtool.read("data/large", repo=url_of(theirs))
    status = dvtool.cache_status()
    assert (status.clones, status.files > 0, status.file_bytes > 100_000) == (1, True, True)
    assert status.limit_bytes == 10 << 30
    assert dvtool.clean_cache() == status
    after = dvtool.cache_status()
    assert (after.clones, after.files) == (0, 0)
    assert dvtool.snapshot(repo=url_of(theirs)).read("data/value") == b"one"


def test_a_path_that_is_missing_is_looked_for_at_the_url(theirs: Clone) -> None:
    with dvtool.snapshot(repo=url_of(theirs)) as data:
        with pytest.raises(PathMissing) as raised:
            data.read("data/none")
        assert f"dv ls {url_of(theirs)} --rev {data.commit[:10]};" in (raised.value.hint or "")
