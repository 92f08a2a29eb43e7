"""``dv diff --rows``, as a user types it."""

from __future__ import annotations

import errno
import os
import resource
import signal

import pytest

from dvtool import Report
from tests.cli.conftest import Work

OLD = "id,name,n\n1,a,10\n2,b,20\n3,c,30\n"
NEW = "id,name,n\n1,a,11\n3,c,30\n4,=1+1,\x1b[31m\n"
TEXT = """\
tables/t.csv
  rows 3 -> 3: 1 added, 1 removed, 1 changed, 1 unchanged
  cells that differ: n 1
  M row 1 (1): n 10 -> 11
  A row 3 (4): id 4, name =1+1, n \\x1b[31m
  D row 2 (2): id 2, name b, n 20
"""


@pytest.fixture
def tables(work: Work) -> Work:
    """A table that changed between two commits, a file that is none, and a broken one."""
    work.write("tables/t.csv", OLD)
    work.write("tables/notes.txt", "one")
    work.write("tables/same.csv", OLD)
    work.dv("add", "tables")
    work.commit("one")
    work.write("tables/t.csv", NEW)
    work.write("tables/notes.txt", "two")
    work.dv("add", "tables")
    work.commit("two")
    return work


def test_rows_between_commits_and_in_the_workspace(tables: Work) -> None:
    assert tables.dv("diff", "HEAD~1", "HEAD", "--rows", "--key", "id").out == TEXT
    assert tables.dv("diff", "HEAD~1", "--rows", "--key", "id").out == TEXT
    assert tables.dv("diff", "--rows").out == "no table changed\n"


def test_rows_as_json(tables: Work) -> None:
    (table,) = tables.dv("diff", "HEAD~1", "HEAD", "--rows", "--key", "id", "--json").json["tables"]
    assert (table["path"], table["change"], table["key"]) == ("tables/t.csv", "modified", ["id"])
    assert (table["added"], table["removed"], table["changed"], table["unchanged"]) == (1, 1, 1, 1)
    assert table["rows"][0]["cells"] == [{"column": "n", "old": "10", "new": "11"}]


def test_tables_that_come_and_go_and_one_that_is_none(tables: Work) -> None:
    tables.write("tables/new.csv", OLD)
    tables.write("tables/bad.jsonl", "{")
    (tables.root / "tables/t.csv").unlink()
    ran = tables.dv("diff", "--rows")
    assert "tables/new.csv (new)\n  rows 0 -> 3: 3 added\n" in ran.out
    assert "tables/t.csv (gone)\n  rows 3 -> 0: 3 removed\n" in ran.out
    assert "tables/bad.jsonl cannot be read as a table: line 1" in ran.err


def test_wrong_use(tables: Work) -> None:
    ran = tables.dv("diff", "HEAD~1", "HEAD", "--rows", "--key", "uid", code=2)
    assert "tables/t.csv has no column uid before" in ran.err
    assert "--key is for --rows" in tables.dv("diff", "--key", "id", code=2).err
    assert "exclude" in tables.dv("diff", "--rows", "--stat", code=2).err


def test_a_page_and_a_comment(tables: Work) -> None:
    ran = tables.dv("diff", "HEAD~1", "HEAD", "--html", "page.html", "--markdown")
    page = tables.read("page.html").decode()
    assert page.startswith("<!doctype html>") and "HEAD~1 → HEAD" in page
    assert "### Changes in the data: `HEAD~1` → `HEAD`" in ran.out
    assert "written: page.html" in ran.err
    tables.write("tables/notes.txt", "three")
    assert "`the workspace`" in tables.dv("diff", "--markdown").out
    assert "exclude" in tables.dv("diff", "--html", "x", "--rows", code=2).err
    assert "--json goes with neither" in tables.dv("diff", "--markdown", "--json", code=2).err
    _refuse_half_a_page(tables)
    missing = tables.dv("diff", "--html", "no/such/page.html", code=None)
    assert missing.code and "Traceback" not in missing.err and "no/such" in missing.err


def test_a_repository_by_its_url(tables: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    tables.dv("push")
    monkeypatch.setenv("DV_REMOTE_ORIGIN_URL", str(tables.root.parent / "remote"))
    url = f"file://{tables.root}"
    ran = tables.dv("diff", "HEAD~1", "HEAD", "--rows", "--key", "id", "--repo", url, cwd="..")
    assert "rows 3 -> 3: 1 added, 1 removed, 1 changed, 1 unchanged" in ran.out
    page = tables.dv("diff", "HEAD~1", "HEAD", "--markdown", "--repo", url, cwd="..").out
    assert f"→ `{tables.git('rev-parse', 'HEAD')[:10]}`" in page
    assert "needs two revisions" in tables.dv("diff", "HEAD", "--repo", url, code=2).err


def test_a_target_of_another_name_is_read_by_its_old_one(tables: Work) -> None:
    tables.dv("mv", "tables", "renamed")
    tables.write("renamed/t.csv", OLD)
    tables.dv("add", "renamed")
    tables.commit("three")
    ran = tables.dv("diff", "HEAD~1", "HEAD", "--rows", "--key", "id")
    assert "renamed/t.csv\n  rows 3 -> 3: 1 added, 1 removed, 1 changed, 1 unchanged" in ran.out


def _refuse_half_a_page(tables: Work) -> None:
    """A page that does not fit leaves the one before, and nothing beside it."""
    before, names = tables.read("page.html"), sorted(os.listdir(tables.root))
    full = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, full[1]))
    try:
        with pytest.raises(OSError) as failed:
            Report("new " * len(before), "", 1).write_html(str(tables.root / "page.html"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, full)
        signal.signal(signal.SIGXFSZ, ignored)
    assert failed.value.errno == errno.EFBIG
    assert tables.read("page.html") == before
    assert sorted(os.listdir(tables.root)) == names
    (tables.root / "link.html").symlink_to("page.html")
    tables.dv("diff", "HEAD~1", "HEAD", "--html", "link.html")
    assert (tables.root / "link.html").is_symlink()
    assert tables.read("page.html").startswith(b"<!doctype html>")
    (tables.root / "link.html").unlink()
