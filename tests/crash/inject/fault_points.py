"""Fault points: what a process does to files, databases, sockets and children, one at a time.

The technique: `sitecustomize.py` in this folder is loaded, through PYTHONPATH, by the real `dv`
process, by its workers and by those that git's hooks start. It wraps the functions of Python that
change something (`os`, `open`, `sqlite3.connect`, `socket`, `subprocess`) and numbers their calls,
across all processes of one command, as far as they concern files below `root`. One call, the
`point`-th, is then where the process dies or where the call fails. Nothing of this is in dvtool.

What the instruction, JSON in the variable DVTEST_FAULT, says:

    dir      where the count, the trace and the notes of what was done are written
    root     only files below it count
    point    the number of the call, from 1; 0 only counts
    mode     before, after, half   die (SIGKILL) before, after or in the middle of the call
             power                  die before it, and lose what was not flushed to the disk
             sigint                 Ctrl-C arrives just before the call
             ENOSPC, EIO, …         the call fails so; with ENOSPC and EMFILE all later ones too
    group    whether the signal goes to the whole process group or to this process alone
    vault    for `power`: where what might have to come back is kept

A file `meanwhile.json` in `root` says what somebody else does at a first call that concerns a path
with `at` in it: put a file, `from`, in the place of another, `to`.

Not seen are the writes that git and SQLite do themselves, within one statement.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from typing import Any

VARIABLE = "DVTEST_FAULT"
DEADLY = ("before", "after", "half", "power")
STICKY = ("ENOSPC", "EMFILE")
READS = frozenset({"open", "read", "ask"})
"""Kinds that change nothing: a death there is a death at their neighbour."""
FAILS = {
    "open": ("EMFILE", "EIO", "EACCES"),
    "read": ("EIO",),
    "create": ("ENOSPC", "EIO", "EACCES", "EMFILE"),
    "write": ("ENOSPC", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "rename": ("EACCES", "EIO", "ENOSPC"),
    "link": ("EACCES", "ENOSPC"),
    "symlink": ("EACCES", "ENOSPC"),
    "unlink": ("EACCES", "EIO"),
    "mkdir": ("EACCES", "ENOSPC", "EIO"),
    "rmdir": ("EACCES",),
    "chmod": ("EACCES",),
    "connect": ("EMFILE", "EACCES"),
    "commit": ("ENOSPC", "EIO", "EACCES"),
    "ask": ("EMFILE",),
    "spawn": ("EMFILE",),
    "send": (),
}
_SQLITE = {
    "ENOSPC": ("database or disk is full", sqlite3.SQLITE_FULL),
    "EIO": ("disk I/O error", sqlite3.SQLITE_IOERR),
    "EACCES": ("attempt to write a readonly database", sqlite3.SQLITE_READONLY),
    "EMFILE": ("unable to open database file", sqlite3.SQLITE_CANTOPEN),
}
_CHANGES_GIT = frozenset(
    {"add", "rm", "update-index", "checkout", "restore", "config", "reset", "clone", "hash-object"}
)
"""The subcommands of git that dv changes something with; the others only ask."""
_ASKS_GIT = frozenset({"--list", "--get", "--get-regexp", "--show-scope"})

_real = {
    name: getattr(os, name)
    for name in (
        *("open", "read", "write", "fsync", "replace", "rename", "unlink", "remove", "mkdir"),
        *("rmdir", "link", "symlink", "ftruncate", "chmod", "fchmod", "close", "copy_file_range"),
    )
}
_real_open = io.open


def install() -> None:
    """Wrap what this process can do, if it was told to."""
    text = os.environ.get(VARIABLE)
    if text:
        Injector(json.loads(text)).wrap()


def _meanwhile(root: str) -> dict[str, str] | None:
    try:
        with _real_open(root + "meanwhile.json", encoding="utf-8") as file:
            order: dict[str, str] = json.load(file)
            return order
    except FileNotFoundError:
        return None


class Injector:
    """Counts the calls of one process and does what was asked for at one of them."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.dir = order["dir"]
        self.root = order["root"].rstrip("/") + "/"
        self.point = int(order["point"])
        self.mode = order["mode"]
        self.group = bool(order["group"])
        self.broken = False
        self.cut = Unflushed(order["vault"]) if self.mode == "power" else None
        self.meanwhile = _meanwhile(self.root)
        self._open_files()
        os.register_at_fork(after_in_child=self._open_files)

    def _open_files(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        # Every process opens these itself: the offset after an append is then its own.
        self._count = _real["open"](os.path.join(self.dir, "count"), flags, 0o600)
        self._trace = _real["open"](os.path.join(self.dir, "trace"), flags, 0o600)

    # --- where we are -----------------------------------------------------------------------

    def inside(self, path: object, dir_fd: int | None = None) -> str | None:
        """Return the absolute path of what is below the root, else None."""
        if isinstance(path, int):
            full = _path_of(path)
        else:
            name = os.fsdecode(path)  # type: ignore[arg-type]
            above = os.getcwd() if dir_fd is None else _path_of(dir_fd)
            full = os.path.normpath(os.path.join(above, name))
        return full if full.startswith(self.root) else None

    def at(self, kind: str, path: str, call: Callable[[], Any], **more: Any) -> Any:
        """Do one call, which is a fault point."""
        if self.meanwhile is not None and self.meanwhile["at"] in path:
            with contextlib.suppress(FileNotFoundError):  # it was moved before
                _real["replace"](self.meanwhile["from"], self.meanwhile["to"])
        if self.mode in DEADLY and kind in READS:
            return call()
        _real["write"](self._count, b".")
        number = os.lseek(self._count, 0, os.SEEK_CUR)
        line = {"point": number, "kind": kind, "path": path, "pid": os.getpid()}
        line.update({key: value for key, value in more.items() if isinstance(value, str)})
        _real["write"](self._trace, json.dumps(line).encode() + b"\n")
        if self.broken and self.mode in FAILS[kind]:
            raise self._error(kind, path)
        if number != self.point:
            return self._done(kind, path, call, more)
        self._note(f"{kind} {path}")
        if self.mode in DEADLY:
            return self._die(kind, path, call, more)
        if self.mode == "sigint":
            os.kill(0 if self.group else os.getpid(), signal.SIGINT)
            return self._done(kind, path, call, more)
        self.broken = self.mode in STICKY
        if self.mode in FAILS[kind]:
            raise self._error(kind, path)
        return self._done(kind, path, call, more)

    def _done(self, kind: str, path: str, call: Callable[[], Any], more: dict[str, Any]) -> Any:
        if self.cut is None:
            return call()
        self.cut.about_to(kind, path, more)
        result = call()
        self.cut.did(kind, path, more)
        return result

    def _die(self, kind: str, path: str, call: Callable[[], Any], more: dict[str, Any]) -> None:
        if self.mode == "after":
            call()
        if self.mode == "half" and "half" in more:
            more["half"]()
        try:
            if self.cut is not None:
                self.cut.lose()
        except OSError as error:
            self._note(f"the injector failed: {error}")
        os.kill(0 if self.group else os.getpid(), signal.SIGKILL)

    def _error(self, kind: str, path: str) -> Exception:
        if kind in ("commit", "connect"):
            text, code = _SQLITE[self.mode]
            error = sqlite3.OperationalError(text)
            error.sqlite_errorcode = code
            error.sqlite_errorname = self.mode
            return error
        code = getattr(errno, self.mode)
        return OSError(code, os.strerror(code), path)

    def _note(self, text: str) -> None:
        fd = _real["open"](os.path.join(self.dir, "hit"), os.O_WRONLY | os.O_CREAT, 0o600)
        _real["write"](fd, text.encode())
        _real["close"](fd)

    # --- wrapping ---------------------------------------------------------------------------

    def wrap(self) -> None:
        """Put the wrappers in the place of what they wrap."""
        for name, kind in (("unlink", "unlink"), ("remove", "unlink"), ("rmdir", "rmdir")):
            self._put(name, self._one_path(name, kind))
        for name, kind in (("mkdir", "mkdir"), ("chmod", "chmod")):
            self._put(name, self._one_path(name, kind))
        for name, kind in (("replace", "rename"), ("rename", "rename"), ("link", "link")):
            self._put(name, self._two_paths(name, kind))
        self._put("symlink", self._symlink)
        self._put("open", self._open)
        self._put("read", self._read)
        self._put("write", self._write)
        self._put("copy_file_range", self._copy)
        for name, kind in (("fsync", "fsync"), ("ftruncate", "write"), ("fchmod", "chmod")):
            self._put(name, self._descriptor(name, kind))
        builtins.open = io.open = self._open_file  # type: ignore[assignment]
        self._wrap_renames()
        self._wrap_sqlite()
        self._wrap_processes()
        self._wrap_sockets()

    def _put(self, name: str, wrapper: Callable[..., Any]) -> None:
        setattr(os, name, wrapper)
        for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if _real[name] in able:
                able.add(wrapper)

    def _one_path(self, name: str, kind: str) -> Callable[..., Any]:
        real = _real[name]

        def wrapper(path: Any, *args: Any, dir_fd: int | None = None, **options: Any) -> Any:
            if dir_fd is not None:
                options["dir_fd"] = dir_fd
            full = self.inside(path, dir_fd)
            if full is None:
                return real(path, *args, **options)
            return self.at(kind, full, lambda: real(path, *args, **options))

        return wrapper

    def _two_paths(self, name: str, kind: str) -> Callable[..., Any]:
        real = _real[name]

        def wrapper(src: Any, dst: Any, **options: Any) -> Any:
            source = self.inside(_unnamed(src) or src, options.get("src_dir_fd"))
            full = self.inside(dst, options.get("dst_dir_fd"))
            if full is None or source is None:
                return real(src, dst, **options)
            return self.at(kind, full, lambda: real(src, dst, **options), source=source)

        return wrapper

    def _wrap_renames(self) -> None:
        """Wrap the renames that dvtool asks of the system itself."""
        try:
            from dvtool.system import rename
        except ImportError:
            return  # a Python of somebody else
        real = rename._rename_by_call

        def wrapper(src: str, dst: str, folder: int | None, into: int | None, flag: int) -> Any:
            def act() -> bool:
                return real(src, dst, folder, into, flag)

            source, full = self.inside(src, folder), self.inside(dst, into)
            if full is None or source is None or not os.path.lexists(source):
                return act()
            return self.at("rename", full, act, source=source)

        rename._rename_by_call = wrapper

    def _symlink(self, src: Any, dst: Any, *args: Any, dir_fd: int | None = None) -> Any:
        full = self.inside(dst, dir_fd)
        if full is None:
            return _real["symlink"](src, dst, *args, dir_fd=dir_fd)
        return self.at("symlink", full, lambda: _real["symlink"](src, dst, *args, dir_fd=dir_fd))

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        full = self.inside(path, dir_fd)
        if full is None:
            return int(_real["open"](path, flags, mode, dir_fd=dir_fd))
        kind = "create" if flags & os.O_CREAT else "open"
        call = lambda: _real["open"](path, flags, mode, dir_fd=dir_fd)  # noqa: E731
        return int(self.at(kind, full, call))

    def _read(self, fd: int, size: int) -> bytes:
        full = self.inside(fd)
        if full is None:
            return bytes(_real["read"](fd, size))
        return bytes(self.at("read", full, lambda: _real["read"](fd, size)))

    def _write(self, fd: int, data: Any) -> int:
        full = self.inside(fd)
        if full is None:
            return int(_real["write"](fd, data))
        part = memoryview(data)[: len(data) // 2]
        call = lambda: _real["write"](fd, data)  # noqa: E731
        return int(self.at("write", full, call, half=lambda: _real["write"](fd, part)))

    def _copy(self, src: int, dst: int, count: int, **options: Any) -> int:
        full = self.inside(dst)
        call = lambda: _real["copy_file_range"](src, dst, count, **options)  # noqa: E731
        part = lambda: _real["copy_file_range"](src, dst, count // 2, **options)  # noqa: E731
        return int(call() if full is None else self.at("write", full, call, half=part))

    def _descriptor(self, name: str, kind: str) -> Callable[..., Any]:
        real = _real[name]

        def wrapper(fd: Any, *args: Any) -> Any:
            number = fd if isinstance(fd, int) else fd.fileno()
            full = self.inside(number)
            if full is None:
                return real(fd, *args)
            return self.at(kind, full, lambda: real(fd, *args))

        return wrapper

    def _open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        full = self.inside(file)
        rest = (encoding, errors, newline, closefd, opener)
        if full is None:
            return _real_open(file, mode, buffering, *rest)
        if not set(mode) & set("wax+"):
            call = lambda: _real_open(file, mode, buffering, *rest)  # noqa: E731
            return call() if isinstance(file, int) else self.at("open", full, call)
        bare = mode.replace("b", "").replace("t", "")
        make = lambda: _RawFile(self, full, file, bare, closefd, opener)  # noqa: E731
        raw = make() if isinstance(file, int) else self.at("create", full, make)
        if buffering == 0:
            return raw
        kind = io.BufferedRandom if "+" in mode else io.BufferedWriter
        buffered = kind(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding or "locale", errors, newline)

    def _wrap_sqlite(self) -> None:
        real, injector = sqlite3.connect, self

        def connect(path: Any, *args: Any, **options: Any) -> Any:
            full = injector.inside(path)
            if full is None:
                return real(path, *args, **options)
            # A connection with a `with` of its own keeps it: it calls `commit`.
            own = options.get("factory")
            options["factory"] = type("Own", (_Commits, own), {}) if own else _Connection
            db = injector.at("connect", full, lambda: real(path, *args, **options))
            db.injector, db.path = injector, full
            return db

        sqlite3.connect = sqlite3.dbapi2.connect = connect

    def _wrap_processes(self) -> None:
        real, injector = subprocess.Popen.__init__, self

        def start(process: Any, args: Any, *more: Any, **options: Any) -> None:
            words = [args] if isinstance(args, str) else [os.fsdecode(word) for word in args]
            asks = _ASKS_GIT.intersection(words) or not _CHANGES_GIT.intersection(words[:4])
            kind = "ask" if asks else "spawn"
            injector.at(kind, " ".join(words), lambda: real(process, args, *more, **options))

        subprocess.Popen.__init__ = start  # type: ignore[method-assign]

    def _wrap_sockets(self) -> None:
        injector = self
        real = socket.socket.sendall

        def sendall(sock: socket.socket, data: Any, *flags: int) -> None:
            if sock.family not in (socket.AF_INET, socket.AF_INET6):
                return real(sock, data, *flags)
            part = memoryview(data)[: len(data) // 2]
            call = lambda: real(sock, data, *flags)  # noqa: E731
            injector.at("send", "socket", call, half=lambda: real(sock, part))
            return None

        socket.socket.sendall = sendall  # type: ignore[method-assign,assignment]


class _RawFile(io.FileIO):
    """A file opened for writing whose writes are fault points."""

    def __init__(self, injector: Injector, path: str, *args: Any) -> None:
        super().__init__(*args)
        self._injector = injector
        self._path = path

    def write(self, data: Any, /) -> int:
        here = self._injector.inside(self.fileno()) or self._path
        part = memoryview(data)[: len(data) // 2]
        call = super().write
        return int(self._injector.at("write", here, lambda: call(data), half=lambda: call(part)))


class _Commits(sqlite3.Connection):
    """A connection whose commits are fault points, if its ``with`` calls `commit`."""

    injector: Injector
    path: str

    def commit(self) -> None:
        if not self.in_transaction:
            super().commit()
            return
        self.injector.at("commit", self.path, super().commit)

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.upper().startswith("COMMIT"):
            done = super().execute
            return self.injector.at("commit", self.path, lambda: done(sql))  # type: ignore[no-any-return]
        return super().execute(sql, *parameters)


class _Connection(_Commits):
    """A connection whose commits are fault points."""

    def __exit__(self, kind: Any, *_: object) -> bool:  # type: ignore[override]
        if kind is not None:
            self.rollback()
            return False
        try:
            self.commit()
        except sqlite3.Error:
            self.rollback()
            raise
        return False


class Unflushed:
    """What a power cut takes: bytes, names and removals that no fsync made durable.

    A new name, or its loss, is durable once its folder was flushed; bytes once their file was.
    SQLite flushes store.db itself; the statcache, which never waits for the disk, is lost.
    """

    def __init__(self, vault: str) -> None:
        self._vault = vault
        self._kept = 0
        self._bytes: dict[tuple[int, int], str] = {}
        self._names: list[tuple[str, str, str, str]] = []
        """Folder, path, what to put back there, and where a folder was moved from."""

    def about_to(self, kind: str, path: str, more: dict[str, Any]) -> None:
        """Keep what the call replaces or removes."""
        more["kept"] = ""
        more["new"] = "yes" if not os.path.lexists(path) else ""
        if kind in ("rename", "unlink") and os.path.isfile(path) and not os.path.islink(path):
            self._kept += 1
            more["kept"] = os.path.join(self._vault, f"{os.getpid()}-{self._kept}")
            _real["link"](path, more["kept"])

    def did(self, kind: str, path: str, more: dict[str, Any]) -> None:
        """Note what the call did, or made durable."""
        if kind == "write":
            # A file without a name yet is gone anyway; once it has one, its bytes count.
            if os.path.lexists(path):
                self._bytes[_identity(path)] = path
        elif kind == "fsync" and os.path.isdir(path):
            # With the loss of a folder below it, all that was in that is lost for good, too.
            self._names = [
                one
                for one in self._names
                if one[0] != path and (os.path.isdir(one[0]) or not one[0].startswith(path + "/"))
            ]
        elif kind == "fsync":
            self._bytes.pop(_identity(path), None)
        elif kind in ("rename", "unlink", "link", "create", "mkdir", "symlink"):
            moved = more["source"] if kind == "rename" and os.path.isdir(path) else ""
            if kind == "create" and not more["new"]:
                return
            if kind == "rename" and _identity(path) in self._bytes:
                self._bytes[_identity(path)] = path
            if kind == "link" and not os.path.lexists(more["source"]):
                self._bytes[_identity(path)] = path
            self._names.append((os.path.dirname(path), path, more["kept"], moved))

    def lose(self) -> None:
        """Take away what was not durable."""
        for identity, path in self._bytes.items():
            if path and os.path.lexists(path) and _identity(path) == identity:
                os.truncate(path, 0)
        for _, path, kept, moved in reversed(self._names):
            if moved:
                _real["rename"](path, moved)
            elif os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                _real["unlink"](path)
            if kept:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _real["link"](kept, path)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _unnamed(path: object) -> str:
    """Return where a file without a name, given as a link source, would be; else nothing."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    return _path_of(int(text.rpartition("/")[2])) if text.startswith("/proc/self/fd/") else ""


def _path_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
