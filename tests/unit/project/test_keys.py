"""`dvtool.project.keys`: names of settings and of remotes."""

from __future__ import annotations

import pytest

from dvtool.errors import UsageError
from dvtool.project.keys import KEYS, validate_key, validate_remote_name
from dvtool.project.sources import validate_setting
from tests.unit.project.settings import load


def test_every_key_is_described() -> None:
    for key in KEYS:
        assert key.description.endswith("."), key
        assert (key.kind == "choice") == bool(key.choices)
        assert key.name == key.name.lower()


@pytest.mark.parametrize("name", ["origin", "a", "A-b_c.d", "0", "x" * 64])
def test_names_for_remotes(name: str) -> None:
    assert validate_remote_name(name) == name
    assert validate_key(f"remote.{name}.url") == f"remote.{name}.url"


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "a\n", "é", "x" * 65, "*"])
def test_names_refused_for_remotes(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        validate_remote_name(name)
    with pytest.raises(UsageError):
        validate_key(f"remote.{name}.url")


@pytest.mark.parametrize("key", ["", "core", "core.", ".remote", "remote.url", "core.x.remote"])
def test_unknown_keys(key: str) -> None:
    with pytest.raises(UsageError, match="there is no setting"):
        validate_key(key)
    with pytest.raises(UsageError):
        load().get(key)
    with pytest.raises(UsageError):
        validate_setting(key, "x", committed=True)


def test_an_unknown_key_close_to_a_known_one() -> None:
    with pytest.raises(UsageError) as caught:
        validate_key("hooks.autofech")
    assert "hooks.autofetch" in (caught.value.hint or "")
    assert validate_setting("Hooks.AutoFetch", "on", committed=True) == "hooks.autofetch"
