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
    (pushed,) = work.dv("push", "--json").json["pushes"]
    assert (pushed["packs"], pushed["bytes"]) == (0, 0)
    other = work.clone(remote=False)
    other.dv("remote", "add", "origin", work.root.parent / "work-remote")
    other.dv("pull", "far")
    assert files(other.root / "far") == OBJECTS
    work.dv("fsck", "--remote", "--deep")


def test_an_import_again_reads_what_is_new_and_no_more(
    bucket: Bucket, dask: RunningCluster
) -> None:
    work = bucket.work
    bucket.dv("import", bucket.url, "far", *dask.options)
    work.commit("imported")
    assert bucket.dv("import", bucket.url, "far", *dask.options, "--json").json["read"] == 0
    bucket.put({"part-03/3.bin": b"another", "zzz/new": b"new", "_SUCCESS": b""})
    bucket.delete("data/large.bin")
    done = bucket.dv("import", bucket.url, "far", *dask.options, "--json").json
    assert (done["read"], done["added"], done["modified"]) == (2, 1, 1)
    assert done["removed"] == ["large.bin"]
    assert "1 object (_SUCCESS)" in done["warnings"][0]
    bucket.dv("import", bucket.url, "here", "--no-checkout")
    assert work.read("far.dv.json") == work.read("here.dv.json")
    work.dv("checkout", "--", "far")
    now = {**OBJECTS, "part-03/3.bin": b"another", "zzz/new": b"new"}
    del now["large.bin"]
    assert files(work.root / "far") == now


def test_workers_hash_what_stays_at_its_source(bucket: Bucket, dask: RunningCluster) -> None:
    work = bucket.work
    bucket.dv("import", "--reference", bucket.url, "here")
    (work.root / ".git" / "dv" / "references.db").unlink()
    done = bucket.dv("import", "--reference", bucket.url, "far", *dask.options, "--json").json
    assert done["read"] == len(OBJECTS) - 1  # the empty one is known to be empty
    assert done["stored_bytes"] == done["uploaded_bytes"] == 0
    assert work.read("far.dv.json") == work.read("here.dv.json")
    assert not (work.root.parent / "work-remote" / "packs").exists()
    assert bucket.dv("import", "--reference", bucket.url, "far", *dask.options, "--json").json[
        "read"
    ] == 0  # fmt: skip
    work.git("rm", "-q", "-f", "--cached", "here.dv.json")
    (work.root / "here.dv.json").unlink()
    work.commit("imported")
    work.dv("push")
    work.dv("pull")
    assert files(work.root / "far") == OBJECTS
    refused = ("--reference", bucket.url, "other", *dask.options, "--remote", "origin")
    assert "goes to no remote" in bucket.dv("import", *refused, code=2).err


def test_what_is_for_one_machine_is_refused(bucket: Bucket, dask: RunningCluster) -> None:
    ran = bucket.dv("import", bucket.url, "far", "--remote", "origin", code=2)
    assert "an import of this machine goes into the local store" in ran.err
    ran = bucket.dv("import", bucket.url + "/x.zip", "far", "--unpack", *dask.options, code=2)
    assert "an archive to unpack is for one machine" in ran.err
    ran = bucket.dv("import", bucket.url, "far", "--remote", "none", *dask.options, code=3)
    assert "none" in ran.err


def test_fsck_knows_that_the_remote_has_what_workers_put_there(
    bucket: Bucket, dask: RunningCluster
) -> None:
    work = bucket.work
    bucket.dv("import", bucket.url, "far", *dask.options)
    work.commit("imported")
    work.dv("push")
    store = work.dv("fsck", "--json").json["store"]
    assert store["not_here"] > 0 and store["nowhere_known"] == 0
