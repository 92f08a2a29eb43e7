"""Failures, as sentences on standard error and an exit code."""

from __future__ import annotations

import concurrent.futures
import difflib
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import click

from dvtool.cli import INTERRUPTED
from dvtool.cli.output import Answered, Screen
from dvtool.errors import DvError, UsageError, printable
from dvtool.system.logs import Log
from dvtool.system.room import needed_of, room_text

READER_GONE = 141
"""As of a process that SIGPIPE ended, which is how other programs end in `… | head`."""
NO_ROOM_BYTES = 1 << 20
"""With less free, SQLite says "disk I/O error" when its log cannot grow."""
TRACEBACK_VARIABLE = "DV_TRACEBACK"
TRACEBACK_LENGTH_MAX = 1_800
_LOG = Log("cli")

_FULL_HINT = "free some space, then repeat the command: it goes on where it was"
_OS_SENTENCES = {
    errno.ENOSPC: ("the disk is full", _FULL_HINT),
    errno.EDQUOT: ("your disk quota is used up", _FULL_HINT),
    errno.EACCES: ("permission denied", "check who owns it, and its permissions"),
    errno.EPERM: ("not permitted", "check who owns it, and its permissions"),
    errno.EROFS: (
        "the filesystem is read-only",
        "mount it so that it can be written, or work in a clone elsewhere: git clone",
    ),
    errno.ENOSYS: (
        "this filesystem does not know that operation",
        "keep the repository, and the store (dv config store.path), on a local disk",
    ),
    errno.EOPNOTSUPP: (
        "this filesystem does not support that operation",
        "keep the repository, and the store (dv config store.path), on a local disk",
    ),
    errno.EMFILE: ("too many open files", "raise the limit: ulimit -n 4096"),
    errno.EIO: ("the disk reported an error", "check the disk before trusting it further"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """The description of an error."""

    message: str
    """The problem, in one line or several."""
    hint: str | None
    """The next step; null if none is known."""
    exit_code: int
    """The exit code of the command."""


def report(error: BaseException, *, as_json: bool = False) -> int:
    """Print what is to be said of an error to standard error; return the exit code.

    With `as_json`, standard output gets it as a JSON document, unless the answer is there already.
    """
    if isinstance(error, Answered) and error.__cause__ is not None:
        error, as_json = error.__cause__, False
    if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
        traceback.print_exception(error)
    if not _flushed() or isinstance(error, BrokenPipeError):
        _drop_output()
    if isinstance(error, BrokenPipeError):
        return READER_GONE
    screen = Screen(environ=os.environ)
    if isinstance(error, click.Abort) or _is_interrupt(error):
        screen.error("interrupted")
        return INTERRUPTED
    failure = describe(error)
    if _LOG.on:
        _LOG.note("fails: %s", "".join(traceback.format_exception(error))[-TRACEBACK_LENGTH_MAX:])
    if as_json:
        screen.json(ErrorDocument(failure))
    screen.error(failure.message, hint=failure.hint)
    return failure.exit_code


@dataclass(frozen=True, slots=True)
class ErrorDocument:
    """The document that any command prints with --json if it fails before it has an answer."""

    error: Failure
    """The problem; standard error says the same in words."""


def _is_interrupt(error: BaseException | None) -> bool:
    # Python 3.11 wraps what comes while a class is made, as modules are imported, in an error.
    seen = set[int]()  # an error may be its own cause, by whatever raised it
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False


def describe(error: BaseException) -> Failure:
    """Return what to tell of an error."""
    if isinstance(error, DvError):
        return Failure(str(error), error.hint, error.exit_code)
    if isinstance(error, click.ClickException):
        return _of_click(error)
    if isinstance(error, OSError):
        return _of_os(error)
    sqlite3 = sys.modules.get("sqlite3")
    if sqlite3 is not None and isinstance(error, sqlite3.Error):
        return _of_sqlite(error)
    if isinstance(error, concurrent.futures.BrokenExecutor):
        return Failure(
            "a worker process ended before its work was done",
            "memory may have run out; try again with fewer workers (-j 1)",
            1,
        )
    if isinstance(error, ModuleNotFoundError) and error.name and not _is_own(error.name):
        return Failure(
            f"the package {error.name.partition('.')[0]} is missing",
            "install dvtool again, from where you got it; docs/install.md says how",
            1,
        )
    if isinstance(error, MemoryError):
        return Failure("memory has run out", "close other programs, then repeat the command", 1)
    return _of_bug(error)


def unknown_command(name: str, names: Sequence[str]) -> UsageError:
    """Return the error for a command that does not exist, with what does here what it may mean."""
    from dvtool.cli.foreign_words import WORDS

    if name in WORDS:
        return UsageError(f"dv has no command {name}", hint=WORDS[name])
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return UsageError(
        f"there is no command {printable(name)}",
        hint=f"did you mean: dv {close[0]}" if close else "see what there is: dv --help",
    )


def _of_click(error: click.ClickException) -> Failure:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "dv"
    message = error.format_message().rstrip(".")
    hint = _foreign_option(error, path) or f"run: {path} --help"
    return Failure(message[:1].lower() + message[1:], hint, error.exit_code)


def _foreign_option(error: click.ClickException, path: str) -> str | None:
    """Return what does here what an option of git, DVC or git-lfs does there."""
    if not isinstance(error, click.NoSuchOption):
        return None
    from dvtool.cli.foreign_words import OPTIONS

    return OPTIONS.get((path.partition(" ")[2], error.option_name))


def _of_os(error: OSError) -> Failure:
    code = error.errno or 0
    sentence, hint = _OS_SENTENCES.get(code, (error.strerror or str(error), None))
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_name(name)]
    paths = " -> ".join(printable(name) for name in names)
    if code in (errno.ENOSPC, errno.EDQUOT):
        sentence += room_text(names[0], needed_of(error)) if names else _room_here()
    return Failure(f"{paths}: {sentence}" if paths else sentence, hint, 1)


def _room_here() -> str:
    """As `room_text`, of the folder that a command runs in, if that disk is the full one."""
    return room_text(os.curdir) if _has_no_room() else ""


def _has_no_room() -> bool:
    """Whether the disk of the folder that a command runs in is full, as far as one can tell."""
    try:
        room = os.statvfs(os.curdir)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < NO_ROOM_BYTES


def _is_name(name: object) -> bool:
    return isinstance(name, (str, bytes)) and bool(name)


def _of_sqlite(error: BaseException) -> Failure:
    text = str(error)
    if "full" in text or ("I/O" in text and _has_no_room()):
        return Failure(
            f"the local store's index cannot grow: the disk is full{_room_here()}", _FULL_HINT, 1
        )
    if "locked" in text or "busy" in text:
        return Failure(
            "the local store's index is locked by another process",
            "wait for other dv commands to end, then repeat this one",
            9,
        )
    if "readonly" in text or "unable to open" in text:
        return Failure(
            f"the local store's index cannot be used: {text}", "check its permissions", 1
        )
    return Failure(f"the local store's index fails: {text}", "run: dv fsck --rebuild", 1)


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == "dvtool"


def _of_bug(error: BaseException) -> Failure:
    where = "an unknown place"
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if _is_own(module):
            where = f"{module}, line {line}"
    text = f": {error}" if str(error) else ""
    return Failure(
        f"this is a bug in dvtool: {type(error).__name__} in {where}{text}",
        f"please report it with what {TRACEBACK_VARIABLE}=1 shows when you repeat the command",
        1,
    )


def _flushed() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _drop_output() -> None:
    """Let what Python still wants to write at exit go nowhere."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, descriptor)
    os.close(sink)
