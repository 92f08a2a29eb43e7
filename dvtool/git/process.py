"""Running the git program, in any folder or pinned to one repository.

The only module that imports GitPython, which runs the long commands: clones, fetches, questions
to git's remotes, checkouts of whole trees. Loading GitPython takes longer than most commands do,
so all other commands run without it (decision 015).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TypeAlias

import msgspec

from dvtool.errors import (
    BusyError,
    DvError,
    SetupError,
    UnsavedError,
    UsageError,
    printable,
)
from dvtool.system.logs import HIDDEN, Log, Watch
from dvtool.system.programs import absolute_folders, find_program

INSTALL_HINT = "install git 2.31 or newer and see that it is on the PATH"

_LOG = Log("git")
_SEPARATOR = "--dv-separator"  # `git rev-parse` prints an option that it does not know as it is

_GITPYTHON_PROGRAM = "GIT_PYTHON_GIT_EXECUTABLE"
"""The program whose version GitPython asks when it is imported; by default a name on the PATH."""
_FIXED = {
    "LANGUAGE": "C",
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "DVTOOL_INSIDE": "1",  # our hooks have nothing to do then
    "GIT_LITERAL_PATHSPECS": "0",
    "GIT_GLOB_PATHSPECS": "0",
    "GIT_NOGLOB_PATHSPECS": "0",
    "GIT_ICASE_PATHSPECS": "0",
}
"""Variables that git gets besides the environment of this process; its messages are in English."""


ShowProgress: TypeAlias = Callable[[str, int, int], None]
"""Takes a stage of git's work, how many of its objects are done, and of how many (0: unknown)."""
_STAGES = {4: "counting", 8: "compressing", 16: "writing", 32: "receiving", 64: "resolving"}
"""GitPython's codes of the stages."""
_PROGRESS_LINE = r"(?:\d+% \(\d+/\d+\)|^(?:remote: )?(?:Enumerating|Counting) objects:)"


class Result(msgspec.Struct, frozen=True):
    """How a git command ended."""

    status: int
    stdout: bytes
    stderr: str


class Runner:
    """Runs git for one repository, which the variables in `env` name, in the folder `cwd`."""

    def __init__(self, cwd: str, env: Mapping[str, str]) -> None:
        """Take the folder and the variables to add to the environment."""
        self.cwd = cwd
        self._env = dict(env)

    def run(
        self,
        *args: str,
        stdin: bytes | None = None,
        literal: bool = False,
        codes: Sequence[int] | None = (0,),
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run git; an exit status that is not in `codes` raises (None: none does).

        With `literal` no path is a pattern. `env` goes before the runner's own.
        """
        env = self._env | dict(env or {})
        if literal:
            env["GIT_LITERAL_PATHSPECS"] = "1"
        return checked(args, execute(args, cwd=self.cwd, env=env, stdin=stdin), codes)

    def run_long(
        self,
        *args: str,
        codes: Sequence[int] | None = (0,),
        progress: ShowProgress | None = None,
    ) -> Result:
        """As `run`, for commands that may take long; see `execute_long`."""
        result = execute_long(args, cwd=self.cwd, env=self._env, progress=progress)
        return checked(args, result, codes)

    def run_together(self, *commands: Sequence[str]) -> list[Result]:
        """Run git several times at once, whatever the exit statuses."""
        watch = Watch()
        processes = [_start(args, self.cwd, self._env, stdin=False) for args in commands]
        try:
            return [_end(process, watch) for process in processes]
        finally:
            for process in processes:
                if process.returncode is None:
                    process.terminate()
                    process.communicate()

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """Start git and return the process, with pipes."""
        _LOG.note("git %s: begins, to answer questions", " ".join(args))
        return _start(args, self.cwd, self._env, stdin=True)


class Folders(msgspec.Struct, frozen=True):
    """Where a repository is; absolute paths."""

    worktree: str | None
    """The top folder of the working tree; None in a bare repository or inside `.git`."""
    git_dir: str
    common_dir: str
    """The git folder that all worktrees of the repository share."""


class Pinned:
    """A repository whose folders are known, to which every git command is pinned."""

    def __init__(self, folders: Folders, *, as_stored: bool = False) -> None:
        """Take the folders, which git is told by GIT_DIR and GIT_WORK_TREE.

        With `as_stored` objects are those stored under their ids, whatever ``git replace`` says.
        """
        worktree, git_dir = folders.worktree, folders.git_dir
        self._worktree = worktree
        self._git_dir = git_dir
        self._common_dir = folders.common_dir
        env = {"GIT_DIR": git_dir} | ({"GIT_WORK_TREE": worktree} if worktree else {})
        if as_stored:
            env["GIT_NO_REPLACE_OBJECTS"] = "1"
        self._runner = Runner(worktree or git_dir, env)
        self._run = self._runner.run
        self._run_long = self._runner.run_long

    @property
    def worktree(self) -> str | None:
        """The top folder of this working tree; None in a bare repository or inside `.git`."""
        return self._worktree

    @property
    def git_dir(self) -> str:
        """The git folder of this worktree, absolute."""
        return self._git_dir

    @property
    def common_dir(self) -> str:
        """The git folder that all worktrees of the repository share, absolute."""
        return self._common_dir

    def _require_worktree(self) -> str:
        if self._worktree is None:
            raise SetupError(
                f"there is no working tree in {printable(self._git_dir)}",
                hint="run it in the folder where the files are, or in a clone that is not bare",
            )
        return self._worktree

    def _index_path(self) -> str:
        # Asked of git: in a hook of `git commit -a` the index is another file, named index.lock.
        index = self._run("rev-parse", "--path-format=absolute", "--git-path", "index")
        return os.fsdecode(index.stdout).removesuffix("\n")


def find_folders(cwd: str) -> Folders:
    """Return the folders of the repository that git finds from `cwd`; SetupError if none."""
    if not os.path.isdir(cwd):
        raise UsageError(f"not a folder: {printable(cwd)}")
    result = execute(
        [
            "rev-parse",
            "--path-format=absolute",
            *("--is-bare-repository", _SEPARATOR, "--git-dir", _SEPARATOR),
            *("--git-common-dir", _SEPARATOR, "--show-toplevel"),
        ],
        cwd=cwd,
    )
    # The top level is asked for last: in a bare repository git stops there with an error.
    fields = os.fsdecode(result.stdout).split(_SEPARATOR + "\n")
    if fields[0].startswith("--path-format"):
        raise SetupError("this git is too old for dvtool", hint=INSTALL_HINT)
    if len(fields) != 4 or (result.status and fields[3]):
        raise_not_found(result, cwd)
    if fields[0].startswith("true") and "GIT_DIR" not in os.environ:
        _refuse_embedded(fields[1].removesuffix("\n"))
    return Folders(
        worktree=fields[3].removesuffix("\n") or None,
        git_dir=fields[1].removesuffix("\n"),
        common_dir=fields[2].removesuffix("\n"),
    )


def _refuse_embedded(bare: str) -> None:
    """Raise a SetupError for a bare repository that is among the files of a worktree.

    It may be files that somebody committed, and its configuration names programs for git to run.
    """
    around = execute(["rev-parse", "--show-toplevel"], cwd=os.path.dirname(bare))
    if around.status == 0:
        raise SetupError(
            f"{printable(bare)} is a bare repository among the files of another one, "
            f"{printable(os.fsdecode(around.stdout).strip())}, so its settings may be anybody's",
            hint="leave that folder; or, if the repository is yours: "
            f"GIT_DIR={shlex.quote(printable(bare))} dv …",
        )


def execute(
    args: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Result:
    """Run git to its end, whatever its exit status. `env` is added to the environment."""
    watch = Watch()
    return _end(_start(args, cwd, env or {}, stdin=stdin is not None), watch, stdin)


def execute_long(
    args: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str] | None = None,
    progress: ShowProgress | None = None,
) -> Result:
    """As `execute`, for commands that wait for a network or write whole trees, through GitPython.

    GitPython notes each command, without passwords, in the log ``git.cmd``, and ends every git
    that this process began together with it. `progress` is called with what git says of its own:
    the command must have the option ``--progress`` then.
    """
    program = _git_program()
    before = os.environ.get(_GITPYTHON_PROGRAM)
    try:
        os.environ[_GITPYTHON_PROGRAM] = program
        from git.cmd import Git as Command
        from git.exc import GitCommandNotFound
        from git.util import RemoteProgress
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        raise SetupError("git cannot be run", hint=INSTALL_HINT) from error
    finally:
        os.environ.pop(_GITPYTHON_PROGRAM)
        if before is not None:
            os.environ[_GITPYTHON_PROGRAM] = before
    watch = Watch()
    try:
        watched = Command(cwd).execute(
            [program, *args], env=_environment() | dict(env or {}), as_process=True
        )
    except (GitCommandNotFound, PermissionError) as error:
        raise SetupError("git cannot be run", hint=INSTALL_HINT) from error
    process = watched.proc
    assert process is not None  # its process is let go together with `watched`
    if progress is None:
        return _end(process, watch)
    show = progress

    class Told(RemoteProgress):
        """Hands on what GitPython reads from git's lines."""

        def update(
            self,
            op_code: int,
            cur_count: str | float,
            max_count: str | float | None = None,
            message: str = "",
        ) -> None:
            stage = _STAGES.get(op_code & self.OP_MASK, "working")
            show(stage, int(cur_count), int(max_count or 0))

    return _end_telling(process, watch, Told().new_message_handler())


def _start(
    args: Sequence[str], cwd: str, env: Mapping[str, str], *, stdin: bool
) -> subprocess.Popen[bytes]:
    """Start git and return the process, with pipes; SetupError if it cannot be run."""
    try:
        return subprocess.Popen(
            [_git_program(), *args],
            cwd=cwd if os.access(cwd, os.X_OK) else None,  # a worktree may be gone; see GIT_DIR
            env=dict(os.environ) | _environment() | dict(env),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise SetupError("git cannot be run", hint=INSTALL_HINT) from error


def _git_program() -> str:
    """Return the git to run, which is never one of the current folder."""
    try:
        return find_program("git", os.environ.get("PATH", os.defpath))
    except FileNotFoundError as error:
        raise SetupError("git cannot be run", hint=INSTALL_HINT) from error


def _environment() -> dict[str, str]:
    """Return what git is given besides the environment of this process."""
    return _FIXED | {"PATH": absolute_folders(os.environ.get("PATH", os.defpath))}


def _end(process: subprocess.Popen[bytes], watch: Watch, stdin: bytes | None = None) -> Result:
    try:
        stdout, stderr = process.communicate(stdin)
    except BaseException:
        process.terminate()  # not killed: git takes its lock files away
        process.communicate()
        raise
    result = Result(process.returncode, stdout, os.fsdecode(stderr))
    if _LOG.on:
        assert isinstance(process.args, list)
        said = f", says: {result.stderr.strip()}" if result.status and result.stderr else ""
        words = " ".join(_noted(process.args))
        _LOG.note("%s: exit %d in %s, %d bytes%s", words, result.status, watch, len(stdout), said)
    return result


def _end_telling(
    process: subprocess.Popen[bytes], watch: Watch, tell: Callable[[str], object]
) -> Result:
    """Wait for git as `_end`, and hand on each line of its progress meanwhile."""
    said: list[str] = []
    stderr, line = process.stderr, b""
    assert stderr is not None
    try:
        while letter := stderr.read(1):
            if letter not in b"\r\n":
                line += letter
                continue
            text, line = os.fsdecode(line), b""
            if not re.search(_PROGRESS_LINE, text):
                said.append(text + "\n")
            tell(text)
    except BaseException:
        process.terminate()
        process.communicate()
        raise
    result = _end(process, watch)
    return msgspec.structs.replace(result, stderr="".join([*said, os.fsdecode(line)]))


def _noted(args: Sequence[str]) -> Sequence[str]:
    """Return the words of a command for a log: what a setting is set to may be a secret."""
    words = ["git", *args[1:]]
    if "config" in args[:3] and "--replace-all" in args:
        words[-1] = HIDDEN
    return words


def checked(args: Sequence[str], result: Result, codes: Sequence[int] | None) -> Result:
    """Return the result of a command; an exit status that is not in `codes` raises."""
    if codes is not None and result.status not in codes:
        raise_failure(args[0] if args[0] != "-c" else args[2], result)
    return result


def raise_not_found(result: Result, folder: str) -> NoReturn:
    """Raise a SetupError that says why git found no repository to use from a folder."""
    words = words_of(result.stderr)
    if "not a git repository" in words:
        raise SetupError(f"not inside a git repository: {printable(folder)}", hint="run: git init")
    advice = re.search(r"^\s*(git config .*safe\.directory .*)$", result.stderr, re.MULTILINE)
    if advice:
        first = words.partition("\n")[0]
        raise SetupError(f"git refuses: {first}", hint=f"run: {printable(advice[1])}")
    raise SetupError(f"git cannot use this repository: {words or 'no reason given'}")


def raise_failure(verb: str, result: Result) -> NoReturn:
    """Raise the DvError that fits git's message about a failed command."""
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
    if verb == "clone":
        raise DvError(message, hint="check the address, and your access to it: git ls-remote URL")
    if "bad config" in words:
        raise SetupError(message, hint="mend that line")
    raise DvError(message)


def words_of(stderr: str) -> str:
    """Return git's message, fit for a terminal, without its markers and advice."""
    lines = [line for line in stderr.splitlines() if line and not line.startswith("hint:")]
    return "\n".join(
        printable(re.sub(r"^(fatal|error|warning): ", "", line).replace("\t", " ").rstrip())
        for line in lines[:20]
    )
