"""The manifests of commits, and of the history behind them, as a push takes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dvtool.errors import CorruptError, MissingError
from dvtool.format.manifest import decode
from dvtool.format.paths import SUFFIX
from dvtool.project.history import versions_anywhere
from dvtool.project.parts import Project
from dvtool.verbs.push.plan import ManifestToPush


def manifests_to_push(
    project: Project, tips: Sequence[str], past: Sequence[str], *, also: Sequence[str] = ()
) -> tuple[list[ManifestToPush], list[ManifestToPush], list[str]]:
    """Return the distinct manifests of the tips, those only behind them, and warnings.

    The history of the commits `also` counts as behind them.
    """
    git = project.git
    blobs: dict[tuple[str, str], bool] = {}
    for path, ids in git.manifest_blobs_in([*tips, *also], exclude=past).items():
        blobs.update({(path, blob): False for blob in ids})
    for tip in tips:
        blobs.update(dict.fromkeys(git.manifests_at(tip).items(), True))
    at_tips: list[ManifestToPush] = []
    behind: list[ManifestToPush] = []
    warnings = []
    for (path, blob), at_tip in sorted(blobs.items()):
        try:
            manifest = decode(git.read_blob(blob), path)
        except (CorruptError, MissingError) as error:  # damaged, far too large, or lost to git
            if at_tip:
                raise
            warnings.append(f"{path} of an earlier commit was passed over: {error}")
            continue
        target = path.removesuffix(SUFFIX)
        earlier = partial(versions_anywhere, project, target)
        (at_tips if at_tip else behind).append(ManifestToPush(target, manifest, earlier))
    return at_tips, behind, warnings
