"""fsck of the workspace: files whose bytes changed while their size and times say they did not."""

from __future__ import annotations

import contextlib
import sys
from functools import partial

from dvtool.errors import DvError, count_text
from dvtool.format.digest import Digest
from dvtool.format.paths import workspace_path
from dvtool.project.parts import Project
from dvtool.system.parallel import run_bounded
from dvtool.verbs.fsck.findings import WORKSPACE, Damage, WorkspaceCounts
from dvtool.verbs.fsck.store import CHECK_WORKERS
from dvtool.workspace.hashing import read_digest
from dvtool.workspace.scan import Scan, content_of, find_left_out, scan_target


def fsck_workspace(project: Project) -> tuple[WorkspaceCounts, list[Damage]]:
    """Read every tracked file here; name those that changed while their stat says they did not.

    A file that is not what the manifest says and looks it was edited; that is counted, no damage.
    """
    counts = WorkspaceCounts()
    damage: list[Damage] = []
    for target in project.targets():
        try:
            entries = project.held_entries(project.manifest(target))
        except DvError:
            continue  # named among the manifests
        scan = scan_target(project, target, content_at=content_of(entries))
        find_left_out(project, scan, entries)
        paths = sorted(path for path, e in entries.items() if e.is_file and path in scan.files)
        total = sum(scan.files[path].st_size for path in paths)
        project.progress.start(
            f"reading {count_text(len(paths), 'file')} of {target}", total_bytes=total
        )
        read = run_bounded(
            partial(_digest_now, project, scan),
            paths,
            workers=CHECK_WORKERS,
            size_of=lambda path, scan=scan: scan.files[path].st_size,  # type: ignore[misc]
            budget_bytes=sys.maxsize,
            tell=project.progress.advance,
        )
        for path, digest in read:
            size = scan.files[path].st_size
            counts.files += 1
            counts.bytes += size
            if digest is None:
                counts.unreadable += 1
            elif path in scan.digests and digest != scan.digests[path]:
                damage.append(_rotten(target, path, scan.digests[path], digest))
            elif digest != entries[path].digest:
                counts.changed += 1
        project.progress.finish()
    return counts, sorted(damage, key=lambda damage: damage.name)


def _digest_now(project: Project, scan: Scan, path: str) -> Digest | None:
    with contextlib.suppress(DvError, OSError):
        full = workspace_path(scan.target, path)
        return read_digest(project, full, follow=scan.behind_link(path))
    return None


def _rotten(target: str, path: str, expected: Digest, read: Digest) -> Damage:
    problem = (
        f"has other bytes ({read.hex()[:12]}…) than when it was last read or written "
        f"({expected.hex()[:12]}…), though its size and times say that nothing changed it"
    )
    name = workspace_path(target, path)
    return Damage(WORKSPACE, "file", name, problem, contents=frozenset([expected]))
