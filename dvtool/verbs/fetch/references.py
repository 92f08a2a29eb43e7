"""The part of a fetch that comes from sources: contents that were imported by reference."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing

from dvtool.errors import CorruptError, DvError, MissingError, RemoteError, SetupError
from dvtool.format.digest import Digest
from dvtool.format.pack import Recipe
from dvtool.format.references import Reference, shown
from dvtool.project.parts import Project
from dvtool.project.source_approvals import source_access
from dvtool.remotes.references import ChunkRun, SourceAccess, runs_of
from dvtool.system.parallel import run_bounded
from dvtool.verbs.fetch.received import ReceivedChunks
from dvtool.verbs.fetch.request import Fetched

REFERENCES_MEMORY_MAX_BYTES = 64 << 20
LOOKUPS_AT_ONCE = 10_000


def fetch_referenced(
    project: Project, sizes: Mapping[Digest, int], result: Fetched
) -> dict[Digest, DvError]:
    """Copy those of the contents that are at sources into the store; return why others did not.

    Of what is neither here nor known to be at a source nothing is said.
    """
    store, failed = project.store, dict[Digest, DvError]()
    lacking = sorted(store.lacking(sizes)) if store.db.references.any() else ()
    if not lacking:
        return failed
    with closing(source_access(project.git.common_dir)) as access:
        for at in range(0, len(lacking), LOOKUPS_AT_ONCE):
            references = store.db.references.find(lacking[at : at + LOOKUPS_AT_ONCE])
            while references:
                first = {content: some[0] for content, some in references.items()}
                errors = _copied_run(project, access, first, result)
                failed.update({c: errors[c] for c in errors if c not in failed})
                # Another object may have had the same content, and have it still.
                references = {c: references[c][1:] for c in errors if references[c][1:]}
    come = sizes.keys() & set(lacking) - store.lacking(lacking)
    result.files += len(come)
    result.bytes += sum(sizes[content] for content in come)
    return {content: error for content, error in failed.items() if content not in come}


def _copied_run(
    project: Project,
    access: SourceAccess,
    references: Mapping[Digest, Reference],
    result: Fetched,
) -> dict[Digest, DvError]:
    """Copy contents into the store; return the errors of those that could not be had."""
    store, failed = project.store, dict[Digest, DvError]()
    by_name: dict[Digest, list[Digest]] = {}
    for content, reference in references.items():
        by_name.setdefault(reference.name, []).append(content)
    total = sum(reference.size for reference in references.values())
    project.progress.start("downloading from sources", total_bytes=total)
    recipes = [
        Recipe(content, reference.size, tuple(chunk for chunk, _ in reference.chunks))
        for content, reference in references.items()
        if len(reference.chunks) > 1
    ]
    with ReceivedChunks(store) as received:
        for run, chunks in run_bounded(
            lambda run: _read_or_error(access, run),
            _reference_runs(project, references),
            size_of=lambda run: run.size,
            budget_bytes=REFERENCES_MEMORY_MAX_BYTES,
        ):
            if isinstance(chunks, DvError):
                failed.update(dict.fromkeys(by_name[run.reference.name], chunks))
            else:
                received.add(chunks)
                address = run.reference.address.url
                if address not in result.sources:
                    result.sources += (address,)
            result.transferred_bytes += run.size
            project.progress.advance(run.size)
        received.add_recipes(recipe for recipe in recipes if recipe.digest not in failed)
    made = store.add_tried(recipe for recipe in recipes if recipe.digest not in failed)
    for recipe in recipes:
        if recipe.digest not in made and recipe.digest not in failed:
            failed[recipe.digest] = CorruptError(
                f"the chunks that are named for {shown(references[recipe.digest])} do not make it",
                hint="run `dv push` in the clone where it was imported",
            )
    project.progress.finish()
    return failed


def _reference_runs(project: Project, references: Mapping[Digest, Reference]) -> Iterator[ChunkRun]:
    for reference in references.values():
        chunks = {chunk for chunk, _ in reference.chunks}
        yield from runs_of(reference, chunks - project.store.db.held_chunks(chunks))


def _read_or_error(access: SourceAccess, run: ChunkRun) -> Sequence[tuple[Digest, bytes]] | DvError:
    try:
        return access.read(run)
    except (MissingError, CorruptError, SetupError, RemoteError) as error:
        return error


def first_error(failed: Mapping[Digest, DvError], contents: Collection[Digest]) -> DvError | None:
    """Return the error of those of the contents that could not be had from a source; None if none.

    Each object that is at fault is named.
    """
    errors = [failed[content] for content in contents if content in failed]
    if not errors:
        return None
    first = errors[0]
    texts = list(dict.fromkeys(str(error) for error in errors))
    if len(texts) > 1:
        first.args = ("\n".join([texts[0], *(f"and: {text}" for text in texts[1:20])]),)
        if len(texts) > 20:
            first.args = (f"{first}\nand {len(texts) - 20:,} others",)
    return first
