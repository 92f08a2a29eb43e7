"""The output of commands: text that a terminal can take, columns, colour, and JSON.

Names and messages may hold what others wrote. No text of others reaches the terminal unescaped.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Set
from itertools import chain
from typing import TYPE_CHECKING, Any, TextIO

from dvtool.errors import count_text as count_text, printable, size_text as size_text
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.cli import documents as documents
else:
    documents = later("dvtool.cli.documents")

SCHEMA = 1
"""The version of all JSON: the next one once a key goes or means something else."""
STYLES = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1, "dim": 2}
_NOT_PLAIN = re.compile(r"[^ -~\n]")
_UNUSUAL = r"\x1b\[(?:0|[0-9]{1,2}(?:;[0-9]{1,2})?)m|[^ -~]"
_SHELL_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def growth_text(size: int) -> str:
    """Return a change in bytes with its sign: ``+4.0 KiB``, ``-1 B``, ``±0 B``."""
    return f"{'+' if size > 0 else '-' if size < 0 else '±'}{size_text(abs(size))}"


def files_text(files: int, size: int) -> str:
    """Return files and bytes: ``20,000 files, 156.2 MiB``."""
    return f"{count_text(files, 'file')}, {size_text(size)}"


def shell_word(name: str) -> str:
    """Return a name quoted for a shell, on one line and without control characters."""
    if _SHELL_SAFE.fullmatch(name):
        return name
    if name.isprintable():
        return "'" + name.replace("'", "'\"'\"'") + "'"
    data = name.encode("utf-8", "surrogateescape")
    return "$'" + "".join(_ansi_c(byte) for byte in data) + "'"


def _ansi_c(byte: int) -> str:
    char = chr(byte)
    if char in "\\'":
        return "\\" + char
    return char if " " <= char <= "~" else f"\\x{byte:02x}"


_hide_progress: Callable[[], None] | None = None
_progress_held = False


def shown_beside(hide: Callable[[], None] | None) -> None:
    """Have `hide` called before anything is printed: it wipes what shows the progress."""
    global _hide_progress, _progress_held
    _hide_progress, _progress_held = hide, False


def hide_progress() -> None:
    """Wipe what shows the progress, before something is printed in another way than by `Screen`."""
    if _hide_progress is not None:
        _hide_progress()


def hold_progress() -> None:
    """Show no progress from now on: the user is asked something, or another program writes."""
    global _progress_held
    hide_progress()
    _progress_held = True


def progress_is_held() -> bool:
    """Whether no progress is to be shown."""
    return _progress_held


def stderr_number() -> int:
    """Return the descriptor of standard error, for a program whose output must not be in JSON."""
    return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2


class Answered(Exception):
    """Says that JSON on standard output tells of the error already that is its cause."""


class Screen:
    """Standard output and standard error, as one command uses them.

    `line` is for what was asked for, `done` for what an action did, `note` for the next step.
    Quiet drops the last two. Control characters of the texts given are escaped; a name that may
    hold line breaks is to be escaped by who puts it into a text.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        quiet: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._quiet = quiet
        wanted = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._out_coloured = wanted and self._out.isatty()
        self._err_coloured = wanted and self._err.isatty()

    def style(self, text: str, *styles: str) -> str:
        """Return text for standard output in a colour or weight, where that is wanted."""
        return _styled(text, styles) if self._out_coloured and text else text

    def line(self, text: str = "") -> None:
        """Print a line of what was asked for."""
        hide_progress()
        self._out.write(_safe(text, coloured=self._out_coloured) + "\n")

    def done(self, text: str) -> None:
        """Say what an action did."""
        if not self._quiet:
            hide_progress()
            self._out.write(wrapped(_safe(text, coloured=self._out_coloured), self._out) + "\n")

    def note(self, text: str) -> None:
        """Say what the next step may be, on standard error, where it disturbs no pipe."""
        if not self._quiet:
            self._to_err(text, "dim")

    def warn(self, text: str) -> None:
        """Warn, on standard error."""
        self._labelled("warning", "yellow", text)

    def error(self, text: str, *, hint: str | None = None) -> None:
        """Say what went wrong and what to do, on standard error; the texts may be foreign."""
        # Output so far comes before the message, also where both go into one file.
        if not self._out.closed:
            self._out.flush()
        self._labelled("error", "red", text)
        for line in (hint or "").splitlines():
            self._labelled("hint", "cyan", line)

    def json(self, answer: object, *, one_line: bool = False) -> None:
        """Print a result, or a document of `dvtool.cli.documents`, as one JSON document."""
        indent = None if one_line else 1
        self.line(_json_text({"schema": SCHEMA, **as_json(answer)}, indent=indent))

    def json_rows(self, key: str, rows: Iterable[object]) -> None:
        """Print ``{key: [rows…]}``, a row a line, without holding all rows in memory.

        An error while rows are made ends the document, with the key ``error``; Answered is raised.
        """
        texts = map(_json_text, map(as_json, rows))
        first = next(texts, None)  # what fails at once prints nothing
        self._out.write(f'{{"schema": {SCHEMA}, "{key}": [')
        try:
            for number, text in enumerate(texts if first is None else chain([first], texts)):
                self._out.write(",\n " if number else "\n ")
                self._out.write(text)
        except Exception as error:
            from dvtool.cli.failures import describe

            self._out.write(f'\n], "error": {_json_text(as_json(describe(error)))}}}\n')
            raise Answered from error
        self._out.write("\n]}\n")

    def _labelled(self, label: str, colour: str, text: str) -> None:
        safe = "\n".join(printable(line) for line in text.split("\n"))
        shown = _styled(f"{label}:", (colour, "bold")) if self._err_coloured else f"{label}:"
        self._to_err(f"{shown} {safe}")

    def _to_err(self, text: str, *styles: str) -> None:
        hide_progress()
        # Text that was printed so far comes first, also where both go to one terminal or file.
        with contextlib.suppress(OSError):
            self._out.flush()
        text = wrapped(_safe(text, coloured=self._err_coloured), self._err)
        coloured = self._err_coloured and styles
        self._err.write((_styled(text, styles) if coloured else text) + "\n")
        self._err.flush()


def wrapped(text: str, stream: TextIO) -> str:
    """Return sentences for a terminal, broken between words where its lines end.

    Lines that begin with a space are lists of names, and stay as they are; so does all text that
    is read by a program.
    """
    if not stream.isatty():
        return text
    columns = _columns_of(stream)
    if all(len(line) <= columns for line in text.split("\n")):
        return text
    import textwrap  # most texts are short

    return "\n".join(
        line
        if line.startswith(" ") or len(line) <= columns
        else textwrap.fill(line, columns, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def _columns_of(stream: TextIO) -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns) or 80
    except (OSError, ValueError):
        return 80


def _safe(text: str, *, coloured: bool) -> str:
    """Return a text as it may be written to a terminal; colours stay where they are wanted."""
    if text.isprintable():
        return text

    def escaped(match: re.Match[str]) -> str:
        part = match[0]
        ours = part in ("\n", "\t") or (coloured and len(part) > 1)
        return part if ours else printable(part)

    return re.sub(_UNUSUAL, escaped, text)


def _styled(text: str, styles: Iterable[str]) -> str:
    codes = ";".join(str(STYLES[style]) for style in styles)
    return f"\x1b[{codes}m{text}\x1b[0m"


def as_json(value: Any) -> Any:
    """Return a result as JSON has it: of an object the keys that its class names, or its fields.

    A class names them in `json_keys`; `json_value` of an object is shown in its place.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "json_value"):
        value = value.json_value
    names = json_keys(type(value))
    if names is not None:
        optional = getattr(getattr(value, "__struct_config__", None), "omit_defaults", False)
        pairs = ((name, as_json(getattr(value, name))) for name in names)
        return {name: shown for name, shown in pairs if shown is not None or not optional}
    if isinstance(value, Mapping):
        return {name: as_json(shown) for name, shown in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(shown) for shown in value]
    if isinstance(value, Set):
        return sorted(map(as_json, value))
    raise TypeError(f"no JSON for {type(value)}")


def json_keys(kind: type) -> tuple[str, ...] | None:
    """Return the keys of the JSON of a class in their order; None if it is no class of results."""
    for name in ("json_keys", "__struct_fields__", "__dataclass_fields__", "_fields"):
        if hasattr(kind, name):
            return tuple(getattr(kind, name))
    return None


def _json_text(value: object, *, indent: int | None = None) -> str:
    import json  # some milliseconds that only --json should cost

    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _NOT_PLAIN.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    """Keep what can be printed; control and direction characters become ``\\u`` escapes."""
    char = match[0]
    if char.isprintable():
        return char
    data = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[at] << 8 | data[at + 1]:04x}" for at in range(0, len(data), 2))
