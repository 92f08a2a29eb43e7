"""The keys of settings: what each means, where it may stand, and how it is written.

The keys of remotes follow from what the transports declare.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from dvtool.errors import UsageError, printable
from dvtool.remotes.transports.declaration import Option, Value, matching
from dvtool.remotes.transports.registry import check_url_setting, remote_options, supported_forms
from dvtool.system.lazy import later

if TYPE_CHECKING:
    import difflib
else:
    difflib = later("difflib")

REMOTE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_REPO_ID = r"[0-9a-f]{32}"


class Key(msgspec.Struct, frozen=True):
    """One setting. In `name`, ``*`` stands for the name of a remote. A size is in bytes.

    `check` raises ValueError, whose text is a predicate, for a text that the key cannot have.
    """

    name: str
    kind: Literal["str", "bool", "size", "int", "choice", "path"]
    default: Value
    committed: bool
    description: str
    choices: tuple[str, ...] = ()
    check: Callable[[str], None] | None = None
    secret: bool = False


def _key_of(option: Option) -> Key:
    return Key(
        f"remote.*.{option.field}",
        option.kind,
        option.default,
        option.committed,
        option.description,
        option.choices,
        option.check,
        option.secret,
    )


REMOTE_OPTIONS: tuple[Option, ...] = remote_options()
"""The options of a remote besides its URL, of every transport."""
KEYS: tuple[Key, ...] = (
    Key(
        "core.remote",
        "str",
        None,
        True,
        "The remote to use where none is named.",
        check=matching(REMOTE_NAME, "is not a name for a remote"),
    ),
    Key(
        "core.repoid",
        "str",
        None,
        True,
        "The name of this repository on its remotes.",
        check=matching(_REPO_ID, "is not 32 hexadecimal digits in lower case"),
    ),
    Key("core.jobs", "int", 0, False, "Worker processes; 0 is one for each core."),
    Key(
        "remote.*.url",
        "str",
        None,
        True,
        f"Where the remote is: {supported_forms()}.",
        check=check_url_setting,
    ),
    *map(_key_of, REMOTE_OPTIONS),
    Key("hooks.install", "bool", True, True, "Install git hooks and drivers in each new clone."),
    Key("hooks.autofetch", "bool", False, True, "Fetch missing data after git checkout or merge."),
    Key(
        "hooks.maxfilesize",
        "size",
        10 << 20,
        True,
        "Refuse to commit larger files to git itself; 0 allows any size.",
    ),
    Key(
        "hooks.changeddata",
        "choice",
        "warn",
        True,
        "Whether git commit warns, refuses or says nothing (ignore) if data changed since dv add.",
        ("warn", "refuse", "ignore"),
    ),
    Key(
        "store.keep",
        "choice",
        "all",
        False,
        "Whether the local store keeps all, or only what no remote is proven to hold (unpushed).",
        ("all", "unpushed"),
    ),
    Key("store.path", "str", None, False, "Where the local store is, if not in the git folder."),
    Key(
        "cache.size",
        "size",
        10 << 30,
        False,
        "How much of what was read from remotes without a fetch stays on this machine; 0: nothing.",
    ),
    Key("cache.path", "str", None, False, "Where it stays, if not in the user's cache folder."),
)
_KEYS = {key.name: key for key in KEYS}


def find_key(name: str) -> Key | None:
    """Return the key that a normalised name means, None if there is no such setting."""
    return _KEYS.get(pattern_of(name))


def known_key(name: str) -> Key:
    """Return the key that a name means; UsageError if there is none."""
    return _KEYS[pattern_of(validate_key(name))]


def validate_key(key: str) -> str:
    """Return the key with section and name in lower case; UsageError if there is no such key."""
    name = normalised(key)
    if pattern_of(name) not in _KEYS:
        close = difflib.get_close_matches(pattern_of(name), _KEYS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"there is no setting {printable(key)}", hint=f"{hint}run: dv config, for a list"
        )
    if name.startswith("remote."):
        validate_remote_name(remote_of(name))
    return name


def validate_remote_name(name: str) -> str:
    """Return the name; UsageError if a remote cannot be called so."""
    if not re.fullmatch(REMOTE_NAME, name):
        raise UsageError(
            f"a remote cannot be called {printable(name)!r}",
            hint="use up to 64 letters, digits, '-', '_' and '.', a letter or digit first",
        )
    return name


def normalised(key: str) -> str:
    """Return the key with section and name in lower case, as git has them, the middle kept."""
    section, _, rest = key.partition(".")
    middle, dot, name = rest.rpartition(".")
    return f"{section.lower()}.{middle}{dot}{name.lower()}"


def remote_of(key: str) -> str:
    """Return the remote that a normalised key is about, or the empty string."""
    section, _, rest = key.partition(".")
    return rest.rpartition(".")[0] if section == "remote" else ""


def pattern_of(key: str) -> str:
    """Return the key with ``*`` for the name of a remote, as `KEYS` has it."""
    return f"remote.*.{key.rpartition('.')[2]}" if remote_of(key) else key
