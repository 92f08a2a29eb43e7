"""Reading what is listed and not known, in batches, by an engine; what was read goes on record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.jobs.engine import Engine, engine_for
from dvtool.jobs.take import TakeBatch, take_batches
from dvtool.project.parts import Project
from dvtool.project.taken import ListedFile, TakenObjects
from dvtool.remotes.origins.base import Origin, OriginObject


class ReadBatch(Protocol):
    """The result of a batch: hash and size of each object, in the order of the batch."""

    @property
    def digests(self) -> Sequence[Digest]:
        """The hash of each object."""
        ...

    @property
    def sizes(self) -> Sequence[int]:
        """The size of each object in bytes."""
        ...


ReadResult = TypeVar("ReadResult", bound=ReadBatch)


@dataclass(frozen=True, slots=True)
class ListingWork(Generic[ReadResult]):
    """Work on batches: `work` runs in a worker, on each that `batch` makes.

    `keep` takes each result before its objects go on record as read, `undo` what is not kept.
    """

    shown: str
    """Its name for people: importing, hashing."""
    work: Callable[..., ReadResult]
    keep: Callable[[ReadResult], object]
    batch: Callable[[TakeBatch], Any] = lambda batch: batch
    undo: Callable[[ReadResult], None] | None = None


def read_listed(
    project: Project,
    taken: TakenObjects,
    origin: Origin,
    engine: Engine,
    work: ListingWork[ReadResult],
) -> int:
    """Read all that is listed and not known; return how many objects that was.

    Objects read by then are on record after an error, too.
    """
    objects, size = taken.unknown_total()
    if not objects:
        return 0
    project.progress.start(work.shown, total_bytes=size)
    wanted = _Wanted(taken)
    batches = take_batches(origin, project.store.path, wanted, count=objects, total_bytes=size)
    results = engine_for(engine, files=objects, size_bytes=size).map(
        work.work,
        map(work.batch, batches),
        tell=project.progress.advance,
        undo=work.undo,
    )
    read = 0
    with closing(results):
        for result in results:
            work.keep(result)
            taken.settle(wanted.files_of(result))
            read += len(result.digests)
    project.progress.finish()
    if read != objects:
        raise DvError("the listing changed while it was worked on", hint="repeat the command")
    return objects


class _Wanted:
    """The objects to read, whose paths wait for the results."""

    def __init__(self, taken: TakenObjects) -> None:
        self._taken = taken
        self._paths: list[str] = []

    def __iter__(self) -> Iterator[OriginObject]:
        for path, described in self._taken.unknown():
            self._paths.append(path)
            yield described

    def files_of(self, result: ReadBatch) -> Iterable[ListedFile]:
        """Return what a batch was found to hold; results come in the order of the batches."""
        count = len(result.digests)
        paths, self._paths = self._paths[:count], self._paths[count:]
        return map(ListedFile, paths, result.digests, result.sizes)
