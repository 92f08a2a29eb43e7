"""An import and an update that are killed at some moment: nothing half-recorded, and they go on.

The moments are counted in requests, by the seed, so they do not depend on how fast the machine is;
some come after the last request, while entries, index and files are written.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dvtool.format.manifest import decode
from dvtool.system.atomic import is_temp_name
from tests.cli.conftest import Work
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.s3.test_import import files

ALL = os.environ.get("DV_TEST_ALL", "0") not in ("", "0")
OBJECTS, MOMENTS = (2_000, 20) if ALL else (120, 1)
SEED = int(os.environ.get("DV_TEST_SEED", "0"))
EACH_BYTES = 400
TARGET, MANIFEST = "data", "data.dv.json"


class Source:
    """A bucket behind a proxy, and a repository for each moment."""

    def __init__(self, top: Path, server: S3Server, proxy: CountingProxy) -> None:
        self.top = top
        self.proxy = proxy
        self.env = {**os.environ, **server.env}
        self.bucket = server.new_bucket()
        self.client = server._client
        draw = random.Random(1)
        self.contents = {f"{n % 7}/{n:05}": draw.randbytes(EACH_BYTES) for n in range(OBJECTS)}
        self.put(self.contents)

    def put(self, contents: dict[str, bytes]) -> None:
        for key, data in contents.items():
            self.client.put_object(Bucket=self.bucket, Key=f"p/{key}", Body=data)

    def change(self) -> None:
        names = sorted(self.contents)
        changed = {name: b"changed " + name.encode() for name in names[::20]}
        new = {f"new/{n:05}": b"new %d" % n for n in range(OBJECTS // 20)}
        for name in names[1::20]:
            self.client.delete_object(Bucket=self.bucket, Key=f"p/{name}")
            del self.contents[name]
        self.put({**changed, **new})
        self.contents |= changed | new

    def command(self, verb: str) -> tuple[str, ...]:
        if verb == "update":
            return ("update",)
        return ("import", "--endpoint-url", self.proxy.url, f"s3://{self.bucket}/p", TARGET)

    def start(self, work: Work, verb: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "dvtool", *self.command(verb)],
            cwd=work.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self, work: Work, verb: str) -> float:
        """Run a command to its end; return the seconds from its last request on."""
        self.proxy.reset()
        process = self.start(work, verb)
        last_s, seen = time.monotonic(), 0
        while process.poll() is None:
            if self.proxy.total != seen:
                last_s, seen = time.monotonic(), self.proxy.total
            time.sleep(0.005)
        after_s = time.monotonic() - last_s
        _, err = process.communicate()
        assert process.returncode == 0, err.decode()
        return after_s

    def kill(self, work: Work, verb: str, *, requests: int, after_s: float) -> None:
        """Start a command and kill it, workers too, so long after so many requests were made."""
        due = threading.Event()
        self.proxy.reset()
        self.proxy.call_when(lambda proxy: proxy.total >= requests, due.set)
        process = self.start(work, verb)
        while process.poll() is None and not due.wait(0.01):
            pass
        if after_s:
            time.sleep(after_s)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def moments(self, verb: str, requests: int, after_s: float) -> Iterator[tuple[int, float]]:
        """Yield moments: three of four within the requests, the others after them."""
        draw = random.Random(f"{SEED} {verb}")
        for number in range(MOMENTS):
            if number % 4 == 1:
                yield requests, draw.uniform(0, after_s)
            else:
                yield draw.randint(1, requests), 0.0


def check(work: Work, before: bytes | None, after: bytes) -> None:
    """See that a manifest is the one from before or the whole new one, and the store sound."""
    path = work.root / MANIFEST
    text = path.read_bytes() if path.exists() else None
    assert text in (before, after)
    work.dv("fsck")
    ran = work.dv("status", "--json")
    assert not ran.json.get("conflicts")
    if text is None:
        assert not (work.root / TARGET).exists()
        assert work.git("status", "--porcelain", "--untracked-files=no") == ""


def copied(work: Work, name: str) -> Work:
    root = work.root.with_name(name)
    shutil.copytree(work.root, root, symlinks=True)
    return Work(root)


def play(source: Source, start: Work, verb: str) -> Work:
    """Kill a command at each moment, each time in a copy of a repository; return one as it ends."""
    start_text = start.root / MANIFEST
    before = start_text.read_bytes() if start_text.exists() else None
    done = copied(start, f"{verb}-whole")
    after_s = source.finish(done, verb)
    requests = source.proxy.total
    whole, staged = done.read(MANIFEST), done.git("diff", "--cached", "--name-only")
    assert files(done.root / TARGET) == source.contents
    for requests_made, waited_s in source.moments(verb, requests, after_s):
        work = copied(start, "killed")
        source.kill(work, verb, requests=requests_made, after_s=waited_s)
        check(work, before, whole)
        source.finish(work, verb)
        told = f"killed {waited_s:.3f} s after {requests_made} of {requests} requests"
        assert work.read(MANIFEST) == whole, told
        assert files(work.root / TARGET) == source.contents, told
        assert source.proxy.total <= requests, told
        assert work.git("diff", "--cached", "--name-only") == staged, told
        work.dv("fsck")
        # Of what was killed, unfinished files stay for some days: another command may write them.
        assert all(map(is_temp_name, os.listdir(work.root / ".git/dv/tmp"))), told
        shutil.rmtree(work.root)
    return done


def test_killed_at_any_moment_it_goes_on(moto_server: S3Server, tmp_path: Path) -> None:
    root = tmp_path / "start"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    start = Work(root)
    start.dv("init", "--no-hooks")
    start.commit("init")
    with CountingProxy(moto_server.endpoint_url) as proxy:
        source = Source(tmp_path, moto_server, proxy)
        imported = play(source, start, "import")
        assert bool(decode(imported.read(MANIFEST), TARGET).shards) == ALL
        imported.commit("imported")
        source.change()
        play(source, imported, "update")
