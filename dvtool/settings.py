"""Settings and remotes of a repository: `.dvconfig`, `.git/config`, and opening what they name."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping

from dvtool.backend import LocalBackend, open_backend, parse_url
from dvtool.config import (
    Config,
    RemoteConfig,
    Source,
    committed_url_allowed,
    validate_key,
    validate_remote_name,
    validate_setting,
)
from dvtool.errors import SetupError, UsageError
from dvtool.git import Git
from dvtool.project import Project, require_worktree
from dvtool.store.remote import RemoteStore

CONFIG_FILE = ".dvconfig"


def load_config(git: Git, root: str, environ: Mapping[str, str]) -> Config:
    """Read all settings in force in a worktree."""
    path = os.path.join(root, CONFIG_FILE)
    if git.worktree is None:
        committed = git.config_items_at("HEAD", CONFIG_FILE)
    else:
        committed = git.config_items(path) if os.path.lexists(path) else []
    return Config.load(committed, git.config_items(None), environ)


class Settings:
    """What is set for a repository, and setting it. Paths are relative to `cwd`."""

    def __init__(self, project: Project, cwd: str, environ: Mapping[str, str]) -> None:
        self.project = project
        self._cwd = cwd
        self._environ = environ

    @property
    def initialised(self) -> bool:
        """Whether the repository has a `.dvconfig` with its id."""
        return self.project.config.text("core.repoid") is not None

    def init(self) -> bool:
        """Make `.dvconfig` and stage it; return False if that was done before. Safe to repeat."""
        require_worktree(self.project.git)
        if self.initialised:
            return False
        self._set_committed("core.repoid", secrets.token_hex(16))
        return True

    def require_init(self) -> None:
        """SetupError unless `init` was run here or where this was cloned from."""
        if not self.initialised:
            raise SetupError("this repository is not set up for dvtool yet", hint="run: dv init")

    def set(self, key: str, value: str, *, local: bool = False) -> Source:
        """Set a setting; return the file it stands in now.

        That is `.dvconfig` if the key and this value may stand there, unless `local`;
        otherwise `.git/config`. UsageError for a value that the key cannot have.
        """
        name = validate_setting(key, value, committed=False)
        try:
            validate_setting(name, value, committed=True)
        except SetupError:
            local = True
        (self._set_local if local else self._set_committed)(name, value)
        return ".git/config" if local else ".dvconfig"

    def unset(self, key: str, *, local: bool = False) -> Source:
        """Remove a setting from the file whose value is in force; return which that was.

        With `local` only `.git/config` is looked at. UsageError if the setting is in no file.
        """
        name = validate_key(key)
        git = self.project.git
        path = os.path.join(self.project.root, CONFIG_FILE)
        if git.config_unset(None, "dv." + name):
            self._reload()
            return ".git/config"
        if not local and git.worktree and git.config_unset(path, name):
            git.stage([CONFIG_FILE])
            self._reload()
            return ".dvconfig"
        raise UsageError(
            f"{name} is not set in {'.git/config' if local else 'any file'}",
            hint="see what is set: dv config",
        )

    def allow_hooks(self) -> None:
        """Take back what `dv hooks uninstall` or `dv init --no-hooks` remembered in this clone."""
        if self.project.git.config_unset(None, "dv.hooks.install"):
            self._reload()

    def _set_committed(self, key: str, value: str) -> None:
        require_worktree(self.project.git)
        path = os.path.join(self.project.root, CONFIG_FILE)
        self.project.git.config_set(path, key, value)
        self.project.git.stage([CONFIG_FILE])
        self._reload()

    def _set_local(self, key: str, value: str) -> None:
        self.project.git.config_set(None, "dv." + key, value)
        self._reload()

    def _reload(self) -> None:
        self.project.config = load_config(self.project.git, self.project.root, self._environ)

    # --- remotes --------------------------------------------------------------------------

    def set_remote(
        self,
        name: str,
        url: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        local: bool = False,
    ) -> bool:
        """Set where a remote is; return whether it stands in `.dvconfig`, for every clone.

        A folder on this machine means nothing elsewhere and is kept in `.git/config`; so is a
        profile. The first remote becomes the default.
        """
        self.require_init()
        validate_remote_name(name)
        url = self.remote_url(url)
        shared = committed_url_allowed(url, self.project.root) and not local
        values = {"url": url, "endpointurl": endpoint_url, "region": region, "profile": profile}
        first = not self.project.config.remotes()
        for field, value in values.items():
            if value is None:
                continue
            committed = shared and field != "profile"
            key = f"remote.{name}.{field}"
            validate_setting(key, value, committed=committed)
            (self._set_committed if committed else self._set_local)(key, value)
            if committed:
                # An older value for this clone only would go on hiding the new one.
                self.project.git.config_unset(None, "dv." + key)
        self._reload()
        if first and shared:
            self._set_committed("core.remote", name)
        return shared

    def clone_remote(self, url: str, *, cwd: str) -> None:
        """Set where a fresh clone finds its data, for this clone only, as the default remote.

        A folder is relative to `cwd`, and must be there.
        """
        name = self.project.config.text("core.remote") or "origin"
        if "://" not in url:
            url = os.path.normpath(os.path.join(cwd, url))
            if not os.path.isdir(url):
                raise SetupError(f"there is no folder {url}", hint="see that it is mounted")
        self.set_remote(name, url, local=True)

    def remote_url(self, url: str) -> str:
        """Return the URL as it is kept: a folder's by its absolute path; the folder is made.

        UsageError for what is neither a folder nor in S3.
        """
        given = parse_url(url) if "://" in url else None
        if given is not None and given.scheme == "s3":
            return url
        path = given.path if given else os.path.normpath(os.path.join(self._cwd, url))
        LocalBackend(path).create()
        return path

    def remove_remote(self, name: str) -> None:
        """Forget a remote here; nothing on the remote is touched."""
        self.project.config.remote(name)
        git = self.project.git
        path = os.path.join(self.project.root, CONFIG_FILE)
        if git.worktree and git.config_remove_section(path, f"remote.{name}"):
            if self.project.config.text("core.remote") == name:
                git.config_unset(path, "core.remote")
            git.stage([CONFIG_FILE])
        git.config_remove_section(None, f"dv.remote.{name}")
        self._reload()
        if self.project.config.text("core.remote") == name:
            git.config_unset(None, "dv.core.remote")
            self._reload()

    def remotes(self) -> dict[str, RemoteConfig]:
        """Return the configured remotes by name."""
        return self.project.config.remotes()

    def open_remote(self, name: str | None = None) -> RemoteStore:
        """Open a remote, or the default one; SetupError if there is none."""
        return self._open(self._chosen(name))

    def open_remotes(self, name: str | None = None) -> list[RemoteStore]:
        """Open the default remote and those to fall back on, in order of name; or one by name."""
        first = self._chosen(name)
        opened = [self._open(first)]
        for one in [] if name else self.remotes().values():
            # A remote that cannot even be opened is no reason not to use the others.
            with contextlib.suppress(SetupError, UsageError):
                if one.name != first.name:
                    opened.append(self._open(one))
        return opened

    def open_place(self, place: str) -> RemoteStore:
        """Open a remote by its name, or what a URL or a folder's path names."""
        if place in self.remotes():
            return self.open_remote(place)
        if "://" not in place and "/" not in place and os.sep not in place:
            return self.open_remote(place)  # which says what remotes there are
        given = parse_url(place) if "://" in place else None
        if given is not None and given.scheme == "s3":
            return RemoteStore(open_backend(place))
        path = given.path if given else os.path.normpath(os.path.join(self._cwd, place))
        return RemoteStore(LocalBackend(path))

    def _chosen(self, name: str | None) -> RemoteConfig:
        config = self.project.config
        chosen_remote = config.remote(name) if name else config.default_remote()
        if chosen_remote is None:
            known = ", ".join(sorted(config.remotes()))
            raise SetupError(
                f"which remote? There are: {known}" if known else "there is no remote yet",
                hint="name one with --remote, or set it: dv config core.remote NAME"
                if known
                else "add one: dv remote add origin s3://BUCKET/PREFIX (or a folder)",
            )
        return chosen_remote

    def _open(self, chosen_remote: RemoteConfig) -> RemoteStore:
        url = chosen_remote.url
        if chosen_remote.source == ".dvconfig" and not committed_url_allowed(
            url, self.project.root
        ):
            raise SetupError(f"{CONFIG_FILE} names a remote outside of the repository: {url}")
        if "://" not in url:
            url = os.path.join(self.project.root, url)
        backend = open_backend(
            url,
            endpoint_url=chosen_remote.endpoint_url,
            region=chosen_remote.region,
            profile=chosen_remote.profile,
        )
        return RemoteStore(backend)
