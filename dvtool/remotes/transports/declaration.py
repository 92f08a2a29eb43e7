"""How a transport declares itself: its URLs, its options, and what it is.

Declarations are read by every command that reads settings. So this module and those that declare a
transport load nothing but the standard library's smallest parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from dvtool.system.lazy import later

if TYPE_CHECKING:
    import ipaddress
    import urllib.parse as urls

    from dvtool.remotes.transports.base import Backend, Features
else:
    ipaddress = later("ipaddress")
    urls = later("urllib.parse")

Value: TypeAlias = str | int | bool | None
Kind: TypeAlias = Literal["str", "bool", "choice", "path"]


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a remote: `remote.NAME.FIELD` in settings, `--flag` on the command line.

    `name` is how Python and JSON call it. Two transports may share an option, which then is the
    same declaration. `description` is for lists of settings, `help` and `metavar` for the command.
    `committed` says whether `.dvconfig` may set it; a `secret` never stands there and is left out
    of listings. `no_value` is the choice that says the same as nothing. `check` raises ValueError,
    whose text is a predicate without the value. A value that is `exposed` would be used over a
    network unencrypted. With `locates`, it tells two stores of the same URL apart. With
    `addresses`, it says who gets the requests or in whose name, so that each clone trusts it
    together with the URL. A `path` is of a file of this machine. `at_init`: `dv init` takes it.
    """

    name: str
    kind: Kind = "str"
    description: str
    help: str
    metavar: str
    committed: bool
    default: Value = None
    choices: tuple[str, ...] = ()
    no_value: str | None = None
    secret: bool = False
    locates: bool = False
    addresses: bool = False
    at_init: bool = False
    of_writing: bool = False
    check: Callable[[str], None] | None = None
    exposed: Callable[[str], bool] | None = None

    def __post_init__(self) -> None:
        if self.secret and self.committed:
            raise ValueError(f"{self.name} is a secret, which must not be committed")

    @property
    def field(self) -> str:
        """The last part of its key in settings."""
        return self.name.replace("_", "")

    @property
    def flag(self) -> str:
        """How the command line names it."""
        return f"--{self.name.replace('_', '-')}"

    def value(self, setting: Value) -> Value:
        """Return what a setting means."""
        return None if setting == self.no_value else setting


class RequestPrices(msgspec.Struct, frozen=True):
    """The price of a request that writes or lists, and of one that reads."""

    write_usd: float
    read_usd: float
    basis: str
    """Whose prices these are, for messages."""


class Transport(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of place for objects: everything about it that other rooms must know.

    `schemes` are in lower case; the empty one stands for a path without a scheme. `noun` and
    `url_form` name such a remote and its URL in messages.

    `open(url, options, features)` returns its backend and contacts nothing; `options` has a value
    for each of the transport's own. `resolve(url, folder)` returns a URL that holds from
    everywhere, made of one that was typed in `folder`; UsageError if it is none of this transport.
    `create(url)` makes the place, where that is for a client to do. `check_setting(url)` raises
    ValueError, as the check of an option does, for a URL that cannot be set.

    `may_be_committed(url, root)` tells whether `.dvconfig` may name this place; with `root`,
    symlinks of the worktree are followed. `committed_form` names such URLs in messages.

    `remote` places can fail for a moment, so their backends are tried again. `prices` are those of
    requests, where they cost something. Other powers are protocols in `base`, which a backend has
    or has not: `Copying`, `SelfDescribing`, `Sweeping`.
    """

    noun: str
    schemes: tuple[str, ...]
    url_form: str
    committed_form: str | None
    open: Callable[[str, Mapping[str, Value], Features | None], Backend]
    resolve: Callable[[str, str], str]
    check_setting: Callable[[str], None]
    may_be_committed: Callable[[str, str | None], bool]
    create: Callable[[str], None] | None = None
    options: tuple[Option, ...] = ()
    remote: bool = True
    prices: RequestPrices | None = None

    def foreign(self, options: Mapping[str, object]) -> list[str]:
        """Return the names of options that are set and not of this transport."""
        own = {option.name for option in self.options}
        return [
            name for name, value in options.items() if value not in (None, "") and name not in own
        ]


# --- checks that several transports share -----------------------------------------------------


def host_of(url: str) -> str:
    """Return what stands between the scheme of a URL and its path."""
    return re.split(r"[/?#\\]", url.partition("://")[2], maxsplit=1)[0]


HOLDS_CREDENTIALS = "holds credentials; leave them to the AWS tools' own configuration"


def refuse_credentials(url: str) -> None:
    """Raise ValueError for a URL with a user or password in it."""
    if "@" in host_of(url):
        raise ValueError(HOLDS_CREDENTIALS)


def check_web_address(url: str) -> None:
    """Raise ValueError for what is not the address of a web server, without path or query."""
    refuse_credentials(url)
    try:
        parts = urls.urlsplit(url)
        well_formed = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        well_formed = None
    if not well_formed or re.search(r"[?#\\@\s]", url):
        raise ValueError("is not of the form https://HOST or http://HOST:PORT")


def endpoint_is_exposed(url: str) -> bool:
    """Tell whether requests to an endpoint pass a network unencrypted."""
    parts = urls.urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme != "http" or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def matching(pattern: str, otherwise: str) -> Callable[[str], None]:
    """Return a check that a text matches a pattern whole; ValueError(`otherwise`) if not."""

    def check(text: str) -> None:
        if not re.fullmatch(pattern, text):
            raise ValueError(otherwise)

    return check
