"""A real PostgreSQL for tests, in a temporary folder, run by a user without rights."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

USER, PASSWORD, DATABASE = "lab", "hunter2-postgres", "postgres"
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Postgres:
    """A running server; `sql` runs a script in it."""

    bin: str
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def env(self) -> Mapping[str, str]:
        return {"PGPASSWORD": PASSWORD}

    def sql(self, script: str) -> str:
        done = subprocess.run(
            [f"{self.bin}/psql", "-v", "ON_ERROR_STOP=1", "-qtA", self.url],
            input=script,
            text=True,
            capture_output=True,
            env={**os.environ, **self.env},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def find_programs() -> str:
    """Return the folder of PostgreSQL's programs; install Debian's, as root, if there are none."""
    for _ in range(2):
        on_path = shutil.which("initdb")
        folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        found = os.path.dirname(os.path.realpath(on_path)) if on_path else ""
        if found and os.path.exists(f"{found}/postgres"):
            return found
        if folders:
            return folders[-1]
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip("there is no PostgreSQL, and only root on Debian can install it here")
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "postgresql"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"PostgreSQL could not be installed: {done.stderr[-200:]}")
    pytest.skip("PostgreSQL was installed and has no programs")
    raise AssertionError


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    programs = find_programs()
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with tempfile.TemporaryDirectory(prefix="dv-postgres-") as folder:
        Path(folder, "password").write_text(PASSWORD)
        for path in (folder, f"{folder}/password"):
            os.chown(path, user.pw_uid, user.pw_gid)
        options = {"HOME": folder, "PATH": os.environ["PATH"], "LC_ALL": "C"}
        who = {"user": user.pw_uid, "group": user.pw_gid} if os.geteuid() == 0 else {}
        subprocess.run(
            [
                *(f"{programs}/initdb", "-D", f"{folder}/data", "-U", USER, "-A", "scram-sha-256"),
                *("--pwfile", f"{folder}/password", "-N", "-E", "UTF8"),
            ],
            env=options,
            check=True,
            capture_output=True,
            cwd=folder,
            **who,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [f"{programs}/postgres", "-D", f"{folder}/data", "-h", "127.0.0.1"]
        command += ["-p", str(port), "-k", folder, "-F"]
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen(
                command, env=options, stdout=log, stderr=log, cwd=folder, **who
            )
        try:
            _wait_until_ready(process, programs, port, folder)
            yield Postgres(programs, port)
        finally:
            process.terminate()
            process.wait()


def _wait_until_ready(
    process: subprocess.Popen[bytes], programs: str, port: int, folder: str
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        ready = [f"{programs}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        if subprocess.run(ready).returncode == 0:
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(Path(folder, "log").read_text())
