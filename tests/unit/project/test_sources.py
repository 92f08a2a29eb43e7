"""`dvtool.project.sources`: what a committed file may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool.errors import SetupError
from dvtool.project.keys import KEYS
from dvtool.project.sources import validate_setting
from dvtool.remotes.transports.registry import committed_url_allowed
from tests.unit.project.settings import load


@pytest.mark.parametrize(
    "key",
    [
        "remote.o.accesskeyid",
        "remote.o.access-key",
        "remote.o.SecretAccessKey",
        "core.token",
        "remote.o.password",
        "remote.o.sessiontoken",
        "aws.secret",
        "remote.o.secret-key",
    ],
)
def test_credentials_are_refused_in_the_committed_file(key: str) -> None:
    with pytest.raises(SetupError, match=r"in \.dvconfig is a credential") as caught:
        load([(key, "hunter2")])
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert "AWS" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "key",
    [
        "core.editor",
        "core.pager",
        "hooks.command",
        "remote.o.helper",
        "core.sshcommand",
        "alias.x",
        "filter.x.clean",
        "core.hookspath",
        "remote.o.credential-process",
    ],
)
def test_programs_are_refused_in_the_committed_file(key: str) -> None:
    with pytest.raises(SetupError, match="names a program") as caught:
        load([(key, "rm -rf /")])
    assert "git config --file .dvconfig --unset-all" in (caught.value.hint or "")


VALID = {
    "store.keep": "all",
    "remote.*.cabundle": "/etc/ca.pem",
    "remote.*.proxy": "http://proxy:3128",
}


@pytest.mark.parametrize("key", [key.name for key in KEYS if not key.committed])
def test_local_keys_are_refused_in_the_committed_file(key: str) -> None:
    name = key.replace("*", "o")
    with pytest.raises(SetupError, match=f"{name} in .dvconfig is not allowed") as caught:
        load([(name, "1")])
    assert f"dv config --local {name}" in (caught.value.hint or "")
    with pytest.raises(SetupError, match="not allowed"):
        validate_setting(name, VALID.get(key, "1"), committed=True)


ALLOWED_URLS = [
    "s3://bucket",
    "s3://my.bucket-1/pre/fix/",
    "s3://bucket/with space/a@b",
    "remote",
    "./shared/remote/",
    "a/.b/..c/d..",
    "dir/with:colon",
]


REFUSED_URLS = [
    "",
    ".",
    "./",
    "/",
    "/mnt/data",
    "//host/share",
    "..",
    "../sibling",
    "a/../../b",
    "a/b/..",
    "~/data",
    "~root/data",
    "file:///mnt/data",
    "file://data",
    "file:data",
    "https://example.org/x",
    "S3://bucket",
    "s3://",
    "s3:/bucket",
    "s3:bucket",
    "ssh://host/x",
    "host:path",
    "C:/data",
    "C:\\data",
    "..\\data",
    "\\\\host\\share",
    ".git",
    ".git/dv",
    "a/.GIT/hooks",
    "./.git./hooks",
    "git~1/hooks",
    "a\nb",
    "a\0b",
    "s3://bucket/\x1b[31m",
]


@pytest.mark.parametrize("url", ALLOWED_URLS)
def test_urls_allowed_in_the_committed_file(url: str, tmp_path: Path) -> None:
    assert committed_url_allowed(url)
    assert committed_url_allowed(url, str(tmp_path))
    assert load([("remote.o.url", url)]).remote("o").url == url
    assert validate_setting("remote.o.URL", url, committed=True) == "remote.o.url"


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_urls_refused_in_the_committed_file(url: str) -> None:
    assert not committed_url_allowed(url)
    if url:
        with pytest.raises(SetupError, match=r"remote\.o\.url in \.dvconfig"):
            load([("remote.o.url", url)])


def test_names_of_remotes_in_files_are_checked() -> None:
    for name in ("a b", "-x", "a/b", "\x1b[31m", "x" * 65, "*"):
        with pytest.raises(SetupError, match="not a name for a remote") as caught:
            load([(f"remote.{name}.url", "s3://bucket")])
        assert "\x1b" not in f"{caught.value} {caught.value.hint}"
