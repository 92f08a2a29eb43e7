from __future__ import annotations

import shutil

from tests.cli.conftest import Work


def test_fetch_fills_the_store_only(pushed: Work) -> None:
    clone = pushed.clone()
    ran = clone.dv("fetch")
    assert ran.out.startswith(f"fetched from {pushed.root.parent / 'remote'}: 4 files, 60 B (")
    assert not (clone.root / "data/table.csv").exists()
    assert clone.dv("fetch").out == "nothing to fetch: the local store has it all\n"
    shutil.rmtree(pushed.root.parent / "remote")
    clone.dv("checkout")


def test_fetch_paths_and_revisions(pushed: Work) -> None:
    clone = pushed.clone()
    assert clone.dv("fetch", "--json", "--", "data/images/*.txt").json["files"] == 2
    assert clone.dv("fetch", "--json", "images/sub", cwd="data").json["files"] == 1
    assert clone.dv("fetch", "HEAD", "--json").json["files"] == 1
    assert "unknown revision" in clone.dv("fetch", "nope", "--", code=2).err
    assert clone.dv("fetch", "-q").out == ""


def test_fetch_errors(pushed: Work) -> None:
    clone = pushed.clone(remote=False)
    assert "no remote yet" in clone.dv("fetch", code=3).err
    clone.dv("remote", "add", "empty", "../empty")
    ran = clone.dv("fetch", code=3)
    assert "not a dvtool remote yet" in ran.err
    assert "hint: run `dv push`" in ran.err


def test_fetch_what_the_remote_lost(pushed: Work) -> None:
    clone = pushed.clone()
    shutil.rmtree(pushed.root.parent / "remote/packs")
    assert "error: " in clone.dv("fetch", code=4).err


def test_fetch_what_the_remote_damaged(pushed: Work) -> None:
    for pack in (pushed.root.parent / "remote/packs").rglob("*"):
        if pack.is_file():
            pack.chmod(0o600)
            pack.write_bytes(bytes(len(pack.read_bytes())))
    clone = pushed.clone()
    clone.dv("pull", code=6)
    assert not (clone.root / "data/table.csv").exists()
