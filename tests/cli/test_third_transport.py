"""One entry in the registry makes a transport: settings, command line, push and pull follow."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cli.conftest import Work
from tests.layers import PROJECT

REGISTERED = """
import os, subprocess, sys
from dvtool.remotes.transports import registry
from tests.memory import MEMORY, NAMES, OPENED
registry.TRANSPORTS += (MEMORY,)
from dvtool import cli

def dv(line, code=0):
    assert cli.run_command(line.split()) == code, line
    sys.stdout.flush()
"""

SETTINGS = """
dv("remote add desk memory://desk --shelf upper --pass-word hush")
dv("remote list --json")
dv("config --list")
dv("remote add --help")
dv("remote add other memory://other --region eu-central-1", code=2)
dv("remote add third /tmp/third --shelf upper", code=2)
dv("remote set desk --shelf 7", code=2)
"""

TRANSFERS = """
dv("remote add desk memory://desk --shelf upper --pass-word hush")
subprocess.run(["git", "commit", "-qam", "A remote"], check=True)
dv("push --remote desk --plan")
dv("push --remote desk")
assert OPENED[-1] == {"shelf": "upper", "pass_word": "hush"}, OPENED
assert any(key.startswith("packs/") for key in NAMES["desk"])
subprocess.run(["git", "clone", "-q", ".", "../clone"], check=True)
os.chdir("../clone")
dv("init")
dv("pull")
dv("status")
dv("gc --remote desk")
dv("fsck --remote desk --deep")
dv("doctor --remote desk")
"""


def ran(work: Work, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", REGISTERED + script],
        cwd=work.root,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **env},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_its_options_are_settings_and_options_of_the_command_line(work: Work) -> None:
    done = ran(work, SETTINGS)
    assert '"shelf": "upper"' in done.stdout
    assert "--pass-word WORD" in done.stdout
    assert "upper" in work.read(".dvconfig").decode()
    assert "hush" not in work.read(".dvconfig").decode()
    assert "hush" not in done.stdout + done.stderr
    assert "(secret)" in done.stdout
    assert "memory://other is in memory, where region means nothing" in done.stderr
    assert "/tmp/third is a folder, where shelf means nothing" in done.stderr
    assert "remote.desk.shelf is not a shelf" in done.stderr


SECRETS = """
dv("remote add desk memory://desk --pass-word hush")
dv("remote set desk --pass-word=hush")
dv("config remote.desk.password hush")
dv("config --list")
"""


def test_a_secret_option_is_in_no_log(work: Work) -> None:
    log = work.root.parent / "log"
    ran(work, SECRETS, DV_LOG=str(log))
    text = log.read_text()
    assert "dv remote add desk memory://desk --pass-word" in text
    assert "--replace-all --end-of-options dv.remote.desk.password (hidden)" in text
    assert "hush" not in text


def test_data_goes_there_and_comes_back(data: Work) -> None:
    done = ran(data, TRANSFERS)
    clone = data.root.parent / "clone"
    assert (clone / "data/images/a.txt").read_bytes() == data.read("data/images/a.txt")
    assert "USD for the requests, at the price of memories" in done.stdout


def test_unregistered_it_is_unknown(work: Work) -> None:
    refused = work.dv("remote", "add", "desk", "memory://desk", code=2)
    assert "memory:// are not supported" in refused.err
