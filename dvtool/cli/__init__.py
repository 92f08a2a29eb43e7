"""The command line: ``dv``. Each command imports what it needs only when it is used."""

from __future__ import annotations

import _thread
import contextlib
import gc
import io
import itertools
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from dvtool.system.programs import absolute_folders

STARTED_S = time.monotonic()
"""When this process began its work, by `time.monotonic`."""
PROGRAM = "dv"
COMPLETION_VARIABLE = "_DV_COMPLETE"
UTF8_VARIABLE = "PYTHONUTF8"
"""Makes Python read and write names of files as UTF-8, whatever the locale says."""
LOG_VARIABLE = "DV_LOG"
"""Names a file to which a log of the run is appended."""

# The short help is here, so that listing the commands imports none of them.
COMMANDS: dict[str, dict[str, str]] = {
    "Setting up": {
        "init": "Prepare this git repository, or a clone of one, for dv.",
        "clone": "Clone a git repository and download its data, or a part of it.",
        "remote": "Name the places that data is pushed to and fetched from.",
        "config": "Show and change settings.",
        "hooks": "Let git carry the data along: install or remove its hooks.",
        "doctor": "Check that everything dv needs is there and works.",
        "completion": "Print a script that completes dv commands in your shell.",
    },
    "Working with data": {
        "add": "Snapshot files and folders and write their manifests.",
        "import": "Make a target of data that is in a bucket or on the web.",
        "import-sql": "Make a Parquet file of the rows of a database's query.",
        "update": "Bring imported data to what its source has now.",
        "status": "Show what differs between workspace, manifests and HEAD.",
        "checkout": "Put data into the workspace as the manifests or a commit have it.",
        "restore": "Undo changes to files, as git restore does.",
        "sparse": "Say which data this worktree takes, as git sparse-checkout does.",
        "rm": "Stop tracking targets, or entries in them.",
        "mv": "Rename a target, or entries in one.",
        "resolve": "Settle what a merge left in conflict.",
    },
    "Sharing data": {
        "push": "Upload the data of commits, and prove that it arrived.",
        "fetch": "Download data into the local store.",
        "pull": "Download data and put it into the workspace.",
        "drop": "Free the space of data that the remote provably holds.",
        "gc": "Free what nothing needs any more, here or on a remote.",
    },
    "Running": {
        "run": "Run a command from committed code and data, and record it.",
        "runs": "List recorded runs, show one, or run one again.",
    },
    "Trust": {
        "fsck": "Check that stored data is whole, and repair what is not.",
        "check-overlap": "Find files that are in more than one split.",
    },
    "Looking": {
        "diff": "Show which files changed between commits, or in the workspace.",
        "show": "Show a commit, and which files it changed.",
        "log": "Show the commits that changed a target.",
        "ls": "List tracked files.",
        "export": "Write data of a commit as ordinary files, an archive or objects.",
        "get": "Get data of a repository by its URL, without a clone.",
        "cat": "Write the content of a tracked file to standard output.",
        "serve": "Serve the data of commits to programs that speak S3.",
        "cache": "Show or clean what reading without a checkout keeps here.",
        "describe": "Print what identifies the code and data that are here.",
    },
}
INTERRUPTED = 130
GARBAGE_THRESHOLD = 50_000
"""How many objects more there must be before Python looks for cycles among them. At its own 700 it
looks some hundred times while a command is loaded, and finds nothing."""
HIDDEN = ("merge-driver", "textconv")
"""Commands that only git runs: they are neither listed nor completed."""
EXIT_MEANINGS = [
    ("0", "done"),
    ("1", "failed; or the answer is no, where a command was asked to check"),
    ("2", "wrong usage"),
    ("3", "not set up: no git repository, no commit, no remote, bad configuration"),
    ("4", "content is missing"),
    ("5", "unsaved changes would be lost"),
    ("6", "stored data is corrupt"),
    ("7", "the remote failed"),
    ("8", "something in the data cannot be versioned"),
    ("9", "another process is busy here"),
    ("130", "interrupted"),
    ("141", "the reader of the output went away"),
]


given: dict[str, str | None] = {}
"""Variables of the environment as this process got them, where it has others now."""


def main() -> None:
    """Run `dv` with the arguments of this process, and end the process."""
    _read_names_as_utf8()
    sys.unraisablehook = _interrupt_again
    if hasattr(signal, "SIGCHLD"):
        # A caller that ignores it hands that on: the exit status of git would be lost, and be 0.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    gc.set_threshold(GARBAGE_THRESHOLD)
    given["PATH"] = os.environ.get("PATH")
    # A program that a library starts, as for credentials, is never one of the current folder's.
    os.environ["PATH"] = absolute_folders(os.environ.get("PATH", os.defpath))
    code = run_command(sys.argv[1:])
    # The work is done: Ctrl-C while Python clears up would only print a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.getprofile() or sys.gettrace():
        sys.exit(code)  # who watches this process wants to write down what was seen
    # Files, processes and locks are released now. Taking apart every module and object takes longer
    # than some commands, and threads of abandoned transfers may stall.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _load_msgspec() -> None:
    """Import msgspec without `typing_extensions`, which takes as long as msgspec itself.

    msgspec does without it: this Python's `typing` has all that it would take from there.
    """
    name = "typing_extensions"
    if name in sys.modules or "msgspec" in sys.modules:
        return
    from dvtool.system.interrupts import uninterrupted

    with uninterrupted():  # its C code takes an interrupt in there for the missing module
        sys.modules[name] = None  # type: ignore[assignment]  # Python's way to let an import fail
        try:
            import msgspec as msgspec
        finally:
            del sys.modules[name]


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Send Ctrl-C once more where Python can only ignore it: in a destructor or a callback of C.

    Sent at once, it would be raised in here, and ignored again.
    """
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return

    def send() -> None:
        time.sleep(0.001)
        _thread.interrupt_main()

    _thread.start_new_thread(send, ())


def _read_names_as_utf8() -> None:
    """Start anew where a locale makes Python read names of files in another encoding.

    The same file would have another name in a manifest that is made there.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get(UTF8_VARIABLE) != "1":
        os.environ[UTF8_VARIABLE] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run_command(arguments: Sequence[str]) -> int:
    """Run `dv` with these arguments; return its exit code."""
    try:
        _repair_streams()
        if os.environ.get(LOG_VARIABLE):
            from dvtool.cli.logs import begin_in_file

            begin_in_file(os.environ[LOG_VARIABLE], arguments)
        code = _run(arguments)
        sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:
        from dvtool.cli.failures import report

        code = report(error, as_json=_asks_for_json(arguments))
    logs = sys.modules.get("dvtool.cli.logs")
    if logs is not None:
        logs.end(code)
    return code


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether --json is among the options, be the command line right or not."""
    return "--json" in itertools.takewhile(lambda argument: argument != "--", arguments)


PLATFORM = os.name
"""The kind of system, as Python calls it: posix, or nt for Windows."""
_RUN_ANYWHERE = ("completion", "-h", "--help", "--version")


def _refuse_windows(arguments: Sequence[str]) -> None:
    """Raise a SetupError on Windows, but for what only prints a text."""
    if PLATFORM == "nt" and arguments and not set(arguments) & set(_RUN_ANYWHERE):
        from dvtool.errors import SetupError

        raise SetupError(
            "dv does not run on Windows itself: locks, file modes and renames differ there",
            hint="it works in WSL 2 (wsl --install), with the repository on WSL's own disk",
        )


def _run(arguments: Sequence[str]) -> int:
    _refuse_windows(arguments)
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction:
        return _complete(instruction)
    if set(arguments[:1]) & set(_RUN_ANYWHERE):
        return _run_loaded(arguments)
    if arguments[:1] == ["status"] and _is_of_all(arguments[1:]):
        from dvtool.project.early_look import early_look

        with early_look(os.environ):
            _load_msgspec()
            return _run_loaded(arguments)
    _load_msgspec()
    return _run_loaded(arguments)


def _is_of_all(words: Sequence[str]) -> bool:
    """Whether these words behind a command name no path, and do not ask for help."""
    return all(word.startswith("-") and word not in ("-h", "--help") for word in words)


def _run_loaded(arguments: Sequence[str]) -> int:
    if _is_plain(arguments):
        from dvtool.cli.plain import run_plain

        return run_plain(arguments)
    from dvtool.cli.group import run_group

    return run_group(arguments)


def _is_plain(arguments: Sequence[str]) -> bool:
    """Whether this is a command that prompts and git run all the time, without any option.

    Loading click takes a quarter of what these take, and there is nothing for it to read.
    """
    names = tuple(arguments[:1]) if arguments[:1] == ["status"] else tuple(arguments[:2])
    least = {("status",): 1, ("hooks", "run"): 3}.get(names, len(arguments) + 1)
    return len(arguments) >= least and not any(word.startswith("-") for word in arguments)


def _repair_streams() -> None:
    if sys.stdout is None:  # closed by the caller (`dv status >&-`)
        sys.stdout = open(os.devnull, "w")
    if sys.stderr is None:  # `dv status 2>&-`
        sys.stderr = open(os.devnull, "w")
    sys.stdout, sys.stderr = _buffered(sys.stdout), _buffered(sys.stderr)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # A name that the terminal's encoding lacks is escaped; it must not end the command.
        reconfigure(errors="backslashreplace")


def _buffered(stream: TextIO) -> TextIO:
    """Return a stream that writes all it is given; without a buffer some of it may be lost.

    With PYTHONUNBUFFERED a write that a signal interrupts, as that of the progress, is short, and
    Python does not write the rest.
    """
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    return open(
        raw.fileno(),
        "w",
        buffering=1 if stream.isatty() else -1,
        encoding=stream.encoding,
        errors=stream.errors,
        closefd=False,
    )


def _complete(instruction: str) -> int:
    from dvtool.cli.completing import answer
    from dvtool.cli.group import dv

    return answer(dv, instruction)
