"""Samples that are members of tar files, those of one stem together, as in WebDataset."""

from __future__ import annotations

import itertools
import tarfile
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from dvtool.errors import InputError, printable
from dvtool.snapshots.snapshot import Snapshot
from dvtool.stream.index_cache import keep_index, load_index
from dvtool.stream.order import Window, running_sizes
from dvtool.stream.samples import Sample, data_key, list_files, split_stem
from dvtool.system.decoders import msgpack_decoder

MEMBERS_VERSION = 2
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class TarMember(msgspec.Struct, frozen=True, array_like=True):
    """One file in a tar file: its name, and where its bytes are."""

    name: str
    begin: int
    end: int


class TarSamples:
    """Members of the tar files below a path; the data is a dictionary: extension to bytes.

    Members whose names are equal up to the first dot are one sample, whose key is ``TAR#STEM``.
    A hard link has the bytes of the member that it names; symbolic links are passed over, as
    WebDataset does. Compressed tar files cannot be read by ranges, and are refused.
    """

    kind = "tar"

    def __init__(self, snapshot: Snapshot, path: str) -> None:
        self._snapshot = snapshot
        for file in snapshot.contents(path).ending_in(COMPRESSED).paths:
            raise _no_tar(file, "it is compressed")
        files = list_files(snapshot, path, (".tar",))
        self._paths = files.paths
        self._stems: list[tuple[str, list[TarMember]]] = []
        firsts = [0]
        for file, digest in zip(self._paths, files.digests, strict=True):
            self._stems.extend(_by_stem(_members_of_tar(snapshot, file, digest)))
            firsts.append(len(self._stems))
        self._firsts = firsts
        self.sizes = running_sizes(
            [sum(member.end - member.begin for member in members) for _, members in self._stems]
        )
        self.data_key = data_key(self.kind, files)

    def key(self, number: int) -> str:
        """Return the path of the tar file and the stem of the members."""
        return f"{self._path(number)}#{self._stems[number][0]}"

    def read(self, numbers: Sequence[int]) -> list[Sample]:
        """Read all members of samples, in one call of the snapshot."""
        wanted = [
            (self._path(number), member.begin, member.end)
            for number in numbers
            for member in self._stems[number][1]
        ]
        contents = iter(self._snapshot.read_ranges(wanted))
        return [
            Sample(
                self.key(number),
                {split_stem(member.name)[1]: next(contents) for member in self._stems[number][1]},
            )
            for number in numbers
        ]

    def direct(self, numbers: Sequence[int], window: Window | None = None) -> None:
        """Return nothing: members are read by ranges, and tar files are not fetched whole."""

    def _path(self, number: int) -> str:
        return self._paths[bisect_right(self._firsts, number) - 1]


def _members_of_tar(snapshot: Snapshot, path: str, digest: bytes) -> list[TarMember]:
    """Return the files in a tar file; the tar file is read through if they are not known."""
    name = f"tar-{MEMBERS_VERSION}-{digest.hex()}"
    kept = load_index(snapshot, name)
    if kept is not None:
        try:
            return msgpack_decoder(list[TarMember]).decode(kept)
        except msgspec.DecodeError:
            pass  # whatever damaged it, the tar file tells it again
    try:
        with snapshot.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = _sound_members(tar)
            # `tarfile` takes a header that is damaged for the end, if others were before it.
            file.seek(tar.offset)
            if any(file.read(tarfile.BLOCKSIZE)):
                raise tarfile.ReadError(f"there is no member at byte {tar.offset:,}")
    except tarfile.TarError as error:
        raise _no_tar(path, str(error)) from error
    if len({member.name for member in members}) < len(members):
        raise _no_tar(path, "two members have one name")
    keep_index(snapshot, name, msgspec.msgpack.encode(members))
    return members


def _sound_members(tar: tarfile.TarFile) -> list[TarMember]:
    """Return the members that have bytes; ReadError for one whose bytes are not in one piece."""
    held: dict[str, TarMember] = {}
    members: list[TarMember] = []
    for info in tar:
        if info.isreg():
            if info.sparse is not None:
                raise tarfile.ReadError(f"{info.name} is stored as a sparse file")
            member = TarMember(info.name, info.offset_data, info.offset_data + info.size)
        elif info.islnk():
            linked = held.get(info.linkname)
            if linked is None:
                raise tarfile.ReadError(f"{info.name} is a link to {info.linkname}, not before it")
            member = TarMember(info.name, linked.begin, linked.end)
        else:
            continue
        held[member.name] = member
        members.append(member)
    return members


def _no_tar(path: str, reason: str) -> InputError:
    return InputError(
        f"{printable(path)} cannot be read as an uncompressed tar file: {reason}",
        hint="add it unpacked, or as a sound tar file; or stream it as files",
    )


def _by_stem(members: list[TarMember]) -> list[tuple[str, list[TarMember]]]:
    stems = sorted(members, key=lambda member: split_stem(member.name)[0])
    grouped = itertools.groupby(stems, key=lambda member: split_stem(member.name)[0])
    return [(stem, list(found)) for stem, found in grouped]
