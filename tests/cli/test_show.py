"""``dv show`` and ``dv log --stat``: what commits changed, in the terminal."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Work


@pytest.fixture
def history(work: Work) -> Work:
    work.write("data/a.txt", "four")
    work.dv("add", "data")
    work.commit("First data")
    work.write("data/b.txt", "seven..")
    work.dv("add", "data")
    work.commit("More data")
    work.write("code.py", "")
    work.commit("Only code")
    return work


def test_a_commit_and_the_first_one(history: Work) -> None:
    out = history.dv("show", "HEAD~1").out
    assert "    More data\n" in out and history.git("rev-parse", "HEAD~1")[:10] in out
    assert "  A         +7 B  data/b.txt\ntotal: 1 added (+7 B)\n" in out
    first = history.dv("show", "HEAD~2").out
    assert "data (new target)\n  A         +4 B  data/a.txt\n" in first
    assert "data: 1 added (+7 B)\n" in history.dv("show", "HEAD~1", "--stat").out
    assert "changes no data" in history.dv("show").out
    assert history.dv("show", "HEAD~1", "--json").json["totals"]["added"]["bytes"] == 7
    assert history.dv("show", "nothing", code=2).err


def test_log_with_bytes(history: Work) -> None:
    lines = history.dv("log", "data", "--stat").lines
    assert "    2 files, 11 B: 1 added (+7 B)" in lines
    assert "    1 file, 4 B: 1 added (+4 B)" in lines


def test_a_path_in_a_revision(history: Work) -> None:
    history.write("other", "1")
    history.dv("add", "other")
    history.write("data/a.txt", "five.")
    history.dv("add", "data")
    history.commit("Both")
    shown = history.dv("show", "HEAD:other").out
    assert "other (new target)" in shown and "a.txt" not in shown
    assert "data/a.txt" in history.dv("show", "HEAD:data").out
    assert "changes no data in data/b.txt" in history.dv("show", "HEAD:data/b.txt").out
    assert history.dv("log", "HEAD~1:data").out == history.dv("log", "HEAD~1", "--", "data").out
    assert "Both" not in history.dv("log", "HEAD~1:data").out
    assert "Both" in history.dv("log", "HEAD:other").out


@pytest.mark.parametrize(
    "command",
    ["drop", "rm", "status", "add", "add -u", "resolve", "update", "sparse set", "mv", "describe"],
)
def test_a_path_in_a_revision_where_only_the_workspace_counts(history: Work, command: str) -> None:
    more = ["data/b"] if command == "mv" else []
    ran = history.dv(*command.split(), "HEAD~1:data/a.txt", *more, code=2)
    assert "is a path in a revision" in ran.err
    named = "of the path: dv ls HEAD~1:data/a.txt" if command == "describe" else "with data/a.txt"
    assert named in ran.err


def test_what_is_no_revision_before_a_colon_is_said_to_be_none(history: Work) -> None:
    ran = history.dv("cat", "nosuch:data/a.txt", code=2)
    assert ran.err.startswith("error: nosuch is no revision here; as a git URL, ")
    ran = history.dv("ls", "nosuch.invalid:data", code=1)
    assert (
        "hint: nosuch.invalid is taken for a host, as there is no revision of that name" in ran.err
    )
