"""`dv serve` where it cannot begin; tests/s3/test_serve.py has the rest."""

from __future__ import annotations

import socket
import sys

import pytest

from dvtool import serve
from tests.cli.conftest import Work


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("none",), 2, "unknown revision: none"),
        (("HEAD:data",), 2, "unknown revision: HEAD:data"),
        (("--port", "70000"), 2, "70000"),
        (("--host", "no such host"), 2, "no address of this machine"),
        (("--access-key", ""), 2, "the access key is empty"),
        (("--access-key", "a/b"), 2, "no comma or slash"),
        (("--secret-key", "a b"), 2, "the secret key is empty, or has a character"),
    ],
)
def test_what_makes_no_sense_is_refused(
    data: Work, args: tuple[str, ...], code: int, message: str
) -> None:
    ran = data.dv("serve", *args, code=code)
    assert message in ran.err
    assert ran.out == ""
    assert data.dv("serve", "--json", *args, code=code).json["error"]["exit_code"] == code


def test_a_port_in_use_is_named(data: Work) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = data.dv("serve", "--port", port, code=3)
    assert f"cannot listen at 127.0.0.1:{port}" in ran.err


def test_the_extra_is_named_if_it_is_missing(data: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dvtool.serve.server", raising=False)
    monkeypatch.delitem(sys.modules, "dvtool.serve.connections", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "uvicorn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(serve, "server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "install dvtool with its extra serve" in data.dv("serve", code=3).err


def test_no_repository_and_no_set_up(bare: Work) -> None:
    assert "dv init" in bare.dv("serve", code=3).err
