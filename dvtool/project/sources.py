"""The places a setting may come from: the committed file, this clone's, the environment.

A committed file comes from whoever can open a pull request, so only keys marked `committed` are
taken from it, with values that can do no more than name a bucket or a folder of the repository.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

import msgspec

from dvtool.errors import SetupError, UsageError, listing, printable
from dvtool.project.keys import (
    KEYS,
    REMOTE_NAME,
    Key,
    find_key,
    known_key,
    normalised,
    remote_of,
    validate_key,
)
from dvtool.project.values import parse_value
from dvtool.remotes.transports.declaration import Value
from dvtool.remotes.transports.registry import (
    check_url_setting,
    committed_forms,
    committed_url_allowed,
)

COMMITTED_FILE: Literal[".dvconfig"] = ".dvconfig"
LOCAL_PREFIX = "dv."

Items: TypeAlias = Iterable[tuple[str, str]]
"""Keys and values in the order of the file; of two with the same key the later one counts."""
Source: TypeAlias = Literal[
    "default", "~/.config/dv/config", ".dvconfig", ".git/config", "environment"
]
USER_FILE: Literal["~/.config/dv/config"] = "~/.config/dv/config"
"""Settings of a user for all repositories, as it is called in listings."""
OF_ONE_REPOSITORY = frozenset({"core.repoid"})
"""Keys that say nothing where all repositories would have them."""

# Patterns as text: the most of them are compiled only where something is set.
_CREDENTIAL = (
    r"(accesskey(id)?|secret(accesskey|key)?|privatekey|apikey|token|password|passwd|passphrase"
    r"|credentials?|signature)$"
)
_PROGRAM = (
    r"(command|cmd|program|exec|executable|helper|script|editor|pager|process|shell|hookspath)$"
)
_PROGRAM_SECTIONS = frozenset({"alias", "credential", "filter"})
_REMOTE_FIELDS = tuple(key.name.rpartition(".")[2] for key in KEYS if "*" in key.name)
_REMOTE_VARIABLE_PREFIX = "DV_REMOTE_"
_REMOTE_VARIABLE = (
    rf"{_REMOTE_VARIABLE_PREFIX}([A-Z0-9][A-Z0-9_]*)_({'|'.join(_REMOTE_FIELDS).upper()})"
)


class Given(msgspec.Struct, frozen=True):
    """A value as a source has it: `name` is the key as it is written there."""

    key: str
    text: str
    source: Source
    name: str

    @property
    def place(self) -> str:
        """The key and the source, for messages."""
        where = "the environment" if self.source == "environment" else self.source
        return f"{printable(self.name)} in {where}"

    @property
    def removal(self) -> str:
        """The command that takes the value out again."""
        name = shlex.quote(printable(self.name))
        if self.source == "environment":
            return f"run: unset {name}"
        files = {COMMITTED_FILE: f" --file {COMMITTED_FILE}", USER_FILE: f" --file {USER_FILE}"}
        file = files.get(self.source, "")
        return f"run: git config{file} --unset-all {name}"


def validate_setting(key: str, text: str, *, committed: bool) -> str:
    """Return the key as `validate_key` if it may be set to `text`; to be asked before writing.

    UsageError for a value that the key cannot have; with `committed`, SetupError for a setting that
    ``.dvconfig`` must not have.
    """
    name = validate_key(key)
    try:
        parse_value(known_key(name), text)
    except ValueError as error:
        raise UsageError(
            f"{name} {error}", hint="run: dv config, for what each key takes"
        ) from None
    if committed:
        _refuse_unless_committable(Given(name, text, COMMITTED_FILE, name))
    return name


def may_be_committed(key: str) -> bool:
    """Tell whether ``.dvconfig`` may have a key, its value aside."""
    return known_key(key).committed


def from_committed(items: Items) -> Iterator[Given]:
    """Yield what ``.dvconfig`` sets; SetupError for what a file in git must not set."""
    for name, text in items:
        given = Given(normalised(name), text, COMMITTED_FILE, name)
        _refuse_unless_committable(given)
        yield given


def user_file(environ: Mapping[str, str]) -> str | None:
    """Return where a user's settings for all repositories are; None if there is no home."""
    base = environ.get("XDG_CONFIG_HOME") or ""
    if not os.path.isabs(base):
        home = environ.get("HOME") or environ.get("USERPROFILE")
        if not home:
            return None
        base = os.path.join(home, ".config")
    return os.path.join(base, "dv", "config")


def from_user(items: Items) -> Iterator[Given]:
    """Yield what a user set for all repositories; keys are written as in ``.dvconfig``."""
    for name, text in items:
        given = Given(normalised(name), text, USER_FILE, name)
        if given.key in OF_ONE_REPOSITORY:
            raise SetupError(f"{given.place} is of one repository, not of all", hint=given.removal)
        yield given


def from_local(items: Items) -> Iterator[Given]:
    """Yield what ``dv.*`` in ``.git/config`` sets; other keys there are not ours."""
    for name, text in items:
        if name.lower().startswith(LOCAL_PREFIX):
            yield Given(normalised(name[len(LOCAL_PREFIX) :]), text, ".git/config", name)


def from_environment(environ: Mapping[str, str], known_keys: Iterable[str]) -> Iterator[Given]:
    """Yield what ``DV_*`` variables set; an empty one counts as not set, as usual.

    A variable's name does not tell ``-`` from ``_``: it means the remote that is configured, or a
    new one in lower case.
    """
    remotes = sorted({remote_of(key) for key in known_keys} - {""})
    keys = [key.name for key in KEYS if "*" not in key.name]
    keys += [f"remote.{remote}.{field}" for remote in remotes for field in _REMOTE_FIELDS]
    by_variable: dict[str, list[str]] = {}
    for key in keys:
        by_variable.setdefault(_environment_variable(key), []).append(key)
    for variable, text in sorted(environ.items()):
        meant_keys = by_variable.get(variable, [])
        if not meant_keys and variable.startswith(_REMOTE_VARIABLE_PREFIX):
            new = re.fullmatch(_REMOTE_VARIABLE, variable)
            meant_keys = [f"remote.{new[1].lower()}.{new[2].lower()}"] if new else []
        if len(meant_keys) > 1 and text:
            raise SetupError(
                f"{variable} in the environment could mean any of:\n{listing(meant_keys)}",
                hint=f"run: unset {variable}",
            )
        if meant_keys and text:
            yield Given(meant_keys[0], text, "environment", variable)


def _environment_variable(key: str) -> str:
    return "DV_" + re.sub(r"[^A-Za-z0-9]", "_", key).upper()


def _refuse_unless_committable(given: Given) -> None:
    """Raise SetupError for a setting that must not come from a committed file."""
    key = find_key(given.key)
    field = given.key.rpartition(".")[2]
    local = f"{given.removal}, then: dv config --local {shlex.quote(printable(given.key))} VALUE"
    if key is None:
        if re.search(_CREDENTIAL, field.replace("-", "").replace("_", "")):
            raise SetupError(
                f"{given.place} is a credential; credentials are not read from files in git",
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
            check_url_setting(given.text)
        except ValueError as error:
            raise SetupError(f"{given.place} {error}", hint=given.removal) from None
        if not committed_url_allowed(given.text):
            raise SetupError(
                f"{given.place} is neither {' nor '.join(committed_forms())}, and nothing else is "
                "allowed in a file in git",
                hint=local,
            )


def checked_value(given: Given, key: Key) -> Value:
    """Return the value that was given for a key; SetupError, with the place, if it has none."""
    remote = remote_of(given.key)
    if remote and not re.fullmatch(REMOTE_NAME, remote):
        raise SetupError(f"{given.place}: not a name for a remote", hint=given.removal)
    try:
        return parse_value(key, given.text)
    except ValueError as error:
        raise SetupError(f"{given.place} {error}", hint=f"correct it, or {given.removal}") from None
