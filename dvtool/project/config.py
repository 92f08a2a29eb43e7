"""The settings in force: which value wins, and what is configured of each remote.

From weakest to strongest: the default, the user's own file for all repositories, the committed
``.dvconfig``, ``dv.*`` in ``.git/config``, the environment. The same key is written three ways,
the user's file as the committed one::

    .dvconfig       [remote "origin"] url = …     core.remote         remote.origin.url
    .git/config                                   dv.core.remote      dv.remote.origin.url
    environment                                   DV_CORE_REMOTE      DV_REMOTE_ORIGIN_URL

Settings come in as pairs: nothing here runs git or reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from dvtool.errors import SetupError, listing, printable
from dvtool.project.keys import KEYS, REMOTE_OPTIONS, find_key, known_key, remote_of, validate_key
from dvtool.project.sources import (
    Items,
    Source,
    checked_value,
    from_committed,
    from_environment,
    from_local,
    from_user,
)
from dvtool.remotes.transports.declaration import Option, Value

DEFAULT_REMOTE = "origin"
SECRET = "(secret)"
"""Shown in listings in place of a secret value."""


class Setting(NamedTuple):
    """One line of a listing."""

    key: str
    """The setting."""
    value: Value
    """Its value in force; null if it has none."""
    source: Source
    """Where the value comes from: default, ~/.config/dv/config, .dvconfig, .git/config or
    environment."""


class RemoteConfig(msgspec.Struct, frozen=True):
    """The configuration of one remote; `source` is where its URL comes from.

    `options` has every option of every transport by name, and `option_sources` where each comes
    from: a remote keeps its options when its URL becomes one of another transport.
    """

    name: str
    url: str
    source: Source
    options: Mapping[str, Value]
    option_sources: Mapping[str, Source]

    def exposed(self) -> list[Option]:
        """Return the options whose values would be used over a network unencrypted."""
        return [option for option in REMOTE_OPTIONS if self._is_exposed(option)]

    def _is_exposed(self, option: Option) -> bool:
        value = self.options[option.name]
        return bool(option.exposed and isinstance(value, str) and option.exposed(value))

    def shown_options(self) -> dict[str, Value]:
        """Return the options for a listing, where the value of a secret is not shown."""
        return {
            option.name: SECRET if option.secret and value is not None else value
            for option in REMOTE_OPTIONS
            for value in [self.options[option.name]]
        }


class Config(msgspec.Struct, frozen=True):
    """All settings in force, checked. `unknown` names keys that this version does not know.

    `modes` is false where git found that the disk keeps no executable bits (core.fileMode).
    """

    unknown: tuple[str, ...]
    _settings: Mapping[str, Setting]
    modes: bool = True

    @classmethod
    def load(
        cls, committed: Items, local: Items, environ: Mapping[str, str], *, user: Items = ()
    ) -> Config:
        """Return the settings in force; SetupError for a value or place that is not allowed.

        `committed` is all of ``.dvconfig``, `user` all of the user's file; of `local`, keys without
        the prefix ``dv.`` are passed over, and so are variables without ``DV_``.
        """
        given = [*from_user(user), *from_committed(committed), *from_local(local)]
        given += from_environment(environ, [each.key for each in given])
        settings = {
            key.name: Setting(key.name, key.default, "default")
            for key in KEYS
            if "*" not in key.name
        }
        unknown: dict[str, None] = {}
        for each in given:
            key = find_key(each.key)
            if key is None:
                unknown[each.name] = None
            else:
                settings[each.key] = Setting(each.key, checked_value(each, key), each.source)
        modes = dict(local).get("core.filemode", "true").lower() not in ("false", "no", "off", "0")
        return cls(tuple(unknown), settings, modes)

    def get(self, key: str) -> Value:
        """Return the value in force; None where nothing is set and there is no default."""
        return self._setting(key).value

    def text(self, key: str) -> str | None:
        """Return the value of a ``str`` or ``choice`` key."""
        value = self.get(key)
        return value if isinstance(value, str) else None

    def flag(self, key: str) -> bool:
        """Return the value of a ``bool`` key."""
        return self.get(key) is True

    def number(self, key: str) -> int:
        """Return the value of an ``int`` key, or of a ``size`` key in bytes."""
        value = self.get(key)
        return value if isinstance(value, int) else 0

    def source(self, key: str) -> Source:
        """Return where the value in force comes from."""
        return self._setting(key).source

    def items(self) -> list[Setting]:
        """Return every setting with its source, defaults too, sorted by key, for a listing.

        The value of a secret is not shown.
        """
        return sorted(map(_shown, self._settings.values()), key=lambda setting: setting.key)

    def remotes(self) -> dict[str, RemoteConfig]:
        """Return the remotes that have a url, by name, sorted."""
        names = {remote_of(key) for key in self._settings} - {""}
        configured = (self._remote(name) for name in sorted(names))
        return {remote.name: remote for remote in configured if remote is not None}

    def remote(self, name: str) -> RemoteConfig:
        """Return one remote; SetupError with the names there are if it is not configured."""
        remotes = self.remotes()
        if name in remotes:
            return remotes[name]
        known = f"; there are:\n{listing(remotes)}" if remotes else ", and no other is"
        raise SetupError(
            f"remote {printable(name)} is not configured{known}", hint="run: dv remote add NAME URL"
        )

    def default_remote(self) -> RemoteConfig | None:
        """Return ``core.remote``, else the only remote, else the one called origin, else None."""
        named = self.text("core.remote")
        if named:
            return self.remote(named)
        remotes = self.remotes()
        if len(remotes) == 1:
            return next(iter(remotes.values()))
        return remotes.get(DEFAULT_REMOTE)

    def _setting(self, key: str) -> Setting:
        name = validate_key(key)
        return self._settings.get(name) or Setting(name, known_key(name).default, "default")

    def _remote(self, name: str) -> RemoteConfig | None:
        url = self._setting(f"remote.{name}.url")
        if not isinstance(url.value, str):
            return None
        keys = {option: f"remote.{name}.{option.field}" for option in REMOTE_OPTIONS}
        return RemoteConfig(
            name,
            url.value,
            url.source,
            {option.name: option.value(self.get(key)) for option, key in keys.items()},
            {option.name: self.source(key) for option, key in keys.items()},
        )


def _shown(setting: Setting) -> Setting:
    secret = setting.value is not None and known_key(setting.key).secret
    return setting._replace(value=SECRET) if secret else setting


def store_address(url: str, options: Mapping[str, Value]) -> str:
    """Return what a store's features are remembered under."""
    named = [options.get(option.name) for option in REMOTE_OPTIONS if option.locates]
    return " ".join([url, *(str(value) for value in named if value)])
