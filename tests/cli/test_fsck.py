"""Real damage, done to real files: each kind is found, named, and says what it touches."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.format.digest import digest_of
from dvtool.format.pack import TRAILER, PackIndex, Recipe, read_index
from dvtool.project import locks
from dvtool.remotes.objects import pack_key
from dvtool.repo import Repo
from dvtool.store import mending
from dvtool.store.database import Database
from dvtool.store.local import LocalStore
from tests.cli.conftest import Ran, Work, command
from tests.scenario import noise


@pytest.fixture
def stored(work: Work) -> Work:
    """Two targets in two packs, committed and not pushed; `many` has a shard."""
    for number in range(3):
        work.write(f"data/big/{number}.bin", noise(200_000, number))
    work.write("data/big/small.txt", "small")
    work.dv("add", "data/big")
    for number in range(1_050):
        work.write(f"data/many/{number}.txt", f"number {number}")
    work.dv("add", "data/many")
    work.commit("Add the data")
    return work


def store_of(work: Work) -> Path:
    return work.root / ".git/dv"


def packs_of(work: Work) -> list[Path]:
    return sorted((store_of(work) / "packs").glob("*/*"), key=lambda path: -path.stat().st_size)


def big_pack(work: Work) -> Path:
    return packs_of(work)[0]


def shard_file(work: Work) -> Path:
    return next((store_of(work) / "shards").glob("*/*"))


def index_of(pack: Path) -> PackIndex:
    with pack.open("rb") as file:
        return read_index(file, size=pack.stat().st_size, where="pack")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)


def kinds(ran: Ran) -> list[tuple[str, bool]]:
    return [(one["kind"], one["missing"]) for one in ran.json["damage"]]


def test_a_sound_store_is_clean(stored: Work) -> None:
    ran = stored.dv("fsck", "--workspace")
    assert ran.lines[-1] == "all of it is whole"
    found = stored.dv("fsck", "--json").json
    assert found["clean"] and not found["damage"]
    assert found["store"]["packs"] == 2
    assert found["store"]["contents"] == 1_054
    assert found["store"]["recipes"] == 3
    assert found["workspace"] is None and found["remote"] is None


def test_nothing_at_all_is_clean(bare: Work) -> None:
    assert bare.dv("fsck", "--workspace").lines[-1] == "all of it is whole"
    assert not (bare.root / ".git/dv/store.db").exists()


def _flip_frame(work: Work) -> None:
    flip(big_pack(work), 1_000)


def _flip_index(work: Work) -> None:
    pack = big_pack(work)
    flip(pack, pack.stat().st_size - TRAILER.size - 5)


def _flip_trailer(work: Work) -> None:
    pack = big_pack(work)
    flip(pack, pack.stat().st_size - 3)


def _truncate(work: Work) -> None:
    pack = big_pack(work)
    os.truncate(pack, pack.stat().st_size // 2)


def _append(work: Work) -> None:
    with big_pack(work).open("ab") as file:
        file.write(b"more")


def _swap(work: Work) -> None:
    one, other = packs_of(work)
    one.rename(one.with_name("x"))
    other.rename(one)
    one.with_name("x").rename(other)


def _delete(work: Work) -> None:
    big_pack(work).unlink()


Harm = Callable[[Work], None]
PACK_HARMS: list[Harm] = [
    _flip_frame,
    _flip_index,
    _flip_trailer,
    _truncate,
    _append,
    _swap,
    _delete,
]


@pytest.mark.parametrize("harm", PACK_HARMS)
def test_a_damaged_pack_is_named_with_what_it_touches(stored: Work, harm: Harm) -> None:
    name = big_pack(stored).name
    harm(stored)
    before = snapshot(store_of(stored))
    gone = harm is _delete
    ran = stored.dv("fsck", "--json", code=4 if gone else 6)
    assert kinds(ran) == [("pack", gone)] * (2 if harm is _swap else 1)
    damage = next(one for one in ran.json["damage"] if one["name"].endswith(name))
    assert damage["place"] == "local store"
    if harm not in (_append, _flip_trailer, _flip_index):  # those hurt no content
        assert "data/big" in damage["targets"]
    for file in damage["files"]:
        assert file["copies"] == ["workspace"]
    if damage["files"]:
        assert damage["commits"] == 1
        assert damage["commits_shown"][0]["subject"] == "Add the data"
    assert snapshot(store_of(stored)) == before, "a check changes nothing"


def snapshot(top: Path) -> dict[str, bytes]:
    # SQLite's log and shared memory come and go with every reader.
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def test_damage_in_a_frame_touches_the_files_in_it_and_no_others(stored: Work) -> None:
    pack = big_pack(stored)
    index = index_of(pack)
    flip(pack, index.frame_offsets()[-1] + 5)
    damage = stored.dv("fsck", "--json", code=6).json["damage"][0]
    assert len(damage["files"]) in (1, 2)
    shown = stored.dv("fsck", code=6).out
    assert f"damaged  local store: packs/{pack.name[:2]}/{pack.name}" in shown
    assert "in 1 commit: " in shown
    assert "good copy: workspace" in shown


def test_every_byte_of_a_pack_is_guarded(work: Work) -> None:
    work.write("data/a.bin", noise(300, 1))
    work.dv("add", "data/a.bin")
    pack = big_pack(work)
    whole = pack.read_bytes()
    for at in range(len(whole)):
        flip(pack, at)
        with work_repo(work) as repo:
            assert not repo.fsck().clean, f"byte {at}"
        pack.write_bytes(whole)
    with work_repo(work) as repo:
        assert repo.fsck().clean


def work_repo(work: Work):  # type: ignore[no-untyped-def]
    from dvtool.repo import Repo

    return Repo.open(str(work.root))


def test_a_damaged_list_of_files(stored: Work) -> None:
    flip(shard_file(stored), 60)
    ran = stored.dv("fsck", "--json", code=6)
    assert kinds(ran) == [("shard", False)]
    assert ran.json["damage"][0]["targets"] == ["data/many"]


def _sql(work: Work, *statements: str) -> None:
    with sqlite3.connect(store_of(work) / "store.db") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        ("index", "DELETE FROM chunks WHERE size < 100"),
        ("index", "DELETE FROM recipes"),
        ("index", "UPDATE chunks SET frame_offset = frame_offset + 1"),
        ("index", "UPDATE chunks SET pack = 77"),
        ("index", "UPDATE packs SET size = size + 1"),
        ("index", "UPDATE recipes SET chunks = substr(chunks, 33) || substr(chunks, 1, 32)"),
        (
            "recipe",
            "UPDATE recipes SET chunks = CAST(substr(chunks, 33) || substr(chunks, 1, 32) AS BLOB)",
        ),
        ("recipe", "UPDATE recipes SET size = size + 1"),
    ],
)
def test_rows_that_are_wrong(stored: Work, kind: str, sql: str) -> None:
    _sql(stored, sql)
    found = kinds(stored.dv("fsck", "--json", code=6))
    assert (kind, False) in found
    assert {one for one, _ in found} <= {"index", "recipe"}


def _forget_pack(work: Work, pack: Path) -> None:
    """Take from the index what a command writes there last: the pack, its chunks, its recipes."""
    files = [f"x'{recipe.digest.hex()}'" for recipe in index_of(pack).recipes]
    _sql(
        work,
        f"DELETE FROM chunks WHERE pack = (SELECT id FROM packs WHERE digest = x'{pack.name}')",
        f"DELETE FROM packs WHERE digest = x'{pack.name}'",
        f"DELETE FROM recipes WHERE digest IN ({','.join(files)})",
    )


def test_a_pack_that_no_command_came_to_list_is_no_damage(stored: Work) -> None:
    _forget_pack(stored, big_pack(stored))
    assert "4 contents are in packs here, but not listed yet" in stored.dv("fsck").err
    found = stored.dv("fsck", "--json").json
    assert (found["clean"], found["store"]["to_list"]) == (True, 4)
    assert found["store"]["not_here"] == 0
    stored.dv("fsck", "--repair")
    assert stored.dv("fsck", "--json").json["store"]["to_list"] == 0
    _restored(stored)


def test_files_that_a_fetch_did_not_come_to_list_are_no_damage(
    stored: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.dv("push")
    clone = stored.clone()
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "add_tried", _interrupted)
        clone.dv("fetch", code=130)
    found = clone.dv("fsck", "--json").json
    assert (found["clean"], found["store"]["to_list"]) == (True, 3)
    again = clone.root.parent / "again"
    shutil.copytree(clone.root, again)
    clone.dv("fetch")
    assert clone.dv("fsck", "--json").json["store"]["to_list"] == 0
    clone = Work(again)
    clone.dv("fsck", "--repair")
    assert clone.dv("fsck", "--json").json["store"]["to_list"] == 0
    # The same rows of an index by which no remote has such a pack.
    _sql(
        clone,
        *(f"DELETE FROM {table}" for table in ("recipes", "remote_recipes", "remote_packs")),
    )
    assert kinds(clone.dv("fsck", "--json", code=6)) == [("index", False)]


def test_an_older_version_in_a_pack_that_was_fetched_is_no_damage(work: Work) -> None:
    first = noise(9 << 20)
    for data in (first, first[:4_000_000] + noise(1000, 1) + first[4_000_000:]):
        work.write("data/big.bin", data)
        work.dv("add", "data")
        work.commit()
        work.dv("push")
    clone = work.clone()
    clone.dv("pull")
    found = clone.dv("fsck", "--json").json
    assert (found["clean"], found["store"]["to_list"]) == (True, 1)
    clone.dv("fsck", "--repair")
    assert clone.dv("fsck", "--json").json["store"]["to_list"] == 0


def test_what_is_not_here_is_not_called_whole(stored: Work) -> None:
    clone = stored.clone()
    last = clone.dv("fsck").lines[-1]
    assert last == "what is here is whole; nothing was asked about the rest: dv fsck --remote"
    stored.write("other", "pushed, so that there is a remote")
    stored.dv("add", "other")
    stored.commit("other")
    stored.dv("push", "--", "other")
    ran = clone.dv("fsck", "--remote", code=4)
    assert "shards is neither here nor on" in ran.out
    stored.dv("push")
    assert clone.dv("fsck", "--remote").lines[-1] == "all of it is whole"


def _interrupted(_store: LocalStore, recipes: list[Recipe]) -> None:
    if recipes:
        raise KeyboardInterrupt


@pytest.mark.parametrize("text", [b"not a database at all" * 300, b""])
def test_an_index_that_is_no_database(stored: Work, text: bytes) -> None:
    for name in ("store.db-wal", "store.db-shm"):
        (store_of(stored) / name).unlink(missing_ok=True)
    (store_of(stored) / "store.db").write_bytes(text)
    if text:
        assert kinds(stored.dv("fsck", "--json", code=6)) == [("index", False)]
    else:
        stored.dv("fsck")  # SQLite takes an empty file for a fresh one: it is made again


def test_a_page_of_the_index_is_overwritten(stored: Work) -> None:
    _sql(stored, "PRAGMA wal_checkpoint(TRUNCATE)")
    path = store_of(stored) / "store.db"
    data = bytearray(path.read_bytes())
    data[3 * 4096 : 3 * 4096 + 200] = b"\xff" * 200
    path.write_bytes(data)
    assert ("index", False) in kinds(stored.dv("fsck", "--json", code=6))


def test_what_was_never_fetched_is_no_damage(stored: Work) -> None:
    stored.dv("push")
    clone = stored.clone()
    ran = clone.dv("fsck", "--workspace", "--remote", "--json")
    assert ran.json["clean"]
    assert ran.json["store"]["lists_not_here"] == 1
    assert ran.json["store"]["not_here"] == 4
    clone.dv("pull", "data/big/1.bin")
    assert clone.dv("fsck", "--json").json["store"]["not_here"] == 3
    clone.dv("drop", "data/big/1.bin")
    assert clone.dv("fsck", "--json").json["store"]["not_here"] == 4


def test_what_is_nowhere_is_missing(stored: Work) -> None:
    shutil.rmtree(store_of(stored) / "packs")
    shutil.rmtree(stored.root / "data/big")
    ran = stored.dv("fsck", "--json", code=4)
    assert kinds(ran) == [("pack", True)] * 2
    stored.dv("doctor")  # opens the store, which forgets packs that are gone
    assert "was lost with a pack" in stored.dv("fsck", code=4).out
    stored.git("config", "--remove-section", "dv.remote.origin")
    ran = stored.dv("fsck", "--json", code=4)
    assert kinds(ran) == [("content", True)]
    files = {file["path"]: file["copies"] for file in ran.json["damage"][0]["files"]}
    assert files["data/big/0.bin"] == []
    assert files["data/many/0.txt"] == ["workspace"]
    assert "nowhere known" in stored.dv("fsck", code=4).out


def test_leftovers_are_harmless(stored: Work) -> None:
    (store_of(stored) / "tmp/.dv-tmp-1-0123456789ab").write_bytes(b"x")
    (store_of(stored) / "doomed").mkdir()
    (store_of(stored) / "doomed" / ("0" * 64)).touch()
    ran = stored.dv("fsck")
    assert "harmless: 1 × unfinished file, 1 × unfinished drop" in ran.err


def test_bit_rot_in_the_workspace(stored: Work) -> None:
    place = stored.root / "data/big/1.bin"
    stored.dv("status")
    found = place.stat()
    _rot(stored, place)
    assert place.stat().st_ino == found.st_ino
    assert "all of it is whole" in stored.dv("fsck").out
    ran = stored.dv("fsck", "--workspace", "--json", code=6)
    assert kinds(ran) == [("file", False)]
    damage = ran.json["damage"][0]
    assert damage["name"] == "data/big/1.bin"
    assert damage["files"][0]["copies"] == ["local store"]


def _rot(work: Work, place: Path) -> None:
    """Change a byte as a bad disk does: neither size nor times of the file change for dvtool."""
    from dvtool.workspace.statcache import StatCache, seen_file

    before = place.stat()
    flip(place, 1_000)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    cache = StatCache(str(store_of(work) / "statcache.db"))
    row = cache.folder("data/big")
    old = row[place.name]
    # Tests cannot set a ctime: the cache takes over the one that the file has now.
    row[place.name] = seen_file(
        place.stat(), old.digest, executable=False, read_at_ns=1 << 62, tracked=True
    )
    cache.save({"data/big": row})
    cache.close()


def test_an_edited_file_is_no_bit_rot(stored: Work) -> None:
    stored.write("data/big/1.bin", "edited")
    ran = stored.dv("fsck", "--workspace")
    assert "1 edited since dv add" in ran.out


def test_a_saved_manifest_that_cannot_be_read(stored: Work) -> None:
    stored.write("data/big/1.bin", "edited")
    stored.dv("checkout", "--force", "--", "data/big")
    saved = next((store_of(stored) / "saved").iterdir())
    stored.dv("fsck")
    saved.write_bytes(saved.read_bytes()[:-9])
    assert kinds(stored.dv("fsck", "--json", code=6)) == [("saved", False)]


# --- repair ---------------------------------------------------------------------------------


def _restored(work: Work) -> None:
    """See that the store gives back every file, from nothing else."""
    work.git("config", "dv.remote.origin.url", str(work.root.parent / "nowhere"))
    for path in ("data/big", "data/many"):
        shutil.rmtree(work.root / path, ignore_errors=True)
    work.dv("checkout", "--", "data")
    assert work.read("data/big/1.bin") == noise(200_000, 1)
    assert work.read("data/big/small.txt") == b"small"
    assert work.read("data/many/7.txt") == b"number 7"
    assert work.dv("status", "--json").json


def _flip_shard(work: Work) -> None:
    flip(shard_file(work), 60)


def _drop_rows(work: Work) -> None:
    _sql(work, "DELETE FROM chunks WHERE size < 100", "DELETE FROM recipes")


def _wrong_rows(work: Work) -> None:
    _sql(work, "UPDATE chunks SET frame_offset = frame_offset + 1")


def _wrong_recipes(work: Work) -> None:
    _sql(
        work,
        "UPDATE recipes SET chunks = CAST(substr(chunks, 33) || substr(chunks, 1, 32) AS BLOB)",
    )


def _break_index(work: Work) -> None:
    for name in ("store.db-wal", "store.db-shm"):
        (store_of(work) / name).unlink(missing_ok=True)
    (store_of(work) / "store.db").write_bytes(b"not a database at all" * 300)


def _all_at_once(work: Work) -> None:
    flip(big_pack(work), 70_000)
    _flip_index(work)
    _flip_shard(work)
    _break_index(work)


STORE_HARMS = [
    *PACK_HARMS,
    _flip_shard,
    _drop_rows,
    _wrong_rows,
    _wrong_recipes,
    _break_index,
    _all_at_once,
]


@pytest.mark.parametrize("harm", STORE_HARMS)
def test_repair_from_the_workspace(stored: Work, harm: Harm) -> None:
    harm(stored)
    ran = stored.dv("fsck", "--repair", "--json")
    assert ran.json["clean"]
    assert all(one["repaired"] for one in ran.json["damage"])
    assert stored.dv("fsck", "--workspace").lines[-1] == "all of it is whole"
    _restored(stored)


@pytest.mark.parametrize("harm", STORE_HARMS)
def test_repair_from_a_remote(stored: Work, harm: Harm) -> None:
    stored.dv("push")
    for path in ("data/big", "data/many"):
        shutil.rmtree(stored.root / path)
    harm(stored)
    stored.dv("fsck", "--repair")
    assert stored.dv("fsck").lines[-1] == "all of it is whole"
    _restored(stored)


@pytest.mark.parametrize("harm", PACK_HARMS)
def test_what_was_damaged_is_set_aside_and_never_deleted(stored: Work, harm: Harm) -> None:
    harm(stored)
    before = {path.read_bytes() for path in packs_of(stored)}
    stored.dv("fsck", "--repair")
    after = {
        path.read_bytes() for path in [*packs_of(stored), *(store_of(stored) / "aside").glob("*")]
    }
    assert before <= after


@pytest.mark.parametrize("harm", [_flip_frame, _truncate, _delete])
def test_what_is_good_nowhere_is_said_again_and_again(stored: Work, harm: Harm) -> None:
    for path in ("data/big", "data/many"):
        shutil.rmtree(stored.root / path)
    harm(stored)
    code = 4 if harm is _delete else 6
    ran = stored.dv("fsck", "--repair", code=code)
    assert "not repaired: no good copy of" in ran.out
    for _ in range(2):
        again = stored.dv("fsck", "--json", code=4)
        assert kinds(again) == [("content", True)]
        assert again.json["damage"][0]["files"][0]["copies"] == []
    again = stored.dv("fsck", "--repair", code=4)
    stored.write("data/big/1.bin", noise(200_000, 1))
    stored.write("data/big/0.bin", noise(200_000, 0))
    stored.write("data/big/2.bin", noise(200_000, 2))
    stored.write("data/big/small.txt", "small")
    stored.dv("fsck", "--repair")
    stored.dv("fsck")
    _restored(stored)


def test_a_chunk_that_another_pack_has_too_is_found_there(stored: Work, tmp_path: Path) -> None:
    other = stored.clone("other", remote=False)
    other.write("data/big/1.bin", noise(200_000, 1))
    other.dv("add", "data/big/1.bin")
    pack = packs_of(other)[0]
    place = store_of(stored) / "packs" / pack.name[:2] / pack.name
    place.parent.mkdir(exist_ok=True)
    shutil.copy(pack, place)
    shutil.rmtree(stored.root / "data/big")
    index = index_of(big_pack(stored))
    for offset in index.frame_offsets():
        flip(big_pack(stored), offset + 30)
    files = stored.dv("fsck", "--json", code=6).json["damage"][0]["files"]
    copies = {file["path"]: file["copies"] for file in files}
    assert copies["data/big/1.bin"] == ["another pack"]
    assert copies["data/big/0.bin"] == []
    stored.dv("fsck", "--repair", code=6)
    stored.dv("checkout", "--", "data/big/1.bin")
    assert stored.read("data/big/1.bin") == noise(200_000, 1)


def test_rebuild_keeps_the_old_index_and_what_it_knew_of_remotes(stored: Work) -> None:
    stored.dv("push")
    stored.dv("drop", "data/big")
    before = stored.dv("fsck", "--json").json["store"]
    assert before["not_here"] == 4 and before["nowhere_known"] == 0
    ran = stored.dv("fsck", "--rebuild", "--json")
    assert ran.json["store"]["nowhere_known"] == 0
    assert len(list((store_of(stored) / "aside").glob("store-*.db"))) == 1
    assert "store.db was made again" in ran.json["done"][0]


def test_bit_rot_is_mended_and_what_was_there_saved(stored: Work) -> None:
    place = stored.root / "data/big/1.bin"
    stored.dv("status")
    _rot(stored, place)
    rotten = place.read_bytes()
    ran = stored.dv("fsck", "--workspace", "--repair", "--json")
    assert place.read_bytes() == noise(200_000, 1)
    saved = ran.json["damage"][0]["repaired"].rpartition(": ")[2]
    assert stored.dv("cat", "--hash", saved).raw == rotten
    stored.dv("fsck", "--workspace")


def test_a_repair_fetches_by_any_manifest_that_was_pushed(stored: Work) -> None:
    stored.dv("push")
    for path in store_of(stored).glob("store.db*"):  # and with it what is known of the remote
        path.unlink()
    stored.dv("fsck", "--rebuild")
    stored.dv("mv", "data/big/0.bin", "data/big/new.bin")
    stored.git("reset", "-q")  # neither committed nor pushed
    shutil.rmtree(stored.root / "data/big")
    big = big_pack(stored)
    big.write_bytes(bytes(1_000))
    stored.dv("fsck", code=6)
    stored.dv("fsck", "--repair")
    stored.dv("checkout", "--no-fetch")
    assert stored.read("data/big/new.bin") == noise(200_000, 0)


@pytest.mark.parametrize("again", [("fsck", "--repair"), ("add", "data/big")])
def test_what_is_stored_again_needs_no_index_to_be_found(
    stored: Work, again: tuple[str, ...]
) -> None:
    big_pack(stored).unlink()
    (store_of(stored) / "statcache.db").unlink()
    stored.dv(*again)
    for path in store_of(stored).glob("store.db*"):
        path.unlink()
    shutil.rmtree(stored.root / "data/big")
    stored.dv("checkout", "--no-fetch")
    assert stored.read("data/big/0.bin") == noise(200_000, 0)


@pytest.mark.parametrize("size", [0, 1_000])
def test_a_lost_index_and_a_pack_cut_short_are_repaired_together(stored: Work, size: int) -> None:
    stored.dv("push")
    for path in store_of(stored).glob("store.db*"):
        path.unlink()
    big = big_pack(stored)
    big.write_bytes(big.read_bytes()[:size])
    damage = stored.dv("fsck", "--json", code=6).json["damage"]
    assert [one["kind"] for one in damage] == ["pack"]
    stored.dv("fsck", "--repair")
    assert stored.dv("fsck").lines[-1] == "all of it is whole"
    assert (store_of(stored) / "aside" / big.name).stat().st_size == size
    shutil.rmtree(stored.root / "data/big")
    stored.dv("checkout", "--no-fetch")
    assert stored.read("data/big/0.bin") == noise(200_000, 0)


def test_repair_with_nothing_to_repair_changes_nothing(stored: Work) -> None:
    before = snapshot(store_of(stored))
    stored.dv("fsck", "--repair")
    after = snapshot(store_of(stored))
    assert {k: v for k, v in after.items() if k != "drop.lock"} == before


def test_repair_finishes_what_was_interrupted(stored: Work) -> None:
    pack = big_pack(stored)
    (store_of(stored) / "doomed").mkdir()
    (store_of(stored) / "doomed" / pack.name).touch()
    _sql(
        stored,
        f"DELETE FROM chunks WHERE pack = (SELECT id FROM packs WHERE digest = x'{pack.name}')",
        f"DELETE FROM packs WHERE digest = x'{pack.name}'",
    )
    stored.dv("fsck", code=6)
    stored.dv("fsck", "--repair")
    assert stored.dv("fsck").lines[-1] == "all of it is whole"
    _restored(stored)


BESIDE = {
    "copy": (mending, "_index_aside"),
    "index": (LocalStore, "make_index"),
    "tried": (LocalStore, "add_tried"),
    "replace": (Database, "take_over"),
    "late": (LocalStore, "packs_besides"),
    "locks": (mending, "drop_lock"),
}
"""Moments of a rebuild, by the function that is called then."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", BESIDE)
def test_an_add_and_a_fetch_at_any_moment_of_a_rebuild(
    stored: Work, monkeypatch: pytest.MonkeyPatch, point: str, after: bool
) -> None:
    """The add is another worktree's and waits; a fetch waits for a transaction at most."""
    stored.dv("push")
    stored.git("worktree", "add", "-q", str(stored.root.parent / "tree"))
    stored.dv("drop", "--store", "data")
    tree = Work(stored.root.parent / "tree")
    tree.write("data/new/n.bin", noise(200_000, 40))
    owner, name = BESIDE[point]
    real = getattr(owner, name)
    started: list[subprocess.Popen[bytes]] = []

    def beside() -> None:
        if started:
            return
        started.append(subprocess.Popen(command("add", "data/new"), cwd=tree.root))
        started.append(subprocess.Popen(command("fetch"), cwd=tree.root))
        with contextlib.suppress(subprocess.TimeoutExpired):
            started[1].wait(10 if point != "late" else 2)

    def call(*args: object, **options: object) -> object:
        if after:
            result = real(*args, **options)
            beside()
            return result
        beside()
        return real(*args, **options)

    monkeypatch.setattr(owner, name, call)
    stored.dv("fsck", "--rebuild")
    assert [one.wait(60) for one in started] == [0, 0]
    tree.git("add", "-A")
    tree.git("commit", "-qm", "new")
    found = stored.dv("fsck", "--json").json
    assert found["clean"] and found["store"]["to_list"] == found["store"]["not_here"] == 0
    shutil.rmtree(tree.root / "data/new")
    tree.dv("checkout", "--no-fetch", "--", "data")
    assert tree.read("data/new/n.bin") == noise(200_000, 40)
    assert tree.read("data/big/2.bin") == noise(200_000, 2)


def test_a_rebuild_waits_for_other_worktrees(stored: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    stored.git("worktree", "add", "-q", str(stored.root.parent / "tree"))
    monkeypatch.setattr(locks, "LOCK_WAIT_S", 0.05)
    with Repo.open(str(stored.root.parent / "tree")) as repo, repo._project.lock():
        ran = stored.dv("fsck", "--rebuild", code=9)
    assert "another dv command has been changing a worktree" in ran.err
    assert not (store_of(stored) / "aside").exists()


def test_a_reader_goes_on_through_a_rebuild(stored: Work) -> None:
    """It has looked places up before, by numbers of packs that stay."""
    for number in range(3):
        stored.write(f"data/more/{number}", noise(100_000 + number, 60 + number))
        stored.dv("add", "data/more")
    wanted = [digest_of(noise(200_000, number)) for number in range(3)]
    wanted += [digest_of(noise(100_000 + number, 60 + number)) for number in range(3)]
    with LocalStore(str(store_of(stored))) as store, store.reader() as reader:
        reader.prepare(wanted)
        numbers = store.db.packs()
        stored.dv("fsck", "--rebuild")
        assert store.db.packs() == numbers
        for digest in wanted:
            assert digest_of(b"".join(reader.read(digest))) == digest


def test_an_index_that_sqlite_cannot_read_gives_way_in_one_step(
    stored: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No log is left, which SQLite would take for that of the new index."""
    _break_index(stored)
    (store_of(stored) / "store.db-wal").write_bytes(b"a log")
    seen: list[list[str]] = []
    real = os.replace

    def replace(source: str, place: str) -> None:
        if place.endswith("/store.db"):
            seen.append(sorted(path.name for path in store_of(stored).glob("store.db*")))
        real(source, place)

    monkeypatch.setattr(os, "replace", replace)
    stored.dv("fsck", "--rebuild")
    assert seen == [["store.db"]]
    assert stored.dv("fsck").lines[-1] == "all of it is whole"


# --- remotes --------------------------------------------------------------------------------


@pytest.fixture
def shared(stored: Work) -> Work:
    stored.dv("push")
    return stored


def remote_of(work: Work) -> Path:
    return work.root.parent / "remote"


def remote_packs(work: Work) -> list[Path]:
    found = (remote_of(work) / "packs").glob("*/*")
    return sorted(found, key=lambda path: -path.stat().st_size)


def test_a_sound_remote_is_clean(shared: Work) -> None:
    found = shared.dv("fsck", "--remote", "--json").json
    assert found["clean"]
    assert found["remote"]["manifests"] == 2
    assert found["remote"]["shards"] == 2
    assert found["remote"]["packs_read"] == 0
    deep = shared.dv("fsck", "--remote", "origin", "--deep", "--json").json
    assert deep["remote"]["packs_read"] == deep["remote"]["packs"] == len(remote_packs(shared))


def test_a_pack_that_the_remote_lost(shared: Work) -> None:
    remote_packs(shared)[0].unlink()
    ran = shared.dv("fsck", "--remote", "--json", code=4)
    assert kinds(ran) == [("pack", True)]
    damage = ran.json["damage"][0]
    assert {file["path"] for file in damage["files"]} >= {"data/big/0.bin", "data/big/2.bin"}
    assert damage["files"][0]["copies"] == ["workspace", "local store"]
    assert damage["commits"] == 1


def test_a_pack_that_the_remote_cut_short(shared: Work) -> None:
    os.truncate(remote_packs(shared)[0], 1_000)
    assert kinds(shared.dv("fsck", "--remote", "--json", code=6)) == [("pack", False)]


def test_bytes_that_the_remote_changed_are_found_deep_only(shared: Work) -> None:
    flip(remote_packs(shared)[0], 1_000)
    shared.dv("fsck", "--remote")  # a folder states no MD5
    ran = shared.dv("fsck", "--remote", "--deep", "--json", code=6)
    assert kinds(ran) == [("pack", False)]
    assert ran.json["damage"][0]["files"]


def test_what_was_not_read_is_said(shared: Work) -> None:
    count = len(remote_packs(shared))
    assert f"{count} packs there were not read" in shared.dv("fsck", "--remote").err
    ran = shared.dv("fsck", "--remote", "--sample", "1%")
    assert f"{count - 1} pack" in ran.err and "not read" in ran.err
    assert "not read" not in shared.dv("fsck", "--remote", "--deep").err
    assert "not read" not in shared.dv("fsck").err
    remote_packs(shared)[0].unlink()
    assert "not read" not in shared.dv("fsck", "--remote", "--deep", code=4).err


def test_a_sample_can_be_repeated(shared: Work) -> None:
    ran = shared.dv("fsck", "--remote", "--sample", "50%", "--json").json["remote"]
    assert 0 < ran["packs_read"] < ran["packs"]
    again = shared.dv(
        "fsck", "--remote", "--sample", "50%", "--seed", str(ran["seed"]), "--json"
    ).json["remote"]
    assert (again["bytes_read"], again["seed"]) == (ran["bytes_read"], ran["seed"])
    assert (
        f"--seed {ran['seed']}"
        in shared.dv("fsck", "--remote", "--sample", "50", "--seed", str(ran["seed"])).out
    )


@pytest.mark.parametrize("folder", ["shards", "roots"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_shard_or_root(shared: Work, folder: str, cut: bool) -> None:
    path = max((remote_of(shared) / folder).glob("*/*"), key=lambda path: path.stat().st_size)
    if cut:
        os.truncate(path, path.stat().st_size - 7)
    else:
        flip(path, 50)
    ran = shared.dv("fsck", "--remote", "--json", code=6)
    assert ("shard" if folder == "shards" else "root", False) in kinds(ran)


def test_a_shard_that_the_remote_lost(shared: Work) -> None:
    for path in (remote_of(shared) / "shards").glob("*/*"):
        path.unlink()
    ran = shared.dv("fsck", "--remote", "--json", code=4)
    assert kinds(ran) == [("shard", True)] * 2
    assert {one["targets"][0] for one in ran.json["damage"]} == {"data/big", "data/many"}
    assert all(one["files"] for one in ran.json["damage"])


def test_a_lost_mark(shared: Work) -> None:
    (remote_of(shared) / "dv.json").unlink()
    assert kinds(shared.dv("fsck", "--remote", "--json", code=4)) == [("mark", True)]
    (remote_of(shared) / "dv.json").write_bytes(b"{")
    assert kinds(shared.dv("fsck", "--remote", "--json", code=6)) == [("mark", False)]


def test_a_place_that_is_no_remote(stored: Work) -> None:
    assert "is not a dvtool remote yet" in stored.dv("fsck", "--remote", code=3).err


def test_what_was_not_pushed_is_no_damage(shared: Work) -> None:
    shared.write("data/big/new.txt", "new")
    shared.dv("add", "data/big")
    shared.commit("more")
    ran = shared.dv("fsck", "--remote")
    assert "not pushed there: data/big" in ran.err


def test_wrong_usage(shared: Work) -> None:
    shared.dv("fsck", "--deep", code=2)
    shared.dv("fsck", "--remote", "--sample", "many", code=2)
    shared.dv("fsck", "--remote", "--sample", "0%", code=2)
    shared.dv("fsck", "--remote", "--sample", "101%", code=2)
    shared.dv("fsck", "--remote", "--sample", "5%", "--deep", code=2)
    assert "about a sample" in shared.dv("fsck", "--remote", "--seed", "1", code=2).err
    shared.dv("fsck", "--remote", "nope", code=3)


def test_keys_are_named_as_they_are_on_the_remote(shared: Work) -> None:
    pack = remote_packs(shared)[0]
    pack.unlink()
    assert pack_key(bytes.fromhex(pack.name)) in shared.dv("fsck", "--remote", code=4).out


# --- interruptions --------------------------------------------------------------------------


def _is_stopped(work: Work) -> bool:
    try:
        with Repo.open(str(work.root)) as repo:
            repo.fsck(repair=True)
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.parametrize("harm", [_swap, _all_at_once])
def test_a_repair_can_be_interrupted_anywhere_and_repeated(
    stored: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Harm
) -> None:
    """Stop it before each link, rename and removal; then repeat it, and nothing is lost."""
    harm(stored)
    before = {path.read_bytes() for path in packs_of(stored)}
    for step in range(0, 200, 2):
        work = Work(tmp_path / f"step{step}")
        shutil.copytree(stored.root, work.root, symlinks=True)
        calls = 0

        def counted(real: Callable[..., None], at: int = step) -> Callable[..., None]:
            def call(*args: object, **options: object) -> None:
                nonlocal calls
                calls += 1
                if calls == at + 1:
                    raise KeyboardInterrupt
                real(*args, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("replace", "link", "unlink"):
                patch.setattr(os, name, counted(getattr(os, name)))
            stopped = _is_stopped(work)
        kept = [*packs_of(work), *(store_of(work) / "aside").glob("*")]
        assert before <= {path.read_bytes() for path in kept}, f"step {step}"
        assert work.dv("fsck", "--repair", "--json").json["clean"], f"step {step}"
        assert work.dv("fsck").lines[-1] == "all of it is whole"
        _restored(work)
        if not stopped:
            assert step > 5
            return
        shutil.rmtree(work.root)
    raise AssertionError("it never came to its end")
