"""Which origin a source means: addresses as typed, and opening what a manifest names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import structs

from dvtool.errors import UsageError, printable
from dvtool.format.paths import SELF, path_fault
from dvtool.format.source import URL_LENGTH_MAX, DataSource, holds_credentials
from dvtool.remotes.origins.base import Origin
from dvtool.remotes.transports.declaration import Option
from dvtool.remotes.transports.s3.declaration import OPTIONS, bucket_and_prefix
from dvtool.system.lazy import later

options = later("dvtool.remotes.transports.s3.options")
s3 = later("dvtool.remotes.origins.s3")
web = later("dvtool.remotes.origins.web")
hub = later("dvtool.remotes.origins.hub")
sql = later("dvtool.remotes.origins.sql")

ORIGIN_OPTIONS: tuple[Option, ...] = tuple(each for each in OPTIONS if not each.of_writing)
"""The options of a bucket that is read."""
GIT_KINDS = ("dv", "dvc", "lfs")
"""Kinds that are repositories of git."""
NAMED_BY_PATH = frozenset({"dvc", "lfs", "hf"})
"""Kinds whose keys are paths in the target already; their state is a commit."""
FORMS = "s3://BUCKET/PREFIX, https://HOST/FILE, GIT-URL//PATH@REV, or hf://datasets/OWNER/NAME"
_SIGNED = re.compile(
    r"[?&](X-Amz-(Signature|Credential|Security-Token)|Signature|sig|token|access_token|api_?key)=",
    re.IGNORECASE,
)


def source_of(url: str, values: Mapping[str, str | None]) -> tuple[DataSource, dict[str, str]]:
    """Return what an address means, as typed, and the options that stay on this machine.

    UsageError for what is no address, for one that holds a secret, and for options that are none
    of it. The state is still empty.
    """
    given = {name: value for name, value in values.items() if value}
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme == "hf" and url.isprintable():
        if given:
            flag = _option(next(iter(given))).flag
            raise UsageError(
                f"{printable(url)} is on the Hugging Face hub, where {flag} means nothing",
                hint="server and token are settings of huggingface_hub: HF_ENDPOINT, HF_TOKEN",
            )
        return hub.hub_source(url), {}
    if not url.isprintable() or len(url) > URL_LENGTH_MAX or scheme not in ("s3", "http", "https"):
        raise UsageError(f"{printable(url)} is nothing to import from", hint=f"write {FORMS}")
    if holds_credentials(url) or _SIGNED.search(url):
        raise UsageError(
            "the address holds credentials, which would get into git",
            hint="leave them to the AWS configuration (s3://BUCKET/KEY), or fetch the file "
            "yourself and dv add it",
        )
    if scheme != "s3":
        if given:
            flag = _option(next(iter(given))).flag
            raise UsageError(f"{printable(url)} is on a web server, where {flag} means nothing")
        if not web.name_of(url):
            raise UsageError(f"{printable(url)} names no file", hint="write https://HOST/FILE")
        return DataSource("web", url, ""), {}
    bucket, slash, _ = url.partition("://")[2].partition("/")
    bucket_and_prefix(f"s3://{bucket}")
    url = url if slash else url + "/"
    for option in ORIGIN_OPTIONS:
        _check_option(option, given.get(option.name))
    shared = {
        option.name: given[option.name]
        for option in ORIGIN_OPTIONS
        if option.committed
        and option.name in given
        and option.value(_parsed(option, given[option.name])) != option.default
    }
    local = {name: given[name] for name in given if not _option(name).committed}
    return DataSource("s3", url, "", options=shared), local


def _option(name: str) -> Option:
    return next(option for option in ORIGIN_OPTIONS if option.name == name)


def _check_option(option: Option, value: str | None) -> None:
    if not value:
        return
    try:
        if option.kind == "choice" and value not in option.choices:
            raise ValueError(f"is none of {', '.join(option.choices)}")
        if option.check is not None:
            option.check(value)
        _parsed(option, value)
    except ValueError as error:
        raise UsageError(f"{option.flag} {printable(value)} {error}") from None


def _parsed(option: Option, text: str) -> str | bool:
    if option.kind != "bool":
        return text
    if text.lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text.lower() == "true"


def open_origin(source: DataSource, local: Mapping[str, str]) -> Origin:
    """Return the origin of a source; nothing is contacted yet.

    `local` are options of this machine. UsageError for a kind that this version does not know,
    and for options that a manifest must not have.
    """
    if source.kind == "web":
        opened: Origin = web.WebOrigin(source.url)
        return opened
    if source.kind == "hf":
        files: Origin = hub.HubOrigin(source.url, source.path, source.rev)
        return files
    if source.kind != "s3":
        raise UsageError(
            f"this version cannot ask a source of the kind {source.kind!r}: "
            f"{printable(source.url)}",
            hint="install a newer dvtool",
        )
    bucket, _, prefix = source.url.partition("://")[2].partition("/")
    bucket_and_prefix(f"s3://{bucket}")
    values: dict[str, Any] = {}
    for name, text in {**source.options, **local}.items():
        option = next((each for each in ORIGIN_OPTIONS if each.name == name), None)
        if option is None or (name in source.options and not option.committed):
            raise UsageError(f"a source has no option {printable(name)}")
        _check_option(option, text)
        values[name] = _parsed(option, text)
    checked = options.checked_options(values)
    exact = bool(prefix) and not prefix.endswith("/")
    # Of a listing that a limit ends, no page is asked for in vain.
    ahead = not source.limit
    bucket_origin: Origin = s3.S3Origin(bucket, prefix, checked, exact=exact, ahead=ahead)
    return bucket_origin


def askable_fault(source: DataSource) -> str | None:
    """Say why a source of a manifest can be none, as a predicate; None if it can be asked.

    It is as strict as with what is typed. Nothing is contacted.
    """
    try:
        if source.kind == "sql":
            if sql.sql_source(source.url, source.query, "", "")[1]:
                return f"names a user: {printable(source.url)}"
        elif source.kind in GIT_KINDS:
            fault = path_fault(source.path) if source.path else None
            return None if fault is None else f"has a path that {fault}: {printable(source.path)}"
        elif source.kind == "hf":
            if hub.hub_source(source.url).url != source.url:
                return f"has an address of another form: {printable(source.url)}"
        elif source.kind in ("s3", "web"):
            if source_of(source.url, {})[0].kind != source.kind:
                return f"is called {source.kind}, and is not: {printable(source.url)}"
            if source.kind == "s3":
                open_origin(source, {})
    except UsageError as error:
        return f"is not sound: {error}"
    if source.kind not in (*GIT_KINDS, "s3", "web", "hf", "sql"):
        return f"is of the kind {source.kind}, which this version cannot ask"
    if source.reference and (source.kind != "s3" or source.unpack):
        return "is referred to, and its objects cannot be"
    return None


def is_unencrypted(source: DataSource) -> bool:
    """Whether requests would pass a network unencrypted."""
    if source.kind == "web":
        return _option("endpoint_url").exposed(source.url)  # type: ignore[misc]
    return any(
        option.exposed is not None and option.exposed(source.options.get(option.name, ""))
        for option in ORIGIN_OPTIONS
        if option.name in source.options
    )


def as_folder(source: DataSource) -> DataSource | None:
    """Return the source of the keys below a key, None if it is no key of a bucket."""
    if source.kind != "s3" or source.url.endswith("/"):
        return None
    return structs.replace(source, url=source.url + "/")


def entry_paths(source: DataSource) -> Callable[[str], str]:
    """Return what gives the path in the target that an object of a source gets, by its key."""
    if source.kind in NAMED_BY_PATH:
        return lambda key: key or SELF
    if source.kind != "s3" or not source.url.endswith("/"):
        return lambda _: SELF
    prefix = source.url.partition("://")[2].partition("/")[2]
    return lambda key: key.removeprefix(prefix)


def name_for(source: DataSource) -> str:
    """Return what a target of a source is called, where nothing is said; "" if nobody knows."""
    if source.kind == "web":
        return str(web.name_of(source.url))
    if source.path:
        return source.path.rpartition("/")[2]
    return source.url.partition("://")[2].rstrip("/").rpartition("/")[2]
