"""A DVC repository's data as an origin: its outputs, in the folder or bucket that it names.

DVC's own small files are read as they are: `.dvc` files and `dvc.lock` (YAML), listings of folders
(`.dir`, JSON). Content is named by its MD5, which is checked while it is read. DVC itself need not
be installed. The layout is that of DVC 3 (`files/md5/ab/cdef…`) and of earlier ones (`ab/cdef…`).
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from dvtool.errors import InputError, RemoteError, UsageError, printable
from dvtool.format.paths import path_fault
from dvtool.remotes.origins.base import (
    FORM_EXECUTABLE,
    SIZE_UNKNOWN,
    Body,
    ContentCheck,
    Origin,
    OriginObject,
)
from dvtool.remotes.origins.checks import HashCheck, TextCheck
from dvtool.remotes.origins.folder import opened_in, size_in
from dvtool.remotes.origins.reading import read_at_most
from dvtool.remotes.transports.retry import Attempts
from dvtool.system.decoders import json_decoder
from dvtool.system.extras import import_extra

DVC_FILE_SIZE_MAX_BYTES = 16 << 20
DIR_SIZE_MAX_BYTES = 1 << 30
LOCK_NAME = "dvc.lock"
CONFIG_PATH = ".dvc/config"
NOW_LAYOUT = "files/md5/"
_DIR = ".dir"
_MD5 = r"[0-9a-f]{32}(\.dir)?"


class DvcOut(NamedTuple):
    """One output of DVC: its path from the top of the repository, and its hash."""

    path: str
    md5: str
    size: int
    layout: str
    """The path before the hash's first two digits in a remote: "" before DVC 3."""
    remote: str
    """The name of the remote that holds it; "" for the default one."""
    executable: bool = False
    """Whether DVC sets that bit of the file; of the files of a folder it does not know."""

    @property
    def is_folder(self) -> bool:
        """Whether the hash is of a listing."""
        return self.md5.endswith(_DIR)

    @property
    def name(self) -> str:
        """The key of its content in a remote."""
        return f"{self.layout}{self.md5[:2]}/{self.md5[2:]}"


def outs_of(text: bytes, path: str) -> list[DvcOut]:
    """Return the outputs that a `.dvc` file or a `dvc.lock` names; InputError if it is not sound.

    Outputs that DVC does not keep (`cache: false`, imports without a hash) are passed over.
    """
    yaml = import_extra("yaml", extra="dvc", user="files of DVC")
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(
            f"{printable(path)} is no YAML: {printable(str(error))}",
            hint="mend it in that repository, or name another revision: GIT-URL//PATH@REV",
        ) from error
    folder = path.rpartition("/")[0]
    if path.rpartition("/")[2] == LOCK_NAME:
        stages = _mapping(document).get("stages", document)
        each = [(stage, folder) for stage in _mapping(stages).values()]
    else:
        below = _mapping(document).get("wdir", ".")
        each = [(document, os.path.normpath(os.path.join(folder, str(below))))]
    return [
        out
        for stage, base in each
        for row in _mapping(stage).get("outs") or ()
        if (out := _out(_mapping(row), base, path)) is not None
    ]


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _out(row: Mapping[str, Any], base: str, named_in: str) -> DvcOut | None:
    md5, path = row.get("md5"), row.get("path")
    if md5 is None or row.get("cache") is False or not isinstance(path, str):
        return None
    if re.match(r"[a-z][a-z0-9+]*://", path) or os.path.isabs(path):
        return None  # an external output, which is not in the repository
    whole = os.path.normpath(os.path.join(base, path))
    fault = path_fault(whole)
    if fault or not re.fullmatch(_MD5, str(md5)):
        why = fault or "has no MD5"
        raise InputError(
            f"{printable(named_in)}: its output {printable(path)} {why}",
            hint="mend it there (dvc status), or name another path or revision",
        )
    size = row.get("size")
    known = size if isinstance(size, int) and size >= 0 else SIZE_UNKNOWN
    if str(md5).endswith(_DIR):
        known = SIZE_UNKNOWN
    layout = NOW_LAYOUT if row.get("hash") == "md5" else ""
    executable = row.get("isexec") is True
    return DvcOut(whole, str(md5), known, layout, row.get("remote") or "", executable)


class DvcRemote(NamedTuple):
    """A remote as DVC's configuration names it; `folder` is where a relative path begins."""

    name: str
    url: str
    settings: Mapping[str, str]


def remotes_of(*texts: bytes) -> tuple[dict[str, DvcRemote], str]:
    """Return the remotes of configurations, later ones before earlier ones, and the default's name.

    InputError for a text that is none.
    """
    merged: dict[str, dict[str, str]] = {}
    for text in texts:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(text.decode("utf-8"))
        except (configparser.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{CONFIG_PATH} is not sound: {printable(str(error))}",
                hint="mend it in that repository, or name another revision: GIT-URL//PATH@REV",
            ) from error
        for section in parser.sections():
            merged.setdefault(section.strip("'"), {}).update(parser.items(section))
    remotes = {}
    for section, values in merged.items():
        match = re.fullmatch(r'remote "(.+)"', section)
        if match and "url" in values:
            remotes[match[1]] = DvcRemote(match[1], values["url"], values)
    return remotes, merged.get("core", {}).get("remote", "")


class DvcPlace(NamedTuple):
    """Where content is: in folders of this machine, or below a bucket's address."""

    folders: tuple[str, ...]
    bucket: Origin | None
    prefix: str


class DvcOrigin:
    """Outputs of DVC at one commit, under the paths that they get in a target.

    `outs` are paths in the target, each with its output. A folder is one listing to read, and its
    files are listed after it. The tag of an object is its MD5, its version the key in the remote.
    """

    def __init__(
        self,
        url: str,
        outs: Iterable[tuple[str, DvcOut]],
        places: Mapping[str, DvcPlace],
        below: str,
    ) -> None:
        """`below` is a path within the one output, of which only that is asked for; else ""."""
        self._url = url
        self._outs = tuple(outs)
        self._places = dict(places)
        self._below = below

    def __reduce__(self) -> tuple[Any, ...]:
        return DvcOrigin, (self._url, self._outs, self._places, self._below)

    @property
    def url(self) -> str:
        """The repository, for messages."""
        return printable(self._url)

    def commit(self) -> str:
        """Return "": the repository's commit is known to whom it was cloned for."""
        return ""

    def batches(self) -> Iterator[list[OriginObject]]:
        """Yield the files of each output; RemoteError if a listing cannot be had."""
        for path, out in self._outs:
            if not out.is_folder:
                yield [self._described(path, out)] if not self._below else []
                continue
            yield [
                self._described(location, inner)
                for inner_path, inner in self._listed(path, out)
                if (location := _path_below(path, inner_path, self._below)) is not None
            ]

    def _described(self, path: str, out: DvcOut) -> OriginObject:
        location = self._places[out.remote]
        size = out.size
        if size == SIZE_UNKNOWN and location.folders:
            size = self._size(location, out)
        # The remote is part of the version, so that a worker knows where to read.
        form = FORM_EXECUTABLE if out.executable else ""
        return OriginObject(path, size, out.md5, f"{out.remote}:{out.name}", form=form)

    def _size(self, location: DvcPlace, out: DvcOut) -> int:
        size = size_in(location.folders, out.name)
        return SIZE_UNKNOWN if size is None else size

    def _listed(self, path: str, out: DvcOut) -> Iterator[tuple[str, DvcOut]]:
        described = OriginObject(path, SIZE_UNKNOWN, out.md5, f"{out.remote}:{out.name}")
        text = read_at_most(self, described, Attempts(), DIR_SIZE_MAX_BYTES)
        try:
            rows = json_decoder(list[dict[str, Any]]).decode(text or b"")
        except msgspec.MsgspecError as error:
            raise RemoteError(
                f"{self.url}: the listing of {printable(path)} is not sound",
                hint="push it again from a clone that has the data: dvc push",
            ) from error
        for row in rows:
            inner, md5 = row.get("relpath"), row.get("md5")
            if not isinstance(inner, str) or not re.fullmatch(_MD5, str(md5)):
                raise RemoteError(
                    f"{self.url}: the listing of {printable(path)} is not sound",
                    hint="push it again from a clone that has the data: dvc push",
                )
            yield inner, DvcOut(inner, str(md5), SIZE_UNKNOWN, out.layout, out.remote)

    @contextlib.contextmanager
    def open(
        self, described: OriginObject, *, offset: int = 0, size: int | None = None
    ) -> Iterator[Body]:
        """Open an object; see `Origin.open`."""
        remote, _, name = described.version.partition(":")
        location = self._places[remote]
        if location.bucket is None:
            with opened_in(location.folders, name, offset, described.key) as file:
                yield file
            return
        stored = OriginObject(location.prefix + name, described.size, "")
        with location.bucket.open(stored, offset=offset, size=size) as body:
            yield body

    def read_many(self, objects: Iterable[tuple[int, OriginObject]]) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of small objects of a bucket; see `Origin.read_many`."""
        described: dict[int, OriginObject] = {}
        by_remote: dict[str, list[tuple[int, OriginObject]]] = {}
        for number, each in objects:
            remote, _, name = each.version.partition(":")
            described[number] = each
            key = self._places[remote].prefix + name
            by_remote.setdefault(remote, []).append((number, OriginObject(key, each.size, "")))
        for remote, wanted in by_remote.items():
            bucket = self._places[remote].bucket
            for number, data in bucket.read_many(wanted) if bucket is not None else ():
                check = self.content_check(described[number])
                check.update(data)
                if check.holds():  # else the usual way says what is wrong
                    yield number, data

    def content_check(self, described: OriginObject) -> ContentCheck:
        """Return the check of an object's MD5."""
        md5 = described.tag.removesuffix(_DIR)
        name = described.version.partition(":")[2]
        if name.startswith(NOW_LAYOUT) or described.tag.endswith(_DIR):
            return HashCheck("md5", md5)
        return TextCheck(md5)

    def planned_requests(self, objects: Iterable[OriginObject]) -> tuple[int, int]:
        """Return how many questions and GETs it takes to read objects, with folders' listings."""
        folders = sum(out.is_folder for _, out in self._outs)
        return 0, folders + sum(1 for _ in objects)

    def close(self) -> None:
        """Close idle connections."""
        for location in self._places.values():
            if location.bucket is not None:
                location.bucket.close()


def _path_below(path: str, inner: str, below: str) -> str | None:
    """Return where a file of a folder comes to be in the target; None if it is not asked for."""
    if below:
        if inner != below and not inner.startswith(below + "/"):
            return None
        return inner[len(below) :].lstrip("/")
    return f"{path}/{inner}" if path else inner


def refuse_kind(remote: DvcRemote) -> UsageError:
    """Return the error for a remote of a kind that is not read here."""
    return UsageError(
        f"DVC's remote {printable(remote.name)} is {printable(remote.url)}, which is not read here",
        hint="folders and s3:// are; for another kind: dvc get the data, then dv add it",
    )
