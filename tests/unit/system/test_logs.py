"""Notes for a log: made only for who reads, and never with credentials."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from dvtool.system.logs import TEXT_LENGTH_MAX, Log, without_secrets

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"git clone https://me:{SECRET}@example.org/x.git: exit 128",
        f"fatal: unable to access 'https://{SECRET}@example.org/x.git/'",
        f"proxy http://user:{SECRET}@proxy:3128 and https://a:{SECRET}@b",
        f"GET https://bucket.example.org/key?X-Amz-Signature={SECRET}&X-Amz-Date=1: 200",
        f"Authorization: AWS4-HMAC-SHA256 Credential=AKIA/{SECRET}, Signature={SECRET}",
        f"-c http.extraHeader=Authorization: Basic {SECRET}",
        f"{{'x-amz-security-token': '{SECRET}'}}",
        f"aws_secret_access_key = {SECRET}",
        f"AWS_SESSION_TOKEN={SECRET}",
        f'"password": "{SECRET}"',
    ],
)
def test_credentials_are_hidden(text: str) -> None:
    shown = without_secrets(text)
    assert SECRET not in shown
    assert "(hidden)" in shown


@pytest.mark.parametrize(
    "text",
    [
        "git rev-parse --git-dir: exit 0 in 3 ms, 85 bytes",
        "GET https://s3.eu-central-1.amazonaws.com/bucket/packs/b6/b66a: 206 in 12 ms, 4096 bytes",
        "git clone git@example.org:team/vision.git: exit 0",
        "pack b66a2fc3a29b077f is read whole: 100 of its 120 bytes are needed",
        "reads 2 files, 10 bytes, of data/images: one.txt, user@host.txt",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_a_note_is_one_line_and_not_endless() -> None:
    assert without_secrets("a\r\nb") == "a\\r\\nb"
    assert len(without_secrets("x" * 10 * TEXT_LENGTH_MAX)) < TEXT_LENGTH_MAX + 50


@pytest.mark.parametrize("part", ["x", "a.", "://", "x-amz-", "secret", "token ", "?", "a="])
def test_a_text_of_any_length_is_cut_at_once(part: str) -> None:
    # With time that grows by the square of the length, each would take hours.
    assert len(without_secrets(part * 1_000_000)) < TEXT_LENGTH_MAX + 50


def test_who_asks_for_notes_gets_them(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("part")
    with caplog.at_level(logging.INFO, "dvtool"):
        assert not log.on
        log.note("nobody reads this")
    with caplog.at_level(logging.DEBUG, "dvtool"):
        assert log.on
        log.note("%d%% of https://me:%s@host", 5, SECRET)
        log.note("100%")
    assert caplog.messages == ["5% of https://(hidden)@host", "100%"]
    assert {record.name for record in caplog.records} == {"dvtool.part"}


def test_nobody_imports_logging_for_a_note() -> None:
    program = (
        "import sys; from dvtool.system.logs import Log; log = Log('x'); log.note('%s', 1); "
        "print(log.on, 'logging' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False False\n"
