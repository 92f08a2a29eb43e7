"""add, export and fsck by the workers of a cluster: the same results as on one machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool.verbs.export import entries
from dvtool.verbs.fsck import far_packs
from tests.cli.conftest import Work
from tests.cluster.clusters import RunningCluster
from tests.cluster.conftest import new_work
from tests.s3.conftest import use
from tests.s3.servers import S3Server
from tests.s3.test_import import files
from tests.scenario import noise

FILES = 2_100
LARGE = noise(9 << 20, 5)


@pytest.fixture
def work(tmp_path: Path, dask: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A repository whose data was added by the cluster, and pushed."""
    work = new_work(tmp_path)
    for number in range(FILES):
        work.write(f"data/{number % 7}/{number}", f"file {number // 2}\n")
    work.write("data/large.bin", LARGE)
    done = work.dv("add", "data", *dask.options, "--json").json
    assert done["targets"][0]["added"] == FILES + 1
    work.commit("data")
    return work


def test_workers_add_export_and_check_what_one_machine_would(
    work: Work,
    dask: RunningCluster,
    moto_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(moto_server, monkeypatch)
    work.dv("status", "--exit-code")
    other = new_work(tmp_path, "other")
    (other.root / "data").symlink_to(work.root / "data")
    other.dv("add", "--dereference", "data", "-j", "1")
    assert other.read("data.dv.json") == work.read("data.dv.json")
    work.dv("push")

    monkeypatch.setattr(entries, "EXPORT_FILES", 500)
    work.dv("export", "data", "--to", tmp_path / "out", *dask.options)
    assert files(tmp_path / "out") == files(work.root / "data")
    bucket = moto_server.new_bucket()
    to = (f"s3://{bucket}/plain", "--endpoint-url", moto_server.endpoint_url, *dask.options)
    done = work.dv("export", "data/3", "--to", *to, "--json").json
    assert (done["files"], done["kept"]) == (FILES // 7, 0)
    assert work.dv("export", "data/3", "--to", *to, "--json").json["kept"] == FILES // 7
    refused = work.dv("export", "data/3", "--to", "tar:x.tar", *dask.options, code=2)
    assert "one archive is written by one machine" in refused.err

    monkeypatch.setattr(far_packs, "FAR_PACKS_BYTES", 1)
    here = work.dv("fsck", "--remote", "--deep", "--json").json
    far = work.dv("fsck", "--remote", "--deep", *dask.options, "--json").json
    for counts in (here, far):
        counts["remote"].pop("bytes_read")
    assert far == here
    assert far["remote"]["packs_read"] > 0 and far["remote"]["files_made"] == 1
    pack = max((tmp_path / "work-remote/packs").rglob("*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    here = work.dv("fsck", "--remote", "--deep", "--json", code=6).json
    far = work.dv("fsck", "--remote", "--deep", *dask.options, "--json", code=6).json
    assert far["damage"] == here["damage"]
    refused = work.dv("fsck", "--remote", *dask.options, code=2)
    assert "a cluster is for reading the packs of a remote" in refused.err
