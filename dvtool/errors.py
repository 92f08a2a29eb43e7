"""Every error that dvtool raises on purpose, with its exit code and the next step.

::

    DvError                     1  a command could not do its work
    ├── UsageError              2  the arguments make no sense (unknown revision, not a target)
    │   └── PathFault              a path of a snapshot that cannot be read so; an OSError too
    │       ├── PathMissing           nothing is there; a FileNotFoundError too
    │       ├── PathIsFolder          it is a folder's; an IsADirectoryError too
    │       └── PathNotFolder         it is a file's; a NotADirectoryError too
    ├── SetupError              3  no git repository, no commit, no remote, bad configuration
    ├── MissingError            4  content that is needed is neither here nor on the remote
    │   └── ObjectMissing          one object is not on the remote
    ├── UnsavedError            5  going on would lose content that exists nowhere else
    ├── CorruptError            6  stored bytes are not what their name says
    │   └── ManifestError          a manifest is damaged, conflicted or of another version
    │       └── ManifestNewer         the manifest is of a later format and cannot be read
    ├── RemoteError             7  the remote cannot be reached or does not answer as it should
    │   ├── RemoteForbidden        it answers, and refuses
    │   └── RemoteTransient        it may well answer the next time
    │       ├── RemoteBusy            it asks to be left alone for a while
    │       └── RemoteStalled         the connection moved too few bytes for too long
    ├── InputError              8  something in the data cannot be versioned as it is
    └── BusyError               9  another process is at work in this store
    Ctrl-C                    130
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

NAMES_SHOWN_MAX = 10
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


INSTALL_NEWER = "install a newer dvtool, from where you got this one: see docs/install.md"


class DvError(Exception):
    """Base of all errors that a user should read as a sentence, not as a traceback.

    ``str(error)`` says what was wrong and with which path or key; ``hint`` says what to do next.
    """

    exit_code = 1
    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(DvError):
    """The request itself is wrong: an unknown revision, a path that is no target."""

    exit_code = 2


class PathFault(UsageError, OSError):
    """A fault of one path, and an `OSError` with `errno`, `strerror` and `filename` as usual."""

    def __init__(self, message: str, *, hint: str | None = None, path: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.filename = path

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return _path_fault, (type(self), self.args[0], self.hint, self.filename)


def _path_fault(kind: type[PathFault], message: str, hint: str | None, path: str) -> PathFault:
    return kind(message, hint=hint, path=path)


class PathMissing(PathFault, FileNotFoundError):
    """A snapshot has nothing at this path."""

    errno = errno.ENOENT
    strerror = os.strerror(errno)


class PathIsFolder(PathFault, IsADirectoryError):
    """The path is that of a folder, where a file is needed."""

    errno = errno.EISDIR
    strerror = os.strerror(errno)


class PathNotFolder(PathFault, NotADirectoryError):
    """The path is that of a file, where a folder is needed."""

    errno = errno.ENOTDIR
    strerror = os.strerror(errno)


class SetupError(DvError):
    """The repository, its configuration or its remote is not set up for this."""

    exit_code = 3


class MarkMissing(SetupError):
    """A remote has lost the object that makes it one, its `dv.json`."""


class MissingError(DvError):
    """Content that the command needs is not where it was looked for."""

    exit_code = 4


class ObjectMissing(MissingError):
    """The remote has no object under this key."""

    def __init__(self, key: str, where: str) -> None:
        super().__init__(f"{where} has no object {key}")
        self.key = key


class UnsavedError(DvError):
    """Going on would lose bytes that exist nowhere else."""

    exit_code = 5


class CorruptError(DvError):
    """Bytes do not match the hash, size or form that they should have."""

    exit_code = 6


class ManifestError(CorruptError):
    """A manifest (or a shard of one) cannot be read as format 1."""


class ManifestNewer(ManifestError):
    """A manifest is of a later format, which this version cannot read."""


class RemoteError(DvError):
    """The remote failed in a way that another attempt will not cure."""

    exit_code = 7


class RemoteForbidden(RemoteError):
    """The remote refused the request: credentials or permissions."""


class RemoteTransient(RemoteError):
    """The request failed in a way that often passes: worth another attempt."""


class RemoteBusy(RemoteTransient):
    """The remote asks for fewer requests; `retry_after_s` is when it wants the next, if it says."""

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class RemoteStalled(RemoteTransient):
    """The connection moved almost no bytes for too long, and was closed."""


class InputError(DvError):
    """A file or name in the workspace cannot be versioned as it is."""

    exit_code = 8


class BusyError(DvError):
    """Another process holds the lock for longer than is reasonable to wait."""

    exit_code = 9


def listing(names: Iterable[str], *, shown_max: int = NAMES_SHOWN_MAX) -> str:
    """Indent names one a line for an error message, cut after `shown_max` with a count."""
    all_names = list(names)
    lines = [f"  {printable(name)}" for name in all_names[:shown_max]]
    if len(all_names) > shown_max:
        lines.append(f"  … and {len(all_names) - shown_max:,} more")
    return "\n".join(lines)


def printable(name: str) -> str:
    """Return the name as it may be written to a terminal: control characters are escaped.

    A name in a dataset is foreign input; an escape sequence in it must not reach the terminal.
    """
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def cut_alike(old: str, new: str, length_max: int) -> tuple[str, str]:
    """Return two texts that differ, both cut so that the place where they begin to is seen."""
    if max(len(old), len(new)) <= length_max:
        return old, new
    alike = next((at for at, pair in enumerate(zip(old, new)) if pair[0] != pair[1]), None)  # noqa: B905
    alike = min(len(old), len(new)) if alike is None else alike
    start = alike - length_max // 4 if alike >= length_max - 1 - length_max // 4 else 0
    return _cut_from(old, start, length_max), _cut_from(new, start, length_max)


def _cut_from(text: str, start: int, length_max: int) -> str:
    shown = ("…" if start else "") + text[start:]
    return shown if len(shown) <= length_max else shown[: length_max - 1] + "…"


def count_text(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 file``, ``20,000 files``."""
    consonant_y = noun.endswith("y") and noun[-2] not in "aeiou"
    plural = noun[:-1] + "ies" if consonant_y else noun + "s"
    return f"{count:,} {noun if count == 1 else plural}"


def size_text(size: int) -> str:
    """Return a number of bytes for people: ``312 B``, ``1.5 KiB``, ``156.2 MiB``."""
    value = float(size)
    for unit in UNITS:
        # 1023.95 is rounded up to 1024.0, which is 1.0 of the next unit.
        if abs(value) < 1023.95 or unit == UNITS[-1]:
            break
        value /= 1024
    return f"{size:,} B" if unit == "B" else f"{value:,.1f} {unit}"
