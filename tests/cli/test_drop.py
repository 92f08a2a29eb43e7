from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.store.local import LocalStore
from tests.cli.conftest import Work
from tests.scenario import noise, tree


@pytest.fixture
def large(work: Work) -> Work:
    """Two targets of which one file is in both, committed and pushed."""
    for number in range(4):
        work.write(f"data/big/{number}.bin", noise(300_000, number))
    work.write("data/big/run.sh", "echo").chmod(0o755)
    (work.root / "data/big/link").symlink_to("0.bin")
    (work.root / "data/big/empty").mkdir()
    work.write("data/other/same.bin", noise(300_000, 3))
    work.dv("add", "data/big", "data/other")
    work.commit()
    work.dv("push")
    return work


def _packs(work: Work) -> dict[str, int]:
    folder = work.root / ".git/dv/packs"
    return {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_drop_frees_and_pull_brings_back(large: Work) -> None:
    before = tree(large.root / "data")
    stored = sum(_packs(large).values())
    ran = large.dv("drop", "data/big")
    assert ran.lines[0] == "data/big  6 files, 1.1 MiB removed"
    assert ran.lines[1].startswith("freed 2.0 MiB, 879")
    remote = large.root.parent / "remote"
    assert ran.err.splitlines() == [
        f"reading 1.1 MiB back from {remote}, which does not state what it holds",
        "to get it back: dv pull",
    ]
    assert not (large.root / "data/big").exists()
    # What the other target has too stays in the store.
    assert 300_000 < sum(_packs(large).values()) < stored - 890_000
    assert large.dv("cat", "data/other/same.bin").raw == noise(300_000, 3)
    status = large.dv("status", "--json").json["targets"][0]
    assert (len(status["absent"]), status["deleted"], status["clean"]) == (7, [], True)
    large.dv("pull")
    assert tree(large.root / "data") == before
    assert large.dv("status", "--exit-code").out.startswith("Clean: 2 targets")


def test_drop_json(large: Work) -> None:
    before = sum(_packs(large).values())
    found = large.dv("drop", "--json", "data").json
    assert found["workspace_bytes"] == 5 * 300_000 + 4
    assert found["store_bytes"] == before - sum(_packs(large).values())
    assert found["freed_bytes"] == found["workspace_bytes"] + found["store_bytes"]
    assert [one["files"] for one in found["targets"]] == [6, 1]
    assert not _packs(large)


def test_drop_a_part_rewrites_the_pack(large: Work) -> None:
    large.dv("drop", "data/big/0.bin", "data/big/1.bin")
    assert not (large.root / "data/big/0.bin").exists()
    assert (large.root / "data/big/2.bin").exists()
    shutil.rmtree(large.root / "data/big")
    large.dv("checkout", "--no-fetch", "--", "data/big/2.bin", "data/big/3.bin")
    assert large.read("data/big/3.bin") == noise(300_000, 3)
    large.dv("checkout", "--no-fetch", "--", "data/big/0.bin", code=4)
    # The rest of the packs is enough to make the index again.
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (large.root / ".git/dv" / name).unlink(missing_ok=True)
    assert large.dv("cat", "data/big/2.bin").raw == noise(300_000, 2)


def test_drop_the_store_only(large: Work) -> None:
    before = tree(large.root / "data")
    large.write("data/big/run.sh", "changed")
    ran = large.dv("drop", "--store", "data")
    assert "removed" not in ran.out
    assert not _packs(large)
    large.dv("checkout", "--force", "--", "data/big/run.sh")
    assert tree(large.root / "data") == before


def test_drop_refuses_what_was_not_pushed(data: Work) -> None:
    ran = data.dv("drop", "data/images", code=3)
    assert "dv push" in ran.err
    data.dv("push")
    data.write("data/images/new.txt", "new")
    data.dv("add", "data/images")
    for _ in range(2):
        ran = data.dv("drop", "data", code=5)
        assert "data/images/new.txt" in ran.err
        assert "table" not in ran.err
        assert "dv push" in ran.err
        assert (data.root / "data/table.csv").exists()
        data.commit()
    data.dv("push")
    data.dv("drop", "data")


@pytest.mark.parametrize("folder", ["packs", "shards", "roots"])
def test_drop_asks_the_remote_now(pushed: Work, folder: str) -> None:
    shutil.rmtree(pushed.root.parent / "remote" / folder)
    ran = pushed.dv("drop", "data/images", code=5)
    assert "data/images/a.txt" in ran.err
    assert pushed.read("data/images/a.txt") == b"content of a.txt"
    assert pushed.dv("cat", "data/images/a.txt").out == "content of a.txt"


def test_drop_believes_no_truncated_pack(pushed: Work) -> None:
    for pack in (pushed.root.parent / "remote/packs").rglob("*"):
        if pack.is_file():
            os.chmod(pack, 0o644)
            os.truncate(pack, pack.stat().st_size - 1)
    assert "data/images/a.txt" in pushed.dv("drop", "data/images", code=5).err


def rot(remote: Path, kind: str) -> None:
    """Turn one bit in each object of this kind: its size stays."""
    for path in (remote / kind).rglob("*"):
        if path.is_file():
            data = bytearray(path.read_bytes())
            data[len(data) // 3] ^= 1
            path.write_bytes(data)


@pytest.mark.parametrize("kind", ["packs", "shards", "roots"])
@pytest.mark.parametrize("options", [(), ("--store",)])
def test_drop_frees_nothing_that_rotted_on_the_remote(
    large: Work, kind: str, options: tuple[str, ...]
) -> None:
    """Every object has its size; the copies here are the last good ones."""
    before, files = _packs(large), tree(large.root / "data")
    rot(large.root.parent / "remote", kind)
    ran = large.dv("drop", *options, "data", code=5)
    assert "data/big/0.bin" in ran.err
    assert _packs(large) == before
    assert tree(large.root / "data") == files


def test_drop_a_part_reads_back_no_more_than_that(large: Work) -> None:
    """A pack that rotted elsewhere does not stand in the way of what is sound."""
    plan = large.dv("drop", "--plan", "--json", "data/big/1.bin").json
    assert 300_000 <= plan["read_back_bytes"] < 301_000
    assert (plan["planned"], plan["workspace_bytes"], plan["store_bytes"]) == (
        True,
        300_000,
        300_000,
    )
    assert large.read("data/big/1.bin") == noise(300_000, 1)
    text = large.dv("drop", "--plan", "data/big/1.bin").out
    assert text.splitlines()[0] == "data/big  1 file, 293.0 KiB would be removed"
    assert "293.0 KiB would be read back from" in text
    large.dv("drop", "data/big/1.bin")
    assert not (large.root / "data/big/1.bin").exists()


def test_drop_refuses_changed_files(pushed: Work) -> None:
    pushed.write("data/images/a.txt", "precious")
    ran = pushed.dv("drop", "data", code=5)
    assert "data/images/a.txt" in ran.err
    assert "b.txt" not in ran.err
    assert pushed.read("data/images/a.txt") == b"precious"
    pushed.dv("drop", "data/images/b.txt")


def test_drop_leaves_files_that_are_not_tracked(pushed: Work) -> None:
    pushed.write("data/images/new.txt", "new")
    pushed.dv("drop", "data/images")
    assert pushed.read("data/images/new.txt") == b"new"
    assert not (pushed.root / "data/images/a.txt").exists()


def test_drop_keeps_what_commits_need_that_were_not_pushed(pushed: Work) -> None:
    pushed.git("switch", "-q", "-c", "side")
    pushed.write("data/images/a.txt", "only here")
    pushed.dv("add", "data/images")
    pushed.commit()
    pushed.git("switch", "-q", "-")
    pushed.dv("checkout")
    pushed.dv("drop", "data")
    assert pushed.dv("cat", "--rev", "side", "data/images/a.txt").out == "only here"
    pushed.dv("push", "side")
    clone = pushed.clone()
    clone.dv("pull", "origin/side")
    assert clone.read("data/images/a.txt") == b"only here"
    assert clone.read("data/images/b.txt") == b"content of b.txt"


@pytest.mark.parametrize(("harm", "code"), [("lost", 4), ("later", 6)])
def test_drop_frees_nothing_beside_a_manifest_that_is_not_known(
    pushed: Work, harm: str, code: int
) -> None:
    """It is in a commit that was not pushed, so that it may need what is to go."""
    pushed.git("switch", "-q", "-c", "side")
    pushed.write("later.dv.json", '{"dv": 2, "kind": "dir", "trees": {"a": [1]}}\n')
    pushed.commit()
    blob = pushed.git("rev-parse", "HEAD:later.dv.json")
    pushed.git("switch", "-q", "-")
    if harm == "lost":
        (pushed.root / ".git/objects" / blob[:2] / blob[2:]).unlink()
    before = _packs(pushed)
    pushed.dv("drop", "data", code=code)
    assert _packs(pushed) == before
    assert pushed.read("data/table.csv") == b"x,y\n1,2\n"


def test_push_after_drop_needs_nothing_back(large: Work) -> None:
    large.dv("drop", "data")
    large.write("data/big/new.bin", b"new")
    large.dv("add", "data/big/new.bin")
    large.dv("mv", "data/big/0.bin", "data/big/moved.bin")
    large.commit()
    pushed = large.dv("push", "--json").json["pushes"][0]
    assert pushed["bytes"] < 3_000
    clone = large.clone()
    clone.dv("pull")
    assert clone.read("data/big/moved.bin") == noise(300_000, 0)


def test_drop_in_a_clone_that_only_pulled(large: Work) -> None:
    clone = large.clone()
    clone.dv("pull")
    before = tree(clone.root / "data")
    clone.dv("drop", "data")
    assert not _packs(clone)
    clone.dv("pull")
    assert tree(clone.root / "data") == before


def test_drop_when_what_was_known_of_the_remote_is_lost(large: Work) -> None:
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (large.root / ".git/dv" / name).unlink(missing_ok=True)
    large.dv("drop", "data")
    assert not _packs(large)


def test_drop_when_the_remote_moved_its_content(large: Work) -> None:
    """What was known of the remote that stood in this place before is void."""
    shutil.rmtree(large.root.parent / "remote")
    large.dv("drop", "data", code=7)
    (large.root.parent / "remote").mkdir()
    large.dv("drop", "data", code=3)
    large.dv("push", "--new-remote")
    large.dv("drop", "data")
    large.dv("pull")
    assert large.read("data/big/0.bin") == noise(300_000, 0)


Break = Callable[[], None]


@pytest.mark.parametrize("step", ["adopt", "replace_packs", "unlink", "unmark"])
def test_drop_interrupted_and_repeated(
    large: Work, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever step it ends at, what was to stay is there, and the next drop frees the rest."""
    from dvtool.store import freeing
    from dvtool.store.database import Database

    class Killed(BaseException):
        pass

    def stop(*_: object, **__: object) -> None:
        raise Killed

    def unlink(path: str) -> None:
        marker = f"{os.sep}doomed{os.sep}" in path
        if (step == "unmark" and marker and Path(path).exists()) or (
            step == "unlink" and f"{os.sep}packs{os.sep}" in path
        ):
            raise Killed
        os.unlink(path)

    with pytest.MonkeyPatch.context() as patch:
        if step == "adopt":
            patch.setattr(LocalStore, "adopt", stop)
        elif step == "replace_packs":
            patch.setattr(Database, "replace_packs", stop)
        else:
            fake = type("os", (), {**vars(os), "unlink": staticmethod(unlink)})
            patch.setattr(freeing, "os", fake)
        # As kill -9 would: no handler runs in between that knows of this exception.
        large.dv("drop", "data/big", code=1)
    assert large.dv("cat", "data/other/same.bin").raw == noise(300_000, 3)
    large.dv("drop", "data/big")
    assert large.dv("cat", "data/other/same.bin").raw == noise(300_000, 3)
    assert len(_packs(large)) == 1
    assert not list((large.root / ".git/dv/doomed").iterdir())
    large.dv("pull")
    assert large.read("data/big/1.bin") == noise(300_000, 1)


def test_drop_from_a_subfolder_and_other_repositories(pushed: Work, bare: Work) -> None:
    pushed.dv("drop", "images", cwd="data")
    assert not (pushed.root / "data/images").exists()
    assert "dv status" in pushed.dv("drop", "nothing", code=2).err
