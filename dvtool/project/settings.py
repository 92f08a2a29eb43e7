"""Settings and remotes of a repository: `.dvconfig`, `.git/config`, and opening what they name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from dvtool.errors import DvError, SetupError, UsageError
from dvtool.git import Git
from dvtool.project import approvals
from dvtool.project.config import Config, RemoteConfig, store_address
from dvtool.project.keys import REMOTE_OPTIONS, remote_of, validate_key, validate_remote_name
from dvtool.project.parts import Project, require_worktree
from dvtool.project.sources import COMMITTED_FILE, Source, may_be_committed, validate_setting
from dvtool.project.user_settings import set_user_setting, user_items
from dvtool.remotes.transports import registry
from dvtool.remotes.transports.declaration import Value
from dvtool.system.decoders import json_decoder
from dvtool.system.lazy import later, later_in

if TYPE_CHECKING:
    from dvtool.remotes import address, remote
    from dvtool.remotes.address import RemoteAddress
    from dvtool.remotes.remote import RemoteStore
    from dvtool.remotes.transports import base
    from dvtool.remotes.transports.base import Backend, Features
else:
    base = later("dvtool.remotes.transports.base")
    address, remote = later_in("dvtool.remotes", "address", "remote")

CONFIG_FILE = COMMITTED_FILE
_OPTIONS = {option.name: option for option in REMOTE_OPTIONS}
_NAME_OF_FIELD = {option.field: option.name for option in REMOTE_OPTIONS}


def load_config(git: Git, root: str, environ: Mapping[str, str]) -> Config:
    """Read all settings in force in a worktree."""
    path = os.path.join(root, CONFIG_FILE)
    if git.worktree is None:
        committed, own = git.config_items_at("HEAD", CONFIG_FILE), git.config.items(None)
    else:
        committed, own = git.config.items_of_both(path)
    return Config.load(committed, own, environ, user=user_items(git, environ))


class Settings:
    """The settings of a repository, and changing them. Paths are relative to `cwd`."""

    def __init__(self, project: Project, cwd: str, environ: Mapping[str, str]) -> None:
        self.project = project
        self._cwd = cwd
        self._environ = environ
        self._opened: list[tuple[str, RemoteStore, Features]] = []
        self._approvals = approvals.Approvals(os.path.join(project.git.common_dir, "dv"))

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment that settings were taken from."""
        return self._environ

    @property
    def initialised(self) -> bool:
        """Whether the repository has a `.dvconfig` with its id."""
        return self.repo_id is not None

    @property
    def repo_id(self) -> str | None:
        """The name of the repository on its remotes; None before `init`."""
        return self.project.config.text("core.repoid")

    @property
    def values(self) -> Config:
        """All settings as they are in force now."""
        return self.project.config

    def check_value(self, key: str, value: str) -> None:
        """Raise a UsageError if a setting cannot have this value."""
        validate_setting(key, value, committed=False)

    def init(self, *, plan_only: bool = False) -> bool:
        """Make `.dvconfig`, staged, and the local store; False if that was done. Repeatable."""
        require_worktree(self.project.git)
        fresh = not self.initialised
        if plan_only:
            return fresh
        if fresh:
            self._set_committed("core.repoid", os.urandom(16).hex())
        else:
            self._finish_init()
        _ = self.project.store.db  # makes the local store
        return fresh

    def _finish_init(self) -> None:
        """Stage a `.dvconfig` that git does not know: an `init` ended before it could."""
        path = os.path.join(self.project.root, CONFIG_FILE)
        if os.path.lexists(path) and not self.project.git.tracked_under(CONFIG_FILE):
            self.project.git.stage([CONFIG_FILE])

    def require_init(self) -> None:
        """SetupError unless `init` was run here or where this was cloned from."""
        if not self.initialised:
            raise SetupError("this repository is not set up for dvtool yet", hint="run: dv init")

    def set(self, key: str, value: str, *, local: bool = False) -> Source:
        """Set a setting; return the file that has it now.

        The file is `.dvconfig` if the key and this value may be there, unless `local`; otherwise
        `.git/config`. UsageError for a value that the key cannot have.
        """
        name = validate_setting(key, value, committed=False)
        try:
            validate_setting(name, value, committed=True)
        except SetupError:
            local = True
        with self._typed(remote_of(name), name.rpartition(".")[2]):
            (self._set_local if local else self._set_committed)(name, value)
        return ".git/config" if local else ".dvconfig"

    def set_for_user(self, key: str, value: str | None) -> Source:
        """Set, or with None remove, a setting of this user in all repositories."""
        source = set_user_setting(self.project.git, self._environ, key, value)
        self._reload()
        return source

    def unset(self, key: str, *, local: bool = False) -> Source:
        """Remove a setting from the file whose value is in force; return which that was.

        With `local` only `.git/config` is looked at. UsageError if the setting is in no file.
        """
        name = validate_key(key)
        git = self.project.git
        path = os.path.join(self.project.root, CONFIG_FILE)
        if git.config.unset(None, "dv." + name):
            self._reload()
            return ".git/config"
        if not local and git.worktree:
            with self._typed(remote_of(name), name.rpartition(".")[2]):
                if git.config.unset(path, name):
                    git.stage([CONFIG_FILE])
                    self._reload()
                    return ".dvconfig"
        raise UsageError(
            f"{name} is not set in {'.git/config' if local else 'any file'}",
            hint="see what is set: dv config",
        )

    def allow_hooks(self) -> None:
        """Take back what `dv hooks uninstall` or `dv init --no-hooks` remembered in this clone."""
        if self.project.git.config.unset(None, "dv.hooks.install"):
            self._reload()

    def _set_committed(self, key: str, value: str) -> None:
        require_worktree(self.project.git)
        path = os.path.join(self.project.root, CONFIG_FILE)
        self.project.git.config.set(path, key, value)
        self.project.git.stage([CONFIG_FILE])
        self._reload()

    def _set_local(self, key: str, value: str) -> None:
        self.project.git.config.set(None, "dv." + key, value)
        self._reload()

    def _reload(self) -> None:
        self.project.config = load_config(self.project.git, self.project.root, self._environ)

    # --- remotes --------------------------------------------------------------------------

    def set_remote(
        self,
        name: str,
        url: str,
        *,
        local: bool = False,
        **options: str | None,
    ) -> bool:
        """Set where a remote is; return whether `.dvconfig` has it, for every clone.

        `options` are those of `REMOTE_OPTIONS`, as text; None leaves one as it is. UsageError for
        one that is not of the URL's transport. A folder on this machine means nothing elsewhere
        and is kept in `.git/config`; so are the options that a committed file must not hold. This
        clone trusts what is set here. The first remote becomes the default.
        """
        self.require_init()
        validate_remote_name(name)
        url = self.remote_url(url, options)
        shared = registry.committed_url_allowed(url, self.project.root) and not local
        values = {f"remote.{name}.url": url} | {
            f"remote.{name}.{_OPTIONS[option].field}": value
            for option, value in options.items()
            if value is not None
        }
        # All that can be wrong comes before the first change.
        for key, value in values.items():
            validate_setting(key, value, committed=shared and may_be_committed(key))
        remotes = self.project.config.remotes()
        first = not remotes
        typed = {key.rpartition(".")[2] for key in values}
        if name in remotes and remotes[name].url == url:
            typed.remove(approvals.URL)  # it was there before
        with self._typed(name, *typed):
            for key, value in values.items():
                if not (shared and may_be_committed(key)):
                    self._set_local(key, value)
                    continue
                self._set_committed(key, value)
                # An older value for this clone only would go on hiding the new one.
                self.project.git.config.unset(None, "dv." + key)
            self._reload()
            self._forget_id(name)
        if first and shared:
            self._set_committed("core.remote", name)
        return shared

    def _forget_id(self, name: str) -> None:
        """Forget the id of the remote at this address: a person who sets it means what is there."""
        with contextlib.suppress(DvError):
            address = store_address(*self._address(self.remote(name)))
            if self._id_at(address) is not None:
                self.project.store.db.remotes.set_id_at(address, None)

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

    def remote_url(
        self, url: str, options: Mapping[str, str | None] | None = None, *, make: bool = True
    ) -> str:
        """Return the URL as it is kept: a folder's by its absolute path; with `make` it is made.

        UsageError for a URL of no transport, and for options that are not of its transport.
        """
        transport = registry.transport_of(url)
        registry.refuse_foreign_options(url, options or {})
        url = transport.resolve(url, self._cwd)
        if make and transport.create is not None:
            transport.create(url)
        return url

    def remove_remote(self, name: str) -> None:
        """Forget a remote here; nothing on the remote is touched."""
        self.project.config.remote(name)
        git = self.project.git
        path = os.path.join(self.project.root, CONFIG_FILE)
        if git.worktree and git.config.remove_section(path, f"remote.{name}"):
            if self.project.config.text("core.remote") == name:
                git.config.unset(path, "core.remote")
            git.stage([CONFIG_FILE])
        git.config.remove_section(None, f"dv.remote.{name}")
        self._approvals.forget(name)
        self._reload()
        if self.project.config.text("core.remote") == name:
            git.config.unset(None, "dv.core.remote")
            self._reload()

    def rename_remote(self, name: str, new: str) -> None:
        """Give a remote another name, in every file that has settings of it.

        Its approval in this clone goes along, and so does being the default remote. UsageError if
        there is a remote of the new name.
        """
        before = self.project.config.remote(name)
        validate_remote_name(new)
        if new in self.project.config.remotes():
            raise UsageError(f"there is a remote {new} already", hint="choose another name")
        trusted = self._approvals.trusts(before)
        git = self.project.git
        path = os.path.join(self.project.root, CONFIG_FILE)
        default = self.project.config.text("core.remote") == name
        for file, prefix in ((path if git.worktree else None, ""), (None, "dv.")):
            if file is None and not prefix:
                continue
            git.config.rename_section(file, f"{prefix}remote.{name}", f"{prefix}remote.{new}")
            if default and git.config.get_in(file, f"{prefix}core.remote") == name:
                git.config.set(file, f"{prefix}core.remote", new)
        if git.worktree and os.path.lexists(path):
            git.stage([CONFIG_FILE])
        self._reload()
        self._approvals.forget(name)
        if trusted:
            self._approvals.trust([self.remote(new)])

    # --- which remotes this clone trusts --------------------------------------------------

    def trusts(self, name: str) -> bool:
        """Whether requests may go to a remote: see `dvtool.project.approvals`."""
        return self._approvals.trusts(self.remote(name))

    def untrusted_others(self) -> list[str]:
        """Return the remotes besides the default one that are not trusted."""
        default = self.project.config.default_remote()
        others = [remote for remote in self.remotes().values() if remote != default]
        return [remote.name for remote in others if not self._approvals.trusts(remote)]

    def trusted_before(self, name: str) -> str | None:
        """Return the address of a remote that was trusted last, for messages; None if none was."""
        before = self._approvals.last(name)
        return None if before is None else approvals.address_text(before.parts)

    def address_text(self, name: str) -> str:
        """Return what `.dvconfig` says of a remote's address, for messages."""
        address = approvals.address_of(self.remote(name))
        return "" if address is None else approvals.address_text(address.parts)

    def trust(self, names: Iterable[str]) -> None:
        """Trust remotes, as `.dvconfig` has them now, from now on."""
        self._approvals.trust([self.remote(name) for name in names])

    def trust_first_use(self) -> list[str]:
        """Trust the remotes of `.dvconfig` if nothing was ever trusted here; return their names.

        Only verbs about remotes that a person typed call this, never hooks. A clone with a remote
        of its own was used before. An endpoint in the clear is left out.
        """
        remotes = self.remotes().values()
        committed = [remote for remote in remotes if approvals.address_of(remote) is not None]
        if self._approvals.begun or len(committed) < len(remotes):
            return []
        first = [remote for remote in committed if not approvals.is_in_the_clear(remote)]
        if first:
            self._approvals.trust(first)
        return [remote.name for remote in first]

    @contextlib.contextmanager
    def _typed(self, name: str, *fields: str) -> Iterator[None]:
        """Trust a remote as set in the block, unless a part of its address stays untrusted.

        `fields` are the settings that a person typed.
        """
        before = self.remotes().get(name)
        trusted = before is not None and self._approvals.trusts(before)
        yield
        now = self.remotes().get(name)
        if now is None or self._approvals.trusts(now):
            return
        sources = {approvals.URL: now.source} | dict(now.option_sources)
        typed = {_NAME_OF_FIELD.get(field, field) for field in fields}
        stays = {
            part
            for part in (approvals.URL, *approvals.ADDRESS_OPTIONS)
            if sources[part] == CONFIG_FILE and part not in typed
        }
        if trusted or not stays:
            self._approvals.trust([now])

    # --- opening remotes ------------------------------------------------------------------

    def remotes(self) -> dict[str, RemoteConfig]:
        """Return the configured remotes by name."""
        return self.project.config.remotes()

    def remote(self, name: str) -> RemoteConfig:
        """Return a configured remote; UsageError if there is none of this name."""
        return self.project.config.remote(name)

    def open_remote(self, name: str | None = None, *, anew: bool = False) -> RemoteStore:
        """Open a remote, or the default one; SetupError if there is none.

        The store's features that are remembered are used, and those learned are kept when
        `remember_features` is called. With `anew` any remote may be there, also none; otherwise the
        first use fails unless the remote is the one that was there the last time.
        """
        opened = self._open(self._chosen(name))
        if anew:
            opened.expected_id = None
        return opened

    def open_remotes(self, name: str | None = None) -> list[RemoteStore]:
        """Open the default remote and those to fall back on, in order of name; or one by name."""
        first = self._chosen(name)
        opened = [self._open(first)]
        for other in [] if name else self.remotes().values():
            # A remote that cannot even be opened is no reason not to use the others.
            with contextlib.suppress(SetupError, UsageError):
                if other.name != first.name:
                    opened.append(self._open(other))
        return opened

    def open_remotes_if_any(self, name: str | None = None) -> list[RemoteStore]:
        """Open remotes as `open_remotes` does; none if none is set and data is at sources."""
        if name is None and not self.remotes() and self.project.store.db.references.any():
            return []
        return self.open_remotes(name)

    def open_place(self, address: str) -> RemoteStore:
        """Open a remote by its name, its URL or the path of its folder."""
        if address in self.remotes():
            return self.open_remote(address)
        if "://" not in address and "/" not in address and os.sep not in address:
            return self.open_remote(address)  # which says what remotes there are
        url = registry.transport_of(address).resolve(address, self._cwd)
        return self._open_at(url, {})

    def _open(self, chosen_remote: RemoteConfig) -> RemoteStore:
        url, options = self._address(chosen_remote)
        return self._open_at(url, options)

    def _open_at(self, url: str, options: Mapping[str, Value]) -> RemoteStore:
        address = store_address(url, options)
        features = self._remembered(address) or base.Features()
        backend = registry.open_backend(url, options, features=features)
        opened = remote.RemoteStore(backend, known_id=self._id_at(address))
        self._opened.append((address, opened, features))
        return opened

    def default_address(self) -> str | None:
        """Return the address under which the default remote is remembered, None without one."""
        try:
            return store_address(*self._address(self._chosen(None)))
        except DvError:
            return None

    def _id_at(self, address: str) -> str | None:
        try:
            return self.project.store.db.remotes.id_at(address)
        except DvError:
            return None  # a broken index is for others to report

    def address_for_workers(self, name: str | None, remote_id: str) -> RemoteAddress:
        """Return the address of a remote of this id, by which other machines open it."""
        return address.remote_address(*self._address(self._chosen(name)), remote_id)

    def open_plain(self, name: str | None = None) -> Backend:
        """Open the backend of a remote for measuring it: nothing is tried twice or remembered."""
        return registry.open_plain(*self._address(self._chosen(name)))

    def keep_features(self, name: str | None, features: Features) -> None:
        """Remember features found of a remote's store, besides those known before."""
        self._keep(store_address(*self._address(self._chosen(name))), features)

    def remember_features(self) -> None:
        """Keep the features and ids that the opened remotes have shown since."""
        opened, self._opened = self._opened, []
        for address, store, before in opened:
            with contextlib.suppress(DvError):  # a broken index is for others to report
                if store.backend.features != before:
                    self._keep(address, store.backend.features)
                remote_id = store.seen_id()
                if remote_id not in (None, self._id_at(address)):
                    self.project.store.db.remotes.set_id_at(address, remote_id)

    def _keep(self, address: str, features: Features) -> None:
        import dataclasses  # a millisecond that few commands need

        before, news = self._remembered(address) or base.Features(), dataclasses.asdict(features)
        news = {field: value for field, value in news.items() if value is not None}
        text = msgspec.json.encode(dataclasses.replace(before, **news)).decode()
        self.project.store.db.remotes.set_features(address, text)

    def _remembered(self, address: str) -> Features | None:
        try:
            text = self.project.store.db.remotes.features(address)
            return json_decoder(base.Features).decode(text) if text else None
        except (DvError, msgspec.MsgspecError):
            return None  # no more than a hint

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

    def _address(self, chosen_remote: RemoteConfig) -> tuple[str, dict[str, Value]]:
        """Return URL and options of a remote; SetupError for a URL not fit for `.dvconfig`."""
        url = chosen_remote.url
        if not self._approvals.trusts(chosen_remote):
            before = self._approvals.last(chosen_remote.name)
            raise approvals.not_trusted(chosen_remote, before)
        if chosen_remote.source == CONFIG_FILE and not registry.committed_url_allowed(
            url, self.project.root
        ):
            raise SetupError(f"{CONFIG_FILE} names a remote outside of the repository: {url}")
        if "://" not in url:
            url = os.path.join(self.project.root, url)
        values = {}
        for option in registry.transport_of(url).options:
            value = chosen_remote.options[option.name]
            if option.kind == "path" and isinstance(value, str):
                value = os.path.expanduser(value)
            values[option.name] = value
        return url, values
