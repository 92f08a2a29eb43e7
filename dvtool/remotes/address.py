"""The address of a remote as a value that another machine can open it by."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports import registry
from dvtool.remotes.transports.declaration import Value


class RemoteAddress(msgspec.Struct, frozen=True):
    """The URL, options and id of a remote. It pickles and holds no secret.

    Credentials are those that the process which opens it finds in its own environment.
    """

    url: str
    options: Mapping[str, Value]
    id: str

    def open(self) -> RemoteStore:
        """Open the remote, and see that it is the one that was meant: one small request.

        SetupError if it is not, as where a disk is not mounted.
        """
        opened = RemoteStore(registry.open_backend(self.url, self.options), known_id=self.id)
        opened.required_mark()
        return opened


def remote_address(url: str, options: Mapping[str, Value], remote_id: str) -> RemoteAddress:
    """Return the address of a remote, without options that are secret or not set."""
    secret = {option.name for option in registry.transport_of(url).options if option.secret}
    plain = {
        name: value for name, value in options.items() if value is not None and name not in secret
    }
    return RemoteAddress(url, plain, remote_id)
