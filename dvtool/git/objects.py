"""Reading git's objects, by their id or by a commit and a path."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Self

from dvtool.errors import CorruptError, DvError, MissingError
from dvtool.format.manifest import MANIFEST_SIZE_MAX_BYTES
from dvtool.git.listing import FILE_MODES, OBJECT_ID, TreeEntry
from dvtool.git.process import Folders, words_of
from dvtool.git.refs import Revisions
from dvtool.system.lazy import later

if TYPE_CHECKING:
    import hashlib
else:
    hashlib = later("hashlib")

TREE_SIZE_MAX_BYTES = 256 << 20
"""Room for a folder of some million names."""


class Objects(Revisions):
    """The objects of a repository. Part of `Git`, by which it is used; `close` ends its process."""

    def __init__(self, folders: Folders, *, as_stored: bool = False) -> None:
        """See `Pinned`."""
        super().__init__(folders, as_stored=as_stored)
        self._blobs: BlobReader | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process that reads objects, if one was started; it starts again on demand."""
        with self._lock:
            self._close_blobs()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def read_blob(self, blob_id: str, *, size_max: int = MANIFEST_SIZE_MAX_BYTES) -> bytes:
        """Return the content of a blob; MissingError if git has no such object."""
        return self._read_object(blob_id, size_max, "blob")

    def read_blobs(self, blob_ids: Iterable[str]) -> Iterator[bytes]:
        """Yield the content of each blob, in the order asked, through one git process."""
        for blob_id in blob_ids:
            yield self.read_blob(blob_id)

    def blob_at(self, commit: str, path: str) -> bytes | None:
        """Return the file that a commit has at `path`; None for no entry, or one of another kind.

        Symlinks and submodules are such other kinds.
        """
        listing = self._run(
            *("ls-tree", "-z", "--full-tree", self._commit_id(commit), "--", path), literal=True
        ).stdout
        for entry in listing.split(b"\0")[:-1]:
            head, _, name = entry.partition(b"\t")
            mode, _kind, blob_id = head.split(b" ")
            if name == os.fsencode(path) and mode in FILE_MODES:
                return self.read_blob(blob_id.decode("ascii"))
        return None

    def blobs_at(self, commit: str, paths: Sequence[str]) -> dict[str, str]:
        """Return path and blob id of those of `paths` that are files in a commit."""
        if not paths:
            return {}
        # ls-tree takes no list of paths on its standard input.
        listing = self._run("ls-tree", "-r", "-z", "--full-tree", self._commit_id(commit)).stdout
        path_of = {os.fsencode(path): path for path in paths}
        blobs: dict[str, str] = {}
        for entry in listing.split(b"\0")[:-1]:
            head, _, name = entry.partition(b"\t")
            if name in path_of:
                blobs[path_of[name]] = head.split(b" ")[2].decode("ascii")
        return blobs

    def tree_at(self, commit: str, path: str = "") -> dict[str, TreeEntry]:
        """Return all that a commit has at or below a path: files, symlinks and submodules.

        Names that are no UTF-8 come as `os.fsdecode` has them.
        """
        below = ("--", path) if path else ()
        listing = self._run(
            *("ls-tree", "-r", "-z", "--full-tree", self._commit_id(commit), *below), literal=True
        ).stdout
        entries = {}
        for entry in listing.split(b"\0")[:-1]:
            head, _, name = entry.partition(b"\t")
            mode, _kind, object_id = head.split(b" ")
            entries[os.fsdecode(name)] = TreeEntry(mode, object_id.decode("ascii"))
        return entries

    def need_blobs(self, blob_ids: Iterable[str]) -> None:
        """Get blobs that a clone without files lacks, in one request and not one by one."""
        if self._run("config", "remote.origin.promisor", codes=None).status:
            return
        lines = "".join(f"{blob_id}\n" for blob_id in blob_ids).encode("ascii")
        if lines:
            self._run(
                *("-c", "fetch.negotiationAlgorithm=noop", "fetch", "-q", "origin", "--no-tags"),
                *("--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none"),
                "--stdin",
                stdin=lines,
            )

    def blob_id(self, data: bytes) -> str:
        """Return the id that git gives a blob of these bytes."""
        return self._run("hash-object", "--stdin", stdin=data).stdout.decode("ascii").strip()

    @staticmethod
    def is_blob(blob_id: str, data: bytes) -> bool:
        """Tell whether git would name these bytes so."""
        name = _git_hasher("sha256" if len(blob_id) == 64 else "sha1")
        name.update(b"blob %d\0" % len(data))
        name.update(data)
        return name.hexdigest() == blob_id

    def object_sizes(self, object_ids: Sequence[str]) -> dict[str, int]:
        """Return the size in bytes of each object that is here."""
        lines = "".join(f"{object_id}\n" for object_id in object_ids).encode("ascii")
        answer = self._run("cat-file", "--batch-check", stdin=lines).stdout.decode("ascii")
        objects = (line.split(" ") for line in answer.splitlines())
        return {fields[0]: int(fields[2]) for fields in objects if len(fields) == 3}

    # Private

    def _read_object(self, object_id: str, size_max: int, kind: str) -> bytes:
        if not OBJECT_ID.fullmatch(object_id):
            raise ValueError(f"not a git object id: {object_id[:80]!r}")
        with self._lock:
            if self._blobs is None:
                self._blobs = BlobReader(self._runner.start("cat-file", "--batch"))
            try:
                return self._blobs.read(object_id, size_max, kind)
            except MissingError:
                raise
            except BaseException:
                # The rest of a half-read answer would be taken for the next answer.
                self._close_blobs()
                raise

    def _close_blobs(self) -> None:
        blobs, self._blobs = self._blobs, None
        if blobs is not None:
            blobs.close()


def _git_hasher(kind: str) -> hashlib._Hash:
    """Return the hasher of git's ids. `hashlib` loads OpenSSL, which takes longer than the rest."""
    if kind == "sha1":
        with contextlib.suppress(ImportError):
            own: hashlib._Hash = importlib.import_module("_sha1").sha1(usedforsecurity=False)
            return own
    return hashlib.new(kind, usedforsecurity=False)


class BlobReader:
    """A running ``git cat-file --batch``, as `Runner.start` returns it. Close it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._in, self._out = _pipe(process.stdin), _pipe(process.stdout)
        self._err = _pipe(process.stderr)

    def read(self, blob_id: str, size_max: int, kind: str = "blob") -> bytes:
        """Return an object; MissingError if git has none, CorruptError for one of another kind.

        CorruptError too if it is above `size_max`.
        """
        try:
            self._in.write(blob_id.encode("ascii") + b"\n")
            self._in.flush()
            answer = self._out.readline().split()
        except BrokenPipeError:
            answer = []
        if not answer:
            words = words_of(os.fsdecode(self._err.read()))
            raise DvError(f"git stopped while reading objects: {words}", hint="run: git fsck")
        if len(answer) != 3:
            self._drain_errors()
            raise MissingError(
                f"git has no object {blob_id}", hint="run: git fetch, then git fsck if it persists"
            )
        kind_here, size = answer[1].decode("ascii"), int(answer[2])
        if kind_here != kind or size > size_max:
            expected = "manifest" if kind == "blob" else f"{kind} to be read"
            raise CorruptError(
                f"git object {blob_id} is no {expected}: a {kind_here} of {size:,} bytes"
            )
        data = self._out.read(int(answer[2]) + 1)
        if len(data) != int(answer[2]) + 1:
            raise DvError(f"git stopped while reading {blob_id}", hint="run: git fsck")
        return data[:-1]

    def _drain_errors(self) -> None:
        """Read git's messages of damaged objects: git would wait for ever once the pipe is full."""
        if not hasattr(os, "set_blocking"):
            return  # Windows, before Python 3.12: there only hundreds of damaged objects fill it
        os.set_blocking(self._err.fileno(), False)
        self._err.read()
        os.set_blocking(self._err.fileno(), True)

    def close(self) -> None:
        """End the process."""
        # Closing git's input does not suffice: a worker process that was forked from this one may
        # hold that pipe open.
        if self._process.returncode is not None:
            return
        self._process.terminate()
        with contextlib.suppress(BrokenPipeError):  # git ended before it read a question
            self._process.communicate()

    def __del__(self) -> None:
        self.close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
