"""The consequences once a remote lost something that was proven to be there.

A remote is rolled back to a backup, a rule of the store removes old objects, a disk loses some.
Then no earlier proof counts any more: all data that was pushed from this clone is proven anew, and
sent again where it is still here.
"""

from __future__ import annotations

from collections.abc import Sequence

from dvtool.errors import MissingError, count_text, listing, size_text
from dvtool.project.parts import Project
from dvtool.remotes.known import Known
from dvtool.remotes.remote import RemoteStore
from dvtool.verbs.push.manifests import manifests_to_push
from dvtool.verbs.push.plan import ManifestToPush, Pushed
from dvtool.verbs.push.upload import upload


def make_good(
    project: Project, store: RemoteStore, repo_id: str, tips: Sequence[str], pushed: Pushed
) -> list[str]:
    """Prove all that the tips and earlier pushes from here need, and send what is gone there.

    `pushed` is what the push of the tips did, to which this is added. Return warnings: what was
    lost and made good again, and what could not be. None if a gc only put objects elsewhere.
    """
    known = Known(project.store.db, store.required_mark().id)
    others = project.git.commits_among(known.commits())
    at_tips, behind, _ = manifests_to_push(project, tips, (), also=others)
    sent, gaps = _upload_each(project, store, repo_id, [*at_tips, *behind])
    pushed.packs += sent.packs
    pushed.bytes += sent.bytes
    pushed.lost |= sent.lost
    known.forget_commits()
    if gaps:
        texts = [lost_text(store.url, pushed)]
        texts.append(f"these versions are neither here nor on {store.url} any more:")
        return ["\n".join([*texts, listing(list(dict.fromkeys(gaps)))])]
    known.forget_objects(pushed.gone | sent.gone)
    known.add_commits(others)
    if not (pushed.lost or sent.bytes):
        return []
    again = f"{count_text(sent.packs, 'pack')} ({size_text(sent.bytes)}) besides, sent again"
    return [f"{lost_text(store.url, pushed)}; all versions are proven there anew; {again}"]


def lost_text(url: str, pushed: Pushed) -> str:
    """Return a sentence about what a remote lost."""
    gone = sorted(pushed.gone | pushed.lost)
    return (
        f"{url} does not have {count_text(len(gone), 'object')} any more that were proven to be "
        f"there, such as {gone[0]}: it was rolled back, or somebody removed them"
    )


def _upload_each(
    project: Project, store: RemoteStore, repo_id: str, manifests: Sequence[ManifestToPush]
) -> tuple[Pushed, list[str]]:
    """Upload the manifests as far as their content is anywhere; name the targets of the others."""
    total = Pushed(store.url)
    gaps: list[str] = []
    groups = [list(manifests)] if manifests else []
    while groups:
        group = groups.pop()
        try:
            done = upload(project, store, repo_id, group)
        except MissingError as error:
            if len(group) == 1:
                gaps.append(f"a version of {group[0].target}: {_first_line(error)}")
            else:
                half = len(group) // 2
                groups += [group[half:], group[:half]]
            continue
        total.packs += done.packs
        total.bytes += done.bytes
        total.gone |= done.gone
        total.lost |= done.lost
    return total, gaps


def _first_line(error: MissingError) -> str:
    return str(error).partition(";")[0]
