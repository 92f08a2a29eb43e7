"""Reading and writing files of git-config syntax, by git itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from dvtool.errors import SetupError, printable
from dvtool.git.listing import key_value, texts_in
from dvtool.git.process import Result, Runner, checked, raise_failure, words_of

_OWN_KEYS = r"^(dv\.|core\.(hookspath|ignorecase|filemode)$)"
_OWN = ("config", "-z", "--show-scope", "--get-regexp", _OWN_KEYS)


class GitConfig:
    """The repository's own configuration, and other files of its syntax. See `Git.config`."""

    def __init__(self, runner: Runner) -> None:
        """Run git in one repository; paths are relative to the runner's folder."""
        self._runner = runner
        self._run = runner.run
        self._cwd = runner.cwd

    def items(self, file: str | None) -> list[tuple[str, str]]:
        """Return key and value of each setting, in order; a later one overrides an earlier one.

        With `file` (absolute, or relative to the worktree): all of that file, which need not
        exist, without what it includes. With None: the ``dv.*`` keys of the repository's and this
        worktree's own configuration, and ``core.hookspath``, ``core.ignorecase`` and
        ``core.filemode`` as git sees them. A key without a value (``[a] b``) has the value
        ``true``, as in git.
        """
        if file is None:
            return self._own()
        path = self._path(file)
        if path is None:
            return []
        return self._items_of(file, self._run(*_listing_of(path), codes=None))

    def items_of_both(self, file: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return what `items` does of a file and of None; both are read at once."""
        path = self._path(file)
        if path is None:
            return [], self._own()
        listing, own = self._runner.run_together(_listing_of(path), _OWN)
        return self._items_of(file, listing), _own_items(checked(_OWN, own, (0, 1)))

    @staticmethod
    def _items_of(file: str, listing: Result) -> list[tuple[str, str]]:
        if listing.status:
            raise SetupError(
                f"{printable(file)} cannot be read: {words_of(listing.stderr)}",
                hint=f"mend {printable(file)}, or restore it: git checkout -- {printable(file)}",
            )
        return [key_value(item) for item in texts_in(listing.stdout)]

    def items_of_blob(self, blob: str, path: str) -> list[tuple[str, str]]:
        """Return key and value of each setting in a file that git holds; `path` names it."""
        result = self._run("config", f"--blob={blob}", "--no-includes", "-z", "--list", codes=None)
        if result.status:
            raise SetupError(f"{printable(path)} cannot be read: {words_of(result.stderr)}")
        return [key_value(item) for item in texts_in(result.stdout)]

    def get(self, key: str) -> str | None:
        """Return the value that a key has in the repository's own configuration, None if none."""
        result = self._run("config", "--local", "-z", "--get", key, codes=(0, 1))
        return None if result.status else os.fsdecode(result.stdout).removesuffix("\0")

    def set(self, file: str | None, key: str, value: str) -> None:
        """Set a key, in place of all its values, in `file` or the repository's configuration."""
        self._change(file, "--replace-all", "--end-of-options", key, value)

    def unset(self, file: str | None, key: str) -> bool:
        """Remove a key; False if it was not set."""
        if file is not None and self._path(file) is None:
            return False
        result = self._change(file, "--unset-all", "--end-of-options", key, codes=(0, 5))
        return result.status == 0

    def remove_section(self, file: str | None, section: str) -> bool:
        """Remove a section (``remote.origin``) with all its keys; False if there was none."""
        if file is not None and self._path(file) is None:
            return False
        result = self._change(file, "--remove-section", "--end-of-options", section, codes=(0, 128))
        if result.status and "no such section" not in result.stderr:
            raise_failure("config", result)
        return result.status == 0

    def rename_section(self, file: str | None, section: str, new: str) -> bool:
        """Give a section (``remote.origin``) another name; False if there was none."""
        if file is not None and self._path(file) is None:
            return False
        result = self._change(file, "--rename-section", section, new, codes=(0, 128))
        if result.status and "no such section" not in result.stderr:
            raise_failure("config", result)
        return result.status == 0

    def get_in(self, file: str | None, key: str) -> str | None:
        """Return the value of a key in `file` or the repository's configuration, None if none."""
        if file is None:
            return self.get(key)
        return dict(self.items(file)).get(key) if self._path(file) else None

    # Private

    def _own(self) -> list[tuple[str, str]]:
        return _own_items(self._run(*_OWN, codes=(0, 1)))

    def _change(self, file: str | None, *args: str, codes: Sequence[int] = (0,)) -> Result:
        path = None if file is None else os.path.join(self._cwd, file)
        if path is not None:
            self._path(path)
        where = ("--local",) if path is None else ("--file", path)
        return self._run("config", *where, *args, codes=codes)

    def _path(self, file: str) -> str | None:
        """Return the absolute path of a configuration file, None if it is not there.

        A committed symlink (or a pipe) in its place must not make git read some other file.
        """
        path = os.path.join(self._cwd, file)
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(mode):
            raise SetupError(
                f"{printable(file)} is not an ordinary file",
                hint=f"put a file in its place, or restore it: git checkout -- {printable(file)}",
            )
        return path


def _listing_of(path: str) -> tuple[str, ...]:
    return ("config", "--file", path, "--no-includes", "-z", "--list")


def _own_items(listing: Result) -> list[tuple[str, str]]:
    fields = texts_in(listing.stdout)
    items: list[tuple[str, str]] = []
    for scope, field in zip(fields[::2], fields[1::2], strict=True):
        key, value = key_value(field)
        if scope in {"local", "worktree"} or not key.startswith("dv."):
            items.append((key, value))
    return items
