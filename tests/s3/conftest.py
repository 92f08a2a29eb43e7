"""The places a remote can be: a folder, and both S3 servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.remotes.transports.s3.options import S3Options
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.scenario import Remote


@pytest.fixture(params=["folder", "rclone", "moto"])
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Remote:
    """An empty remote of each kind in turn, with credentials in the environment."""
    if request.param == "folder":
        return Remote(str(tmp_path / "remote"))
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    use(server, monkeypatch)
    return Remote(f"s3://{server.new_bucket()}/some/prefix", server.endpoint_url)


def use(server: S3Server, patch: pytest.MonkeyPatch) -> None:
    """Put what lets a client in into the environment."""
    for name, value in server.env.items():
        patch.setenv(name, value)


@pytest.fixture
def proxy(s3_env: S3Server) -> Iterator[CountingProxy]:
    with CountingProxy(s3_env.endpoint_url) as running:
        yield running


@pytest.fixture
def proxied(proxy: CountingProxy, s3_env: S3Server) -> Iterator[S3Backend]:
    s3 = S3Backend(s3_env.new_bucket(), "p", S3Options(endpoint_url=proxy.url))
    yield s3
    s3.close()
