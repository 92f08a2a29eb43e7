"""Settings: what each key means, where it may stand, and which value wins.

From weakest to strongest: the default, the committed ``.dvconfig``, ``dv.*`` in ``.git/config``,
the environment. The same key is written three ways::

    .dvconfig       [remote "origin"] url = …     core.remote         remote.origin.url
    .git/config                                   dv.core.remote      dv.remote.origin.url
    environment                                   DV_CORE_REMOTE      DV_REMOTE_ORIGIN_URL

A committed file comes from whoever can open a pull request, so only keys marked `committed` are
taken from it, with values that can do no more than name a bucket or a folder of the repository.
Settings come in as pairs: nothing here runs git or reads a file.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec

from dvtool.errors import SetupError, UsageError, listing, printable
from dvtool.system.lazy import later

if TYPE_CHECKING:
    import difflib
    import ipaddress
    import urllib.parse as urls
else:
    difflib = later("difflib")
    ipaddress = later("ipaddress")
    urls = later("urllib.parse")

COMMITTED_FILE: Literal[".dvconfig"] = ".dvconfig"
LOCAL_PREFIX = "dv."

Items: TypeAlias = Iterable[tuple[str, str]]
"""Keys and values in the order of the file; of two with the same key the later one counts."""
Value: TypeAlias = str | int | bool | None
Source: TypeAlias = Literal["default", ".dvconfig", ".git/config", "environment"]


class Key(msgspec.Struct, frozen=True):
    """One setting. In `name`, ``*`` stands for the name of a remote. A size is in bytes."""

    name: str
    kind: Literal["str", "bool", "size", "int", "choice"]
    default: Value
    committed: bool
    description: str
    choices: tuple[str, ...] = ()


KEYS: tuple[Key, ...] = (
    Key("core.remote", "str", None, True, "The remote to use where none is named."),
    Key("core.repoid", "str", None, True, "What this repository is called on its remotes."),
    Key("core.jobs", "int", 0, False, "Worker processes; 0 is one for each core."),
    Key("remote.*.url", "str", None, True, "Where the remote is: s3://BUCKET/PREFIX or a folder."),
    Key("remote.*.endpointurl", "str", None, True, "The S3 service, if it is not Amazon's."),
    Key("remote.*.region", "str", None, True, "The S3 region of the bucket."),
    Key("remote.*.profile", "str", None, False, "The profile of your AWS configuration to use."),
    Key(
        "remote.*.addressing",
        "choice",
        "auto",
        True,
        "Where the bucket's name stands in requests: in the path, in the host (virtual), or auto.",
        ("auto", "path", "virtual"),
    ),
    Key("remote.*.storageclass", "str", None, True, "The S3 storage class of large objects."),
    Key(
        "remote.*.sse",
        "choice",
        "default",
        True,
        "How the store encrypts: as the bucket says (default), AES256, aws:kms or aws:kms:dsse.",
        ("default", "AES256", "aws:kms", "aws:kms:dsse"),
    ),
    Key("remote.*.ssekmskeyid", "str", None, False, "The KMS key to encrypt with, for aws:kms."),
    Key("remote.*.anonymous", "bool", False, True, "Read a public bucket: sign no request."),
    Key("remote.*.requesterpays", "bool", False, False, "Pay for requests to another's bucket."),
    Key("remote.*.cabundle", "str", None, False, "A file with the certificates to trust."),
    Key("remote.*.proxy", "str", None, False, "The HTTP proxy to go through."),
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
        "store.keep",
        "choice",
        "all",
        False,
        "What the local store keeps: all, or only what no remote is proven to hold (unpushed).",
        ("all", "unpushed"),
    ),
    Key("store.path", "str", None, False, "Where the local store is, if not in the git folder."),
)
DEFAULT_REMOTE = "origin"
_KEYS = {key.name: key for key in KEYS}
_REMOTE_FIELDS = tuple(key.name.rpartition(".")[2] for key in KEYS if "*" in key.name)

# Patterns as text: the most of them are compiled only where something is set.
_CREDENTIAL = (
    r"(accesskey(id)?|secret(accesskey|key)?|privatekey|apikey|token|password|passwd|passphrase"
    r"|credentials?|signature)$"
)
_PROGRAM = (
    r"(command|cmd|program|exec|executable|helper|script|editor|pager|process|shell|hookspath)$"
)
_PROGRAM_SECTIONS = frozenset({"alias", "credential", "filter"})
_REMOTE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]"
_STORAGE_CLASS = r"[A-Z][A-Z0-9_]{0,63}"
_ARCHIVES = frozenset({"ARCHIVE", "COLD_ARCHIVE", "DEEP_ARCHIVE", "DEEP_COLD_ARCHIVE", "GLACIER"})
_REGION = r"[A-Za-z0-9-]{1,64}"
_REMOTE_VARIABLE_PREFIX = "DV_REMOTE_"
_REMOTE_VARIABLE = (
    rf"{_REMOTE_VARIABLE_PREFIX}([A-Z0-9][A-Z0-9_]*)_({'|'.join(_REMOTE_FIELDS).upper()})"
)
_REPO_ID = r"[0-9a-f]{32}"
_SIZE = r"([0-9]{1,19}) *([kmgt]?)(i?b)?"
_SIZE_MAX_BYTES = (1 << 63) - 1
_WHOLE_NUMBER = r"[0-9]{1,9}"
_TRUE, _FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off", ""})


class RemoteConfig(msgspec.Struct, frozen=True):
    """What is configured of one remote; `source` is where its url comes from."""

    name: str
    url: str
    source: Source
    endpoint_url: str | None
    endpoint_source: Source
    region: str | None
    profile: str | None
    addressing: str
    storage_class: str | None
    sse: str | None
    sse_kms_key_id: str | None
    anonymous: bool
    requester_pays: bool
    ca_bundle: str | None
    proxy: str | None


REMOTE_OPTIONS: Mapping[str, str] = {
    "endpoint_url": "endpointurl",
    "region": "region",
    "profile": "profile",
    "addressing": "addressing",
    "storage_class": "storageclass",
    "sse": "sse",
    "sse_kms_key_id": "ssekmskeyid",
    "anonymous": "anonymous",
    "requester_pays": "requesterpays",
    "ca_bundle": "cabundle",
    "proxy": "proxy",
}
"""Option of `RemoteConfig`, as Python and the command line name it -> field of ``remote.*``."""


class Setting(NamedTuple):
    """One line of a listing: a key, its value and where the value comes from."""

    key: str
    value: Value
    source: Source


class Config(msgspec.Struct, frozen=True):
    """All settings in force, checked. `unknown` names keys that this version does not know."""

    unknown: tuple[str, ...]
    _settings: Mapping[str, Setting]

    @classmethod
    def load(cls, committed: Items, local: Items, environ: Mapping[str, str]) -> Config:
        """Return the settings in force; SetupError for a value or place that is not allowed.

        `committed` is all of ``.dvconfig``; of `local`, keys without the prefix ``dv.`` are passed
        over, and so are variables without ``DV_``.
        """
        given = [*_from_committed(committed), *_from_local(local)]
        given += _from_environment(environ, [one.key for one in given])
        settings = {
            key.name: Setting(key.name, key.default, "default")
            for key in KEYS
            if "*" not in key.name
        }
        unknown: dict[str, None] = {}
        for one in given:
            key = _KEYS.get(_pattern(one.key))
            if key is None:
                unknown[one.name] = None
            else:
                settings[one.key] = Setting(one.key, _checked(one, key), one.source)
        return cls(tuple(unknown), settings)

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
        """Return every setting with its source, defaults too, sorted by key."""
        return sorted(self._settings.values(), key=lambda setting: setting.key)

    def remotes(self) -> dict[str, RemoteConfig]:
        """Return the remotes that have a url, by name, sorted."""
        names = {_remote_of(key) for key in self._settings} - {""}
        found = (self._remote(name) for name in sorted(names))
        return {remote.name: remote for remote in found if remote is not None}

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
        unset = Setting(name, _KEYS[_pattern(name)].default, "default")
        return self._settings.get(name, unset)

    def _remote(self, name: str) -> RemoteConfig | None:
        url = self._setting(f"remote.{name}.url")
        if not isinstance(url.value, str):
            return None
        values: dict[str, Any] = {
            option: self.get(f"remote.{name}.{field}") for option, field in REMOTE_OPTIONS.items()
        }
        if values["sse"] == "default":
            values["sse"] = None
        endpoint_source = self.source(f"remote.{name}.endpointurl")
        return RemoteConfig(
            name, url.value, source=url.source, endpoint_source=endpoint_source, **values
        )


class _Given(msgspec.Struct, frozen=True):
    """A value as it was found: `name` is the key as it is written there."""

    key: str
    text: str
    source: Source
    name: str

    @property
    def place(self) -> str:
        where = "the environment" if self.source == "environment" else self.source
        return f"{printable(self.name)} in {where}"

    @property
    def removal(self) -> str:
        """The command that takes the value out again."""
        name = shlex.quote(printable(self.name))
        if self.source == "environment":
            return f"run: unset {name}"
        file = f" --file {COMMITTED_FILE}" if self.source == COMMITTED_FILE else ""
        return f"run: git config{file} --unset-all {name}"


def validate_key(key: str) -> str:
    """Return the key with section and name in lower case; UsageError if there is no such key."""
    name = _normalised(key)
    if _pattern(name) not in _KEYS:
        close = difflib.get_close_matches(_pattern(name), _KEYS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"there is no setting {printable(key)}", hint=f"{hint}run: dv config, for a list"
        )
    if name.startswith("remote."):
        validate_remote_name(_remote_of(name))
    return name


def validate_remote_name(name: str) -> str:
    """Return the name; UsageError if a remote cannot be called so."""
    if not re.fullmatch(_REMOTE_NAME, name):
        raise UsageError(
            f"a remote cannot be called {printable(name)!r}",
            hint="use up to 64 letters, digits, '-', '_' and '.', a letter or digit first",
        )
    return name


def validate_setting(key: str, text: str, *, committed: bool) -> str:
    """Return the key as `validate_key` if it may be set to `text`; to be asked before writing.

    UsageError for a value that the key cannot have; with `committed`, SetupError for what must not
    stand in ``.dvconfig``.
    """
    name = validate_key(key)
    try:
        _parse(_KEYS[_pattern(name)], text)
    except ValueError as error:
        raise UsageError(
            f"{name} {error}", hint="run: dv config, for what each key takes"
        ) from None
    if committed:
        _refuse_unless_committable(_Given(name, text, COMMITTED_FILE, name))
    return name


def may_be_committed(key: str) -> bool:
    """Tell whether a key may stand in ``.dvconfig``, its value aside."""
    return _KEYS[_pattern(validate_key(key))].committed


def committed_url_allowed(url: str, repo_root: str | None = None) -> bool:
    """Tell whether a committed file may name this remote: s3:// or a folder of the repository.

    With `repo_root`, symlinks on the way are followed and must not lead out of the repository.
    """
    try:
        _check_url(url)
    except ValueError:
        return False
    if not url.isprintable():
        return False
    if url.startswith("s3://"):
        return True
    parts = [part for part in url.split("/") if part not in {"", "."}]
    # A colon in the first part makes it a scheme or a drive, "~" somebody's home.
    if not parts or url.startswith(("/", "~")) or "\\" in url or ":" in parts[0]:
        return False
    if not _are_inside(parts):
        return False
    if repo_root is None:
        return True
    root = os.path.realpath(repo_root)
    reached = os.path.relpath(os.path.realpath(os.path.join(root, url)), root)
    return reached != "." and _are_inside(reached.split(os.sep))


def _are_inside(parts: Iterable[str]) -> bool:
    """Tell whether a path stays where it starts, and out of git's own folder.

    Some filesystems ignore case and, at the end, dots and spaces; ``git~1`` is a short name there.
    """
    return not any(part == ".." or part.lower().rstrip(". ") in {".git", "git~1"} for part in parts)


def _normalised(key: str) -> str:
    """Return the key with section and name in lower case, as git has them, the middle kept."""
    section, _, rest = key.partition(".")
    middle, dot, name = rest.rpartition(".")
    return f"{section.lower()}.{middle}{dot}{name.lower()}"


def _remote_of(key: str) -> str:
    """Return the remote that a normalised key is about, or the empty string."""
    section, _, rest = key.partition(".")
    return rest.rpartition(".")[0] if section == "remote" else ""


def _pattern(key: str) -> str:
    """Return the key with ``*`` for the name of a remote, as it stands in `KEYS`."""
    return f"remote.*.{key.rpartition('.')[2]}" if _remote_of(key) else key


def _from_committed(items: Items) -> Iterator[_Given]:
    for name, text in items:
        given = _Given(_normalised(name), text, COMMITTED_FILE, name)
        _refuse_unless_committable(given)
        yield given


def _from_local(items: Items) -> Iterator[_Given]:
    for name, text in items:
        if name.lower().startswith(LOCAL_PREFIX):
            yield _Given(_normalised(name[len(LOCAL_PREFIX) :]), text, ".git/config", name)


def _from_environment(environ: Mapping[str, str], known_keys: Iterable[str]) -> Iterator[_Given]:
    """Yield what ``DV_*`` variables set; an empty one counts as not set, as usual.

    A name in capitals does not tell ``-`` from ``_``: it means the remote that is configured, or a
    new one in lower case.
    """
    remotes = sorted({_remote_of(key) for key in known_keys} - {""})
    keys = [key.name for key in KEYS if "*" not in key.name]
    keys += [f"remote.{remote}.{field}" for remote in remotes for field in _REMOTE_FIELDS]
    by_variable: dict[str, list[str]] = {}
    for key in keys:
        by_variable.setdefault(_variable(key), []).append(key)
    for variable, text in sorted(environ.items()):
        found = by_variable.get(variable, [])
        if not found and variable.startswith(_REMOTE_VARIABLE_PREFIX):
            new = re.fullmatch(_REMOTE_VARIABLE, variable)
            found = [f"remote.{new[1].lower()}.{new[2].lower()}"] if new else []
        if len(found) > 1 and text:
            raise SetupError(
                f"{variable} in the environment could mean any of:\n{listing(found)}",
                hint=f"run: unset {variable}",
            )
        if found and text:
            yield _Given(found[0], text, "environment", variable)


def _variable(key: str) -> str:
    return "DV_" + re.sub(r"[^A-Za-z0-9]", "_", key).upper()


def _refuse_unless_committable(given: _Given) -> None:
    """Raise SetupError for a setting that must not come from a committed file."""
    key = _KEYS.get(_pattern(given.key))
    field = given.key.rpartition(".")[2]
    local = f"{given.removal}, then: dv config --local {shlex.quote(printable(given.key))} VALUE"
    if key is None:
        if re.search(_CREDENTIAL, field.replace("-", "").replace("_", "")):
            raise SetupError(
                f"{given.place} is a credential; those are not read from files in git",
                hint=f"{given.removal}, replace the credential if it was pushed, and keep the new "
                "one where the AWS tools look: the environment, ~/.aws or the machine's role",
            )
        if re.search(_PROGRAM, field) or given.key.partition(".")[0] in _PROGRAM_SECTIONS:
            raise SetupError(
                f"{given.place} names a program to run, which a file in git must not",
                hint=given.removal,
            )
    elif not key.committed:
        raise SetupError(f"{given.place} is not allowed in a file in git", hint=local)
    elif key.name == "remote.*.url" and given.text:
        try:
            _check_url(given.text)
        except ValueError as error:
            raise SetupError(f"{given.place} {error}", hint=given.removal) from None
        if not committed_url_allowed(given.text):
            raise SetupError(
                f"{given.place} is neither an s3:// URL nor a folder inside the repository, and "
                "nothing else is allowed in a file in git",
                hint=local,
            )


def _checked(given: _Given, key: Key) -> Value:
    remote = _remote_of(given.key)
    if remote and not re.fullmatch(_REMOTE_NAME, remote):
        raise SetupError(f"{given.place}: not a name for a remote", hint=given.removal)
    try:
        return _parse(key, given.text)
    except ValueError as error:
        raise SetupError(f"{given.place} {error}", hint=f"mend it, or {given.removal}") from None


def _parse(key: Key, text: str) -> Value:
    """Return the value that `text` spells; ValueError (a predicate, without the value) if none.

    The value is not in the message since people paste credentials into urls. The empty text says
    that a ``str`` has no value: so a stronger file can take back what a weaker one sets.
    """
    if not text.isprintable():
        raise ValueError("holds control characters or is not UTF-8")
    match key.kind:
        case "bool":
            return _parse_bool(text)
        case "size":
            return _parse_size(text)
        case "int":
            if not re.fullmatch(_WHOLE_NUMBER, text):
                raise ValueError("is not a whole number of at most nine digits")
            return int(text)
        case "choice":
            if text not in key.choices:
                raise ValueError(f"is none of: {', '.join(key.choices)}")
            return text
        case "str":
            if text and key.name in _CHECKS:
                _CHECKS[key.name](text)
            return text or None


def _parse_bool(text: str) -> bool:
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    if re.fullmatch(_WHOLE_NUMBER, word):
        return int(word) != 0
    raise ValueError("is neither true nor false")


def _parse_size(text: str) -> int:
    """Return bytes: ``k``, ``KiB`` and so on are powers of 1024, ``kB`` and so on of 1000."""
    found = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE)
    if found is None or (found[3] and not found[2] and found[3].lower() == "ib"):
        raise ValueError("is not a size such as 500k, 10 MiB or 2G")
    base = 1000 if (found[3] or "").lower() == "b" else 1024
    power: int = "kmgt".index(found[2].lower()) + 1 if found[2] else 0
    size = int(found[1]) * int(base**power)
    if size > _SIZE_MAX_BYTES:
        raise ValueError("is larger than any file")
    return size


def _check_url(url: str) -> None:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return
    host = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in host or (scheme.lower() == "s3" and ":" in host):
        raise ValueError("holds credentials; leave them to the AWS tools' own configuration")
    if scheme == "s3" and (not re.fullmatch(_BUCKET, host) or re.search(r"[?#\\]", rest)):
        raise ValueError("is not of the form s3://BUCKET or s3://BUCKET/PREFIX")


def _check_endpoint(url: str) -> None:
    _check_url(url)
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


def _check_storage_class(name: str) -> None:
    if name in _ARCHIVES:
        raise ValueError(
            "is an archive, from which reading takes hours; dvtool reads parts of packs at any time"
        )
    if not re.fullmatch(_STORAGE_CLASS, name):
        raise ValueError("is not a storage class such as STANDARD_IA")


def _check_ca_bundle(path: str) -> None:
    if not os.path.isabs(os.path.expanduser(path)):
        raise ValueError("is not an absolute path")


def _matching(pattern: str, otherwise: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        if not re.fullmatch(pattern, text):
            raise ValueError(otherwise)

    return check


_CHECKS: Mapping[str, Callable[[str], None]] = {
    "core.remote": _matching(_REMOTE_NAME, "is not a name for a remote"),
    "core.repoid": _matching(_REPO_ID, "is not 32 hexadecimal digits in lower case"),
    "remote.*.url": _check_url,
    "remote.*.endpointurl": _check_endpoint,
    "remote.*.region": _matching(_REGION, "is not a region such as eu-central-1"),
    "remote.*.storageclass": _check_storage_class,
    "remote.*.cabundle": _check_ca_bundle,
    "remote.*.proxy": _check_endpoint,
}
