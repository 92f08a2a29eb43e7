"""Versions that a push from this clone once proved on a remote and that are still needed."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.format.manifest import decode, manifest_digest
from dvtool.format.paths import SUFFIX
from dvtool.project.parts import Project
from dvtool.remotes.known import Known


def lost_targets(project: Project, known: Known, rooted: Collection[Digest]) -> dict[str, int]:
    """Return target -> how many versions of it a remote had once and has no more.

    `rooted` are the manifests that its roots name now. Versions that no ref needs do not count: a
    gc may have let them go.
    """
    gone = known.rooted_manifests() - set(rooted)
    counts: dict[str, int] = {}
    tips = sorted(set(project.git.all_refs().values()) | set(filter(None, [project.git.head()])))
    if not gone or not tips:
        return counts
    for path, blobs in sorted(project.git.manifest_blobs_in(tips).items()):
        for blob in blobs:
            with contextlib.suppress(DvError):
                if manifest_digest(decode(project.git.read_blob(blob), path)) in gone:
                    target = path.removesuffix(SUFFIX)
                    counts[target] = counts.get(target, 0) + 1
    return counts
