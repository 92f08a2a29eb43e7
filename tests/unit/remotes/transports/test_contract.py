"""The contract of backends, where no server is needed; and that no transport is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dvtool.remotes.transports import registry
from dvtool.remotes.transports.base import Backend
from tests.contract import PLACES, Contract
from tests.memory import MEMORY, NAMES


def _folder(tmp_path: Path) -> str:
    path = tmp_path / "remote"
    path.mkdir()
    return str(path)


def _memory(tmp_path: Path) -> str:
    NAMES.clear()
    return "memory://contract"


URLS: Mapping[str, Callable[[Path], str]] = {"folder": _folder, "memory": _memory}


@pytest.fixture(params=URLS)
def plain(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Backend:
    monkeypatch.setattr(registry, "TRANSPORTS", (*registry.TRANSPORTS, MEMORY))
    return registry.open_plain(URLS[request.param](tmp_path))


class TestContract(Contract):
    pass


def test_the_contract_is_tried_on_every_transport() -> None:
    assert {id(transport) for transport in PLACES.values()} == set(map(id, registry.TRANSPORTS))
