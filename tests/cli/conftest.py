"""A git repository with dvtool in it, and `dv` as a user runs it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dvtool import cli
from tests import json_reference

ODD_NAMES = (
    "with space",
    "quo\"te's",
    "new\nline",
    "ünïcödé 図",
    "esc\x1b[31mred",
    "c1\x9b31m",
    "rtl\u202eoverride",
    "-dash",
    "star*[1]?",
)
"""Names that people put into datasets, or would to play a trick on whoever lists them."""


@dataclass(frozen=True)
class Ran:
    """What a run of `dv` left: its exit code and what it wrote."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class _Stream(io.TextIOWrapper):
    """Standard output or error in memory, which may say that it is a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="\n")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def taken(self) -> bytes:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


class Work:
    """A worktree, `git` and `dv` in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def dv(
        self,
        *args: str | Path,
        code: int | None = 0,
        cwd: str = "",
        terminal: bool = False,
    ) -> Ran:
        """Run `dv` in this process, and check its exit code (None: any)."""
        out, err = _Stream(terminal=terminal), _Stream(terminal=terminal)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root / cwd)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            got = cli.run_command([str(arg) for arg in args])
        ran = Ran(got, out.taken(), err.taken().decode())
        assert code in (got, None), f"dv {args}: exit code {got}\n{ran.out}\n{ran.err}"
        json_reference.check(list(map(str, args)), ran.raw)
        return ran

    def process(
        self, *args: str, code: int | None = 0, env: Mapping[str, str] | None = None, **options: Any
    ) -> Ran:
        """Run `dv` as a process of its own, and check its exit code (None: any)."""
        done = subprocess.run(
            command(*args),
            env={**os.environ, **(env or {})},
            capture_output=True,
            check=False,
            **{"cwd": self.root, **options},
        )
        ran = Ran(done.returncode, done.stdout, done.stderr.decode())
        assert code in (done.returncode, None), f"dv {args}\n{ran.out}\n{ran.err}"
        if ran.code >= 0:
            json_reference.check(args, ran.raw)
        return ran

    def git(self, *args: str) -> str:
        done = subprocess.run(["git", *args], cwd=self.root, check=True, capture_output=True)
        return os.fsdecode(done.stdout).strip()

    def commit(self, message: str = "change") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def write(self, path: str, content: str | bytes = "content") -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def clone(self, name: str = "clone", *, remote: bool = True) -> Work:
        """Clone with git; with `remote`, the folder remote is named there too."""
        place = self.root.parent / name
        self.git("clone", "-q", str(self.root), str(place))
        other = Work(place)
        if remote:
            other.dv("remote", "add", "origin", self.root.parent / "remote")
        return other


def command(*args: str) -> Sequence[str]:
    return [sys.executable, "-W", "error", "-m", "dvtool", *args]


@pytest.fixture
def bare(tmp_path: Path) -> Work:
    """A git repository in which dvtool is not set up."""
    work = Work(tmp_path / "work")
    work.root.mkdir()
    work.git("init", "-q")
    return work


@pytest.fixture(scope="session")
def set_up(_isolated_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository set up with a folder as remote, to be copied."""
    work = Work(tmp_path_factory.mktemp("set-up") / "work")
    work.root.mkdir()
    work.git("init", "-q")
    work.dv("init", "--remote", work.root.parent / "remote")
    return work.root.parent


@pytest.fixture
def work(bare: Work, set_up: Path) -> Work:
    """A repository set up with a folder as remote, no data yet."""
    top = bare.root.parent
    shutil.copytree(set_up, top, symlinks=True, dirs_exist_ok=True)
    config = bare.root / ".git/config"
    config.write_text(config.read_text().replace(str(set_up), str(top)))
    return bare


@pytest.fixture
def data(work: Work) -> Work:
    """A repository with two targets committed, and nothing pushed."""
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        work.write(f"data/images/{name}", f"content of {name}")
    work.write("data/table.csv", "x,y\n1,2\n")
    work.dv("add", "data/images", "data/table.csv")
    work.commit("Add the data")
    return work


@pytest.fixture
def pushed(data: Work) -> Work:
    """As `data`, and pushed."""
    data.dv("push")
    return data


Patch = Callable[..., None]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """Make a method of `Repo` raise an error: ``raising("status", OSError(…))``."""
    from dvtool.repo import Repo

    def patch(method: str, error: BaseException) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(Repo, method, fail)

    return patch
