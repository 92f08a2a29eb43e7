"""Contents at their source: read in ranges, every chunk checked; and asked whether they are there.

An object that is not in the state that was taken is an error that names it. The address comes from
elsewhere: it is asked only if this clone approved it, which the caller's `local_options` say.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from msgspec import structs

from dvtool.errors import CorruptError, DvError, SetupError, printable, size_text
from dvtool.format.digest import Digest, digest_of, hasher
from dvtool.format.references import Reference, ReferenceDiffers, ReferenceLost, SourceAddress
from dvtool.format.source import DataSource
from dvtool.remotes.origins.base import SIZE_UNKNOWN, ChangedAtSource, OriginObject
from dvtool.remotes.origins.reading import READ_AT_ONCE_BYTES, ObjectReader
from dvtool.remotes.origins.registry import open_origin
from dvtool.remotes.transfers import read_checked
from dvtool.remotes.transports.retry import Attempts
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import Progress

if TYPE_CHECKING:
    from dvtool.remotes.origins.s3 import S3Origin

LOOKS_LIST_MIN = 1_000
"""From so many objects of one source on, a listing is cheaper than a request for each."""
LOOKS_AT_ONCE = 16
RUN_SIZE_MAX_BYTES = 16 << 20
PROOF_MEMORY_MAX_BYTES = 64 << 20
GAP_SIZE_MAX_BYTES = 128 << 10


class ChunkRun(NamedTuple):
    """Chunks of a referenced content that one request reads: each with its offset and size."""

    reference: Reference
    chunks: tuple[tuple[Digest, int, int], ...]

    @property
    def offset(self) -> int:
        """Where the first chunk begins in the object."""
        return self.chunks[0][1]

    @property
    def size(self) -> int:
        """How many bytes are read."""
        _, offset, size = self.chunks[-1]
        return offset + size - self.offset


class AskedSources(NamedTuple):
    """Answers of sources about references, by the references' names."""

    lost: dict[Digest, DvError]
    """Why an object does not hold."""
    rewritten: set[Digest]
    """The objects that were written since they were read, or may have been: their ETag and size
    are as they were taken, and their time is another one, or that of the reading is not known."""


class SourceAccess:
    """Opens sources, each once. `local_options` refuses, by a SetupError, what was not approved."""

    def __init__(self, local_options: Callable[[DataSource], Mapping[str, str]]) -> None:
        self._local_options = local_options
        self._lock = threading.Lock()
        self._origins: dict[SourceAddress, S3Origin] = {}

    def origin(self, address: SourceAddress) -> S3Origin:
        """Return the origin at an address; nothing is contacted yet."""
        with self._lock:
            opened = self._origins.get(address)
            if opened is None:
                if address.kind != "s3":
                    raise SetupError(
                        f"data at {printable(address.url)} was taken by a reference that this "
                        "version cannot follow",
                        hint="install a newer dvtool",
                    )
                source = address.source
                origin = open_origin(source, self._local_options(source))
                opened = self._origins[address] = cast("S3Origin", origin)
            return opened

    def close(self) -> None:
        """Close idle connections."""
        for origin in self._origins.values():
            origin.close()

    # --- reading --------------------------------------------------------------------------

    def read(self, run: ChunkRun) -> list[tuple[Digest, bytes]]:
        """Return the chunks of a run, each checked by its name.

        ReferenceLost if the object is gone or changed, CorruptError if it says that it is as it
        was and has other bytes.
        """
        return read_checked(lambda: self._read(run))[0]

    def _read(self, run: ChunkRun) -> tuple[list[tuple[Digest, bytes]], int]:
        """Return the chunks of a run, and when the object was written, as `ObjectReader` has it."""
        data, settled_s = self._range(run.reference, run.offset, run.size)
        chunks = []
        for digest, offset, size in run.chunks:
            begin = offset - run.offset
            chunk = data[begin : begin + size]
            if len(chunk) != size or digest_of(chunk) != digest:
                raise ReferenceDiffers(run.reference)
            chunks.append((digest, chunk))
        return chunks, settled_s

    def _range(self, reference: Reference, offset: int, size: int) -> tuple[bytes, int]:
        described, origin = self._described(reference), self.origin(reference.address)
        try:
            return _read_range(origin, described, offset, size)
        except ChangedAtSource as error:
            if described.version:
                # The version is gone: another one may be the same state, put back since.
                with contextlib.suppress(ChangedAtSource):
                    return _read_range(origin, described._replace(version=""), offset, size)
            raise self._loss(reference) from error

    def verify(
        self, content: Digest, reference: Reference, tell: Callable[[int], object] | None = None
    ) -> None:
        """Read a content whole; ReferenceLost or CorruptError unless it has that very hash."""
        whole = hasher()
        for run in runs_of(reference, {chunk for chunk, _ in reference.chunks}):
            for _, data in self.read(run):
                whole.update(data)
                if tell is not None:
                    tell(len(data))
        if whole.digest() != content:
            raise ReferenceDiffers(reference)

    def fault(
        self, content: Digest, reference: Reference, tell: Callable[[int], object] | None = None
    ) -> DvError | None:
        """Read a content whole; return what is wrong with it, None if nothing is."""
        try:
            self.verify(content, reference, tell)
        except (ReferenceLost, CorruptError) as error:
            return error
        return None

    # --- asking ---------------------------------------------------------------------------

    def ask(self, references: Sequence[Reference]) -> AskedSources:
        """Ask sources for objects, whose size, ETag and version must be as they were taken.

        That is the origin's word. Errors of a whole source are raised.
        """
        asked = AskedSources({}, set())
        by_address: dict[SourceAddress, list[Reference]] = {}
        for reference in {reference.name: reference for reference in references}.values():
            by_address.setdefault(reference.address, []).append(reference)
        for address, listed in by_address.items():
            left = self._unlisted(address, listed) if len(listed) >= LOOKS_LIST_MIN else listed
            for reference, said in run_bounded(self._loss_or_time, left, workers=LOOKS_AT_ONCE):
                if isinstance(said, DvError):
                    asked.lost[reference.name] = said
                elif said not in (0, reference.modified):
                    asked.rewritten.add(reference.name)
        return asked

    def prove(
        self, references: Sequence[Reference], progress: Progress
    ) -> tuple[dict[Digest, DvError], list[Reference]]:
        """Ask sources for objects, and read anew each that was written since it was read.

        Return name of the reference -> why it does not hold, and those that were read anew and do,
        with the time of that reading. A store that changes bytes, and neither ETag nor time of
        the object, is believed: only reading everything finds that.
        """
        asked = self.ask(references)
        lost = asked.lost
        by_name = {each.name: each for each in references if each.name in asked.rewritten}
        if not by_name:
            return lost, []
        sound = []
        progress.start(
            "reading again at sources", total_bytes=sum(each.size for each in by_name.values())
        )
        for reference, said in run_bounded(
            self._fault_or_time,
            by_name.values(),
            workers=LOOKS_AT_ONCE,
            size_of=lambda each: min(each.size, RUN_SIZE_MAX_BYTES),
            budget_bytes=PROOF_MEMORY_MAX_BYTES,
        ):
            if isinstance(said, DvError):
                lost[reference.name] = said
            else:
                sound.append(structs.replace(reference, modified=said))
            progress.advance(reference.size)
        progress.finish()
        return lost, sound

    def _fault_or_time(self, reference: Reference) -> DvError | int:
        """Read all chunks of an object; return what is wrong with it, else when it was written."""
        times = set()
        try:
            for run in runs_of(reference, {chunk for chunk, _ in reference.chunks}):
                _, settled_s = read_checked(functools.partial(self._read, run))
                times.add(settled_s)
        except (ReferenceLost, CorruptError) as error:
            return error
        return times.pop() if len(times) == 1 else 0

    def _unlisted(self, address: SourceAddress, references: Sequence[Reference]) -> list[Reference]:
        """Return the references that a listing does not show as they were taken."""
        left = {(each.key, each.size, each.tag, each.modified): each for each in references}
        for batch in self.origin(address).batches():
            for listed in batch:
                left.pop((listed.key, listed.size, listed.tag, listed.modified), None)
        return list(left.values())

    def _loss_or_time(self, reference: Reference) -> DvError | int:
        """Return why an object does not hold, else when it was written: 0 if nobody says."""
        described, origin = self._described(reference), self.origin(reference.address)
        for state in dict.fromkeys((described, described._replace(version=""))):
            now = origin.look(state)
            if now is not None and (now.size, now.tag) == (reference.size, reference.tag):
                return now.modified
        return self._loss(reference)

    def _loss(self, reference: Reference) -> ReferenceLost:
        origin = self.origin(reference.address)
        now = origin.look(OriginObject(reference.key, SIZE_UNKNOWN, ""))
        if now is None:
            return ReferenceLost(reference, "is gone")
        text = f"{size_text(now.size)}, ETag {printable(now.tag)}"
        return ReferenceLost(reference, f"was replaced: there is {text}")

    def _described(self, reference: Reference) -> OriginObject:
        """Return the object as the origin is asked for it; it must be below the address."""
        prefix = reference.address.url.partition("://")[2].partition("/")[2]
        key = reference.key
        if key != prefix and not (key.startswith(prefix) and (prefix.endswith("/") or not prefix)):
            raise CorruptError(
                f"a reference to {printable(reference.address.url)} names {printable(key)}, which "
                "is not there",
                hint="run `dv push` in the clone where the data was imported",
            )
        return OriginObject(key, reference.size, reference.tag, reference.version)


def _read_range(
    origin: S3Origin, described: OriginObject, offset: int, size: int
) -> tuple[bytes, int]:
    with ObjectReader(origin, described, Attempts(), span=(offset, size)) as reader:
        parts = []
        while data := reader.read(READ_AT_ONCE_BYTES):
            parts.append(data)
        return b"".join(parts), reader.settled_s or 0


def runs_of(reference: Reference, chunks: Iterable[Digest]) -> Iterator[ChunkRun]:
    """Yield the requests that read listed chunks of a content; near ones are read together."""
    wanted = set(chunks)
    run: list[tuple[Digest, int, int]] = []
    at = 0
    for digest, size in reference.chunks:
        if digest in wanted:
            begin = run[0][1] if run else at
            end = run[-1][1] + run[-1][2] if run else at
            if run and (at - end > GAP_SIZE_MAX_BYTES or at + size - begin > RUN_SIZE_MAX_BYTES):
                yield ChunkRun(reference, tuple(run))
                run = []
            run.append((digest, at, size))
        at += size
    if run:
        yield ChunkRun(reference, tuple(run))
