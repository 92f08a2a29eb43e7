"""The addresses of remotes that this clone trusts.

A committed file comes from whoever can open a pull request. So the address that the file gives to a
remote is used only if a person approved it in this clone; this clone's own settings and the
environment need no approval. The record is one file in git's common folder, shared by all
worktrees.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping

import msgspec

from dvtool.errors import SetupError, printable
from dvtool.project.config import RemoteConfig
from dvtool.project.keys import REMOTE_OPTIONS
from dvtool.project.sources import COMMITTED_FILE
from dvtool.remotes.transports.declaration import Value
from dvtool.system import atomic
from dvtool.system.decoders import json_decoder

URL = "url"
ADDRESS_OPTIONS = tuple(option.name for option in REMOTE_OPTIONS if option.addresses)
"""The options that are trusted together with a remote's URL."""
_FOREIGN = (COMMITTED_FILE, "default")
SIZE_MAX_BYTES = 16 << 20
_FILE_NAME = "trusted-remotes.json"


class Address(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address that the committed file gives to a remote: URL and options by name.

    A part that this clone set itself is left out, so the address says nothing about that part.
    """

    name: str
    parts: Mapping[str, Value]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: the addresses in the order in which they were trusted."""

    trusted: tuple[Address, ...]


def address_of(remote: RemoteConfig) -> Address | None:
    """Return what the committed file says of a remote's address, None if it says nothing."""
    sources = {URL: remote.source} | {name: remote.option_sources[name] for name in ADDRESS_OPTIONS}
    if COMMITTED_FILE not in sources.values():
        return None
    values = {URL: remote.url} | dict(remote.options)
    return Address(
        remote.name, {part: values[part] for part in sources if sources[part] in _FOREIGN}
    )


def is_in_the_clear(remote: RemoteConfig) -> bool:
    """Tell whether the committed file would have requests pass a network unencrypted."""
    return any(remote.option_sources[option.name] == COMMITTED_FILE for option in remote.exposed())


def address_text(parts: Mapping[str, Value]) -> str:
    """Return an address for messages: the URL, then each option that is not as by default."""
    words = [printable(str(parts[URL]))] if parts.get(URL) else []
    for option in REMOTE_OPTIONS:
        value = parts.get(option.name)
        if option.name in ADDRESS_OPTIONS and value != option.value(option.default):
            words.append(f"{option.flag[2:]} {printable(str(value))}")
    return ", ".join(words)


class Approvals:
    """The record of trusted addresses of one clone; `folder` is dvtool's in git's common folder."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, _FILE_NAME)
        self._read: _Record | None = None

    @property
    def begun(self) -> bool:
        """Whether an address was ever trusted here."""
        return self._read is not None or os.path.lexists(self._path)

    def trusts(self, remote: RemoteConfig) -> bool:
        """Tell whether requests may go to a remote, as its settings are now."""
        address = address_of(remote)
        return address is None or any(
            _covers(trusted.parts, address.parts) for trusted in self._record().trusted
        )

    def last(self, name: str) -> Address | None:
        """Return the address of a remote of this name that was trusted last."""
        named = [address for address in self._record().trusted if address.name == name]
        return named[-1] if named else None

    def trust(self, remotes: Iterable[RemoteConfig]) -> None:
        """Trust remotes as their settings are now.

        In a git folder that cannot be written, that holds for this process.
        """
        new = [address for remote in remotes if (address := address_of(remote)) is not None]
        kept = [address for address in self._record().trusted if address not in new]
        self._write(_Record((*kept, *new)))

    def forget(self, name: str) -> None:
        """Trust no address of a remote of this name any more."""
        kept = tuple(address for address in self._record().trusted if address.name != name)
        if kept != self._record().trusted:
            self._write(_Record(kept))

    def _record(self) -> _Record:
        if self._read is None:
            text = atomic.read_own_file(self._path, size_max_bytes=SIZE_MAX_BYTES)
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                return _Record(()) if text is None else json_decoder(_Record).decode(text)
            return _Record(())  # a record that cannot be read trusts nothing
        return self._read

    def _write(self, record: _Record) -> None:
        self._read = record
        with contextlib.suppress(OSError):
            atomic.make_folders(os.path.dirname(self._path))
            atomic.write_bytes(self._path, msgspec.json.format(msgspec.json.encode(record)))


def _covers(trusted: Mapping[str, Value], parts: Mapping[str, Value]) -> bool:
    return all(name in trusted and trusted[name] == value for name, value in parts.items())


def not_trusted(remote: RemoteConfig, before: Address | None) -> SetupError:
    """Return the error that says why a remote is not asked, and how to trust it."""
    address = address_of(remote)
    parts = address.parts if address else {}
    message = (
        f"remote {printable(remote.name)} is not trusted in this clone: {COMMITTED_FILE} says "
        f"{address_text(parts) or 'nothing of its address'}"
    )
    if before is not None:
        message += f"; the trusted address is {address_text(before.parts)}"
    if is_in_the_clear(remote):
        message += (
            "; the endpoint is not encrypted, so whoever listens on the way would learn your "
            "session's token and your data"
        )
    return SetupError(
        message,
        hint=f"if the address is right (and not another's change): dv remote trust {remote.name}",
    )
