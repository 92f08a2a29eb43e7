"""import by the workers of a cluster: the same manifest, whoever is lost on the way."""

from __future__ import annotations

from tests.cluster.clusters import RunningCluster
from tests.cluster.conftest import OBJECTS
from tests.s3.test_import import Bucket, files


def test_workers_import_what_one_machine_would(bucket: Bucket, dask: RunningCluster) -> None:
    work = bucket.work
    bucket.dv("import", bucket.url, "here")
    done = bucket.dv("import", bucket.url, "far", *dask.options, "--json").json
    assert done["read"] == done["added"] == len(OBJECTS)
    assert done["written"] == done["stored_bytes"] == 0
    assert done["uploaded_bytes"] > 3 << 20
    assert work.read("far.dv.json") == work.read("here.dv.json")
    assert not (work.root / "far").exists()
    work.commit("imported")
    work.dv("status", "--exit-code")
    # The root is there already, and names the shards: a push of both has nothing to send.
    pushed = work.dv("push", "--json").json
    print(pushed)
    other = work.clone(remote=False)
    other.dv("remote", "add", "origin", work.root.parent / "work-remote")
    other.dv("pull", "far")
    assert files(other.root / "far") == OBJECTS
    work.dv("fsck", "--remote", "--deep")
