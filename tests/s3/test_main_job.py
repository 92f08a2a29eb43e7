"""The main job, whole, on a folder and on both S3 servers: what was committed comes back."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from dvtool.errors import CorruptError, MissingError, SetupError, UnsavedError
from dvtool.format.manifest import decode
from dvtool.remotes.transports.registry import open_backend
from tests.scenario import Clone, Remote, noise

_PACKAGE = importlib.util.find_spec("vega_datasets")  # not imported: that would load pandas
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
DATASET = Path(_PACKAGE.origin).parent / "_data"
ODD_NAMES = [
    "with space.txt",
    "quote\"s and 'more'.txt",
    "new\nline.txt",
    "ünïcödé/日本語/🐈.txt",
    "-dash",
    "trailing ",
    "back\\slash",
    "tab\tand\x1b[31mescape",
    "[glob]*?.txt",
    "#hash",
    "!bang",
]


def fill(clone: Clone) -> None:
    """Give a clone a real dataset and everything else that people put into data folders."""
    shutil.copytree(DATASET, clone.path / "data")
    for number, name in enumerate(ODD_NAMES):
        clone.write(f"data/odd/{name}", noise(100 + number, number))
    clone.write("data/empty.txt")
    clone.write("data/run.sh", b"#!/bin/sh\n", executable=True)
    clone.write("data/large.bin", noise(3 << 20))
    clone.link("data/odd/link", "../run.sh")
    clone.link("data/dangling", "nowhere")
    (clone.path / "data/empty/deeper").mkdir(parents=True)


def test_a_dataset_comes_back_at_its_first_commit(remote: Remote, tmp_path: Path) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    fill(mine)
    mine.add("data")
    first, first_tree = mine.commit("first"), mine.tree("data")
    with mine.repo() as repo:
        assert repo.push().pushed.changed

    theirs = mine.clone(tmp_path / "theirs", remote)
    with theirs.repo() as repo:
        repo.pull()
        assert all(one.clean and not one.absent for one in repo.status())
    assert theirs.tree("data") == first_tree

    change(theirs)
    theirs.add("data")
    second, second_tree = theirs.commit("second"), theirs.tree("data")
    with theirs.repo() as repo:
        repo.push()

    mine.git("pull", "--quiet", str(theirs.path), "main")
    with mine.repo() as repo:
        repo.pull()
    assert mine.tree("data") == second_tree
    for commit, expected in ((first, first_tree), (second, second_tree), (first, first_tree)):
        with mine.repo() as repo:
            repo.checkout(commit, ["data"])
        assert mine.tree("data") == expected
        assert mine.git("diff", "--stat", commit, "--", "data.dv.json") == ""


def change(clone: Clone) -> None:
    """Edit, remove, add, chmod, turn a file into a folder and a folder into a file."""
    airports = clone.path / "data/airports.csv"
    airports.write_bytes(airports.read_bytes().replace(b"USA", b"US", 1))
    clone.remove("data/iris.json")
    clone.write("data/fresh/new.bin", noise(200_000, 7))
    (clone.path / "data/run.sh").chmod(0o644)
    clone.remove("data/empty.txt")
    clone.write("data/empty.txt/now a folder", b"x")
    clone.remove("data/empty")
    clone.write("data/empty", b"now a file")
    clone.remove("data/odd/link")
    clone.link("data/odd/link", "../wheat.json")
    large = clone.path / "data/large.bin"
    data = large.read_bytes()
    large.write_bytes(data[: 1 << 20] + b"inserted" + data[1 << 20 :])


def test_a_second_push_sends_and_a_second_pull_asks_for_nothing(
    remote: Remote, tmp_path: Path
) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    mine.write("data/a", noise(100_000))
    mine.add("data")
    mine.commit("one")
    with mine.repo() as repo:
        assert repo.push().pushed.bytes > 100_000
        assert repo.push().pushed.bytes == 0
    theirs = mine.clone(tmp_path / "theirs", remote)
    with theirs.repo() as repo:
        assert repo.pull().fetched is not None
        assert repo.pull().fetched is None


def test_the_manifest_says_what_any_blake3_tool_says(remote: Remote, tmp_path: Path) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    fill(mine)
    mine.add("data")
    manifest = decode((mine.path / "data.dv.json").read_bytes(), "data.dv.json")
    assert manifest.entries is not None
    files = {path: entry for path, entry in manifest.entries.items() if entry.is_file}
    assert len(files) > len(ODD_NAMES)
    for path, entry in files.items():
        data = (mine.path / "data" / path).read_bytes()
        assert (entry.blake3, entry.size) == (blake3(data).hexdigest(), len(data))


def test_only_the_changed_part_of_a_large_file_is_stored_again(
    remote: Remote, tmp_path: Path
) -> None:
    data = noise(256 << 20)
    mine = Clone.new(tmp_path / "mine", remote)
    mine.write("big.bin", data)
    mine.add("big.bin")
    mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    before = stored(remote)
    middle = len(data) // 2
    mine.write("big.bin", data[:middle] + noise(1000, 1) + data[middle:])
    mine.add("big.bin")
    mine.commit("two")
    with mine.repo() as repo:
        repo.push()
    assert stored(remote) - before < 500_000


def stored(remote: Remote) -> int:
    """Return the bytes of all objects, as the remote lists them."""
    backend = open_backend(remote.url, {"endpoint_url": remote.endpoint_url})
    return sum(info.size for info in backend.list(""))


def test_paths_and_globs_fetch_only_what_they_name(remote: Remote, tmp_path: Path) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    for number in range(40):
        mine.write(
            f"data/{'cats' if number % 2 else 'dogs'}/{number:02}.bin", noise(90_000, number)
        )
    mine.add("data")
    mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    theirs = mine.clone(tmp_path / "theirs", remote)
    with theirs.repo() as repo:
        repo.pull(paths=["data/cats/0*.bin"])
    assert sorted(theirs.tree("data")) == [f"cats/0{number}.bin" for number in (1, 3, 5, 7, 9)]
    with theirs.repo() as repo:
        (status,) = repo.status()
        assert (len(status.absent), status.deleted, status.changed) == (35, [], False)
        repo.pull(paths=["data/dogs"])
    assert len(theirs.tree("data")) == 25


def test_a_part_can_be_changed_and_pushed_without_the_rest(remote: Remote, tmp_path: Path) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    for number in range(30):
        mine.write(f"data/{number:02}.bin", noise(90_000, number))
    mine.add("data")
    mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    theirs = mine.clone(tmp_path / "theirs", remote)
    with theirs.repo() as repo:
        repo.pull(paths=["data/05.bin"])
    theirs.write("data/05.bin", noise(80_000, 99))
    theirs.write("data/new.bin", noise(10, 98))
    theirs.add("data/05.bin", "data/new.bin")
    theirs.commit("two")
    with theirs.repo() as repo:
        assert repo.push().pushed.bytes < 200_000
    mine.git("pull", "--quiet", str(theirs.path), "main")
    with mine.repo() as repo:
        repo.pull()
    assert len(mine.tree("data")) == 31
    assert (mine.path / "data/05.bin").read_bytes() == noise(80_000, 99)


def test_an_object_lost_behind_our_back_is_uploaded_again(remote: Remote, tmp_path: Path) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    mine.write("data/a", noise(100_000))
    mine.add("data")
    mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    backend = open_backend(remote.url, {"endpoint_url": remote.endpoint_url})
    for prefix in ("packs/", "shards/", "roots/"):
        for info in list(backend.list(prefix)):
            backend.delete(info.key)
        with mine.repo() as repo:
            assert repo.push().pushed.changed
            assert not repo.push().pushed.changed
        clone = mine.clone(tmp_path / f"after {prefix[:-1]}", remote)
        with clone.repo() as repo:
            repo.pull()
        assert clone.tree("data") == mine.tree("data")


def test_content_that_nobody_pushed_is_named_and_nothing_is_touched(
    remote: Remote, tmp_path: Path
) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    mine.write("data/a", noise(1000, 1))
    mine.add("data")
    mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    mine.write("data/b", noise(1000, 2))
    mine.add("data")
    mine.commit("two, never pushed")
    theirs = mine.clone(tmp_path / "theirs", remote)
    with theirs.repo() as repo, pytest.raises(MissingError, match="does not have what"):
        repo.pull()
    assert not (theirs.path / "data").exists()


def test_a_wrong_byte_on_the_remote_never_reaches_the_workspace(
    remote: Remote, tmp_path: Path
) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    mine.write("data/a", noise(200_000))
    mine.add("data")
    mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    backend = open_backend(remote.url, {"endpoint_url": remote.endpoint_url})
    (pack,) = backend.list("packs/")
    data = bytearray(backend.get(pack.key, size_max=pack.size))
    data[1000] ^= 1
    backend.put(pack.key, bytes(data))
    theirs = mine.clone(tmp_path / "theirs", remote)
    with theirs.repo() as repo, pytest.raises(CorruptError, match=pack.key):
        repo.pull()
    assert not (theirs.path / "data").exists()
    assert not os.listdir(theirs.path / ".git/dv/tmp")


def test_a_place_that_holds_something_else_is_refused(remote: Remote, tmp_path: Path) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    mine.write("data/a", b"x")
    mine.add("data")
    mine.commit("one")
    backend = open_backend(remote.url, {"endpoint_url": remote.endpoint_url})
    backend.put("somebody/elses", b"things")
    with mine.repo() as repo, pytest.raises(SetupError, match="holds other things"):
        repo.push()
    assert [info.key for info in backend.list("")] == ["somebody/elses"]
    backend.put("dv.json", b'{"dv": 99, "id": "%s", "created": "later"}' % (b"0" * 32))
    with mine.repo() as repo, pytest.raises(SetupError, match="format 99"):
        repo.push()


def test_unsaved_changes_stop_a_checkout_and_force_saves_them(
    remote: Remote, tmp_path: Path
) -> None:
    mine = Clone.new(tmp_path / "mine", remote)
    mine.write("data/a", b"one")
    mine.write("data/b", b"other")
    mine.add("data")
    first = mine.commit("one")
    mine.write("data/a", b"two")
    mine.add("data")
    mine.commit("two")
    mine.write("data/a", b"unsaved work")
    mine.write("data/mine", b"not under dv")
    with mine.repo() as repo:
        with pytest.raises(UnsavedError, match="data/a"):
            repo.checkout(first)
        assert (mine.path / "data/a").read_bytes() == b"unsaved work"
        (saved,) = repo.checkout(first, force=True).saved
        assert b"".join(repo.cat_content(saved.blake3)) == b"unsaved work"
    assert (mine.path / "data/a").read_bytes() == b"one"
    assert (mine.path / "data/mine").read_bytes() == b"not under dv"
