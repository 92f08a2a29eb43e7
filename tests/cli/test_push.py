from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dvtool.format import locations, manifest
from dvtool.format.digest import Digest, split_digests
from dvtool.format.pack import read_index
from dvtool.store import place_columns
from dvtool.store.local import LocalStore
from dvtool.verbs.push import contents, packs as outgoing
from tests.cli.conftest import Work
from tests.s3.servers import S3Server


def test_push_proves(data: Work) -> None:
    ran = data.dv("push")
    remote = data.root.parent / "remote"
    assert ran.out.startswith(f"pushed to {remote}: 2 packs, ")
    assert ran.out.endswith("; 4 files proven there\n")
    assert data.dv("push").out == f"everything is on {remote}, proven: 4 files\n"


def test_push_json(data: Work) -> None:
    found = data.dv("push", "--json").json
    assert found["uncommitted"] == []
    (pushed,) = found["pushes"]
    assert (pushed["files"], pushed["packs"], pushed["manifests"]) == (4, 2, 2)
    assert set(pushed) == {
        *("remote", "manifests", "files", "packs", "bytes"),
        *("resumed_packs", "resumed_bytes", "warnings", "gone", "lost"),
    }


def test_push_warns_of_what_is_not_committed(data: Work) -> None:
    data.write("data/images/new.txt")
    data.dv("add", "data/images")
    ran = data.dv("push", "-q")
    assert ran.out == ""
    assert "warning: not pushed" in ran.err
    assert "  data/images" in ran.err
    assert data.dv("push", "--json").json["uncommitted"] == ["data/images"]


def test_push_revisions_paths_and_all(data: Work) -> None:
    data.git("tag", "v1")
    data.write("data/images/new.txt", "new")
    data.dv("add", "data/images")
    data.commit("second")
    data.dv("push", "v1", "--", "data/table.csv")
    assert "proven there" in data.dv("push", "v1").out
    assert "proven there" in data.dv("push", "images", cwd="data").out
    data.dv("push", "--all")
    data.dv("push", "--all", "v1", code=2)
    assert "unknown revision" in data.dv("push", "nope", "--", code=2).err
    assert "no target" in data.dv("push", "--", "nope", code=2).err


def test_push_to_several_remotes(data: Work) -> None:
    for name in ("one", "two"):
        data.dv("remote", "add", name, f"../{name}")
    ran = data.dv("push", "--remote", "one", "--remote", "two", "--remote", "one")
    assert [line.split(":")[0][-3:] for line in ran.lines] == ["one", "two"]
    again = data.dv("push", "--remote", "one", "--remote", "two", "--json").json["pushes"]
    assert [(one["remote"][-3:], one["packs"]) for one in again] == [("one", 0), ("two", 0)]


def test_a_remote_that_fails_does_not_keep_data_from_the_others(data: Work) -> None:
    for name in ("gone", "away", "two"):
        data.dv("remote", "add", name, f"../{name}")
    for name in ("gone", "away"):
        shutil.rmtree(data.root.parent / name)
    names = ["--remote", "gone", "--remote", "away", "--remote", "two"]
    ran = data.dv("push", *names, code=7)
    assert ran.out.startswith("pushed to ")
    assert "error: remote directory " in ran.err and "gone does not exist" in ran.err
    assert "warning: remote directory " in ran.err and "away does not exist" in ran.err
    assert len(data.dv("push", *names, "--json", code=7).json["pushes"]) == 1


def test_a_plan_sends_nothing(data: Work) -> None:
    remote = data.root.parent / "remote"
    ran = data.dv("push", "--plan")
    assert ran.lines[0] == f"a push to {remote} would prove 4 files"
    assert "  time      unknown" in ran.out and "cost" not in ran.out  # a folder costs nothing
    assert list(remote.iterdir()) == []
    (planned,) = data.dv("push", "--plan", "--json").json["plans"]
    assert (planned["files"], planned["objects"]) == (4, 5)
    assert list(remote.iterdir()) == []
    data.dv("push")
    assert data.dv("push", "--plan").out.startswith("nothing to transfer: everything is on ")
    clone = data.clone()
    planned = clone.dv("pull", "--plan", "--json").json
    assert (planned["files"], planned["requests"]["put"]) == (4, 0)
    assert not (clone.root / "data/images").exists()
    assert "a download from " in clone.dv("fetch", "--plan").out
    clone.dv("pull")
    assert clone.dv("pull", "--plan").out.startswith("nothing to transfer: the local store has")


def test_push_to_a_named_remote(data: Work) -> None:
    data.dv("remote", "add", "backup", "../backup")
    assert "backup" in data.dv("push", "--remote", "backup").out
    assert "backup" not in data.dv("push").out
    data.git("config", "--rename-section", "dv.remote.origin", "dv.remote.main")
    ran = data.dv("push", code=3)
    assert "which remote?" in ran.err
    assert "hint: name one with --remote" in ran.err
    assert "remote nope is not configured" in data.dv("push", "--remote", "nope", code=3).err


def test_push_of_nothing(work: Work) -> None:
    work.commit()
    assert work.dv("push").out == "nothing to push: these commits have no manifest\n"


def test_push_before_the_first_commit(work: Work) -> None:
    ran = work.dv("push", code=3)
    assert "no commits yet" in ran.err
    assert "hint: git commit" in ran.err


def test_push_without_a_remote(bare: Work) -> None:
    bare.dv("init")
    bare.write("data/a")
    bare.dv("add", "data")
    bare.commit()
    ran = bare.dv("push", code=3)
    assert "there is no remote yet" in ran.err
    assert "hint: add one: dv remote add" in ran.err


def test_push_to_a_folder_that_is_gone(data: Work) -> None:
    shutil.rmtree(data.root.parent / "remote")
    ran = data.dv("push", code=7)
    assert "remote" in ran.err
    assert not (data.root.parent / "remote").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_push_to_a_folder_that_refuses(data: Work) -> None:
    remote = data.root.parent / "remote"
    remote.chmod(0o500)
    try:
        assert "hint: " in data.dv("push", code=7).err
    finally:
        remote.chmod(0o700)


def test_push_to_a_folder_with_other_things(data: Work) -> None:
    (data.root.parent / "remote/thesis.doc").write_text("x")
    ran = data.dv("push", code=3)
    assert "thesis.doc" in ran.err
    assert "hint: choose an empty bucket" in ran.err


def test_push_content_that_is_nowhere(pushed: Work) -> None:
    clone = pushed.clone(remote=False)
    clone.dv("remote", "add", "other", "../other")
    ran = clone.dv("push", code=4)
    assert "nothing was published" in ran.err
    assert "hint: push from the clone" in ran.err


def test_push_sends_no_damaged_pack(data: Work) -> None:
    packs = [path for path in (data.root / ".git/dv/packs").rglob("*") if path.is_file()]
    for path in packs:
        text = bytearray(path.read_bytes())
        text[1] ^= 1
        path.chmod(0o644)
        path.write_bytes(text)
    ran = data.dv("push", code=6)
    assert "is damaged" in ran.err
    assert "dv fsck --repair" in ran.err
    remote = data.root.parent / "remote"
    assert not [path for path in remote.rglob("*") if path.name in {pack.name for pack in packs}]
    assert not (remote / "roots").exists()


def test_push_to_s3_and_back(data: Work, s3_env: S3Server) -> None:
    url = f"s3://{s3_env.new_bucket()}/prefix"
    data.dv("remote", "set", "origin", url, "--endpoint-url", s3_env.endpoint_url)
    data.commit("The bucket")
    assert data.dv("push").out.startswith(f"pushed to {url}: 2 packs, ")
    clone = data.clone(remote=False)
    assert clone.dv("pull").lines[0].startswith(f"fetched from {url}: 4 files")
    assert clone.read("data/table.csv") == b"x,y\n1,2\n"


def test_push_with_wrong_credentials(
    data: Work, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in rclone_server.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    url = f"s3://{rclone_server.new_bucket()}"
    data.dv("remote", "set", "origin", url, "--endpoint-url", rclone_server.endpoint_url)
    ran = data.dv("push", code=7)
    assert "hint: " in ran.err
    assert "wrong" not in ran.err.replace("wrong credentials", "")


def test_push_without_credentials(data: Work) -> None:
    data.dv("remote", "set", "origin", "s3://bucket", "--endpoint-url", "http://127.0.0.1:9")
    ran = data.dv("push", code=7)
    assert "no credentials" in ran.err
    assert "hint: check the credentials" in ran.err


def test_push_to_a_bucket_that_is_missing(data: Work, s3_env: S3Server) -> None:
    url = "s3://there-is-no-such-bucket"
    data.dv("remote", "set", "origin", url, "--endpoint-url", s3_env.endpoint_url)
    ran = data.dv("push", code=7)
    assert "there-is-no-such-bucket" in ran.err
    assert "hint: " in ran.err


def test_push_looks_contents_up_in_several_runs(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "RUN_CONTENTS_MAX", 7)
    monkeypatch.setattr(place_columns, "LOOKED_UP_AT_ONCE", 7)
    monkeypatch.setattr(manifest, "SHARD_ENTRIES_AVERAGE", 8)
    monkeypatch.setattr(manifest, "INLINE_ENTRIES_MAX", 20)
    for number in range(60):
        work.write(f"data/{number:03}", os.urandom(200_000 if number % 20 == 0 else 300))
        if number % 10 == 9:  # small packs, more than go up as they are
            work.dv("add", "data")
    work.write("data/again", work.root.joinpath("data/000").read_bytes())
    work.dv("add", "data")
    work.commit()
    assert work.dv("push").out.endswith("; 61 files proven there\n")
    work.write("data/059", "changed")
    work.dv("add", "data")
    work.commit()
    assert "1 pack, " in work.dv("push").out
    clone = work.clone()
    clone.dv("pull")
    for number in range(60):
        name = f"data/{number:03}"
        assert clone.read(name) == work.read(name)


def pack_guards(folder: Path) -> dict[Path, list[int]]:
    """Return the guards of the frames of each pack in a store or remote."""
    guards = {}
    for path in sorted(path for path in (folder / "packs").rglob("*") if path.is_file()):
        with path.open("rb") as file:
            index = read_index(file, size=path.stat().st_size, where=path.name)
        guards[path] = list(index.frame_guards)
    return guards


@pytest.fixture
def small_packs(work: Work) -> Work:
    """Return a repository with six packs of two frames; the first file was added, then changed."""
    for number in range(6):
        for name in range(8):
            work.write(f"data/{number}/{name}", os.urandom(20_000))
        work.dv("add", "data")
    work.write("data/0/0", "changed")
    work.dv("add", "data")
    work.commit()
    return work


def test_push_copies_frames_that_are_needed_whole(small_packs: Work) -> None:
    work = small_packs
    here = pack_guards(work.root / ".git/dv")
    work.dv("push")
    ((_, there),) = pack_guards(work.root.parent / "remote").items()
    two_frames = [guards for guards in here.values() if len(guards) == 2]
    assert len(two_frames) == 6
    # The first frame of one pack has the file that was changed; second frames are small, not whole.
    assert sum(guards[0] in there for guards in two_frames) == 5
    clone = work.clone()
    clone.dv("pull")
    for path in sorted((work.root / "data").rglob("*")):
        if path.is_file():
            name = str(path.relative_to(work.root))
            assert clone.read(name) == path.read_bytes()
    work.dv("fsck", "--remote")


def test_push_sends_packs_of_many_chunks_as_they_are(
    small_packs: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "WHOLE_PACK_MIN_CHUNKS", 8)
    small_packs.dv("push")
    here = pack_guards(small_packs.root / ".git/dv")
    sent = pack_guards(small_packs.root.parent / "remote")
    names = {path.name for path in here} & {path.name for path in sent}
    # The pack with the file that was changed goes into another one, as does the single file.
    assert (len(here), len(names), len(sent)) == (7, 5, 6)
    clone = small_packs.clone()
    clone.dv("pull")
    assert clone.read("data/0/0") == b"changed"
    assert clone.read("data/0/1") == small_packs.read("data/0/1")
    assert clone.read("data/5/7") == small_packs.read("data/5/7")
    small_packs.dv("fsck", "--remote")


def test_push_publishes_no_damaged_list_of_files(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that goes bad after it was planned: its text is copied as it is stored."""
    monkeypatch.setattr(manifest, "INLINE_ENTRIES_MAX", 2)
    for number in range(5):
        work.write(f"data/{number}", f"content {number}")
    work.dv("add", "data")
    work.commit()
    read = LocalStore.shard_object
    reads = []

    def read_again(store: LocalStore, digest: Digest) -> bytes:
        reads.append(digest)
        if reads.count(digest) < 2:
            return read(store, digest)
        text = locations.split_object(read(store, digest), "")[0]
        return locations.encode_object(text.replace(b'"size": 9', b'"size": 8'), None)

    monkeypatch.setattr(LocalStore, "shard_object", read_again)
    ran = work.dv("push", code=6)
    assert "its text is not what its name says" in ran.err
    assert not (work.root.parent / "remote/roots").exists()
    assert not list((work.root.parent / "remote").glob("shards/*/*"))


def test_push_copies_no_frame_of_a_damaged_pack(small_packs: Work) -> None:
    content = small_packs.read("data/5/0")
    (path,) = (
        path for path in pack_guards(small_packs.root / ".git/dv") if content in path.read_bytes()
    )
    text = bytearray(path.read_bytes())
    text[text.index(content)] ^= 1
    path.chmod(0o644)
    path.write_bytes(text)
    ran = small_packs.dv("push", code=6)
    assert "other bytes than its name says" in ran.err
    assert not (small_packs.root.parent / "remote/roots").exists()


def test_push_origin_main_is_explained(pushed: Work) -> None:
    branch = pushed.git("branch", "--show-current")
    ran = pushed.dv("push", "origin", branch, code=2)
    assert "origin is a remote" in ran.err
    assert f"hint: run: dv push --remote origin {branch}" in ran.err
    assert "--remote origin" in pushed.dv("pull", "origin", code=2).err
    pushed.git("branch", "origin")
    pushed.dv("push", "origin")


def test_push_check_asks_and_sends_nothing(data: Work) -> None:
    place = data.root.parent / "remote"
    ran = data.dv("push", "--check", code=1)
    assert f"{place} lacks" in ran.out
    assert list(place.iterdir()) == []
    data.dv("push")
    assert data.dv("push", "--check").out == f"everything is on {place}: 4 files\n"
    clone = data.clone()
    pack = next(path for path in (place / "packs").rglob("*") if path.is_file())
    pack.unlink()
    assert data.dv("push", "--check", "--json", code=1).json["plans"][0]["objects"] > 0
    assert "is neither here nor on" in clone.dv("push", "--check", code=1).err
    data.dv("push")
    clone.dv("push", "--check")


def test_push_looks_up_anew_what_a_pack_with_another_ones_number_had(
    small_packs: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gc may remove packs between the look-up and the plan, and numbers are given again."""
    plan = outgoing.plan_packs
    planned = []

    def renumbered(store: LocalStore, chunks: Any, seen: Any) -> Any:
        with store.db._db as db:
            for table, column in (("packs", "id"), ("chunks", "pack")):
                db.execute(f"UPDATE {table} SET {column} = {column} + 100")
            db.execute("UPDATE packs SET id = id - 99")
            db.execute("UPDATE chunks SET pack = pack - 99")
        result = plan(store, chunks, seen)
        for part in result.rest:
            with open(store.pack_path(part.pack.digest), "rb") as file:
                index = read_index(file, size=part.pack.size, where="")
            planned.append(set(split_digests(part.chunks)) - set(index.chunk_digests))
        return result

    monkeypatch.setattr(outgoing, "plan_packs", renumbered)
    small_packs.dv("push")
    assert planned == [set()] * 7
    clone = small_packs.clone()
    clone.dv("pull")
    assert clone.read("data/0/0") == b"changed"
