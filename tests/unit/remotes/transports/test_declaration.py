"""Checks that several transports share, and what a committed file may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool.remotes.transports.declaration import endpoint_is_exposed
from dvtool.remotes.transports.registry import committed_url_allowed


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("https://minio.example.org", False),
        ("http://127.0.0.1:9000", False),
        ("http://127.9.9.9", False),
        ("http://[::1]:9000", False),
        ("http://localhost:9000", False),
        ("HTTP://minio.example.org", True),
        ("http://10.0.0.1:9000", True),
        ("http://169.254.169.254", True),
        ("http://127.0.0.1.example.org", True),
        ("http://localhost.example.org", True),
        ("http://0x7f000001", True),
    ],
)
def test_endpoints_that_pass_a_network_in_the_clear(url: str, exposed: bool) -> None:
    assert endpoint_is_exposed(url) is exposed


def test_a_url_that_leaves_through_a_symlink(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / ".git").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (repo / "out").symlink_to(tmp_path / "outside")
    (repo / "up").symlink_to("..")
    (repo / "hidden").symlink_to(".git")
    (repo / "self").symlink_to(".")
    (repo / "inside").mkdir()
    (repo / "alias").symlink_to("inside")
    for url in ("out", "out/deep/er", "up", "up/repo-2", "hidden", "hidden/hooks", "self"):
        assert committed_url_allowed(url)
        assert not committed_url_allowed(url, str(repo)), url
    for url in ("alias/x", "inside", "new/folder", "self/inside"):
        assert committed_url_allowed(url, str(repo)), url
    (tmp_path / "link-to-repo").symlink_to(repo)
    assert committed_url_allowed("inside", str(tmp_path / "link-to-repo"))
