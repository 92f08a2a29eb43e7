"""A small repository with its remote, put back to the same state before each run of a command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash import checks
from tests.crash.inject.fault_points import DEADLY, READS, VARIABLE
from tests.s3.servers import S3Server
from tests.scenario import Clone, Remote

INJECT = Path(__file__).parent / "inject"
RUN_TIMEOUT_S = 120
DATE = "2026-01-31T12:00:00+00:00"
BUCKET_PREFIX = "team/data"
BACKUP = "backup"
"""The folder, and the name, of a second remote, where a scenario has one."""


@dataclass(frozen=True)
class Point:
    """A fault point as the trace has it: its number, what it is and where."""

    number: int
    kind: str
    path: str
    source: str = ""
    pid: int = 0


@dataclass(frozen=True)
class Run:
    """How a command ended. `hit` says which fault point was reached, if that was asked for."""

    code: int
    out: str
    err: str
    hit: str = ""


class World:
    """A folder `live` with everything of a scenario in it, at the same place for every run."""

    def __init__(self, base: Path, server: S3Server | None = None) -> None:
        self.base = base
        self.live = base / "live"
        self.work = self.live / "work"
        self.server = server
        self.bucket = server.new_bucket() if server else ""
        self.saved_bucket: dict[str, bytes] = {}
        self.live.mkdir(parents=True)

    @property
    def remote(self) -> Remote:
        if self.server is None:
            return Remote(str(self.live / "remote"))
        return Remote(f"s3://{self.bucket}/{BUCKET_PREFIX}", self.server.endpoint_url)

    def new(self) -> Clone:
        self.work.mkdir()
        subprocess.run(["git", "init", "-q", "--template=", str(self.work)], check=True)
        return Clone(self.work, self.remote)

    def clone(self, origin: Clone, name: str) -> Clone:
        place = self.live / name
        subprocess.run(
            ["git", "clone", "-q", "--template=", str(origin.path), str(place)], check=True
        )
        clone = Clone(place, self.remote)
        with clone.repo() as repo:
            repo.config.trust_first_use()
        return clone

    # --- the same state again and again -----------------------------------------------------

    def save(self) -> None:
        """Remember the state that every run begins with."""
        self.saved_bucket = self.objects() if self.server else {}
        self.live.rename(self.base / "template")
        self.restore()

    def restore(self) -> None:
        shutil.rmtree(self.live, ignore_errors=True)
        self.copy(self.base / "template", self.live)
        if self.server is not None:
            self._restore_bucket(self.server)

    def _restore_bucket(self, server: S3Server) -> None:
        now = self.objects()
        with server.client() as client:
            for key in now.keys() - self.saved_bucket.keys():
                client.delete_object(Bucket=self.bucket, Key=f"{BUCKET_PREFIX}/{key}")
            for key, data in self.saved_bucket.items():
                if now.get(key) != data:
                    client.put_object(Bucket=self.bucket, Key=f"{BUCKET_PREFIX}/{key}", Body=data)

    @staticmethod
    def copy(source: Path, destination: Path) -> None:
        subprocess.run(["cp", "-a", str(source), str(destination)], check=True)

    def objects(self) -> dict[str, bytes]:
        """Return everything on the remote."""
        if self.server is None:
            return checks.read_objects(self.live / "remote")
        found = {}
        with self.server.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
            for key in [one["Key"] for page in pages for one in page.get("Contents", [])]:
                body = client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                found[key.removeprefix(f"{BUCKET_PREFIX}/")] = body
        return found

    def backup(self) -> dict[str, bytes]:
        """Return everything on the second remote."""
        return checks.read_objects(self.live / BACKUP)

    def lose_statcache(self) -> None:
        """Take back what a command wrote into the statcache, which never waits for the disk."""
        now = self.live / "work/.git/dv/statcache.db"
        then = self.base / "template/work/.git/dv/statcache.db"
        now.unlink(missing_ok=True)
        if then.exists() and now.parent.exists():
            shutil.copy2(then, now)

    # --- running ----------------------------------------------------------------------------

    def start(
        self, command: Sequence[str], fault: Mapping[str, Any] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command in the worktree, in a process group of its own."""
        env = {
            **os.environ,
            **(self.server.env if self.server else {}),
            "GIT_AUTHOR_DATE": DATE,
            "GIT_COMMITTER_DATE": DATE,
            "GIT_MERGE_AUTOEDIT": "no",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if fault is not None:
            # This tree's dvtool, wherever another one may be installed.
            env["PYTHONPATH"] = os.pathsep.join([str(INJECT), str(INJECT.parents[2])])
            env[VARIABLE] = json.dumps(fault)
        args = list(command)
        if args[0] == "dv":
            args[:1] = [sys.executable, "-P", "-m", "dvtool"]
        return subprocess.Popen(
            args,
            cwd=self.work if self.work.exists() else self.live,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[bytes]) -> Run:
        """Wait for a command; one that hangs is killed and is an error."""
        try:
            out, err = process.communicate(timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"hangs: {process.args!r}\n{os.fsdecode(err)}") from None
        hit = self.base / "run/hit"
        text = hit.read_text() if hit.exists() else ""
        return Run(process.returncode, os.fsdecode(out), os.fsdecode(err), text)

    def run(
        self,
        command: Sequence[str],
        *,
        point: int | None = None,
        mode: str = "EIO",
        group: bool = True,
    ) -> Run:
        """Run a command, with what `mode` says at one of its fault points (0: count them)."""
        if point is None:
            (self.base / "run/hit").unlink(missing_ok=True)
            return self.finish(self.start(command))
        folder = self.base / "run"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "vault").mkdir(parents=True)
        fault = {
            "dir": str(folder),
            "root": str(self.live),
            "vault": str(folder / "vault"),
            "point": point,
            "mode": mode,
            "group": group,
        }
        return self.finish(self.start(command, fault))

    def trace(self) -> list[Point]:
        """Return the fault points that the last counted run passed, in order."""
        lines = (self.base / "run/trace").read_text().splitlines()
        fields = [json.loads(line) for line in lines]
        return [
            Point(one["point"], one["kind"], one["path"], one.get("source", ""), one["pid"])
            for one in sorted(fields, key=lambda one: one["point"])
        ]

    # --- looking ----------------------------------------------------------------------------

    def check(self, *, deep: bool = False) -> checks.Report:
        """Check a copy of the repository, so that looking mends nothing; `deep`ly with fsck."""
        seen = self.base / "seen"
        shutil.rmtree(seen, ignore_errors=True)
        self.copy(self.live, seen)
        work = seen / "work"
        report = checks.Report()
        if (work / ".git").exists():
            report = checks.check_repository(work, self.objects())
            checks.check_remote(report, BACKUP, self.backup())
            there = {"origin": self.objects(), BACKUP: self.backup()}
            remotes = [name for name, objects in there.items() if "dv.json" in objects]
            report.problems += checks.found_by_fsck(work, remotes, deep=deep)
        # What lies beside the worktree at the start, such as the origin's files, counts too.
        return report

    def state(self) -> checks.State:
        return checks.state(self.work, self.objects(), self.backup())


def deadly(points: Sequence[Point]) -> list[Point]:
    """Return the points at which dying makes a difference, numbered as the deadly modes do."""
    changing = [point for point in points if point.kind not in READS]
    return [
        Point(number, point.kind, point.path, point.source, point.pid)
        for number, point in enumerate(changing, 1)
    ]


__all__ = ["DEADLY", "Point", "Run", "World", "deadly"]
