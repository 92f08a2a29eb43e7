"""`DvFileSystem`: the data of one commit as a filesystem of fsspec, read-only."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, NoReturn

from fsspec.registry import register_implementation
from fsspec.spec import AbstractFileSystem
from fsspec.utils import tokenize

from dvtool.errors import UsageError, printable
from dvtool.filesystem.urls import UrlPart, join_url, split_url
from dvtool.snapshots.listed import Listed
from dvtool.snapshots.reading import snapshot
from dvtool.snapshots.snapshot import Snapshot

OF_FSSPEC = frozenset(
    (
        *("asynchronous", "auto_mkdir", "batch_size", "listings_expiry_time", "loop"),
        *("max_paths", "skip_instance_cache", "use_listings_cache"),
    )
)
"""Options that fsspec has for every filesystem; they change nothing here."""
FETCHED_AT_ONCE_BYTES = 64 << 20
"""`get` and `cat` of many files read so many bytes at once."""


class DvFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The data of a commit.

    `repo` is a folder of the repository or a git URL, without it the repository around the current
    folder; `rev` a revision, without it HEAD. A filesystem stays at the commit that the revision
    named when it was made, and pickles with that commit: filesystems of one commit of one
    repository are equal. Paths are from the top of the repository. TypeError for an option that
    neither this nor fsspec has.

    Where a URL said `repo` or `rev` (they are `UrlPart`), `glob` gives URLs with the commit: some
    programs put ``dv://`` before what it gives and open that anew.

    A path that is not there is a FileNotFoundError; content that cannot be had is another
    `DvError`; a URL of another repository or revision is a UsageError.
    """

    protocol = "dv"
    root_marker = ""
    cachable = False  # a branch moves; what is read is kept by the snapshot
    async_impl = False
    local_file = False
    _extra_tokenize_attributes: ClassVar = ("commit",)

    def __init__(self, repo: str | None = None, rev: str | None = None, **options: Any) -> None:
        unknown = sorted(options.keys() - OF_FSSPEC)
        if unknown:
            raise TypeError(
                f"dv:// has no option {', '.join(map(repr, unknown))}: there are 'repo' (a folder "
                "or a git URL) and 'rev' (a revision), and those that fsspec has for all"
            )
        super().__init__(repo=repo, rev=rev, **options)
        by_url = isinstance(repo, UrlPart) or isinstance(rev, UrlPart)
        self._repo_of_urls = os.fspath(repo or "") if by_url else None
        self._snapshot = _snapshot_named(repo, rev)
        # Each method of fsspec begins with it: so none reads another revision than its URL says.
        given = (os.fspath(repo) if repo else "", rev or "")
        self.__dict__["_strip_protocol"] = partial(_own_path, self._snapshot, given)

    @property
    def storage_options(self) -> dict[str, Any]:
        """The arguments that make a filesystem of the same commit, wherever it is made.

        No password is among them.
        """
        commit = self.commit if self._repo_of_urls is None else UrlPart(self.commit)
        return {**self._options, "repo": self._snapshot.repo, "rev": commit}

    @storage_options.setter
    def storage_options(self, options: dict[str, Any]) -> None:
        """Take the arguments that fsspec notes when it has made a filesystem."""
        self._options = options

    @property
    def _fs_token(self) -> str:
        """Equality and hash: of the repository and the commit, however they were given."""
        return str(tokenize(type(self).__qualname__, self._snapshot.repo, self.commit))

    @property
    def storage_args(self) -> tuple[Any, ...]:
        """None: all arguments have names, in `storage_options`."""
        return ()

    @storage_args.setter
    def storage_args(self, args: tuple[Any, ...]) -> None:
        """Pass over the arguments without names that fsspec notes."""

    # --- URLs -----------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return split_url(os.fspath(path)).path

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        url = split_url(path)
        parts = (("repo", url.repo), ("rev", url.rev))
        return {name: UrlPart(value) for name, value in parts if value}

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a path: with repository and commit, so that it names it anywhere."""
        if name.startswith("dv://"):
            return name
        return join_url(self._snapshot.repo, self.commit, name)

    @property
    def fsid(self) -> str:
        """The id of the content of the filesystem: the data id of the commit."""
        return f"dv_{self._snapshot.data_id}"

    @property
    def commit(self) -> str:
        """The full id of the commit."""
        return self._snapshot.commit

    @property
    def snapshot(self) -> Snapshot:
        """The data of the commit."""
        return self._snapshot

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.storage_options)

    # --- paths ----------------------------------------------------------------------------

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, size and type of a path; of a file also `blake3`, `target`, `mtime`."""
        path = self._strip_protocol(path)
        return self._described(self._snapshot.info(path), path)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List a folder; of a file, the file."""
        path = self._strip_protocol(path)
        listed = [self._described(each) for each in self._snapshot.ls(path)]
        return listed if detail else [each["name"] for each in listed]

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return all files at or below a path; of a path that is not there, none."""
        if maxdepth is not None or withdirs:
            return super().find(path, maxdepth, withdirs, detail, **kwargs)
        path = self._strip_protocol(path)
        if not self._snapshot.exists(path):
            return {} if detail else []
        entries = self._snapshot.entries(path)
        if detail:
            described = (self._described(entry) for entry in entries)
            return {each["name"]: each for each in described if each["type"] == "file"}
        return [entry.path for entry in entries if self._is_file(entry)]

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Return what a pattern matches; by URLs if that is how the filesystem was made."""
        matched = super().glob(path, maxdepth, **kwargs)
        if self._repo_of_urls is None:
            return matched
        urls = [join_url(self._repo_of_urls, self.commit, name) for name in matched]
        if isinstance(matched, dict):
            return dict(zip(urls, matched.values(), strict=True))
        return urls

    def expand_path(self, path: Any, *args: Any, **kwargs: Any) -> list[str]:
        """Return the sorted paths that paths and patterns stand for."""
        return sorted(map(self._strip_protocol, super().expand_path(path, *args, **kwargs)))

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Whether something is at a path."""
        return self._snapshot.exists(self._strip_protocol(path))

    def created(self, path: str) -> datetime:
        """Return when the commit was made; files have no time of their own."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """Return when the commit was made; files have no time of their own."""
        self.info(path)
        return datetime.fromtimestamp(self._snapshot.commit_time, UTC)

    def ukey(self, path: str) -> str:
        """Return what changes if and only if the content does: the BLAKE3 of a file."""
        info = self.info(path)
        return str(info.get("blake3") or f"{self.commit}:{info['name']}")

    def checksum(self, path: str) -> int:
        """Return a number of the content: the first 128 bits of its BLAKE3."""
        return int(self._file_info(path)["blake3"][:32], 16)

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> NoReturn:
        """Not there: content has no address of its own."""
        raise NotImplementedError("content in packs has no URL of its own; run: dv serve")

    # --- bytes ----------------------------------------------------------------------------

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return bytes of a file, `start` up to `end`, as in a slice."""
        return self._snapshot.read_ranges([(self._strip_protocol(path), start, end)])[0]

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Return ranges of files, all read together."""
        many = len(paths)
        starts = [starts] * many if not isinstance(starts, Sequence) else starts
        ends = [ends] * many if not isinstance(ends, Sequence) else ends
        if len(starts) != many or len(ends) != many:
            raise ValueError("paths, starts and ends must be equally many")
        wanted = list(zip(self._strip_protocol(list(paths)), starts, ends, strict=True))
        try:
            return list(self._snapshot.read_ranges(wanted))
        except OSError:
            if on_error == "raise":
                raise
        except Exception:
            if on_error == "raise":
                raise
        return [self._read_or_error(each) for each in wanted]

    def _read_or_error(self, wanted: tuple[str, int | None, int | None]) -> Any:
        try:
            return self._snapshot.read_ranges([wanted])[0]
        except Exception as error:
            return error

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Return the bytes of a file, or of several as a dictionary; these are read together."""
        paths = self.expand_path(path, recursive=recursive, **kwargs)
        if (
            len(paths) == 1
            and not isinstance(path, list)
            and paths[0] == self._strip_protocol(path)
        ):
            return self.cat_file(paths[0])
        files = [each for each in paths if not recursive or self.isfile(each)]
        contents = self.cat_ranges(
            files, None, None, on_error="raise" if on_error == "raise" else "return"
        )
        results = dict(zip(files, contents, strict=True))
        if on_error == "omit":
            return {name: value for name, value in results.items() if isinstance(value, bytes)}
        return results

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> io.BufferedIOBase:
        """Open a file; what is read is what is asked for, and nothing ahead of it."""
        if mode != "rb":
            self._refuse()
        file = self._snapshot.open(path, "rb")
        vars(file)["size"] = file.raw.size  # fsspec's own `read_block` and others ask for it
        return file

    def get_file(self, rpath: str, lpath: Any, callback: Any = None, **kwargs: Any) -> None:
        """Copy a file to a local path, or into an open local file."""
        if self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
            return
        super().get_file(rpath, lpath, **({"callback": callback} if callback else {}), **kwargs)

    def get(self, rpath: Any, lpath: Any, recursive: bool = False, **kwargs: Any) -> Any:
        """Copy files to local ones; content on a remote is got together before."""
        paths = self.expand_path(rpath, recursive=recursive, maxdepth=kwargs.get("maxdepth"))
        self._snapshot.prefetch([path for path in paths if self.isfile(path)])
        return super().get(rpath, lpath, recursive=recursive, **kwargs)

    # --- writing --------------------------------------------------------------------------

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(
            errno.EROFS,
            "the data of a commit is only read: change the files in the worktree, then run "
            "`dv add` and `git commit`",
        )

    mkdir = makedirs = rmdir = _refuse
    rm = rm_file = _rm = mv = cp_file = _refuse
    touch = pipe_file = put_file = put = pipe = copy = _refuse

    # --- inside ---------------------------------------------------------------------------

    def _described(self, entry: Listed, path: str | None = None) -> dict[str, Any]:
        name = entry.path if path is None else path
        if entry.type == "symlink":
            return self._described_link(entry, name)
        if entry.type != "file":
            return {"name": name, "size": 0, "type": "directory", "target": entry.target}
        return {
            "name": name,
            "size": entry.size,
            "type": "file",
            "blake3": entry.blake3,
            "target": entry.target,
            "mtime": float(self._snapshot.commit_time),
        }

    def _described_link(self, entry: Listed, name: str) -> dict[str, Any]:
        """Describe a symlink as what it leads to; one that leads nowhere is of type `other`."""
        link = {"islink": True, "destination": entry.symlink}
        real = self._snapshot.followed(entry.path)
        if not self._snapshot.exists(real):
            return {"name": name, "size": 0, "type": "other", "target": entry.target, **link}
        return {**self._described(self._snapshot.info(real)), "name": name, **link}

    def _is_file(self, entry: Listed) -> bool:
        """Whether an entry is a file, or a symlink that leads to one."""
        if entry.type == "symlink":
            return str(self._described_link(entry, entry.path)["type"]) == "file"
        return entry.type == "file"

    def _file_info(self, path: str) -> dict[str, Any]:
        info = self.info(path)
        if info["type"] != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return info


def _snapshot_named(repo: str | None, rev: str | None) -> Snapshot:
    """Return the snapshot of options, or of parts of a URL, in which a name may be a path's."""
    try:
        return snapshot(rev or None, repo or None)
    except UsageError as error:
        if rev or repo:
            written = "a path that has @ is written dv://@PATH, one that has : dv://:PATH"
            error.hint = f"{error.hint}; {written}" if error.hint else written
        raise


def _own_path(data: Snapshot, given: tuple[str, str], path: Any) -> Any:
    """Return the path of a URL; UsageError if it names other data than `data`.

    `given` are the repository and revision by which a filesystem was asked for.
    """
    if isinstance(path, list):
        return [_own_path(data, given, each) for each in path]
    url = split_url(os.fspath(path))
    repo = url.repo or given[0]
    if not (url.repo or url.rev) or (repo, url.rev) == given:
        return url.path
    if repo in (given[0], data.repo) and url.rev == data.commit:
        return url.path
    with _snapshot_named(url.repo or data.repo, url.rev) as other:
        if (other.repo, other.commit) == (data.repo, data.commit):
            return url.path
    options = "".join(
        f", {name}={value!r}" for name, value in (("repo", url.repo), ("rev", url.rev)) if value
    )
    raise UsageError(
        f"{printable(os.fspath(path))} is not of this filesystem, which is of commit "
        f"{data.commit[:10]} of {printable(data.repo)}",
        hint=f"make one of it: fsspec.filesystem('dv'{options})",
    )


def _made_again(cls: type[DvFileSystem], options: dict[str, Any]) -> DvFileSystem:
    return cls(**options)


# fsspec does it when the class is first asked for. universal_pathlib does not ask, and takes URLs
# of a class that is not registered apart as they look.
register_implementation("dv", DvFileSystem, clobber=True)
