"""All transports, and which of them a remote's URL means.

A new transport is a folder beside this module, and a line in `TRANSPORTS`. Settings, the options
of the command line and the checks of URLs follow from what it declares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dvtool.errors import UsageError, printable
from dvtool.remotes.transports.declaration import (
    Option,
    RequestPrices,
    Transport,
    Value,
    refuse_credentials,
)
from dvtool.remotes.transports.local.declaration import FOLDER
from dvtool.remotes.transports.s3.declaration import S3
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.remotes.transports import retry
    from dvtool.remotes.transports.base import Backend, Features
else:
    retry = later("dvtool.remotes.transports.retry")

TRANSPORTS: tuple[Transport, ...] = (FOLDER, S3)


def supported_forms() -> str:
    """Return how the URL of a remote may look, for messages."""
    return " or ".join(transport.url_form for transport in TRANSPORTS)


def committed_forms() -> list[str]:
    """Return the kinds of URLs that a committed file may name, for messages."""
    return [each.committed_form for each in TRANSPORTS if each.committed_form is not None]


def remote_options() -> tuple[Option, ...]:
    """Return the options of all transports, each once.

    ValueError if two transports declare options of one name differently: settings, which know a
    remote's options before its URL, could not tell them apart.
    """
    options: dict[str, Option] = {}
    for transport in TRANSPORTS:
        for option in transport.options:
            if options.setdefault(option.name, option) != option:
                raise ValueError(f"two transports declare {option.name} differently")
    return tuple(options.values())


def find_transport(url: str) -> Transport | None:
    """Return the transport that a URL's scheme belongs to, None if there is none."""
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    return next((each for each in TRANSPORTS if scheme in each.schemes), None)


def transport_of(url: str) -> Transport:
    """Return the transport of a remote's URL; UsageError if there is none."""
    hint = f"a remote is {supported_forms()}"
    if not url or not url.isprintable():
        raise UsageError(f"not a remote's url: {printable(url)!r}", hint=hint)
    transport = find_transport(url)
    if transport is None:
        scheme = url.partition("://")[0].lower()
        raise UsageError(f"remotes of the kind {scheme}:// are not supported", hint=hint)
    return transport


def check_url_setting(url: str) -> None:
    """Raise ValueError (a predicate, without the URL) for one that no remote can be set to."""
    transport = find_transport(url)
    (refuse_credentials if transport is None else transport.check_setting)(url)


def committed_url_allowed(url: str, repo_root: str | None = None) -> bool:
    """Tell whether a committed file may name this remote, such as a folder of the repository.

    With `repo_root`, symlinks on the way are followed and must not lead out of the repository.
    """
    try:
        check_url_setting(url)
    except ValueError:
        return False
    return url.isprintable() and any(
        transport.may_be_committed(url, repo_root) for transport in TRANSPORTS
    )


def refuse_foreign_options(url: str, options: Mapping[str, object]) -> None:
    """UsageError for an option that is set and does not belong to the transport of the URL."""
    transport = transport_of(url)
    for name in transport.foreign(options):
        owners = [
            each for each in TRANSPORTS if any(option.name == name for option in each.options)
        ]
        forms = " or ".join(owner.url_form for owner in owners)
        raise UsageError(
            f"{printable(url)} is {transport.noun}, where {name.replace('_', '-')} means nothing",
            hint=f"leave it out; it belongs to a remote that is {forms}" if owners else None,
        )


def prices_of(url: str) -> RequestPrices | None:
    """Return what requests to a remote cost, None where they are free."""
    transport = find_transport(url)
    return None if transport is None else transport.prices


def open_backend(
    url: str, options: Mapping[str, Value] | None = None, *, features: Features | None = None
) -> Backend:
    """Return the backend for a remote's URL; nothing is contacted before the first operation.

    `options` are those of its transport, by name; None stands for a default. `features` is what is
    remembered of the store. UsageError if URL or options make no sense.
    """
    backend = open_plain(url, options, features=features)
    return retry.Retry(backend) if transport_of(url).remote else backend


def open_plain(
    url: str, options: Mapping[str, Value] | None = None, *, features: Features | None = None
) -> Backend:
    """Return what `open_backend` does without `Retry`: each operation is one attempt."""
    transport, given = transport_of(url), options or {}
    refuse_foreign_options(url, given)
    values = {option.name: option.value(option.default) for option in transport.options}
    values |= {name: value for name, value in given.items() if value is not None and name in values}
    try:
        return transport.open(url, values, features)
    except UsageError as error:
        error.hint = error.hint or f"a remote is {supported_forms()}"
        raise
