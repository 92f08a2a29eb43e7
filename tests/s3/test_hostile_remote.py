"""What a remote may send that somebody forged: an error that names the object, and no harm.

No harm is: no wrong byte in the workspace, little memory, nothing left behind; and once the
remote is sound again, the same clone gets everything from it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from dvtool.errors import DvError
from dvtool.format.digest import EMPTY, Digest, digest_of
from dvtool.format.manifest import decode, manifest_shards
from dvtool.format.pack import RAW, ZSTD
from dvtool.remotes.objects import shard_key
from tests.s3.forgery import (
    U32_MAX,
    Locations,
    Pack,
    ShardFile,
    boasting,
    index_of,
    put_pack,
    shard_object,
    sizeless,
    zeros,
)
from tests.scenario import Clone, Remote, noise

MEMORY_MAX_BYTES = 150 << 20
"""More than this must no forgery make a pull take on top of what it has."""
MODES = {"all": (), "a part": ("data/big.bin",)}


@dataclass
class Hostile:
    """A remote whose objects for the target `data` may be changed at will."""

    remote: Path
    key: str
    """Of the shard object."""

    @property
    def shard(self) -> ShardFile:
        return ShardFile.open(self.remote / self.key)

    @property
    def pack_key(self) -> str:
        name = self.shard.locations.packs[0][0].hex()
        return f"packs/{name[:2]}/{name}"

    @property
    def pack(self) -> Path:
        return self.remote / self.pack_key

    def edit(self, change: Callable[[Locations], object]) -> str:
        shard = self.shard
        change(shard.locations)
        shard.write()
        return self.key

    def other_pack(self) -> Path:
        """Return the pack of the other target."""
        every = [path for path in (self.remote / "packs").glob("*/*") if path != self.pack]
        assert len(every) == 1
        return every[0]

    def forge_pack(self, pack: Pack, *, size: int | None = None) -> str:
        """Let all locations point into a forged pack, at places that may not make sense there."""
        data = pack.encode()
        digest, real = put_pack(self.remote, data)

        def change(locations: Locations) -> None:
            locations.packs = [(digest, real if size is None else size)]
            for row in locations.rows:
                row[0] = 0
                if row[1] + row[2] > real:
                    row[1], row[2] = 0, min(row[2], real)

        self.edit(change)
        return f"{digest.hex()}|data/"


@dataclass(frozen=True)
class Work:
    mine: Clone
    remote: Path
    tree: dict[str, str]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    top = tmp_path_factory.mktemp("hostile")
    remote = top / "remote"
    mine = Clone.new(top / "mine", Remote(str(remote)))
    for number in range(5):
        mine.write(f"data/small/{number}", noise(3_000, number))
    mine.write("data/one.bin", noise(50_000, 10))
    mine.write("data/big.bin", noise(900_000, 11))
    mine.write("data/more.bin", noise(900_000, 12))
    mine.write("data/words.txt", b"compressible " * 20_000)
    mine.add("data")
    mine.write("other/file", noise(900_000, 13))
    mine.add("other")
    mine.commit("data")
    with mine.repo() as repo:
        repo.push()
    return Work(mine, remote, mine.tree("data"))


Case = Callable[[Hostile], str]
CASES: dict[str, Case] = {}
"""What is forged -> what does it, and returns what the error must name ("": none is needed)."""


def case(name: str) -> Callable[[Case], Case]:
    def keep(forge: Case) -> Case:
        CASES[name] = forge
        return forge

    return keep


def row(column: int, value: Callable[[list[int]], int]) -> Callable[[Locations], None]:
    """Return a change of one column in all locations."""

    def change(locations: Locations) -> None:
        for one in locations.rows:
            one[column] = value(one)

    return change


# --- locations ------------------------------------------------------------------------------

EDITS: dict[str, Callable[[Locations], object]] = {
    "frame ends outside of the pack": row(1, lambda r: r[1] + (1 << 23)),
    "frame offset at the end of u32": row(1, lambda _: U32_MAX),
    "frame size at the end of u32": row(2, lambda _: U32_MAX),
    "frame as large as the pack": lambda it: row(2, lambda r: it.packs[0][1] - r[1])(it),
    "frames of no bytes": row(2, lambda _: 0),
    "frames overlap by a byte": row(1, lambda r: max(r[1] - 1, 0)),
    "frames all at the start": row(1, lambda _: 0),
    "chunk starts behind its frame": row(3, lambda _: U32_MAX),
    "chunk starts a byte late": row(3, lambda r: r[3] + 1),
    "chunk sizes of 0": row(4, lambda _: 0),
    "chunk sizes at the end of u32": row(4, lambda _: U32_MAX),
    "pack number that is not there": row(0, lambda _: 1),
    "pack number at the end of u32": row(0, lambda _: U32_MAX),
    "pack larger than packs may be": lambda it: it.packs.__setitem__(
        0, (it.packs[0][0], (64 << 20) + 1)
    ),
    "pack of size 0": lambda it: it.packs.__setitem__(0, (it.packs[0][0], 0)),
    "names of chunks turned around": lambda it: it.names.reverse(),
    "names of chunks all the same": lambda it: it.names.__setitem__(
        slice(None), [it.names[0]] * len(it.names)
    ),
    "fewer files": lambda it: it.counts.pop(),
    "more files": lambda it: it.counts.append(1),
    "files of no chunks": lambda it: it.counts.__setitem__(slice(None), [0] * len(it.counts)),
    "files of too many chunks": lambda it: it.counts.__setitem__(0, U32_MAX),
    "counts at the end of u32": lambda it: setattr(it, "head", (U32_MAX,) * 4),
    "no packs": lambda it: it.packs.clear(),
    "the pack twice": lambda it: it.packs.append(it.packs[0]),
}
EDITS_THAT_MAY_PASS = {
    # A pack that is read whole is its own and better witness to what lies where.
    "frame as large as the pack",
    "frames overlap by a byte",
    "chunk starts a byte late",
    "the pack twice",
}
for _name, _change in EDITS.items():

    def _edited(
        it: Hostile, change: Callable[[Locations], object] = _change, name: str = _name
    ) -> str:
        key = it.edit(change)
        return "" if name in EDITS_THAT_MAY_PASS else f"{key}|packs/|data/"

    CASES[f"locations: {_name}"] = _edited


@case("locations: the pack with another size")
def _(it: Hostile) -> str:
    it.edit(lambda ls: ls.packs.__setitem__(0, (ls.packs[0][0], ls.packs[0][1] + 1000)))
    return ""


@case("locations: into the pack of another target")
def _(it: Hostile) -> str:
    other = it.other_pack()
    found = (bytes.fromhex(other.name), other.stat().st_size)

    def change(locations: Locations) -> None:
        locations.packs = [found]
        row(1, lambda r: r[1] % (found[1] - r[2]))(locations)

    it.edit(change)
    return f"{other.name}|data/"


@case("locations: into a pack that is not there")
def _(it: Hostile) -> str:
    it.edit(lambda ls: ls.packs.__setitem__(0, (b"\x11" * 32, ls.packs[0][1])))
    return "11" * 32


@case("locations: a million chunks of no bytes")
def _(it: Hostile) -> str:
    def change(locations: Locations) -> None:
        many = 4_000_000
        first = locations.counts[0]
        if first == 1:
            locations.names.insert(0, EMPTY)
        locations.names[:0] = [EMPTY] * many
        locations.counts[0] += many
        locations.rows[:0] = [[0, 0, 1, 0, 0]] * many

    return it.edit(change)


@case("locations: none")
def _(it: Hostile) -> str:
    (it.remote / it.key).write_bytes(shard_object(it.shard.text, b"", stored=b""))
    return "data/"


# --- shard objects --------------------------------------------------------------------------


def _object(make: Callable[[ShardFile], bytes]) -> Case:
    def forge(it: Hostile) -> str:
        path = it.remote / it.key
        path.write_bytes(make(it.shard))
        return it.key

    return forge


_MIB = 1 << 20
OBJECTS: dict[str, Callable[[ShardFile], bytes]] = {
    "empty": lambda s: b"",
    "cut in its header": lambda s: s.path.read_bytes()[:20],
    "cut in its text": lambda s: s.path.read_bytes()[:100],
    "cut at its end": lambda s: s.path.read_bytes()[:-1],
    "a byte too many": lambda s: s.path.read_bytes() + b"x",
    "not a shard": lambda s: b"<html>" * 100,
    "text of another": lambda s: shard_object(s.text.replace(b"5", b"6"), s.locations.encode()),
    "text a bomb": lambda s: shard_object(
        b"", s.locations.encode(), stored_text=zeros(256 * _MIB), text_raw=256 * _MIB
    ),
    "text a bomb that says little": lambda s: shard_object(
        s.text, s.locations.encode(), stored_text=zeros(256 * _MIB)
    ),
    "text a bomb that says nothing": lambda s: shard_object(
        s.text, s.locations.encode(), stored_text=sizeless(bytes(64 * _MIB))
    ),
    "text claims 4 GiB": lambda s: shard_object(
        b"", s.locations.encode(), stored_text=boasting(U32_MAX), text_raw=U32_MAX
    ),
    "text claims 2^63": lambda s: shard_object(
        b"", s.locations.encode(), stored_text=boasting(1 << 63), text_raw=U32_MAX
    ),
    "text claims 256 MiB and is empty": lambda s: shard_object(
        b"", s.locations.encode(), stored_text=boasting(256 * _MIB), text_raw=256 * _MIB
    ),
    "locations a bomb": lambda s: shard_object(
        s.text, b"", stored=zeros(256 * _MIB), locations_raw=256 * _MIB
    ),
    "locations a bomb that says little": lambda s: shard_object(
        s.text, b"", stored=zeros(256 * _MIB), locations_raw=100
    ),
    "locations claim 2^63": lambda s: shard_object(
        s.text, b"", stored=boasting(1 << 63), locations_raw=U32_MAX
    ),
    "locations not zstd": lambda s: shard_object(s.text, b"", stored=b"x" * 99, locations_raw=99),
    "locations cut short": lambda s: shard_object(s.text, s.locations.encode()[:-5]),
    "locations with more behind": lambda s: shard_object(
        s.text, s.locations.encode() + b"12345678"
    ),
}
for _name, _make in OBJECTS.items():
    CASES[f"shard object: {_name}"] = _object(_make)


@case("shard object: of 10 GiB")
def _(it: Hostile) -> str:
    os.truncate(it.remote / it.key, 10 << 30)
    return it.key


@case("shard object: a link out of the remote")
def _(it: Hostile) -> str:
    place = it.remote / it.key
    place.unlink()
    place.symlink_to("/etc/passwd")
    return "data/"


@case("shard object: a pipe")
def _(it: Hostile) -> str:
    place = it.remote / it.key
    place.unlink()
    os.mkfifo(place)
    return "data/"


# --- packs ----------------------------------------------------------------------------------


def _changed_pack(change: Callable[[bytearray], object]) -> Case:
    def forge(it: Hostile) -> str:
        data = bytearray(it.pack.read_bytes())
        change(data)
        it.pack.write_bytes(data)
        return it.pack_key

    return forge


def _flip(at: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return change


CASES["pack: a bit wrong in every frame"] = _changed_pack(
    lambda data: data.__setitem__(
        slice(0, len(data) // 20 * 20, 20), bytes(b ^ 1 for b in data[: len(data) // 20 * 20 : 20])
    )
)
CASES["pack: empty"] = _changed_pack(lambda data: data.clear())
CASES["pack: of zeros"] = _changed_pack(
    lambda data: data.__setitem__(slice(None), bytes(len(data)))
)
CASES["pack: cut in the middle"] = _changed_pack(lambda data: data.__delitem__(slice(9_000, None)))


@case("pack: under the key another's bytes")
def _(it: Hostile) -> str:
    shutil.copyfile(it.other_pack(), it.pack)
    return it.pack_key


@case("pack: gone")
def _(it: Hostile) -> str:
    it.pack.unlink()
    return it.pack_key


@case("pack: of 10 GiB")
def _(it: Hostile) -> str:
    os.truncate(it.pack, 10 << 30)
    return ""


@case("pack: a folder")
def _(it: Hostile) -> str:
    key = it.pack_key
    it.pack.unlink()
    (it.remote / key).mkdir()
    return key


FRAMES = [RAW + noise(1_000_000, 99), RAW + noise(1_000_000, 98)]
TRUE: list[tuple[Digest, int, int]] = [
    (digest_of(frame[1:]), len(frame) - 1, number) for number, frame in enumerate(FRAMES)
]
_OK = index_of(FRAMES, TRUE)


def _index_with(**columns: object) -> Pack:
    index = index_of(FRAMES, TRUE)
    for name, value in columns.items():
        setattr(index, name, value)
    return Pack(FRAMES, index)


def _one_frame(stored: bytes, digest: Digest, size: int) -> Pack:
    return Pack([stored], index_of([stored], [(digest, size, 0)]))


_MANY = 1_500_000
FORGED: dict[str, Callable[[], Pack]] = {
    "sound, of other content": lambda: Pack(FRAMES, _OK),
    "chunks under false names": lambda: Pack(
        FRAMES, index_of(FRAMES, [(b"\x22" * 32, 1_000_000, 0), (b"\x23" * 32, 1_000_000, 1)])
    ),
    "chunk sizes at the end of u32": lambda: Pack(
        FRAMES, index_of(FRAMES, [(d, U32_MAX, n) for d, _, n in TRUE])
    ),
    "frame numbers fall": lambda: Pack(FRAMES, index_of(FRAMES, TRUE[::-1])),
    "frame number not there": lambda: Pack(
        FRAMES, index_of(FRAMES, [(d, s, U32_MAX) for d, s, _ in TRUE])
    ),
    "frame sizes do not add up": lambda: _index_with(
        frame_sizes=index_of([FRAMES[0], b"x"], TRUE).frame_sizes
    ),
    "false guards": lambda: _index_with(frame_guards=index_of([b"x", b"y"], TRUE).frame_guards),
    "no frames": lambda: Pack([], index_of([], [])),
    "no index": lambda: Pack(FRAMES, stored=b""),
    "index larger than the pack": lambda: Pack(FRAMES, _OK, stored_size=U32_MAX),
    "index not zstd": lambda: Pack(FRAMES, stored=b"x" * 99, raw_size=99),
    "index a bomb": lambda: Pack(FRAMES, stored=zeros(64 * _MIB), raw_size=64 * _MIB),
    "index a bomb that says little": lambda: Pack(FRAMES, stored=zeros(256 * _MIB), raw_size=99),
    "index claims 2^63": lambda: Pack(FRAMES, stored=boasting(1 << 63), raw_size=U32_MAX),
    "index says nothing of its size": lambda: Pack(
        FRAMES, stored=sizeless(bytes(64 * _MIB)), raw_size=64 * _MIB
    ),
    "index counts at the end of u32": lambda: Pack(FRAMES, raw=b"\xff" * 16),
    "of a later version": lambda: Pack(FRAMES, _OK, version=2),
    "many chunks of no bytes": lambda: Pack(
        FRAMES, index_of(FRAMES, [*([(EMPTY, 0, 0)] * _MANY), *TRUE])
    ),
    "many frames of no bytes": lambda: Pack(
        [RAW] * _MANY, index_of([RAW] * _MANY, [(EMPTY, 0, n) for n in range(10)])
    ),
    "frame a bomb": lambda: _one_frame(ZSTD + zeros(1 << 30), EMPTY, 4 * _MIB),
    "frame claims 2^63": lambda: _one_frame(ZSTD + boasting(1 << 63), EMPTY, 4 * _MIB),
    "frame says nothing of its size": lambda: _one_frame(
        ZSTD + sizeless(bytes(64 * _MIB)), EMPTY, 4 * _MIB
    ),
    "frame of an unknown codec": lambda: _one_frame(b"\x07" + noise(999_999), EMPTY, 999_999),
    "frame holds more than its chunks": lambda: _one_frame(
        ZSTD + zstandard.compress(bytes(_MIB)), digest_of(bytes(10)), 10
    ),
}
for _name, _forge in FORGED.items():

    def _forged(it: Hostile, forge: Callable[[], Pack] = _forge) -> str:
        return it.forge_pack(forge())

    CASES[f"forged pack: {_name}"] = _forged


# --- the rest -------------------------------------------------------------------------------


@case("dv.json: of 10 GiB")
def _(it: Hostile) -> str:
    os.truncate(it.remote / "dv.json", 10 << 30)
    return "dv.json"


@case("dv.json: deep")
def _(it: Hostile) -> str:
    (it.remote / "dv.json").write_bytes(b"[" * 1_000_000)
    return "dv.json"


@case("dv.json: with a large number")
def _(it: Hostile) -> str:
    (it.remote / "dv.json").write_bytes(b'{"dv": 1%s, "id": "", "created": ""}' % (b"0" * 100_000))
    return "dv.json"


@case("dv.json: with an id that leads elsewhere")
def _(it: Hostile) -> str:
    text = b'{"dv": 1, "id": "../../../../../../../../../../..", "created": ""}'
    (it.remote / "dv.json").write_bytes(text)
    return "dv.json"


# --- the tests ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_a_pull_from_a_forged_remote_does_no_harm(
    work: Work, tmp_path: Path, name: str, mode: str
) -> None:
    remote = tmp_path / "remote"
    shutil.copytree(work.remote, remote)
    manifest = decode((work.mine.path / "data.dv.json").read_bytes(), "data.dv.json")
    (shard,) = manifest_shards(manifest)
    names = CASES[name](Hostile(remote, shard_key(shard.digest)))
    theirs = work.mine.clone(tmp_path / "theirs", Remote(str(remote)))
    error = pull(theirs, MODES[mode] or ("data",))
    assert theirs.tree("data").items() <= work.tree.items()
    if error is None:
        assert not names or mode == "a part"
    else:
        assert any(part in str(error) for part in names.split("|")), error
    tmp = theirs.path / ".git/dv/tmp"
    assert not tmp.exists() or not list(tmp.iterdir())

    shutil.rmtree(remote)
    shutil.copytree(work.remote, remote)
    with theirs.repo() as repo:
        repo.pull()
    assert theirs.tree("data") == work.tree


def pull(clone: Clone, paths: tuple[str, ...]) -> DvError | None:
    """Pull, and see that this takes little memory; return the error if there is one."""
    before = _peak_bytes(reset=True)
    try:
        with clone.repo() as repo:
            repo.pull(paths=paths)
        return None
    except DvError as error:
        return error
    finally:
        assert _peak_bytes() - before < MEMORY_MAX_BYTES


def _peak_bytes(*, reset: bool = False) -> int:
    """Return the most memory that this process has had, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM in /proc/self/status")
