"""A remote's URL: whose it is, what is wrong with it, what opens it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from dvtool.errors import (
    UsageError,
)
from dvtool.remotes.transports import registry
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.remotes.transports.local.declaration import FOLDER, folder_path
from dvtool.remotes.transports.registry import open_backend, open_plain, transport_of
from dvtool.remotes.transports.retry import Retry
from dvtool.remotes.transports.s3.declaration import S3, bucket_and_prefix
from tests.memory import MEMORY, OPENED


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/data", "/srv/data"),
        ("file:///srv/data", "/srv/data"),
        ("FILE:///srv/data", "/srv/data"),
        ("file://localhost/srv/data", "/srv/data"),
        ("file:///srv/my%20data%25", "/srv/my data%"),
        ("/srv/my%20data", "/srv/my%20data"),
        ("/srv/ä ö", "/srv/ä ö"),
    ],
)
def test_directories(url: str, path: str) -> None:
    assert transport_of(url) is FOLDER
    assert folder_path(url) == path
    backend = open_backend(url)
    assert isinstance(backend, LocalBackend)
    assert backend.url == url


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://my.bucket-1/a/b/", "my.bucket-1", "a/b"),
        ("S3://bucket/a%20b", "bucket", "a%20b"),
    ],
)
def test_buckets(url: str, bucket: str, prefix: str) -> None:
    assert transport_of(url) is S3
    assert bucket_and_prefix(url) == (bucket, prefix)
    backend = open_backend(url, {"endpoint_url": "http://127.0.0.1:9"})
    assert isinstance(backend, Retry)
    assert backend.url == f"s3://{bucket}/{prefix}".rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "data",
        "./data",
        "~/data",
        "file://host/data",
        "file:data",
        "file://",
        "file:///a%00b",
        "s3://",
        "s3:///prefix",
        "s3://b ucket/x",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/x?endpoint=y",
        "s3://bucket/x#y",
        "gs://bucket/x",
        "http://host/x",
        "s3:/bucket",
        "/srv/\x1b[31m",
    ],
)
def test_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_plain(url)
    assert str(caught.value).isprintable()
    assert caught.value.hint


def test_unknown_scheme_says_what_is_supported() -> None:
    with pytest.raises(UsageError, match="gs://") as caught:
        open_backend("gs://bucket/x")
    assert "s3://" in (caught.value.hint or "")
    assert "file:///" in (caught.value.hint or "")


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        open_plain("s3://KEY:hush@bucket/x")
    assert "hush" not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        open_backend("s3://bucket/x", {"endpoint_url": "https://KEY:hush@host"})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["host:9000", "ftp://host", "http://", "http://host:x"])
def test_endpoints_are_checked(endpoint: str) -> None:
    with pytest.raises(UsageError, match="endpoint"):
        open_backend("s3://bucket/x", {"endpoint_url": endpoint})


def test_boto3_is_loaded_for_s3_only() -> None:
    code = (
        "import sys; from dvtool.remotes.transports.registry import open_backend;"
        "open_backend('/srv'); assert 'boto3' not in sys.modules;"
        "open_backend('s3://bucket'); assert 'boto3' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What a declaration leads to


def test_an_option_of_another_transport_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="is a folder, where storage-class means nothing"
    ) as caught:
        open_plain(str(tmp_path), {"storage_class": "STANDARD_IA"})
    assert "S3 (s3://bucket/prefix)" in (caught.value.hint or "")
    open_plain(str(tmp_path), {"storage_class": None})


def test_defaults_are_those_of_the_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "TRANSPORTS", (*registry.TRANSPORTS, MEMORY))
    open_backend("MEMORY://x", {"shelf": "upper"})
    assert OPENED[-1] == {"shelf": "upper", "pass_word": None}
    sse = next(option for option in S3.options if option.name == "sse")
    assert sse.value(sse.default) is None


def test_options_of_one_name_are_one_option(monkeypatch: pytest.MonkeyPatch) -> None:
    region = next(option for option in S3.options if option.name == "region")
    same = msgspec.structs.replace(MEMORY, options=(region,))
    monkeypatch.setattr(registry, "TRANSPORTS", (*registry.TRANSPORTS, same))
    assert [option.name for option in registry.remote_options()].count("region") == 1
    other = msgspec.structs.replace(region, committed=False)
    monkeypatch.setattr(
        registry, "TRANSPORTS", (S3, msgspec.structs.replace(MEMORY, options=(other,)))
    )
    with pytest.raises(ValueError, match="declare region differently"):
        registry.remote_options()


def test_a_secret_cannot_be_declared_committable() -> None:
    secret = next(option for option in MEMORY.options if option.secret)
    with pytest.raises(ValueError, match="must not be committed"):
        msgspec.structs.replace(secret, committed=True)


def test_each_scheme_has_one_transport() -> None:
    schemes = [scheme for transport in registry.TRANSPORTS for scheme in transport.schemes]
    assert len(schemes) == len(set(schemes))
    assert all(scheme == scheme.lower() for scheme in schemes)


def test_the_manual_lists_every_option() -> None:
    text = (Path(__file__).parents[4] / "docs" / "remotes.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for option in registry.remote_options():
        (row,) = [row for row in rows if row.startswith(f"| `{option.field}` | `{option.flag}` |")]
        assert row.split("|")[3].strip().startswith("yes" if option.committed else "no"), row
