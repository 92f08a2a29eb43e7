"""`dv mv` where a rename cannot go: from one disk to another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.errors import UnsavedError
from dvtool.workspace.files import Workspace
from tests.cli.conftest import Work

DISKS = (Path("/dev/shm"), Path("/var/tmp"), Path("/tmp"))
"""One of these is mostly on another disk than the folder of the test."""


@pytest.fixture
def other_disk(work: Work) -> Iterator[Path]:
    """A folder on another disk, to which a followed link of the target `data` leads."""
    own = os.stat(work.root).st_dev
    other = next((disk for disk in DISKS if disk.is_dir() and os.stat(disk).st_dev != own), None)
    if other is None:
        pytest.skip("there is one disk only here")
    folder = Path(tempfile.mkdtemp(dir=other))
    (folder / "old").write_text("old")
    work.write("data/sub/a", "a" * 100_000)
    work.write("data/sub/deep/run").chmod(0o755)
    (work.root / "data/sub/link").symlink_to("a")
    (work.root / "data/sub/empty").mkdir()
    os.utime(work.root / "data/sub/a", ns=(1, 1_000_000_001))
    (work.root / "data/big").symlink_to(folder)
    work.dv("add", "--dereference", "data")
    work.commit("one")
    yield folder
    shutil.rmtree(folder)


def check_moved(work: Work, folder: Path) -> None:
    assert (folder / "sub/a").read_text() == "a" * 100_000
    assert os.stat(folder / "sub/a").st_mtime_ns == 1_000_000_001
    assert os.access(folder / "sub/deep/run", os.X_OK)
    assert os.readlink(folder / "sub/link") == "a"
    assert (folder / "sub/empty").is_dir()
    assert not (work.root / "data/sub").exists()
    assert not (work.root / ".git/dv/relocation").exists()
    assert "data/big/sub/deep/run" in work.dv("ls").out
    assert "data/sub" not in work.dv("ls").out
    shown = work.dv("status", "--json").json["targets"]
    assert [one["clean"] or one["manifest"] for one in shown] == ["modified"]
    assert shown[0]["added"] == shown[0]["modified"] == shown[0]["deleted"] == []


@pytest.mark.parametrize("typed", ["data/big", "data/big/sub"])
def test_entries_move_to_another_disk(work: Work, other_disk: Path, typed: str) -> None:
    assert work.dv("mv", "data/sub", typed).out == "data/sub -> data/big/sub\n"
    check_moved(work, other_disk)
    assert work.dv("mv", "data/big/sub/a", "data/a").out
    assert work.read("data/a") == b"a" * 100_000


@pytest.mark.parametrize("typed", ["data/big", "data/big/sub"])
@pytest.mark.parametrize("method", ["write_file", "write_link", "remove", "remove_empty_folder"])
@pytest.mark.parametrize("after", [False, True])
def test_a_move_to_another_disk_that_was_cut_off_goes_on(
    work: Work,
    other_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    method: str,
    after: bool,
) -> None:
    real = getattr(Workspace, method)

    def cut_off(*args: object, **options: object) -> None:
        if after:
            real(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, method, cut_off)
        work.dv("mv", "data/sub", typed, code=130)
    for path in ("a", "deep/run"):
        assert any((top / path).exists() for top in (work.root / "data/sub", other_disk / "sub"))
    work.dv("mv", "data/sub", typed)
    check_moved(work, other_disk)


def test_what_changed_during_a_move_to_another_disk_stays(
    work: Work, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Workspace.remove

    def edit_first(self: Workspace, path: str, **options: object) -> None:
        work.write("data/sub/a", "edited meanwhile")
        real(self, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Workspace, "remove", edit_first)
    ran = work.dv("mv", "data/sub", "data/big", code=UnsavedError.exit_code)
    assert "data/sub/a changed while dvtool was at work" in ran.err
    assert work.read("data/sub/a") == b"edited meanwhile"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_target_moves_to_another_disk(work: Work) -> None:
    work.write("data/sub/a", "a")
    work.write("data/.untracked", "mine")
    work.dv("add", "data")
    work.commit("one")
    (work.root / "mount").mkdir()
    script = (
        "mount -t tmpfs tmpfs mount || exit 99; "
        f"{sys.executable} -m dvtool mv data mount && cat mount/data/sub/a mount/data/.untracked "
        f"&& {sys.executable} -m dvtool mv mount/data back"
    )
    ran = subprocess.run(
        ["unshare", "-m", "bash", "-c", script],
        cwd=work.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 99:
        pytest.skip(f"cannot mount here: {ran.stderr}")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "data -> mount/data\namine" + "mount/data -> back\n"
    assert work.read("back/sub/a") == b"a"
    assert not (work.root / "data").exists()
    assert work.dv("status", "back").out.startswith("Manifests")
