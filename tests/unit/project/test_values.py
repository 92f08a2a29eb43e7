"""`dvtool.project.values`: what a text means, and hostile texts."""

from __future__ import annotations

import pytest

from dvtool.errors import SetupError, UsageError
from dvtool.project.sources import validate_setting
from dvtool.remotes.transports.registry import committed_url_allowed
from tests.unit.project.settings import REMOTE, load


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("Yes", True),
        ("ON", True),
        ("1", True),
        ("10", True),
        ("false", False),
        ("no", False),
        ("off", False),
        ("0", False),
        ("00", False),
        ("", False),
    ],
)
def test_bools(text: str, expected: bool) -> None:
    assert load(local=[("dv.hooks.install", text)]).get("hooks.install") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("10k", 10 << 10),
        ("10 MiB", 10 << 20),
        ("10m", 10 << 20),
        ("2G", 2 << 30),
        ("1 tib", 1 << 40),
        ("1 MB", 1_000_000),
        ("3kB", 3_000),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert load(local=[("dv.hooks.maxfilesize", text)]).number("hooks.maxfilesize") == expected


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("hooks.install", "maybe", "neither true nor false"),
        ("hooks.maxfilesize", "", "not a size"),
        ("hooks.maxfilesize", "-1", "not a size"),
        ("hooks.maxfilesize", "1.5g", "not a size"),
        ("hooks.maxfilesize", "5 iB", "not a size"),
        ("hooks.maxfilesize", "5 parsecs", "not a size"),
        ("hooks.maxfilesize", "٣", "not a size"),
        ("hooks.maxfilesize", "9999999999999999999t", "larger than any file"),
        ("core.jobs", "-1", "not a whole number"),
        ("core.jobs", "two", "not a whole number"),
        ("store.keep", "some", "none of: all, unpushed"),
        ("core.repoid", "123", "32 hexadecimal"),
        ("core.repoid", "../" + "0" * 29, "32 hexadecimal"),
        ("core.remote", "../x", "not a name for a remote"),
        ("remote.o.region", "x.evil.example/", "not a region"),
        ("remote.o.endpointurl", "ftp://host", "not of the form"),
        ("remote.o.endpointurl", "https://", "not of the form"),
        ("remote.o.endpointurl", "https://host:port", "not of the form"),
        ("remote.o.endpointurl", "https://[::1", "not of the form"),
        ("remote.o.endpointurl", "https://host/?a=b", "not of the form"),
        ("remote.o.url", "s3://", "not of the form"),
        ("remote.o.url", "s3:///prefix", "not of the form"),
        ("remote.o.url", "s3://bucket/x?versionId=1", "not of the form"),
        ("remote.o.url", "s3://bu cket/", "not of the form"),
        ("remote.o.profile", "a\nb", "control characters"),
        ("store.path", "/a\x1b[31m", "control characters"),
        ("store.path", "/a\u202egpj", "control characters"),
        ("store.path", "/a\udcff", "control characters"),
    ],
)
def test_values_that_are_refused(key: str, text: str, said: str) -> None:
    with pytest.raises(SetupError, match=said) as caught:
        load(local=[(f"dv.{key}", text)])
    assert f"dv.{key} in .git/config" in str(caught.value)
    assert f"git config --unset-all dv.{key}" in (caught.value.hint or "")
    with pytest.raises(UsageError, match=said):
        validate_setting(key, text, committed=False)
    if not text:
        return
    variable = "DV_" + key.upper().replace(".", "_")
    with pytest.raises(SetupError, match=f"{variable} in the environment") as caught:
        load(environ={variable: text})
    assert f"unset {variable}" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:hunter2@bucket/x",
        "s3://key@bucket",
        "s3://AKIA:hun/ter2@bucket",
        "https://user:hunter2@host/x",
        "S3://user:hunter2@bucket",
    ],
)
def test_credentials_in_a_url_are_refused_everywhere_and_not_repeated(url: str) -> None:
    committed, local = [("remote.o.url", url)], [("dv.remote.o.url", url)]
    for layers in ((committed, None), (None, local)):
        with pytest.raises(SetupError, match="holds credentials") as caught:
            load(*layers)
        assert "hun" not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(SetupError, match="holds credentials"):
        load(environ={"DV_REMOTE_O_URL": url})
    with pytest.raises(SetupError):
        load(local=[("dv.remote.o.endpointurl", url)])
    assert not committed_url_allowed(url)


@pytest.mark.parametrize("name", ["GLACIER", "DEEP_ARCHIVE", "ARCHIVE"])
def test_archives_are_refused(name: str) -> None:
    with pytest.raises(SetupError, match="is an archive, from which reading takes hours"):
        load([*REMOTE, ("remote.o.storageclass", name)])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("storageclass", "standard ia"),
        ("addressing", "host"),
        ("sse", "rot13"),
        ("cabundle", "ca.pem"),
        ("proxy", "proxy:3128"),
        ("proxy", "http://user:secret@proxy:3128"),
        ("proxy", "socks5://proxy:1080"),
        ("anonymous", "perhaps"),
    ],
)
def test_options_that_make_no_sense(key: str, text: str) -> None:
    with pytest.raises(SetupError, match=f"dv.remote.o.{key} in .git/config") as caught:
        load(REMOTE, [(f"dv.remote.o.{key}", text)])
    assert "secret" not in str(caught.value)
