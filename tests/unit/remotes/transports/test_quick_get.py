"""What the quick way learns from the usual one."""

from __future__ import annotations

import io
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from urllib3.response import HTTPResponse

from dvtool.remotes.transports.s3.quick_get import QuickGet


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_the_bucket_is_where_it_was_whatever_other_keys_end_with(style: str) -> None:
    """Not below `x/`, though the URL of the second request ends with the first one's key."""
    config = Config(s3={"addressing_style": style})
    client: Any = boto3.client(
        "s3",
        endpoint_url="http://localhost:1/top",
        region_name="r",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=config,
    )
    sent: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        sent.append(request.url)
        body = HTTPResponse(io.BytesIO(b""), preload_content=False)
        return AWSResponse(request.url, 200, {"content-length": "0"}, body)

    client.meta.events.register_last("before-send.s3.GetObject", answer)
    quick = QuickGet("bucket")
    quick.learn(client)
    for key in ("a b.txt", "x/a b.txt", "a b.txt/a b.txt"):
        client.get_object(Bucket="bucket", Key=key)
        assert quick.knows(client)
        assert sent[-1] == quick._known().url + key.replace(" ", "%20")
