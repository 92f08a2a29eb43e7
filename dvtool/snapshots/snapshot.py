"""`Snapshot`: the data of one commit, to be read without a checkout."""

from __future__ import annotations

import html
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import IO, TYPE_CHECKING, Literal, TypeAlias, overload

from dvtool.errors import printable, size_text
from dvtool.format.digest import Digest
from dvtool.format.manifest import Entries, Manifest, ShardRef
from dvtool.format.selection import Selection
from dvtool.git.refs import head_unasked
from dvtool.project.ledger import note_reads
from dvtool.project.opening import environment
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.snapshots.cache import cache_of
from dvtool.snapshots.contents import Content, Contents
from dvtool.snapshots.file import SnapshotFile
from dvtool.snapshots.listed import Listed
from dvtool.snapshots.modes import open_content
from dvtool.snapshots.opened import Handle, OpenedRepository
from dvtool.snapshots.source import ContentSource, Slice
from dvtool.snapshots.targets import TargetEntries
from dvtool.snapshots.tree import Tree
from dvtool.system.lazy import later_in

if TYPE_CHECKING:
    from dvtool.snapshots import direct, foreign
    from dvtool.snapshots.direct import DirectContents, FetchedTogether
    from dvtool.snapshots.targets import LoadColumns
else:
    direct, foreign = later_in("dvtool.snapshots", "direct", "foreign")

SnapshotPath: TypeAlias = str | os.PathLike[str]
"""A path from the top of the repository, with ``/`` between names."""


class Snapshot:
    """The data of one commit: what its manifests name. It never changes.

    Paths are from the top of the repository. Files that git itself keeps are no part of it. Data
    that is read comes from the local store or, if it is not there, from a remote that this clone
    trusts, and is checked by its BLAKE3; nothing is written into the store.

    It may be used by several threads and after a fork, and pickles as repository and commit.
    Every method raises `DvError`; PathMissing, PathIsFolder and PathNotFolder are the `OSError`
    of their kind too. Use it as a context manager, or `close` it, to release files early.
    """

    def __init__(self, handle: Handle, manifests: Mapping[str, Manifest] | None = None) -> None:
        self._handle = handle
        self._manifests = manifests

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse to change what is public."""
        if not name.startswith("_"):
            raise AttributeError(f"a snapshot never changes, so {name!r} cannot be set")
        super().__setattr__(name, value)

    # --- the commit -----------------------------------------------------------------------

    @property
    def commit(self) -> str:
        """The full id of the commit."""
        return self._handle.commit

    @property
    def git_dirs(self) -> tuple[str, str]:
        """The git folder of the worktree, and the one that all worktrees share."""
        git = self._project.git
        return git.git_dir, git.common_dir

    @property
    def repo(self) -> str:
        """The folder of the repository, or its URL without a password."""
        url = self._handle.url
        return self._handle.folder if url is None else foreign.without_password(url)

    @cached_property
    def commit_time(self) -> int:
        """When the commit was made, in seconds since 1970."""
        return self._project.git.commit_time(self.commit)

    @cached_property
    def data_id(self) -> str:
        """One hash over all targets, in hex; `dv describe` prints the same."""
        return self._project.describe_targets(dict(self._read_manifests)).hex()

    @property
    def manifests(self) -> Mapping[str, Manifest]:
        """The manifest of each target."""
        return self._read_manifests

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The targets, sorted."""
        return tuple(sorted(self._read_manifests))

    @property
    def files(self) -> int:
        """How many entries all targets have together."""
        return sum(manifest.files for manifest in self._read_manifests.values())

    @property
    def size(self) -> int:
        """The size of all files together, in bytes."""
        return sum(manifest.bytes for manifest in self._read_manifests.values())

    # --- paths ----------------------------------------------------------------------------

    def find(self, path: SnapshotPath = "") -> list[str]:
        """Return the sorted paths of all files at or below a path; `read` takes them.

        Symlinks are not among them. PathMissing if the snapshot has nothing there.
        """
        return self._tree.files(os.fspath(path))

    def ls(self, path: SnapshotPath = "") -> list[Listed]:
        """Return what is directly in a folder, sorted by path; of a file, the file."""
        return self._tree.children(os.fspath(path))

    def entries(self, path: SnapshotPath = "") -> Iterator[Listed]:
        """Yield all files, symlinks and empty folders at or below a path, sorted by path."""
        return self._tree.entries(os.fspath(path))

    def entries_selected(self, selections: Iterable[Selection]) -> Iterator[Listed]:
        """Yield the entries that selections name of the targets, in their order."""
        return self._tree.entries_selected(selections)

    def shard_entries(self, refs: Sequence[ShardRef]) -> dict[Digest, Entries]:
        """Return the entries of shards of its manifests, or of earlier ones, as `info` has them."""
        return dict(self._handle.opened.shards.read_each(refs))

    def info(self, path: SnapshotPath) -> Listed:
        """Return what is known of a path: type, size, blake3, exec, symlink and target.

        A symlink is shown as such; `followed` says where it leads.
        """
        return self._tree.info(os.fspath(path))

    def followed(self, path: SnapshotPath) -> str:
        """Return where a path leads once all symlinks are followed, whatever is there."""
        return self._tree.followed(os.fspath(path))

    def exists(self, path: SnapshotPath) -> bool:
        """Whether the snapshot has a file, a folder or a symlink at a path."""
        tree, real = self._tree, self._tree.followed(os.fspath(path), last=False)
        return tree.entry(real) is not None or tree.is_folder(real)

    def glob(self, pattern: str) -> list[str]:
        """Return the sorted paths of the files that a pattern matches.

        ``*`` and ``?`` do not match ``/``, ``**`` does; a pattern that matches a folder stands for
        all files below it. None that match is no error.
        """
        return self._tree.matching(pattern)

    def walk(self, path: SnapshotPath = "") -> Iterator[tuple[str, list[str], list[str]]]:
        """Yield folder, names of folders and names of files in it, as `os.walk` from the top.

        Symlinks are among the files. Folders that the caller removes are still entered.
        """
        return self._tree.walk(os.fspath(path))

    # --- bytes ----------------------------------------------------------------------------

    def read(self, path: SnapshotPath) -> bytes:
        """Return the bytes of a file."""
        content = self._content(path)
        (data,) = self._contents.read([Slice(content, 0, content.size)])
        note_reads([content])
        return data

    def read_ranges(
        self, ranges: Iterable[tuple[SnapshotPath, int | None, int | None]]
    ) -> list[bytes]:
        """Return bytes `start` up to `end` of files, in the order asked, all read together.

        `start` and `end` are as in a slice: None is the beginning or the end, negative numbers
        count from the end, and numbers beyond the end are the end.
        """
        slices = []
        for path, start, end in ranges:
            content = self._content(path)
            low, high, _ = slice(start, end).indices(content.size)
            slices.append(Slice(content, low, max(low, high)))
        parts = self._contents.read(slices)
        note_reads(part.content for part in slices)
        return parts

    def contents(self, path: SnapshotPath = "") -> Contents:
        """Return the contents of all files at or below a path, for `read_contents`.

        Symlinks are not among them. PathMissing if the snapshot has nothing there.
        """
        return self._tree.contents(os.fspath(path))

    def read_contents(self, contents: Sequence[Content]) -> list[bytes]:
        """Return the bytes of files, all read together: for many files, without their paths."""
        parts = self._contents.read([Slice(content, 0, content.size) for content in contents])
        note_reads(contents)
        return parts

    def direct(
        self, contents: Contents, numbers: Sequence[int], together: FetchedTogether | None = None
    ) -> DirectContents | None:
        """Return a reader of contents, by their numbers, that needs no order and little memory.

        None if they are better read by `read_contents`, many at once. If they are not all in the
        local store, `together` is got into the cache first.
        """
        return direct.find_direct(self._contents, contents, numbers, together)

    @overload
    def open(
        self, path: SnapshotPath, mode: Literal["rb", "br"] = ...
    ) -> io.BufferedReader[SnapshotFile]: ...
    @overload
    def open(
        self, path: SnapshotPath, mode: Literal["rb", "br"] = ..., *, buffering: int
    ) -> io.BufferedReader[SnapshotFile] | SnapshotFile: ...
    @overload
    def open(
        self,
        path: SnapshotPath,
        mode: Literal["r", "rt", "tr"],
        *,
        buffering: int = ...,
        encoding: str | None = ...,
        errors: str | None = ...,
        newline: str | None = ...,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(
        self,
        path: SnapshotPath,
        mode: str,
        *,
        buffering: int = ...,
        encoding: str | None = ...,
        errors: str | None = ...,
        newline: str | None = ...,
    ) -> IO[str] | IO[bytes] | SnapshotFile: ...

    def open(
        self,
        path: SnapshotPath,
        mode: str = "rb",
        *,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[str] | IO[bytes] | SnapshotFile:
        """Open a file for reading; modes and the other arguments are those of `open`.

        A read costs the frames that it touches; `SnapshotFile` says what is in memory. With
        `buffering=0` the file itself is returned, without a buffer.
        """
        content = self._content(path)
        note_reads([content])
        raw = SnapshotFile(lambda: self._contents, content)
        return open_content(raw, mode, buffering, (encoding, errors, newline))

    def prefetch(self, paths: Iterable[SnapshotPath]) -> int:
        """Get the content of files that is not in the local store into the cache, all together.

        Return how many bytes came from remotes. Of several processes that want the same files at
        once, one gets them.
        """
        return self._contents.prefetch([self._content(path) for path in paths])

    # --- the object -----------------------------------------------------------------------

    def close(self) -> None:
        """Release files and connections. The snapshot stays usable, and opens them again."""
        self._handle.close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        url = self._handle.url
        if url is not None:
            return _reopened_url, (foreign.without_password(url), self.commit)
        return _reopened, (self._handle.folder, self.commit)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        return (self._handle.folder, self.commit) == (other._handle.folder, other.commit)

    def __hash__(self) -> int:
        return hash((self._handle.folder, self.commit))

    def __repr__(self) -> str:
        targets = len(self.targets)
        return (
            f"<Snapshot {self.commit[:10]} of {printable(self.repo)}: "
            f"{targets:,} target{'' if targets == 1 else 's'}, {self.files:,} files, "
            f"{size_text(self.size)}>"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(printable(target))}</td><td>{manifest.files:,}</td>"
            f"<td>{size_text(manifest.bytes)}</td></tr>"
            for target, manifest in sorted(self._read_manifests.items())
        )
        return (
            f"<table><caption>Snapshot {self.commit[:10]}</caption>"
            f"<tr><th>target</th><th>files</th><th>size</th></tr>{rows}</table>"
        )

    # --- inside ---------------------------------------------------------------------------

    @property
    def _project(self) -> Project:
        return self._handle.opened.project

    @property
    def _contents(self) -> ContentSource:
        return self._handle.opened.contents

    @property
    def _read_manifests(self) -> Mapping[str, Manifest]:
        if self._manifests is None:
            self._manifests = read_manifests(self._project, self.commit)
        return self._manifests

    @cached_property
    def _tree(self) -> Tree:
        handle = self._handle  # not `self`: a circle would put off the release of connections
        load: LoadColumns = lambda refs: handle.opened.columns(refs)  # noqa: E731
        targets = {
            target: TargetEntries(target, manifest, load)
            for target, manifest in self._read_manifests.items()
        }
        return Tree(targets, self.commit, url=self.repo if handle.url is not None else None)

    def _content(self, path: SnapshotPath) -> Content:
        return self._tree.content(os.fspath(path))


def snapshot_within(
    project: Project, settings: Settings, commit: str | None, manifests: Mapping[str, Manifest]
) -> Snapshot:
    """Return manifests of a commit (its id), or (None) of the worktree, as a snapshot.

    It reads with the parts of a repository that is open, and is of use as long as that is.
    """
    git = project.git
    if commit is None:
        commit = head_unasked(git.git_dir, git.common_dir) or git.head() or ""
    cache = cache_of(project, settings.environ)
    opened = OpenedRepository(project, settings, commit, cache=cache, owned=False)
    top = git.worktree or git.git_dir
    return Snapshot(Handle(top, commit, settings.environ, opened), manifests)


def read_manifests(project: Project, commit: str) -> dict[str, Manifest]:
    """Return target -> manifest of a commit; no git process stays."""
    try:
        return project.manifests_at(commit)
    finally:
        project.git.close()


def _reopened(folder: str, commit: str) -> Snapshot:
    """Return a snapshot that was pickled; its repository is opened when it is first read."""
    return Snapshot(Handle(folder, commit, None))


def _reopened_url(url: str, commit: str) -> Snapshot:
    return Snapshot(Handle(foreign.clone_folder(url, environment(None)), commit, None, url=url))
