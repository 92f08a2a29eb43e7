"""The part of a push that is about data at sources: what stays there, and the proof that it is.

A reference is published, or relied on, only once the source itself said that the object is as it
was taken. Copies that are here go in its place where that is not so, or where they were asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from dvtool.errors import DvError, MissingError
from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import Entries
from dvtool.format.paths import workspace_path
from dvtool.format.references import Reference
from dvtool.project.parts import Project
from dvtool.project.source_approvals import source_access
from dvtool.remotes.known import Known
from dvtool.remotes.proof import Proven
from dvtool.remotes.remote import RemoteStore
from dvtool.store.local import LocalStore
from dvtool.verbs.push.planned import ShardToPush, UploadPlan


class Planning(Protocol):
    """The questions to the planning of a push."""

    project: Project
    store: LocalStore
    remote: RemoteStore
    shards: dict[Digest, ShardToPush]

    @property
    def known(self) -> Known:
        """The known facts about the remote."""
        ...

    def entries(self, shard: ShardToPush) -> Entries:
        """Return the entries of a shard."""
        ...


def proven_at_sources(planning: Planning, proven: Proven) -> Proven:
    """Leave out the shards on the remote whose references do not hold, or are to be copies.

    These are published anew, with the copies that are here. MissingError, naming the files, if an
    object is not as it was taken and there is no copy.
    """
    if not proven.shards:
        return proven
    again: set[Digest] = set()
    for digest in planning.known.referring(proven.shards):
        shard = planning.shards[digest]
        contents = set(contents_of(planning.entries(shard)))
        outside = _outside_packs(planning, contents)
        wanted = outside.keys() & _to_copy(planning, shard, contents)
        if wanted or len(_references_held(planning, outside, shard)) < len(outside):
            again.add(digest)
    return replace(proven, shards=proven.shards - again) if again else proven


def _to_copy(planning: Planning, shard: ShardToPush, contents: set[Digest]) -> set[Digest]:
    """Return the contents of which a copy is here and belongs on the remote."""
    wanted = contents
    if shard.by_reference:
        wanted = planning.store.db.references.copied(contents)
    return wanted - planning.store.lacking(wanted)


def refer(planning: Planning, plan: UploadPlan) -> None:
    """Choose the contents that stay at their source: of targets that were imported so."""
    for shard in plan.lacking:
        if shard.by_reference:
            contents = set(plan.contents.of(shard.ref.digest))
            contents -= _to_copy(planning, shard, contents)
            some = _outside_packs(planning, contents)
            plan.contents.references.update(_references_held(planning, some, shard))


def refer_absent(planning: Planning, plan: UploadPlan) -> bool:
    """Let contents of which chunks are nowhere stay at their source; False if there are none."""
    absent = plan.outgoing.absent
    before = len(plan.contents.references)
    for shard in plan.lacking:
        wanted = {
            content
            for content in plan.contents.of(shard.ref.digest)
            if not absent.isdisjoint(plan.contents.chunks(content))
        }
        some = planning.store.db.references.find(wanted)
        plan.contents.references.update(_references_held(planning, some, shard))
    return len(plan.contents.references) > before


def _outside_packs(
    planning: Planning, contents: Collection[Digest]
) -> dict[Digest, list[Reference]]:
    """Return the references of contents of which the remote does not have all chunks in packs."""
    references = planning.store.db.references.find(contents)
    chunks = {chunk for some in references.values() for chunk, _ in some[0].chunks}
    mark = planning.remote.mark()
    located = planning.known.located(chunks) if mark is not None and chunks else {}
    return {
        content: some
        for content, some in references.items()
        if not all(chunk in located for chunk, _ in some[0].chunks)
    }


def _references_held(
    planning: Planning, references: Mapping[Digest, list[Reference]], shard: ShardToPush
) -> dict[Digest, Reference]:
    """Return, for each content, an object that its source says it has as it was taken.

    Objects that were written since they were read are read anew, whatever their ETag is.

    Contents without one are left out if copies of them are here; MissingError for others.
    """
    held: dict[Digest, Reference] = {}
    errors: dict[Digest, DvError] = {}
    left = dict(references)
    with closing(source_access(planning.project.git.common_dir)) as access:
        while left:
            first = {content: some[0] for content, some in left.items()}
            lost, sound = access.prove(list(first.values()), planning.project.progress)
            first |= _remembered(planning, first, sound)
            held |= {
                content: reference
                for content, reference in first.items()
                if reference.name not in lost
            }
            errors |= {
                c: lost[reference.name] for c, reference in first.items() if reference.name in lost
            }
            left = {c: some[1:] for c, some in left.items() if c not in held and some[1:]}
    gone = {content: errors[content] for content in references if content not in held}
    gone = {content: gone[content] for content in planning.store.lacking(gone)}
    if gone:
        raise _lost(gone, dict(_paths(planning, shard, gone)), planning.remote.url)
    return held


def _remembered(
    planning: Planning, first: Mapping[Digest, Reference], sound: Sequence[Reference]
) -> dict[Digest, Reference]:
    """Remember when objects were written that were read anew; return content -> reference."""
    by_name = {reference.name: reference for reference in sound}
    anew = {
        content: by_name[reference.name]
        for content, reference in first.items()
        if reference.name in by_name
    }
    planning.store.db.references.add(anew.items())
    return anew


def _paths(
    planning: Planning, shard: ShardToPush, contents: Collection[Digest]
) -> Iterator[tuple[Digest, str]]:
    for path, entry in planning.entries(shard).items():
        if entry.size > 0 and entry.digest in contents:
            yield entry.digest, workspace_path(shard.target, path)


def _lost(gone: Mapping[Digest, DvError], paths: Mapping[Digest, str], url: str) -> MissingError:
    lines = [f"{paths[content]}: {error}" for content, error in list(gone.items())[:20]]
    if len(gone) > 20:
        lines.append(f"and {len(gone) - 20:,} others")
    return MissingError(
        f"what {url} has refers to objects that are not as they were taken; nothing was published "
        "there:\n" + "\n".join(lines),
        hint="take what is at the source now: dv update TARGET, and commit; or put the objects "
        "back; of copies here: dv import --materialise PATH",
    )
