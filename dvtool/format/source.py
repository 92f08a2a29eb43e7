"""The `source` of a manifest: where its data came from, and which state was taken. One line.

It is foreign input, as all of a manifest. Nothing in it is asked before this clone approved it, and
it is no part of the manifest hash: the same bytes from elsewhere are the same data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import structs

from dvtool.errors import ManifestError

SOURCE_SIZE_MAX_BYTES = 64 << 10
URL_LENGTH_MAX = 4_096
LIMIT_MAX = (1 << 63) - 1
# Patterns as text: they are compiled only where a manifest has a source.
_KIND = r"[a-z][a-z0-9-]{0,15}"
_STATE = r"[0-9A-Za-z._:+/=-]{1,128}"
_OPTION = r"[a-z][a-z0-9_]{0,31}"
_PASSWORD = r"(?i)://[^/?#]*:[^/?#]*@|^https?://[^/?#]*@"


class DataSource(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where data came from, and which state of it was taken; no time, no user and no secret.

    The same state of the same source gives the same text. `kind` says how to read the rest: a
    version that does not know it can read the data all the same, and only not ask for news.
    """

    kind: str
    """s3, web, dv, dvc, lfs, hf or sql."""
    url: str
    """The address, without credentials."""
    state: str
    """The id of the state that was taken: a hash over a listing, an ETag or a commit."""
    path: str = ""
    """The path in a repository or in an archive."""
    rev: str = ""
    """The revision that was asked for, of which `state` is the commit."""
    options: dict[str, str] = {}
    """Options of the address, as of a remote (endpoint_url, region, addressing, anonymous)."""
    include: tuple[str, ...] = ()
    """Globs of paths that alone were taken."""
    exclude: tuple[str, ...] = ()
    """Globs of paths that were left out."""
    limit: int = 0
    """How many objects were taken at most; 0: all."""
    unpack: bool = False
    """Whether the members of an archive were taken in place of the archive."""
    reference: bool = False
    """Whether the data stays at the source, so that stores hold no copy."""
    query: str = ""
    """The SQL text that was asked."""
    rows: int = -1
    """How many rows the query gave."""
    schema: tuple[str, ...] = ()
    """Name and Arrow type of each column of the query."""
    edited: bool = False
    """Whether the target was changed since: by `dv add`, `rm`, `mv` or a merge."""

    @property
    def request(self) -> DataSource:
        """The source as it was asked for, without the state that was found and what followed."""
        return structs.replace(self, state="", rows=-1, schema=(), edited=False)


def as_edited(source: DataSource | None) -> DataSource | None:
    """Return the source of a target that is not as it was taken any more."""
    if source is None or source.edited:
        return source
    return structs.replace(source, edited=True)


def encode_source(source: DataSource) -> str:
    """Return the canonical text: keys in the order of the fields, options sorted by name."""
    return _json_text(msgspec.to_builtins(source))


def _json_text(value: Any, *, in_order: bool = True) -> str:
    if isinstance(value, dict):
        keys = list(value) if in_order else sorted(value)
        parts = (f"{_json_text(key)}: {_json_text(value[key], in_order=False)}" for key in keys)
        return f"{{{', '.join(parts)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_json_text, value))}]"
    return msgspec.json.encode(value).decode()


def check_source(source: DataSource, written: Mapping[str, object] | None, name: str) -> None:
    """Refuse a source that is not well formed; `written` are the keys of a text not canonical."""
    fault = _source_fault(source)
    if fault is None and written is not None:
        extra = written.keys() - msgspec.to_builtins(source).keys()
        if extra:
            fault = f"says what need not be said: {sorted(extra)[0]}"
    if fault is not None:
        raise ManifestError(f"{name}: its source {fault}")


def _source_fault(source: DataSource) -> str | None:
    """Say what is wrong with a source, as a predicate; None if nothing is."""
    if not re.fullmatch(_KIND, source.kind):
        return "is of no kind"
    if not source.url or len(source.url) > URL_LENGTH_MAX or not source.url.isprintable():
        return "has no address that can be one"
    if holds_credentials(source.url):
        return "holds credentials in its address"
    if not re.fullmatch(_STATE, source.state):
        return "names no state"
    if not all(re.fullmatch(_OPTION, key) and value for key, value in source.options.items()):
        return "has options that can be none"
    if not all((*source.include, *source.exclude, *source.schema)):
        return "has an empty glob or column"
    if not 0 <= source.limit <= LIMIT_MAX or not -1 <= source.rows <= LIMIT_MAX:
        return "has an impossible count"
    if any("\0" in text for text in (source.path, source.rev, source.query, *source.schema)):
        return "has a NUL in it"
    if len(encode_source(source)) > SOURCE_SIZE_MAX_BYTES:
        return f"has more than {SOURCE_SIZE_MAX_BYTES >> 10} KiB"
    return None


def holds_credentials(url: str) -> bool:
    """Whether a URL has a password in it, or, of a web server, any user."""
    return re.search(_PASSWORD, url) is not None


def same_but_edits(first: DataSource | None, second: DataSource | None) -> bool:
    """Whether two sources differ at most in whether the target was edited since."""
    return first is second or _unedited(first) == _unedited(second)


def _unedited(source: DataSource | None) -> DataSource | None:
    return None if source is None else structs.replace(source, edited=False)


def merge_sources(
    base: DataSource | None, ours: DataSource | None, theirs: DataSource | None
) -> tuple[DataSource | None, bool]:
    """Return the source that only one side changed, and True; ours and False if both did.

    Whether a target was edited is no change of its source.
    """
    if same_but_edits(ours, theirs) or same_but_edits(base, theirs):
        return ours, True
    return (theirs, True) if same_but_edits(base, ours) else (ours, False)
