"""The members of an archive, as it lies on the disk, into packs; no member is written as a file."""

from __future__ import annotations

import contextlib
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, cast

from dvtool.errors import InputError, listing, printable
from dvtool.format.chunker import (
    FILE_SIZE_MAX_BYTES,
    SINGLE_CHUNK_SIZE_MAX_BYTES,
    sizes_for,
)
from dvtool.format.digest import EMPTY, digest_of
from dvtool.format.manifest import Entries, Entry
from dvtool.format.packing import FinishedPack
from dvtool.format.paths import check_nesting, link_fault, path_fault
from dvtool.format.spelling import collisions
from dvtool.jobs.chunk_packs import ChunkPacks
from dvtool.jobs.ingest import store_stream
from dvtool.store.local import LocalStore

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".zip")
LINK_SIZE_MAX_BYTES = 4_096
_UNSOUND = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)


class Member(NamedTuple):
    """One member; `file` has its bytes, `link` is where a symlink points."""

    path: str
    size: int
    executable: bool
    file: BinaryIO | None
    link: str = ""


def is_archive(name: str) -> bool:
    """Whether a file of this name can be unpacked."""
    return name.lower().endswith(SUFFIXES)


def bare_name(name: str) -> str:
    """Return the name of an archive without its suffix."""
    fitting = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix)]
    return name[: -max(map(len, fitting), default=0)] if fitting else name


def store_members(
    store_path: str, archive: str, name: str, chosen: Callable[[str], bool]
) -> tuple[Entries, list[FinishedPack]]:
    """Put the chosen members of an archive into packs; return their entries and the packs.

    `name` is how messages call it. InputError for an archive that is not sound, and for members
    that can be no entries. On any error no pack is left behind.
    """
    store = LocalStore(store_path)
    writer = ChunkPacks(store, None)
    entries: Entries = {}
    faults: list[str] = []
    try:
        with _explained(name):
            for member in _members(archive, name):
                if not chosen(member.path):
                    continue
                fault = _member_fault(member, entries)
                if fault is not None:
                    faults.append(f"{member.path} {fault}")
                elif not faults:
                    entries[member.path] = _stored_member(member, writer)
        faults += [f"{first}  and  {second} are one name" for first, second in collisions(entries)]
        if faults:
            raise InputError(
                f"these members of {name} can be no files; nothing was recorded:\n"
                f"{listing(faults)}",
                hint="leave them out, repeating the command: --exclude GLOB",
            )
        check_nesting(entries, name)
        return entries, writer.finish()
    except BaseException:
        writer.abandon()
        raise
    finally:
        store.close()


def _member_fault(member: Member, entries: Entries) -> str | None:
    if member.path in entries:
        return "is there twice"
    if member.size > FILE_SIZE_MAX_BYTES:
        return "has more than the 1 TiB that a file may have"
    if member.file is None and not member.link:
        return "is neither a file, a symlink nor a folder"
    fault = path_fault(member.path)
    return fault or (link_fault(member.path, member.link) if member.link else None)


def _stored_member(member: Member, writer: ChunkPacks) -> Entry:
    if member.link:
        return Entry(symlink=member.link)
    assert member.file is not None
    if member.size <= SINGLE_CHUNK_SIZE_MAX_BYTES:
        data = member.file.read(member.size + 1)
        digest, size = (digest_of(data) if data else EMPTY), len(data)
        if data:
            writer.put(digest, data)
    else:
        buffered = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, member.file)))
        digest, size = store_stream(buffered, member.size, writer, sizes_for(member.size))
    return Entry(blake3=digest.hex(), size=size, exec=member.executable)


def _members(archive: str, name: str) -> Iterator[Member]:
    """Yield the members of an archive, in its order; folders are passed over."""
    if zipfile.is_zipfile(archive):
        yield from _zip_members(archive, name)
    else:
        yield from _tar_members(archive)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever an unsound archive raises into an error that names it."""
    try:
        yield
    except _UNSOUND as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        raise InputError(
            f"{name} is no sound archive: {printable(str(error))}; nothing was recorded",
            hint="import it as it is, without --unpack, and look at it",
        ) from error


def _tar_members(archive: str) -> Iterator[Member]:
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            path = member.name.removeprefix("./")
            if member.isdir():
                continue
            if member.issym():
                yield Member(path, 0, False, None, member.linkname)
                continue
            content = tar.extractfile(member) if member.isreg() or member.islnk() else None
            target = tar.getmember(member.linkname) if member.islnk() else member
            file = cast("BinaryIO | None", content)
            yield Member(path, target.size, bool(target.mode & stat.S_IXUSR), file)


def _zip_members(archive: str, name: str) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise InputError(
                    f"{name}: {printable(info.filename)} is encrypted; nothing was recorded",
                    hint="unpack it yourself, then dv add it",
                )
            with packed.open(info) as file:
                if stat.S_ISLNK(mode):
                    target = file.read(LINK_SIZE_MAX_BYTES).decode("utf-8", "surrogateescape")
                    yield Member(info.filename, 0, False, None, target)
                    continue
                content = cast(BinaryIO, file)
                executable = bool(mode & stat.S_IXUSR)
                yield Member(info.filename, info.file_size, executable, content)
