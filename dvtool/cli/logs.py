"""The log of one run, for a report: where it goes, how a line looks, and its first and last line.

Imported only when a log is wanted: by -vv, to standard error, or by DV_LOG, to a file.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence

from dvtool import __version__
from dvtool.cli import LOG_VARIABLE
from dvtool.errors import UsageError, printable
from dvtool.project.keys import REMOTE_OPTIONS
from dvtool.system.logs import HIDDEN, Log, without_secrets

SECRET_LENGTH_MIN = 6
_SECRET_NAMES = ("SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "ACCESS_KEY")
_FLAGS = frozenset(option.flag for option in REMOTE_OPTIONS if option.secret)
_FIELDS = frozenset(option.field for option in REMOTE_OPTIONS if option.secret)
_LOG = Log("cli")
_LOGGER = logging.getLogger("dvtool")
_HANDLERS: list[logging.Handler] = []


class _Line(logging.Formatter):
    """A line: time, process, part, text; without the secrets that the environment holds."""

    converter = time.gmtime  # type: ignore[assignment]
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__("%(asctime)s %(process)d %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        text = without_secrets(super().format(record))
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return printable(text)


def _secrets(environ: Mapping[str, str]) -> list[str]:
    values = {
        value
        for name, value in environ.items()
        if any(part in name.upper() for part in _SECRET_NAMES) and len(value) >= SECRET_LENGTH_MIN
    }
    return sorted(values, key=len, reverse=True)


def begin_in_file(path: str, arguments: Sequence[str]) -> None:
    """Append notes on a run of `dv` with these arguments to a file, as its children then do.

    A new file is for its owner alone. UsageError if it cannot be written.
    """
    path = os.path.abspath(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(
            f"{LOG_VARIABLE} names a file that cannot be written: {printable(path)}"
            f" ({error.strerror})",
            hint=f"name another, or: unset {LOG_VARIABLE}",
        ) from error
    # Git and its hooks may run this command again, in another folder.
    os.environ[LOG_VARIABLE] = path
    stream = open(descriptor, "a", encoding="utf-8", errors="replace")
    _begin(logging.StreamHandler(stream), arguments)


def begin_on_stderr(arguments: Sequence[str]) -> None:
    """Write notes to standard error."""
    if not any(isinstance(handler, _ToStderr) for handler in _HANDLERS):
        _begin(_ToStderr(), arguments)


class _ToStderr(logging.StreamHandler):  # type: ignore[type-arg]
    def __init__(self) -> None:
        super().__init__(sys.stderr)


def _noted(arguments: Sequence[str]) -> list[str]:
    """Return a command line without the values of options and settings that are secrets."""
    words: list[str] = []
    for word in arguments:
        before = words[-1] if words else ""
        name, _, value = word.partition("=")
        if before in _FLAGS or before.rpartition(".")[2] in _FIELDS:
            words.append(HIDDEN)
        elif value and name in _FLAGS:
            words.append(f"{name}={HIDDEN}")
        else:
            words.append(word)
    return words


def _begin(handler: logging.Handler, arguments: Sequence[str]) -> None:
    handler.setFormatter(_Line(_secrets(os.environ)))
    _HANDLERS.append(handler)
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(logging.DEBUG)
    _LOG.note(
        "dv %s, Python %s on %s, in %s: dv %s",
        __version__,
        platform.python_version(),
        platform.platform(),
        os.getcwd(),
        shlex.join(_noted(arguments)),
    )


def end(code: int) -> None:
    """Write the last line, and close the file."""
    _LOG.note("ends with exit code %d", code)
    while _HANDLERS:
        handler = _HANDLERS.pop()
        _LOGGER.removeHandler(handler)
        if not isinstance(handler, _ToStderr):
            handler.close()
            assert isinstance(handler, logging.StreamHandler)
            handler.stream.close()
    _LOGGER.setLevel(logging.NOTSET)
