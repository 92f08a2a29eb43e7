"""The places a remote can be: a folder, and both S3 servers."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return Remote(f"s3://{server.new_bucket()}/some/prefix", server.endpoint_url)
