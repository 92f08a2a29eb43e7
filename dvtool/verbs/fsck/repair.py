"""The whole of fsck: the check, before it `--rebuild`, and after it `--repair`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.format.paths import SELF
from dvtool.project.arguments import Arguments
from dvtool.project.locks import all_worktrees_locked
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.store import mending
from dvtool.system.lazy import later
from dvtool.verbs.fsck.check import Checking, FsckRequest
from dvtool.verbs.fsck.copies import Copies
from dvtool.verbs.fsck.findings import Damage, FsckReport
from dvtool.verbs.fsck.repair_remote import mend_remote
from dvtool.verbs.fsck.repair_store import rebuilt_note, repair_store
from dvtool.verbs.fsck.store import index_is_usable
from dvtool.workspace.remembered import save_seen

if TYPE_CHECKING:
    from dvtool.verbs.checkout import restore
else:
    restore = later("dvtool.verbs.checkout.restore")


def fsck(
    project: Project, settings: Settings, arguments: Arguments, request: FsckRequest
) -> FsckReport:
    """Check what the request asks for; rebuild and repair only if it says so."""
    request.validate()
    checking = Checking(project, settings, request)
    if not (request.repair or request.rebuild):
        return checking.run()
    with all_worktrees_locked(project.git):
        aside = None
        if request.rebuild:
            aside = mending.rebuild(project.store, usable=index_is_usable(project))
        report = checking.run()
        if aside is not None:
            report.done.append(rebuilt_note(project.store, aside))
        if request.repair:
            repair_store(checking)
            if checking.remote is not None and checking.remote.damage:
                _repair_remote(checking)
            _restore_rotten(checking, arguments)
        return report


def _repair_remote(checking: Checking) -> None:
    """Mend what the check found on the remote; content comes from here and other remotes."""
    checked = checking.remote
    assert checked is not None
    remote = checking.settings.open_remote(checking.request.remote or None)
    copies = Copies(checking)

    def bring(contents: Collection[Digest]) -> None:
        copies.bring(contents, but=remote.url)

    repo_id = checking.project.config.text("core.repoid") or ""
    mend_remote(checking.project, remote, repo_id, checked, bring)
    for damage in checked.damage:
        if damage.failed:
            damage.failed = "; ".join([damage.failed, *copies.failures])


def _restore_rotten(checking: Checking, arguments: Arguments) -> None:
    """Write files that rotted anew; the files in their place are saved first."""
    project = checking.project
    for damage in _restorable(project, checking.report):
        path = os.path.join(project.root, damage.name)
        request = restore.RestoreRequest(paths=path, force=True)
        try:
            restored = restore.restore(project, checking.settings, arguments, request)
        except DvError as error:
            damage.failed = str(error)
        else:
            was = "".join(f"; what was there is saved: {file.blake3}" for file in restored.saved)
            damage.repaired = f"it was written anew{was}"


def _restorable(project: Project, report: FsckReport) -> Iterator[Damage]:
    """Yield the rotten files that a checkout can write again; the others are noted as failed.

    The statcache is made to forget them, so that the checkout sees what they are now.
    """
    for damage in report.damage:
        if damage.kind != "file":
            continue
        target = next(t for t in project.targets() if f"{damage.name}/".startswith(f"{t}/"))
        path = damage.name[len(target) + 1 :] or SELF
        save_seen(project, target, {path: None})
        entry = project.entries_near(project.manifest(target), [path]).get(path)
        if entry is None or entry.digest not in damage.contents:
            damage.failed = "its good content was never added, so that nothing else has it"
        elif any(char in damage.name for char in "*?["):
            damage.failed = "its name is a glob; put it back with dv checkout --force"
        else:
            yield damage
