"""The contract of backends, over real S3 servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dvtool.remotes.transports.base import Backend
from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.remotes.transports.s3.declaration import S3
from dvtool.remotes.transports.s3.options import S3Options
from tests.contract import PLACES, Contract
from tests.s3.conftest import use
from tests.s3.servers import S3Server


@pytest.fixture(params=[name for name, transport in PLACES.items() if transport is S3])
def plain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    use(server, monkeypatch)
    s3 = S3Backend(server.new_bucket(), "team/data", S3Options(endpoint_url=server.endpoint_url))
    yield s3
    s3.close()


class TestContract(Contract):
    pass
