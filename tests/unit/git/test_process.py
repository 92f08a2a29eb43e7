"""Running git: what is in its environment, and what happens when it is missing or cut short."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dvtool.errors import SetupError
from dvtool.git import Git
from tests.unit.git.conftest import commit

ROOT = str(Path(__file__).parents[3])


@pytest.mark.parametrize(
    "call",
    ["Git.clone('a', None, cwd='.')", "Git.discover('.')._run_long('ls-remote', '--', 'origin')"],
)
def test_an_interrupt_of_this_process_alone_ends_git(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Ctrl-C at a terminal goes to git as well; a signal by another program does not."""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n"
        f'case "$1" in clone|ls-remote) ;; *) exec {shutil.which("git")} "$@";; esac\n'
        f"trap 'echo ended > {tmp_path}/ended; exit 1' TERM\n"
        f"touch {tmp_path}/started\n"
        "for n in $(seq 600); do sleep 0.05; done\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", ROOT)
    code = (
        f"from dvtool.git import Git\ntry: {call}\nexcept KeyboardInterrupt: print('interrupted')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=top, stdout=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "interrupted\n"
    until = time.monotonic() + 60  # the shell ends its sleep first
    while not (tmp_path / "ended").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert (tmp_path / "ended").exists()


def test_dubious_ownership_passes_on_the_advice(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(SetupError, match="dubious ownership") as caught:
        Git.discover(str(top))
    assert caught.value.hint == f"run: git config --global --add safe.directory {top}"


def test_git_missing_from_the_path(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="git cannot be run") as caught:
        Git.discover(str(top))
    assert "install git" in (caught.value.hint or "")


@pytest.mark.parametrize("call", ["discover('.')", "clone('a', None, cwd='.')"])
def test_git_missing(tmp_path: Path, call: str) -> None:
    code = (
        "from dvtool.errors import SetupError\nfrom dvtool.git import Git\n"
        f"try:\n Git.{call}\nexcept SetupError as error: print(error.hint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": str(tmp_path), "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("install git")


def test_a_git_that_is_too_old(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What git 2.30 prints: an option that it does not know, as it is.
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho --path-format=absolute\necho false\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent))
    with pytest.raises(SetupError, match="too old"):
        Git.discover(str(top))


def test_a_broken_repository_configuration(top: Path) -> None:
    (top / ".git" / "config").write_text("[core\n")
    with pytest.raises(SetupError, match="bad config line 1"):
        Git.discover(str(top))


def test_settings_for_pathspecs_in_the_environment_do_no_harm(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(top, {"a/b.dv.json": "1"})
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    with Git.discover(str(top)) as git:
        assert git.manifest_paths() == ["a/b.dv.json"]
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "0")
    monkeypatch.setenv("GIT_ICASE_PATHSPECS", "1")
    with Git.discover(str(top)) as git:
        assert git.tracked_under("A") == []
