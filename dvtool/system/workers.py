"""Worker processes: how they begin, how they are called, and that none outlives its command.

A worker begins as a copy of this process, in milliseconds, or anew. A worker that begins anew is
an isolated Python (`python -I`): it imports neither the user's main module nor anything of the
current folder or of PYTHONPATH that could take the place of a module of Python or of dvtool.
Both kinds are called through pipes, by values that pickle.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from dvtool.errors import DvError
from dvtool.system.calls import TELL_EVERY_S
from dvtool.system.interrupts import uninterrupted
from dvtool.system.lazy import later
from dvtool.system.logs import Log

if TYPE_CHECKING:
    import pickle
    import subprocess
    import traceback
else:
    pickle = later("pickle")
    subprocess = later("subprocess")
    traceback = later("traceback")

_LOG = Log("workers")
PARENT_CHECK_S = 0.5
LENGTH_SIZE_BYTES = 8
PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder that has this very dvtool, which a worker imports whatever else is installed."""
BEGIN_ANEW = (
    "import sys; sys.path.insert(0, sys.argv[2]); import dvtool.system.workers as workers; "
    "del sys.path[0]; sys.path += sys.argv[3:]; workers.serve_anew(int(sys.argv[1]))"
)


def can_fork() -> bool:
    """Whether a worker may begin as a copy of this process, which takes milliseconds.

    A copy would keep the locks that other threads hold at that moment, so there must be none. Where
    SIGCHLD is ignored a process that ended cannot be waited for, and its number may be another's.
    """
    return (
        sys.platform == "linux"
        and threading.active_count() == 1
        and signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN
    )


def can_begin_anew() -> bool:
    """Whether there is a Python to run: a program that is frozen into one file has none."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class Worker:
    """A process that runs one call at a time for this one; `close` it."""

    def __init__(
        self, pid: int, wait: Callable[[], object], calls: IO[bytes], answers: IO[bytes]
    ) -> None:
        self._pid = pid
        self._wait = wait
        self._calls = calls
        self._answers = answers

    @classmethod
    def copied(cls, others: Sequence[Worker]) -> Worker:
        """Begin as a copy of this process; `others` are all workers that it has by now."""
        parent = os.getpid()
        call_read, call_write = os.pipe()
        answer_read, answer_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            with _ending_here():
                # A reader sees the end of a pipe only when no process can write to it.
                for worker in others:
                    worker._forget()
                os.close(call_write)
                os.close(answer_read)
                _serve(parent, open(call_read, "rb"), open(answer_write, "wb"))
        os.close(call_read)
        os.close(answer_write)
        wait = partial(os.waitpid, pid, 0)
        return cls(pid, wait, open(call_write, "wb"), open(answer_read, "rb"))

    @classmethod
    def anew(cls) -> Worker:
        """Begin anew, with nothing of this process's memory."""
        flags = ["-I", "-X", f"utf8={sys.flags.utf8_mode}"]
        if sys.dont_write_bytecode:
            flags.append("-B")
        # The isolated path comes first; packages that only this process has come last.
        more = [path for path in sys.path if os.path.isabs(path) and not _is_current_folder(path)]
        process = subprocess.Popen(
            [sys.executable, *flags, "-c", BEGIN_ANEW, str(os.getpid()), PACKAGE_FOLDER, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=os.path.abspath(os.sep),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        return cls(process.pid, process.wait, process.stdin, process.stdout)

    def call(
        self, work: Callable[..., Any], argument: Any, tell: Callable[[int], None] | None = None
    ) -> Any:
        """Return what `work(argument)` returns in the worker, or raise what it raises there.

        With `tell`, the work gets a second argument, a function to call with the bytes done; what
        it is called with arrives at `tell`, a few times a second. DvError if the worker is gone.
        """
        try:
            _send(self._calls, pickle.dumps((work, argument, tell is not None)))
            well, result = pickle.loads(_receive(self._answers))
            while well is None and tell is not None:
                tell(result)
                well, result = pickle.loads(_receive(self._answers))
        except (EOFError, BrokenPipeError) as error:
            raise DvError(
                "a worker process ended before its work was done",
                hint="memory may have run out; repeat the command, with fewer workers (-j 1) if "
                "it takes that option",
            ) from error
        if not well:
            raise result
        return result

    def stop(self) -> None:
        """Have the call that is under way, if there is one, raise `WorkStopped` in the worker."""
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGTERM)

    def close(self) -> None:
        """Let the worker end, and wait until it has."""
        self._forget()
        with contextlib.suppress(ChildProcessError):  # waited for elsewhere
            self._wait()

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            self._calls.close()
        self._answers.close()


@contextlib.contextmanager
def begun(count: int, *, anew: bool) -> Iterator[list[Worker]]:
    """Yield workers, which have ended when the block has; no call may be under way then."""
    workers: list[Worker] = []
    try:
        how = "anew" if anew else "as copies of this process"
        _LOG.note("begins %d worker processes %s", count, how)
        with uninterrupted():
            for _ in range(count):
                workers.append(Worker.anew() if anew else Worker.copied(workers))
        yield workers
    finally:
        for worker in workers:
            worker.close()


def serve_anew(parent: int) -> None:
    """Answer calls in a process that began anew, through what were its input and output."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)  # text that a library prints is no answer
    _serve(parent, calls, answers)


def _serve(parent: int, calls: IO[bytes], answers: IO[bytes]) -> None:
    """Answer calls until there are no more."""
    begin_worker(parent)
    stoppable = _Stoppable()
    signal.signal(signal.SIGTERM, stoppable.stop)
    if hasattr(signal, "SIGIO"):  # who reads with leases then need not ask for another, each time
        signal.signal(signal.SIGIO, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            _send(answers, _answer(_receive(calls), answers, stoppable))


class WorkStopped(BaseException):
    """The call was given up: nobody waits for its result any more."""


class _Stoppable:
    """Stops the call under way, and nothing else: an answer that was begun is sent whole."""

    def __init__(self) -> None:
        self.working = False
        self._stopped = False

    def stop(self, *_: object) -> None:
        """Stop the call under way, and every later one."""
        self._stopped = True
        if self.working:
            self.working = False  # what it does to clear up is not stopped again
            raise WorkStopped

    def check(self) -> None:
        """Raise `WorkStopped` if this was stopped before the call."""
        if self._stopped:
            raise WorkStopped


class _Teller:
    """Sends the bytes done to who called, no more often than a few times a second."""

    def __init__(self, answers: IO[bytes], stoppable: _Stoppable) -> None:
        self._answers = answers
        self._stoppable = stoppable
        self._size = 0
        self._sent_s = time.monotonic()

    def __call__(self, size: int) -> None:
        self._size += size
        if time.monotonic() - self._sent_s >= TELL_EVERY_S:
            working, self._stoppable.working = self._stoppable.working, False
            _send(self._answers, pickle.dumps((None, self._size)))
            self._size, self._sent_s = 0, time.monotonic()
            self._stoppable.working = working
            self._stoppable.check()


def _answer(call: bytes, answers: IO[bytes], stoppable: _Stoppable) -> bytes:
    try:
        work, argument, tells = pickle.loads(call)
        more = (_Teller(answers, stoppable),) if tells else ()
        try:
            stoppable.working = True
            stoppable.check()
            result = work(argument, *more)
        finally:
            stoppable.working = False
        return pickle.dumps((True, result))
    except BaseException as error:
        return _as_answer(error)


def _as_answer(error: BaseException) -> bytes:
    """Return an error for the parent; without its type, if the type does not pickle."""
    if isinstance(error, WorkStopped):
        return pickle.dumps((False, error))
    if not isinstance(error, DvError):
        error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        data = pickle.dumps((False, error))
        pickle.loads(data)
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return data


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(len(data).to_bytes(LENGTH_SIZE_BYTES, "little"))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    """Return what was sent; EOFError if the other side is gone."""
    size = int.from_bytes(_exactly(pipe, LENGTH_SIZE_BYTES), "little")
    return _exactly(pipe, size)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _is_current_folder(path: str) -> bool:
    try:
        return os.path.samefile(path, os.curdir)
    except OSError:
        return False


# --- one call by a second process -----------------------------------------------------------


@contextlib.contextmanager
def beside(work: Callable[[], bytes]) -> Iterator[BinaryIO]:
    """Let a copy of this process do some work meanwhile; yield a file with the bytes it writes.

    The bytes are cut short if the copy was killed. See `can_fork`.
    """
    read, write = os.pipe()
    child = 0
    with open(read, "rb") as answer:
        try:
            try:
                with uninterrupted(), contextlib.suppress(OSError):  # no memory: no answer
                    child = os.fork()
                    if child == 0:
                        with _ending_here():
                            os.close(read)  # else a write could block for ever without a parent
                            _write_result(work, write)
            finally:
                os.close(write)
            yield answer
        except BaseException:
            if child:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
            raise
        finally:
            if child:  # also if Ctrl-C came while it began
                with contextlib.suppress(ChildProcessError):  # waited for elsewhere
                    os.waitpid(child, 0)


@contextlib.contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Let a copy of this process do some work until the block ends, and no longer.

    The copy has neither input nor output. See `can_fork`.
    """
    child = 0
    try:
        with uninterrupted(), contextlib.suppress(OSError):  # no memory: the work is not done
            child = os.fork()
            if child == 0:
                with _ending_here():
                    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone decides
                    os.closerange(0, 3)  # else who reads our output would wait for the copy, too
                    work()
        yield
    finally:
        if child:  # also if Ctrl-C came while it began
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # waited for elsewhere
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _write_result(work: Callable[[], bytes], write: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone decides
    signal.signal(signal.SIGTERM, _stop)
    data = memoryview(work())
    while data:
        data = data[os.write(write, data) :]


def _stop(*_: object) -> None:
    """Stop the work, which clears up: that is not stopped again."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise WorkStopped


@contextlib.contextmanager
def _ending_here() -> Iterator[None]:
    """End this process with the block: nothing else of the program may run in a copy of it."""
    try:
        yield
    finally:
        os._exit(0)


# --- ending -----------------------------------------------------------------------------------


def begin_worker(parent: int) -> None:
    """Let this worker end with its parent.

    Ctrl-C reaches the whole process group; the parent alone decides what is then undone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # said of each lease that somebody waits for
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    # A killed parent does not end its forked workers: they hold both ends of their pipes. They
    # hold its locks too, so every later command would wait in vain.
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os.kill(os.getpid(), signal.SIGKILL)
