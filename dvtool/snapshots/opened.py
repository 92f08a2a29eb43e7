"""A snapshot's repository as one process has it open, and the way to open it anew elsewhere."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dvtool.format.digest import Digest
from dvtool.format.manifest import ShardRef
from dvtool.project.opening import (
    close_project,
    environment,
    open_project,
    reopen_project,
)
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.snapshots.cache import FrameCache, cache_of
from dvtool.snapshots.columns import EntryColumns
from dvtool.snapshots.local import LocalChunks
from dvtool.snapshots.shards import ShardReader
from dvtool.snapshots.source import ContentSource
from dvtool.system.lazy import later_in
from dvtool.system.progress import SILENT

if TYPE_CHECKING:
    from dvtool.project import source_approvals
    from dvtool.remotes.remote import RemoteStore
    from dvtool.snapshots import foreign, referenced, remote
else:
    (source_approvals,) = later_in("dvtool.project", "source_approvals")
    foreign, referenced, remote = later_in("dvtool.snapshots", "foreign", "referenced", "remote")


class OpenedRepository:
    """The parts of a repository that a snapshot reads with, in one process."""

    def __init__(
        self,
        project: Project,
        settings: Settings,
        commit: str,
        *,
        cache: FrameCache | None,
        owned: bool,
        url: str | None = None,
        before_fork: OpenedRepository | None = None,
    ) -> None:
        """Take the parts; `url` names the repository if this is the clone of one in the cache.

        `before_fork` is what the parent of this process had open: what it knew of remotes is known.
        """
        self.project = project
        self._environ_then = dict(settings.environ)
        self.pid = os.getpid()
        # Called before anything that garbage consists of is told that it is garbage.
        self._release = weakref.finalize(self, _close_here, project if owned else None, self.pid)
        local = LocalChunks(project.store)
        self._remote = _Once(
            lambda: remote.RemoteChunks(
                project.git,
                local,
                partial(_open_remotes, settings),
                commit,
                cache,
                referenced.SourceChunks(
                    local.references,
                    source_approvals.source_access(
                        project.git.common_dir,
                        url=foreign.without_password(url) if url is not None else None,
                    ),
                ),
                before_fork=before_fork._remote.made if before_fork is not None else None,
            )
        )
        self.contents = ContentSource(local, self._remote.get, cache)
        self.shards = ShardReader(project.store, cache, self._remote.get)

    @classmethod
    def at(
        cls,
        folder: str,
        commit: str,
        environ: Mapping[str, str],
        *,
        url: str | None,
        before_fork: OpenedRepository | None = None,
    ) -> OpenedRepository:
        """Open the repository around a folder, or the bare clone of a URL there, for reading.

        A child that was forked takes over the settings of its parent, unless its environment is
        another: many workers begin at once, and git would answer each of them the same.
        """
        known = before_fork is not None and before_fork._environ_then == dict(environ)
        if before_fork is not None and known and url is None:
            project, cwd = reopen_project(before_fork.project, folder)
        else:
            project, cwd = open_project(folder, environ, SILENT, reading=True, bare=url is not None)
        settings, cache = Settings(project, cwd, environ), cache_of(project, environ)
        return cls(
            project, settings, commit, cache=cache, owned=True, url=url, before_fork=before_fork
        )

    def columns(self, refs: Sequence[ShardRef]) -> dict[Digest, EntryColumns]:
        """Return the entries of shards: from this disk, the rest from a remote."""
        return dict(self.shards.columns_each(refs))

    def close(self) -> None:
        """Release files and processes."""
        self._release()


class _Once:
    """Makes the remote side when it is first needed, once for all threads."""

    def __init__(self, make: Callable[[], remote.RemoteChunks]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self.made: remote.RemoteChunks | None = None

    def get(self) -> remote.RemoteChunks:
        with self._lock:
            if self.made is None:
                self.made = self._make()
            return self.made


def _close_here(project: Project | None, pid: int) -> None:
    if project is not None and pid == os.getpid():
        with contextlib.suppress(Exception):
            close_project(project)


def _open_remotes(settings: Settings) -> Sequence[RemoteStore]:
    return settings.open_remotes() if settings.remotes() else []


class Handle:
    """Gives the opened repository of this process, which is opened when it is first needed.

    After a fork the child opens its own: connections do not survive one.
    """

    def __init__(
        self,
        folder: str,
        commit: str,
        environ: Mapping[str, str] | None,
        opened: OpenedRepository | None = None,
        *,
        url: str | None = None,
    ) -> None:
        """Take the folder of a repository, or of the clone of a URL, which is made if need be."""
        self.folder = folder
        self.commit = commit
        self.url = url
        self._environ = environ
        self._lock = threading.Lock()
        self._opened = opened
        self._before_fork: OpenedRepository | None = None
        """What the parent had open, of which only the knowledge is used here."""
        _HANDLES.add(self)

    @property
    def opened(self) -> OpenedRepository:
        """The repository, opened in this process."""
        opened = self._opened
        if opened is not None and opened.pid == os.getpid():
            return opened
        with self._lock:
            if self._opened is None or self._opened.pid != os.getpid():
                environ = environment(self._environ)
                if self.url is not None:
                    self.folder = foreign.cached_clone(self.url, self.commit, environ, None)
                self._opened = OpenedRepository.at(
                    self.folder,
                    self.commit,
                    environ,
                    url=self.url,
                    before_fork=self._before_fork,
                )
            return self._opened

    def close(self) -> None:
        """Release files and processes; they are opened again when needed."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def begin_child(self) -> None:
        """Leave what the parent has open alone, in a child that was forked just now."""
        self._lock = threading.Lock()
        if self._opened is not None:
            _OF_PARENT.append(self._opened)
            self._before_fork, self._opened = self._opened, None


_HANDLES: weakref.WeakSet[Handle] = weakref.WeakSet()
_OF_PARENT: list[OpenedRepository] = []
"""SQLite and sockets of a parent must not be closed by its child, so they are kept."""


def _begin_child() -> None:
    for handle in list(_HANDLES):
        handle.begin_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
