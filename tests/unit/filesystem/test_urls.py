"""URLs of data: which part is the repository, the revision and the path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dvtool.filesystem.urls import join_url, split_url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("dv://data/a.csv", ("", "", "data/a.csv")),
        ("dv://", ("", "", "")),
        ("dv://main@data/a.csv", ("", "main", "data/a.csv")),
        ("dv:///home/me/repo:data/a.csv", ("/home/me/repo", "", "data/a.csv")),
        ("dv:///home/me/repo:v1@data/", ("/home/me/repo", "v1", "data")),
        ("dv://../other:feature/x@data", ("../other", "feature/x", "data")),
        ("dv://https://host/team/x.git:main@data", ("https://host/team/x.git", "main", "data")),
        ("dv://https://host:8443/x.git:data", ("https://host:8443/x.git", "", "data")),
        ("dv://https://me@host/x.git:v1@data", ("https://me@host/x.git", "v1", "data")),
        ("dv://ssh://git@host:22/x.git:v1@data", ("ssh://git@host:22/x.git", "v1", "data")),
        ("dv://file:///srv/x.git:v1@data", ("file:///srv/x.git", "v1", "data")),
        ("dv://git@host:team/x.git:v1@data", ("git@host:team/x.git", "v1", "data")),
        ("dv://git@host:team/x.git:data", ("git@host:team/x.git", "", "data")),
        ("dv://:data/12:30.txt", ("", "", "data/12:30.txt")),
        ("dv://:main@data/12:30.txt", ("", "main", "data/12:30.txt")),
        ("dv://@data/me@home.txt", ("", "", "data/me@home.txt")),
        ("data/me@home:1.txt", ("", "", "data/me@home:1.txt")),
    ],
)
def test_a_url_has_parts(url: str, parts: tuple[str, str, str]) -> None:
    assert split_url(url) == parts


REPOS = st.sampled_from(["", "/home/me/r", "https://h:1/x.git", "git@h:t/x.git", "../o"])
REVS = st.sampled_from(["", "main", "v1.0", "feature/x", "3f2c1ab"])
NAMES = st.text(st.sampled_from("ab.:@ %"), min_size=1, max_size=5)


@given(REPOS, REVS, st.lists(NAMES, min_size=1, max_size=3).map("/".join))
def test_what_is_joined_comes_apart_again(repo: str, rev: str, path: str) -> None:
    assert split_url(join_url(repo, rev, path)) == (repo, rev, path)


def test_a_colon_of_a_folder_that_exists_is_part_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a:b@c" / "d:e"
    folder.mkdir(parents=True)
    url = join_url(str(folder), "v1", "data/12:30.txt")
    assert split_url(url) == (str(folder), "v1", "data/12:30.txt")
    assert split_url(f"dv://{folder}:data") == (str(folder), "", "data")
    assert split_url(f"dv://{tmp_path}:a:b@c") == (str(tmp_path), "a:b", "c")
    assert split_url("dv://data/12:30.txt") == ("data/12", "", "30.txt")
