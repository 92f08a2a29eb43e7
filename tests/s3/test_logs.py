"""The log of transfers: each request and its answer, decisions, proofs; and no credentials."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest

from dvtool.cli import logs
from tests.s3.servers import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Server
from tests.scenario import Clone, Remote, noise

SESSION_TOKEN = "dvtestsessiontoken0123456789"
NEVER = (ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, "AWS4-HMAC", "X-Amz-Signature")


def test_a_log_tells_of_requests_and_not_of_credentials(
    s3_env: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither in what the library notes, nor in the file of the command."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    remote = Remote(f"s3://{s3_env.new_bucket()}/some/prefix", s3_env.endpoint_url)
    monkeypatch.delenv("DV_LOG", raising=False)
    caplog.set_level(logging.DEBUG, "dvtool")
    logs.begin_in_file(str(tmp_path / "log"), [])
    try:
        mine = Clone.new(tmp_path / "mine", remote)
        mine.write("data/one.bin", noise(300_000))
        mine.add("data")
        mine.commit("first")
        with mine.repo() as repo:
            repo.push()
        theirs = mine.clone(tmp_path / "theirs", remote)
        with theirs.repo() as repo:
            repo.pull()
    finally:
        logs.end(0)
        os.environ.pop("DV_LOG", None)  # the command set it; a later test must not find it
    text = (tmp_path / "log").read_text()
    for pattern in (
        r"remotes\.s3: PUT http\S+/some/prefix/packs/\S+: 200 in [\d,]+ ms",
        r"remotes\.s3: GET http\S+/some/prefix/packs/\S+: 20\d in [\d,]+ ms, \d+ bytes",
        r"remotes: put packs/\S+: done in [\d,]+ ms",
        r"remotes: proven by its own word: [1-9]\d* objects with their size",
        r"fetch: pack [0-9a-f]{16} is read whole: \d+ of its \d+ bytes are needed",
        r"workspace: stores 1 files, 300000 bytes, of data: ",
        r"git: git rev-parse .*: exit 0 in ",
    ):
        assert re.search(pattern, text), pattern
    for told in (text, "\n".join(caplog.messages)):
        assert not [word for word in NEVER if word in told]
