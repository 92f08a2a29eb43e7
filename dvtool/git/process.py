"""Running the git program: commands that end, and one that stays to read objects.

The only module that imports GitPython, and it does so at once (some 40 ms).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, cast

from dvtool.errors import (
    BusyError,
    CorruptError,
    DvError,
    MissingError,
    SetupError,
    UnsavedError,
    UsageError,
    printable,
)

INSTALL_HINT = "install git 2.31 or newer and see that it is on the PATH"

try:
    from git.cmd import Git as _Command
    from git.exc import GitCommandNotFound
except ModuleNotFoundError:
    raise
except ImportError as error:  # GitPython runs `git version` when it is imported
    raise SetupError("git cannot be run", hint=INSTALL_HINT) from error


@dataclass(frozen=True, slots=True)
class Result:
    """How a git command ended."""

    status: int
    stdout: bytes
    stderr: str


class _Process(Protocol):
    """The part used here of the process that GitPython starts."""

    stdin: _Pipe
    stdout: _Pipe
    stderr: _Pipe

    def communicate(self, input: bytes | None = None) -> tuple[bytes, bytes]: ...
    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...


class _Pipe(Protocol):
    def write(self, data: bytes, /) -> object: ...
    def flush(self) -> None: ...
    def read(self, size: int = -1, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def close(self) -> None: ...


class Runner:
    """Runs git for one repository, which the variables in `env` name, in the folder `cwd`."""

    def __init__(self, cwd: str, env: Mapping[str, str]) -> None:
        """Take the folder and what is added to the environment."""
        self.cwd = cwd
        self._env = dict(env)

    def run(
        self,
        *args: str,
        stdin: bytes | None = None,
        literal: bool = False,
        codes: Sequence[int] | None = (0,),
    ) -> Result:
        """Run git; an exit status that is not in `codes` raises (None: none does).

        With `literal` no path is a pattern.
        """
        env = self._env | {"GIT_LITERAL_PATHSPECS": "1"} if literal else self._env
        result = execute(args, cwd=self.cwd, env=env, stdin=stdin)
        if codes is not None and result.status not in codes:
            raise_failure(args[0] if args[0] != "-c" else args[2], result)
        return result

    def start(self, *args: str) -> _Process:
        """Start git and return the process, with pipes."""
        return _start(args, self.cwd, self._env)


class BlobReader:
    """A running ``git cat-file --batch``, as `Runner.start` returns it. Close it.

    GitPython has its own, which takes only 40-digit ids.
    """

    def __init__(self, process: _Process) -> None:
        self._process = process

    def read(self, blob_id: str, size_max: int) -> bytes:
        """Return a blob; MissingError if git has none, CorruptError if it is above `size_max`."""
        try:
            self._process.stdin.write(blob_id.encode("ascii") + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().split()
        except BrokenPipeError:
            answer = []
        if not answer:
            words = words_of(os.fsdecode(self._process.stderr.read()))
            raise DvError(f"git stopped while reading objects: {words}", hint="run: git fsck")
        if len(answer) != 3:
            raise MissingError(
                f"git has no object {blob_id}", hint="run: git fetch, then git fsck if it persists"
            )
        if answer[1] != b"blob" or int(answer[2]) > size_max:
            kind, size = answer[1].decode("ascii"), int(answer[2])
            raise CorruptError(f"git object {blob_id} is no manifest: a {kind} of {size:,} bytes")
        data = self._process.stdout.read(int(answer[2]) + 1)
        if len(data) != int(answer[2]) + 1:
            raise DvError(f"git stopped while reading {blob_id}", hint="run: git fsck")
        return data[:-1]

    def close(self) -> None:
        """End the process."""
        # Terminated, not left to find the end of its input: a worker process that was forked from
        # this one may hold that pipe open.
        self._process.terminate()
        self._process.communicate()


def execute(
    args: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Result:
    """Run git to its end, whatever its exit status. `env` is added to the environment."""
    process = _start(args, cwd, env or {}, stdin=None if stdin is None else subprocess.PIPE)
    stdout, stderr = process.communicate(stdin)
    return Result(process.poll() or 0, stdout, os.fsdecode(stderr))


def _start(
    args: Sequence[str], cwd: str, env: Mapping[str, str], *, stdin: int | None = subprocess.PIPE
) -> _Process:
    """Start git and return the process, with pipes; SetupError if it cannot be run."""
    command = _Command(cwd)
    # GitPython adds the environment of this process, and LC_ALL=C for messages to go by.
    fixed = {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "0",
        "GIT_GLOB_PATHSPECS": "0",
        "GIT_NOGLOB_PATHSPECS": "0",
        "GIT_ICASE_PATHSPECS": "0",
    }
    program = str(command.GIT_PYTHON_GIT_EXECUTABLE)
    try:
        started = command.execute(
            [program, *args],
            istream=stdin,
            as_process=True,
            env=fixed | dict(env),
        )
    except (GitCommandNotFound, PermissionError) as error:
        raise SetupError("git cannot be run", hint=INSTALL_HINT) from error
    return cast(_Process, started)


def raise_not_found(result: Result) -> NoReturn:
    """Raise a SetupError that says why git found no repository to use."""
    words = words_of(result.stderr)
    if "not a git repository" in words:
        raise SetupError("not inside a git repository", hint="run: git init")
    advice = re.search(r"^\s*(git config .*safe\.directory .*)$", result.stderr, re.MULTILINE)
    if advice:
        first = words.partition("\n")[0]
        raise SetupError(f"git refuses: {first}", hint=f"run: {printable(advice[1])}")
    raise SetupError(f"git cannot use this repository: {words or 'no reason given'}")


def raise_failure(verb: str, result: Result) -> NoReturn:
    """Raise the error of ours that fits what git says of a failed command."""
    words = words_of(result.stderr) or f"exit status {result.status}"
    message = f"git {verb} failed: {words}"
    if re.search(r"\.lock': File exists|could not lock config file .*: File exists", words):
        raise BusyError(message, hint="wait for the other git command to end, then run it again")
    if "staged content different from" in words:
        raise UnsavedError(message, hint="commit what is staged, or run: git restore --staged PATH")
    if "ignored by one of your .gitignore" in words:
        raise SetupError(message, hint="run: git check-ignore -v PATH, and take out that line")
    if verb == "checkout" and "did not match any file" in words:
        raise UsageError(message, hint="run: git log -- PATH")
    if "bad config" in words:
        raise SetupError(message, hint="mend that line")
    raise DvError(message)


def words_of(stderr: str) -> str:
    """Return what git says is wrong, as it may be printed, without its markers and advice."""
    lines = [line for line in stderr.splitlines() if line and not line.startswith("hint:")]
    return "\n".join(
        printable(re.sub(r"^(fatal|error|warning): ", "", line).replace("\t", " ").rstrip())
        for line in lines[:20]
    )
