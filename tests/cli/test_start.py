"""Start-up stays light: nothing is imported that a command does not use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    *("boto3", "botocore", "git", "blake3", "zstandard", "xxhash", "msgspec", "pyfastcdc"),
    *("tqdm", "filelock", "sqlite3", "dvtool.repo", "asyncio", "concurrent.futures"),
}
PROBE = """
import json, sys
from dvtool.cli import run_command
sys.stdout, real = open("/dev/null", "w"), sys.stdout
code = run_command(sys.argv[1:])
json.dump([code, sorted(sys.modules)], real)
"""


def _modules(*args: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", PROBE, *args],
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stdout)
    assert code == 0
    return set(modules)


@pytest.mark.parametrize("args", [("--help",), ("--version",)])
def test_help_and_version_import_no_command(args: tuple[str, ...]) -> None:
    modules = _modules(*args)
    assert not modules & HEAVY
    ours = {name for name in modules if name.startswith("dvtool.")}
    assert ours - {"dvtool.cli.group"} == {"dvtool.cli", "dvtool.system", "dvtool.system.programs"}


@pytest.mark.parametrize("command", ["status", "add", "push"])
def test_help_of_a_command_opens_nothing(command: str) -> None:
    assert not _modules(command, "--help") & {"boto3", "git", "blake3", "dvtool.repo", "tqdm"}


def test_work_without_s3_does_not_import_boto3(tmp_path: object) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    modules = _modules("-C", str(tmp_path), "init")
    assert not modules & {"boto3", "botocore", "tqdm"}
