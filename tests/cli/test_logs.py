"""The log for a report: -vv and DV_LOG, and what never stands in it."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Work

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \d+ dvtool\.[a-z0-9.]+: .+")
PASSWORD = "hunter2hunter2"


def run(work: Work, log: Path, *args: str, code: int | None = 0, **env: str) -> list[str]:
    """Run a command with a log; return the lines of it."""
    work.process(*args, code=code, env={"DV_LOG": str(log), **env})
    return log.read_text().splitlines()


def test_a_log_says_what_was_done(data: Work, tmp_path: Path) -> None:
    log = tmp_path / "log"
    data.write("data/images/a.txt", "changed")
    lines = run(data, log, "status")
    assert all(LINE.fullmatch(line) for line in lines)
    assert re.search(r"dvtool\.cli: dv 0\S+, Python 3\S+ on .*: dv status$", lines[0])
    assert lines[-1].endswith("dvtool.cli: ends with exit code 0")
    assert any(re.search(r"dvtool\.git: git rev-parse .*: exit 0 in [\d,]+ ms", n) for n in lines)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert len(run(data, log, "ls")) > len(lines)  # it is appended


def test_a_log_says_why_files_are_read(data: Work, tmp_path: Path) -> None:
    data.write("data/images/a.txt", "content of x.txt")  # as long as it was
    text = "\n".join(run(data, tmp_path / "log", "status"))
    assert re.search(r"dvtool\.workspace: reads 1 files, 16 bytes, of data/images: .*a\.txt", text)
    data.write("data/images/new.txt", "new")
    text = "\n".join(run(data, tmp_path / "log", "add", "data/images"))
    assert re.search(r"dvtool\.locks: has the lock \S+/worktree\.lock after [\d,]+ ms", text)
    assert re.search(r"dvtool\.workspace: stores \d files, .* of data/images: .*new\.txt", text)


def test_a_log_names_the_error_and_its_place(data: Work, tmp_path: Path) -> None:
    lines = run(data, tmp_path / "log", "ls", "nosuch", code=2)
    (failure,) = [line for line in lines if "dvtool.cli: fails: " in line]
    assert "UsageError" in failure
    assert 'File "' in failure
    assert lines[-1].endswith("ends with exit code 2")


def test_hooks_write_into_the_same_log(data: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DV_HOOKS_INSTALL", "true")
    data.process("hooks", "install")
    monkeypatch.setenv("DV_LOG", str(data.root.parent / "log"))
    data.write("data/images/a.txt", "changed")
    data.process("add", "data/images")
    data.commit()
    lines = (data.root.parent / "log").read_text().splitlines()
    assert any("dv hooks run pre-commit" in line for line in lines)
    assert len({line.split()[1] for line in lines}) > 1


def test_twice_verbose_writes_to_standard_error(data: Work) -> None:
    for args in (("-vv", "status"), ("status", "-vv"), ("-v", "status", "-v")):
        ran = data.process(*args)
        lines = ran.err.splitlines()
        assert lines
        assert all(LINE.fullmatch(line) for line in lines)
        assert ran.out.startswith("Clean: ")
    assert "dvtool." not in data.process("status", "-v").err


def test_without_it_nothing_is_written(data: Work) -> None:
    assert data.process("status").err == ""


def test_a_log_that_cannot_be_written_is_an_error(data: Work, tmp_path: Path) -> None:
    ran = data.process("status", env={"DV_LOG": str(tmp_path / "no/log")}, code=2)
    assert ran.err.startswith("error: DV_LOG names a file that cannot be written: ")
    assert "hint: name another, or: unset DV_LOG" in ran.err


def test_no_credentials_of_a_git_url_are_in_a_log(bare: Work, tmp_path: Path) -> None:
    url = f"http://me:{PASSWORD}@127.0.0.1:9/team/repo.git"
    text = "\n".join(run(bare, tmp_path / "log", "clone", url, "copy", code=None))
    assert "git clone" in text
    assert "http://(hidden)@127.0.0.1:9/team/repo.git" in text
    assert PASSWORD not in text
    ran = bare.process("-vv", "clone", url, "copy", code=None)
    logged = [line for line in ran.err.splitlines() if LINE.fullmatch(line)]
    assert logged
    assert not [line for line in logged if PASSWORD in line]


def test_no_secret_of_the_environment_is_in_a_log(data: Work, tmp_path: Path) -> None:
    """Wherever it turns up, as in the name of a file."""
    data.write(f"data/images/{PASSWORD}", "content")
    lines = run(data, tmp_path / "log", "status", f"data/images/{PASSWORD}", MY_API_TOKEN=PASSWORD)
    assert lines
    assert not [line for line in lines if PASSWORD in line]
