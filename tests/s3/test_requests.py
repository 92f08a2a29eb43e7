"""How many requests a job of 20,000 small files takes, counted between client and server."""

from __future__ import annotations

from pathlib import Path

from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.scenario import Clone, Remote, noise

FILES = 20_000
FILE_SIZE_BYTES = 8 << 10


def test_twenty_thousand_files_take_thirty_requests(s3_env: S3Server, tmp_path: Path) -> None:
    with CountingProxy(s3_env.endpoint_url) as proxy:
        remote = Remote(f"s3://{s3_env.new_bucket()}", proxy.url)
        mine = Clone.new(tmp_path / "mine", remote)
        data = noise(FILES * FILE_SIZE_BYTES)
        for number in range(FILES):
            start = number * FILE_SIZE_BYTES
            mine.write(f"data/{number // 1000}/{number}", data[start : start + FILE_SIZE_BYTES])
        with mine.repo() as repo:
            (added,) = repo.add(["data"])
        assert added.files == FILES
        mine.commit("one")
        assert proxy.total == 0

        with mine.repo() as repo:
            repo.push()
        assert 0 < proxy.total <= 30, proxy.counts
        proxy.reset()
        with mine.repo() as repo:
            assert not repo.push().pushed.changed
        assert proxy.total <= 3, proxy.counts
        proxy.reset()

        theirs = mine.clone(tmp_path / "theirs", remote)
        with theirs.repo() as repo:
            repo.pull()
        assert 0 < proxy.total <= 30, proxy.counts
        assert theirs.tree("data") == mine.tree("data")
        proxy.reset()
        with theirs.repo() as repo:
            repo.pull()
        assert proxy.total == 0, proxy.counts

        theirs.write("data/7/7000", b"changed")
        theirs.add("data/7/7000")
        theirs.commit("two")
        with theirs.repo() as repo:
            pushed = repo.push().pushed
        assert pushed.packs == 1
        assert proxy.total <= 20, proxy.counts
