"""import of data that another repository versions with dv: by pack from its remote, as a pull does.

The other repository is cloned bare into a temporary folder, for its manifests and its `.dvconfig`.
Content comes from the remote that this names into the store of this repository.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import structs

from dvtool.errors import MissingError, UsageError, printable
from dvtool.format.manifest import Built, Entries, Manifest, build, manifest_digest
from dvtool.format.paths import SELF, joined, path_fault
from dvtool.format.selection import Selection
from dvtool.format.source import DataSource, holds_credentials
from dvtool.git import Git
from dvtool.project import approvals
from dvtool.project.opening import close_project, open_project
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.project.shards import ShardSource
from dvtool.project.source_approvals import SourceApprovals, not_approved
from dvtool.remotes.estimate import Estimate
from dvtool.verbs.fetch import download
from dvtool.verbs.fetch.plan import plan_fetch
from dvtool.verbs.fetch.request import FetchRequest, fetch_request
from dvtool.verbs.imports.bring import TargetThere, put_in_place
from dvtool.verbs.imports.results import Imported

_ADDRESS = r"(?P<repo>(?:[a-z][a-z0-9+.-]*://)?.*?[^/:])//(?P<path>[^@]*)(?:@(?P<rev>.+))?"
REMOTE = "remote"
"""The option of a source that names the remote which the other repository's `.dvconfig` names."""


def repo_source(text: str, folder: str) -> DataSource | None:
    """Return the source that ``GIT-URL//path@rev`` means as typed, None for another address.

    A repository that is a folder is relative to `folder`. UsageError for a path that can be none.
    """
    match = re.fullmatch(_ADDRESS, text, re.DOTALL)
    if match is None or text.startswith("s3://"):
        return None
    repo, path = match["repo"], match["path"].strip("/")
    if holds_credentials(repo):
        raise UsageError(
            "the address holds credentials, which would get into git",
            hint="leave them to git: a credential helper, or ssh",
        )
    if path and path_fault(path):
        raise UsageError(f"{printable(path)} {path_fault(path)}")
    local = os.path.join(folder, os.path.expanduser(repo))
    url = os.path.normpath(local) if os.path.isdir(local) else repo
    return DataSource("dv", url, "", path, match["rev"] or "")


class OtherRepository(NamedTuple):
    """Another repository at a revision: its parts, on this one's store, and its settings."""

    project: Project
    settings: Settings
    source: DataSource


@contextlib.contextmanager
def other_repository(project: Project, source: DataSource) -> Iterator[OtherRepository]:
    """Clone the repository of a source for as long as the block runs."""
    with tempfile.TemporaryDirectory(dir=project.store.temp_folder()) as folder:
        place = os.path.join(folder, "other.git")
        Git.clone_bare(source.url, place, cwd=folder)
        with Git.discover(place) as git:
            commit = git.point_head(source.rev or "HEAD")
            _take_settings(source.url, git)
        opened, cwd = open_project(place, {}, project.progress)
        try:
            settings = Settings(opened, cwd, {})
            other = structs.replace(opened, store=project.store)
            other.shards = ShardSource(
                project.store,
                lambda remote, refs, places: download.fetch_shards(
                    other, settings.open_remotes(remote), refs, places=places
                ),
            )
            settings.trust_first_use()
            options = {REMOTE: text} if (text := _address(settings)) else {}
            found = structs.replace(source, state=commit, options=options)
            yield OtherRepository(other, settings, found)
        finally:
            close_project(opened)


def _take_settings(url: str, git: Git) -> None:
    """Take over where a repository on this disk has its data, which it says outside of git."""
    if not os.path.isdir(url):
        return
    with Git.discover(url) as original:
        for key, value in original.config.items(None):
            if key.startswith("dv.remote.") or key == "dv.core.remote":
                git.config.set(None, key, value)


def _address(settings: Settings) -> str:
    """Return what `.dvconfig` says of the default remote's address; "" if it says nothing."""
    remote = settings.values.default_remote()
    address = None if remote is None else approvals.address_of(remote)
    return "" if address is None else approvals.address_text(address.parts)


def import_repo(
    project: Project, there: TargetThere, other: OtherRepository, *, typed: bool
) -> Imported:
    """Bring a target to what another repository has at a path and revision.

    A source that is `typed` is approved by that; else the repository, and the remote that it names
    now, must be approved: SetupError before the remote is asked.
    """
    approve_typed(project, other.source, typed=typed)
    result = Imported(there.target, other.source.url, other.source.state)
    built = _fetched(other, result)
    before = there.manifest
    if before is not None and before.source is not None:
        same = manifest_digest(before) == manifest_digest(built.manifest)
        if same and before.source.request == other.source.request:
            built = Built(before, ())  # another commit with the same data is no change
    put_in_place(project, there, built, result)
    return result


def plan_repo(there: TargetThere, other: OtherRepository) -> tuple[Imported, Estimate]:
    """Say what `import_repo` would fetch, as the plan of a fetch does.

    Lists of files come, and the beginning of one pack, for the time.
    """
    entries = _entries_at(other)
    result = Imported(there.target, other.source.url, other.source.state)
    result.files, result.bytes = len(entries), sum(entry.size for entry in entries.values())
    remote = other.settings.open_remote()
    result.remote = remote.url
    wanted = list(_requests(other.project, other.source.path))
    fetched, estimate = plan_fetch(other.project, remote, wanted, sample=True)
    result.read = fetched.files
    return result, estimate


def approve_typed(project: Project, source: DataSource, *, typed: bool) -> None:
    """Approve a source that was typed; SetupError for another one that nobody approved here."""
    registry = SourceApprovals(project.git.common_dir)
    if typed:
        registry.approve(source, {})
    elif registry.find(source) is None:
        raise not_approved(source)


def has_data_of_dv(other: OtherRepository) -> bool:
    """Whether the path of a source has data of dv in another repository."""
    return any(
        _selection(target, other.source.path) is not None
        for target in other.project.manifests_here()
    )


def is_behind(project: Project, manifest: Manifest) -> bool:
    """Whether another repository has other data at its revision now; no content is fetched."""
    assert manifest.source is not None
    with other_repository(project, manifest.source.request) as other:
        if other.source.state == manifest.source.state:
            return False
        now = _entries(other.project, other.source.path)
        kind = "file" if SELF in now else "dir"
        built = build(kind, now).manifest  # type: ignore[arg-type]
        return manifest_digest(built) != manifest_digest(manifest)


def _fetched(other: OtherRepository, result: Imported) -> Built:
    """Fetch the content that a path means; return the manifest of it."""
    project, path = other.project, other.source.path
    entries = _entries_at(other)
    wanted = list(_requests(project, path))
    lacking = project.store.lacking(entry.digest for entry in entries.values() if entry.size > 0)
    if lacking:
        before = sum(info.size for info in project.store.db.packs().values())
        fetched = download.fetch(project, other.settings.open_remotes(None), wanted)
        result.read, result.warnings = fetched.files, list(fetched.warnings)
        after = sum(info.size for info in project.store.db.packs().values())
        result.stored_bytes = after - before
    return build("file" if SELF in entries else "dir", entries, other.source)


def _entries_at(other: OtherRepository) -> Entries:
    """Return the entries that the path of a source means; MissingError if there are none."""
    path = other.source.path
    entries = _entries(other.project, path)
    if not entries:
        raise MissingError(
            f"{printable(other.source.url)} has no data of dv at {printable(path) or 'its top'}"
            f"{f' in {printable(other.source.rev)}' if other.source.rev else ''}",
            hint="see what there is: dv ls, in a clone of it",
        )
    return entries


def _requests(project: Project, path: str) -> Iterator[FetchRequest]:
    for target, manifest in project.manifests_here().items():
        selection = _selection(target, path)
        if selection is not None:
            yield fetch_request(project, manifest, selection)


def _entries(project: Project, path: str) -> Entries:
    """Return the entries that a path of the other repository means, by their paths below it."""
    found: Entries = {}
    for target, manifest in project.manifests_here().items():
        selection = _selection(target, path)
        if selection is None:
            continue
        for inner, entry in project.entries(manifest, selection).items():
            place = target if inner == SELF else joined(target, inner)
            found[place[len(path) :].lstrip("/") or SELF] = entry
    return found


def _selection(target: str, path: str) -> Selection | None:
    """Return what a path means of a target: all, a part, or (None) nothing."""
    if not path or target == path or target.startswith(path + "/"):
        return Selection(target)
    if path.startswith(target + "/"):
        return Selection(target, (path[len(target) + 1 :],))
    return None
