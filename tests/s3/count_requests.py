"""Counts the requests of each step of the main job; run by scripts/requests."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server, rclone_server
from tests.scenario import Clone, Remote, noise

VERBS = ("GET", "HEAD", "LIST", "PUT", "DELETE")


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    size_bytes = int(sys.argv[2]) if len(sys.argv) > 2 else 8 << 10
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        (folder / "server").mkdir()
        with rclone_server(folder / "server") as server:
            os.environ.update(server.env, GIT_AUTHOR_NAME="dv", GIT_AUTHOR_EMAIL="dv@example.org")
            os.environ.update(GIT_COMMITTER_NAME="dv", GIT_COMMITTER_EMAIL="dv@example.org")
            count(server, folder, files, size_bytes)


def count(server: S3Server, folder: Path, files: int, size_bytes: int) -> None:
    print(f"{files:,} files of {size_bytes:,} bytes, S3 server: {server.name}\n")
    print(f"{'step':<18}" + "".join(f"{verb:>8}" for verb in VERBS) + f"{'all':>8}{'MiB':>9}")
    with CountingProxy(server.endpoint_url) as proxy:
        remote = Remote(f"s3://{server.new_bucket()}", proxy.url)

        def step(name: str, work: Callable[[], object]) -> None:
            proxy.reset()
            work()
            counts = "".join(f"{proxy.counts[verb]:>8,}" for verb in VERBS)
            moved = (proxy.received + sum(one.sent for one in proxy.requests)) / (1 << 20)
            print(f"{name:<18}{counts}{proxy.total:>8,}{moved:>9.1f}", flush=True)

        step("init", lambda: start(folder / "mine", remote))
        mine = Clone(folder / "mine")
        for number in range(files):
            mine.write(f"data/{number // 1000}/{number}", noise(size_bytes, number))
        mine.add("data")
        mine.commit("one")
        step("push", lambda: push(mine))
        step("push, nothing new", lambda: push(mine))
        theirs = mine.clone(folder / "theirs", remote)
        step("pull", lambda: pull(theirs))
        step("pull, nothing new", lambda: pull(theirs))
        theirs.write("data/0/0", b"changed")
        theirs.add("data/0/0")
        theirs.commit("two")
        step("push, one file", lambda: push(theirs))
        mine.git("pull", "--quiet", str(theirs.path), "HEAD")
        step("pull, one file", lambda: pull(mine))


def start(path: Path, remote: Remote) -> None:
    Clone.new(path, remote)


def push(clone: Clone) -> None:
    with clone.repo() as repo:
        repo.push()


def pull(clone: Clone) -> None:
    with clone.repo() as repo:
        repo.pull()


if __name__ == "__main__":
    main()
