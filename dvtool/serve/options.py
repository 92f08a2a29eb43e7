"""The values of a server: which options it takes, and what it says of itself once it runs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

BUCKET = "dv"
REGION = "us-east-1"


class ServeOptions(msgspec.Struct, frozen=True):
    """The options of `Repo.serve`."""

    revs: Sequence[str] = ()
    """The revisions to serve; none means all that git resolves."""
    host: str = "127.0.0.1"
    """The address to listen at."""
    port: int = 0
    """The port; 0 lets the system choose one that is free."""
    access_key: str | None = None
    """The access key that clients use; a random one if there is none."""
    secret_key: str | None = None
    """The secret key that clients use; a random one if there is none."""


class Serving(msgspec.Struct, frozen=True):
    """The address of a running server, and the keys that let a client in."""

    endpoint_url: str
    """The URL of the server, for AWS_ENDPOINT_URL."""
    bucket: str
    """The name of the bucket."""
    region: str
    """The region to name; the server takes any."""
    access_key: str
    """The access key, for AWS_ACCESS_KEY_ID."""
    secret_key: str
    """The secret key, for AWS_SECRET_ACCESS_KEY."""
    revs: Sequence[str]
    """The revisions that are served, as they were given; none means all that git resolves."""
