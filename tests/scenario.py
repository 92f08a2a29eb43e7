"""A repository to play through a user's day with: real git, real files, the Python API."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dvtool.repo import Repo


@dataclass(frozen=True)
class Remote:
    """Where a test's remote is, as `Repo.set_remote` takes it."""

    url: str
    endpoint_url: str | None = None


class Clone:
    """One working copy."""

    def __init__(self, path: Path, remote: Remote | None = None) -> None:
        self.path = path
        if remote is not None:
            with self.repo() as repo:
                repo.config.init()
                repo.config.set_remote("origin", remote.url, endpoint_url=remote.endpoint_url)

    @classmethod
    def new(cls, path: Path, remote: Remote | None = None) -> Clone:
        subprocess.run(["git", "init", "--quiet", str(path)], check=True)
        return cls(path, remote)

    def clone(self, path: Path, remote: Remote) -> Clone:
        """Clone with git, and trust what .dvconfig says then, as `dv clone` does."""
        subprocess.run(["git", "clone", "--quiet", str(self.path), str(path)], check=True)
        clone = Clone(path, remote)
        with clone.repo() as repo:
            repo.config.trust_first_use()
        return clone

    def repo(self, inner: str = "") -> Repo:
        return Repo.open(str(self.path / inner))

    def git(self, *args: str) -> str:
        done = subprocess.run(["git", *args], cwd=self.path, capture_output=True, text=True)
        assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr or done.stdout}"
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def add(self, *paths: str) -> None:
        with self.repo() as repo:
            repo.add(paths)

    def write(self, path: str, data: bytes = b"", *, executable: bool = False) -> None:
        place = self.path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        if executable:
            place.chmod(0o755)

    def link(self, path: str, target: str) -> None:
        place = self.path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def remove(self, path: str) -> None:
        place = self.path / path
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()

    def tree(self, path: str) -> dict[str, str]:
        return tree(self.path / path)


def tree(top: Path) -> dict[str, str]:
    """Return path -> what is there, by content, executable bit and link target."""
    if top.is_file():
        return {".": _describe(top)}
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(top):
        here = Path(folder)
        for name in (*folders, *files):
            path = here / name
            if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
                continue
            found[str(path.relative_to(top))] = _describe(path)
    return found


def _describe(path: Path) -> str:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"link to {os.readlink(path)}"
    if stat.S_ISDIR(found.st_mode):
        return "empty folder"
    executable = "executable " if found.st_mode & stat.S_IXUSR else ""
    return f"{executable}file {hashlib.sha256(path.read_bytes()).hexdigest()}"


def noise(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes that do not compress, the same for the same seed."""
    return hashlib.shake_128(f"dvtool {seed}".encode()).digest(size)
