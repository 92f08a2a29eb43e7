"""Good copies of content for fsck's repairs: from the workspace, then from remotes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from functools import partial

from dvtool.errors import DvError, printable
from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import Manifest
from dvtool.format.pack import PACK_SIZE_MAX_BYTES, PackInfo
from dvtool.format.paths import workspace_path
from dvtool.format.selection import Selection
from dvtool.jobs.ingest import FileSource, ingest, ingest_batches
from dvtool.project.history import FOR_NAMING, Version, held_runs, versions
from dvtool.project.parts import Project
from dvtool.remotes.objects import pack_key
from dvtool.remotes.remote import RemoteStore
from dvtool.store.packcheck import check_pack
from dvtool.system.atomic import flush_to_disk
from dvtool.verbs.fetch.download import fetch
from dvtool.verbs.fetch.request import FetchRequest
from dvtool.verbs.fsck.check import Checking
from dvtool.verbs.fsck.findings import WORKSPACE
from dvtool.workspace.hashing import read_digest
from dvtool.workspace.opener import reason


class Copies:
    """Brings content into the local store: from the workspace, then from remotes."""

    def __init__(self, checking: Checking) -> None:
        self.checking = checking
        self.project: Project = checking.project
        self.store = checking.project.store
        self.failures: list[str] = []
        """Why remotes could not help, a line each."""

    def bring(self, wanted: Collection[Digest], *, but: str = "") -> set[Digest]:
        """See that the store has contents; return those that are good nowhere.

        The remote with the URL `but` is asked last.
        """
        left = self.store.lacking(wanted)
        if left:
            self.from_workspace(left)
            left = self.store.lacking(left)
        remotes = self.remotes() if left else ()
        for remote in sorted(remotes, key=lambda remote: remote.url == but):
            self._from_remote(remote, left)
            left = self.store.lacking(left)
            if not left:
                break
        return left

    def from_workspace(self, wanted: Collection[Digest]) -> None:
        """Take in the files of the workspace that have wanted content, by reading them."""
        files = {
            file.path: (file.digest, file.size)
            for damage in self.checking.report.damage
            for file in damage.files
            if file.digest in wanted and WORKSPACE in file.copies
        }
        for target in () if self.project.git.worktree is None else self.project.targets():
            with contextlib.suppress(DvError):
                for path, entry in self.project.held_entries(self.project.manifest(target)).items():
                    if entry.size > 0 and entry.digest in wanted:
                        files[workspace_path(target, path)] = (entry.digest, entry.size)
        sources = [
            FileSource(path, size)
            for path, (digest, size) in sorted(files.items())
            if self._file_has(path, digest)
        ]
        root, links = self.project.root, self.project.workspace.links
        for batch in ingest_batches(root, self.store.path, sources, links=links):
            self.store.adopt(ingest(batch).packs)

    def _from_remote(self, remote: RemoteStore, wanted: Collection[Digest]) -> None:
        """Fetch contents from a remote, as many of them as it has sound."""
        with self.noting():
            fetch(self.project, [remote], list(self._wanted(wanted)))

    def _wanted(self, contents: Collection[Digest]) -> Iterator[FetchRequest]:
        """Yield manifests that name the contents, of each content one that git has newest.

        The newest need not be pushed: the others that name the same content follow as its past.
        """
        left = set(contents)
        for version, named in self._naming(contents):
            names = frozenset(named & left)
            if names:
                left -= names
                yield FetchRequest(
                    version.manifest,
                    Selection(version.target),
                    only=names,
                    past=partial(self._others, names),
                )
            if not left:
                return

    def _naming(self, contents: Collection[Digest]) -> Iterator[tuple[Version, set[Digest]]]:
        """Yield the versions that name some of the contents, by the lists that are here."""
        for version in versions(self.project, FOR_NAMING):
            names: set[Digest] = set()
            for _, entries in held_runs(self.project, version.manifest):
                names |= contents_of(entries or {}).keys() & contents
            if names and version.target:
                yield version, names

    def _others(self, contents: Collection[Digest]) -> Iterator[Manifest]:
        for version, _ in self._naming(contents):
            yield version.manifest

    def remotes(self) -> Iterator[RemoteStore]:
        """Yield the configured remotes, the default one first; what cannot be opened is noted."""
        config = self.project.config
        default = config.default_remote()
        first = [default.name] if default else []
        for name in dict.fromkeys([*first, *sorted(config.remotes())]):
            try:
                yield self.checking.settings.open_remote(name)
            except DvError as error:
                self._note(f"{name}: {error}")

    def _file_has(self, path: str, digest: Digest) -> bool:
        """Whether a file of the workspace has this content, read now; why not is noted."""
        try:
            return read_digest(self.project, path) == digest
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._note(f"{printable(path)} cannot be read: {reason(error)}")
        except DvError as error:
            self._note(str(error))
        return False

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Note an error of a remote, and go on."""
        try:
            yield
        except DvError as error:
            self._note(str(error))

    def _note(self, text: str) -> None:
        line = text.partition("\n")[0]
        if line not in self.failures:
            self.failures.append(line)

    def get_pack(self, remote: RemoteStore, digest: Digest) -> bool:
        """Fetch a whole pack by its id; return False if the remote has no such sound pack."""
        info = remote.backend.head(pack_key(digest))
        if info is None or info.size > PACK_SIZE_MAX_BYTES:
            return False
        temp = self.store.temp_path()
        try:
            with open(temp, "xb") as file:
                remote.read_pack(digest, file, offset=0, size=info.size)
                file.flush()
                flush_to_disk(file.fileno())
            check = check_pack(temp, digest)
            if not check.sound or check.index is None:
                return False
            recipes, check.index.recipes = check.index.recipes, []
            self.store.adopt([(temp, PackInfo(digest, check.size, check.index))])
            self.store.add_tried(recipes)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)
        return True
