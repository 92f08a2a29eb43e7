"""Fixtures for all tests: a clean environment, and real S3 servers that start when first used."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import xxhash
from hypothesis import HealthCheck, settings

from tests.s3 import servers

pytest_plugins = ("tests.crashed_workers",)
pytest.register_assert_rewrite("tests.contract")
# No example fails for being slow: the machine may have other work.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("unhurried", unhurried)
settings.load_profile("unhurried")

GITCONFIG = """\
[user]
    name = Test
    email = test@example.org
[init]
    defaultBranch = main
[maintenance]
    auto = false
[protocol "file"]
    allow = always
"""
SAMPLED = {
    "tests/cli/test_hostile.py": 3,
    "tests/s3/test_faults.py": 4,
    "tests/s3/test_hostile.py": 2,
    "tests/s3/test_hostile_remote.py": 4,
    "tests/s3/test_killed.py": 4,
    "tests/s3/test_killed_requests.py": 15,
}
"""Tables of like cases, of which one in so many is run unless DV_TEST_ALL is set.

All take some twenty minutes of two cores more; which ones are left out does not change by itself.
"""
PLACES = ("folder", "rclone", "moto")
AT_ONE_PLACE = {
    "tests/s3/test_copy.py",
    "tests/s3/test_fsck.py",
    "tests/s3/test_gc.py",
    "tests/s3/test_incomplete.py",
    "tests/s3/test_partial.py",
    "tests/s3/test_requests.py",
    "tests/s3/test_shared_remote.py",
    "tests/s3/test_transfers.py",
    "tests/s3/test_two_at_once.py",
}
"""Tests of code above the protocol of remotes: each case is run at one kind of place, at all of
them where DV_TEST_ALL is set. That the places keep the protocol is shown by the contract suite."""
FOREIGN_PREFIXES = ("AWS_", "BOTO", "DV_", "GIT_", "RCLONE_", "XDG_")


UNTIL_S = float(os.environ.get("DV_TEST_UNTIL", "inf"))
"""When, in seconds since 1970, tests begin no more. For scripts/soak."""


# Otherwise each `dv` that a test starts compiles all of dvtool, and each worker all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MEMORY = "/dev/shm"
MEMORY_MIN_BYTES = 2 << 30


def _memory_serves() -> bool:
    """Whether there is a folder in memory with room, and from which programs may be started."""
    if not os.path.isdir(MEMORY) or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(MEMORY).free >= MEMORY_MIN_BYTES


if _memory_serves():
    # The tests flush files some hundred thousand times, for which a disk takes milliseconds each.
    # Tests of the disk have `disk_path`, or make file systems of their own.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

# A shell that starts us in the background has SIGINT ignored, which all our processes inherit:
# then neither dv nor git ends by Ctrl-C as it does for a user.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    if time.time() > UNTIL_S:
        pytest.skip("the time is over")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out a part of the large tables; a test that was asked for by its name always runs."""
    if os.environ.get("DV_TEST_ALL", "0") not in ("", "0") or any("::" in a for a in config.args):
        return
    left_out = {item for item in items if not _is_sampled(item.nodeid)} | _at_other_places(items)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_sampled(nodeid: str) -> bool:
    file, _, name = nodeid.partition("::")
    return "[" not in name or _number(name) % SAMPLED.get(file, 1) == 0


def _at_other_places(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """Return the cases of `AT_ONE_PLACE` that are run elsewhere: each place has its share."""
    cases: dict[str, dict[str, pytest.Item]] = {}
    for item in items:
        file, _, name = item.nodeid.partition("::")
        function, _, told = name.removesuffix("]").partition("[")
        values = told.split("-")
        place = next((value for value in values if value in PLACES), "")
        if file in AT_ONE_PLACE and place:
            values.remove(place)
            cases.setdefault(f"{file}::{function}[{'-'.join(values)}]", {})[place] = item
    left_out = set()
    for name, by_place in cases.items():
        chosen = sorted(by_place)[_number(name) % len(by_place)]
        left_out |= {item for place, item in by_place.items() if place != chosen}
    return left_out


def _number(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode("utf-8", "backslashreplace"))


@pytest.fixture(scope="session", autouse=True)
def _isolated_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the developer's own configuration away from fixtures that live as long as the run."""
    with pytest.MonkeyPatch.context() as patch:
        _isolate(patch, tmp_path_factory.mktemp("home"))
        yield


@pytest.fixture(autouse=True)
def _isolated(
    _isolated_session: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Give each test a home of its own, git and AWS settings of the tests, and no others."""
    _isolate(monkeypatch, tmp_path_factory.mktemp("home"))


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A folder like `tmp_path`, for what is seen only on a disk."""
    with tempfile.TemporaryDirectory(prefix="dv-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def rclone_server(
    _isolated_session: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.S3Server]:
    with servers.rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server(
    _isolated_session: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.S3Server]:
    with servers.moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session", params=["rclone", "moto"])
def s3_server(request: pytest.FixtureRequest) -> servers.S3Server:
    """Each S3 server in turn: `.endpoint_url`, `.new_bucket()`, `.env`."""
    server: servers.S3Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def s3_env(s3_server: servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> servers.S3Server:
    """`s3_server`, with its credentials in this process's environment."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return s3_server


def _isolate(patch: pytest.MonkeyPatch, home: Path) -> None:
    for name in [name for name in os.environ if name.startswith(FOREIGN_PREFIXES)]:
        patch.delenv(name)
    gitconfig = home / "gitconfig"
    gitconfig.write_text(GITCONFIG)
    settings = {
        "HOME": home,
        "XDG_CONFIG_HOME": home / ".config",
        "GIT_CONFIG_GLOBAL": gitconfig,
        "GIT_CONFIG_NOSYSTEM": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Hooks would start dv with every git command of a test: those that are about them do.
        "DV_HOOKS_INSTALL": "false",
        "AWS_SHARED_CREDENTIALS_FILE": home / "no-aws-credentials",
        "AWS_CONFIG_FILE": home / "no-aws-config",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    for name, value in settings.items():
        patch.setenv(name, str(value))
