"""Data that stays in its bucket: imported by reference, read, checked, copied; on real servers."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3

import dvtool
from dvtool.format.locations import decode_object, encode_locations, split_object
from dvtool.format.manifest import decode, encode, manifest_digest
from dvtool.remotes import references as remote_references
from dvtool.remotes.objects import places_in_order
from dvtool.remotes.origins import s3 as s3_origin
from dvtool.store.references import References
from tests.cli.conftest import Work
from tests.s3.conftest import use
from tests.s3.proxy import CountingProxy, Fault, Request
from tests.s3.servers import S3Server
from tests.s3.test_import import Bucket, files
from tests.scenario import noise

DATA = {
    "a.txt": b"alpha\n",
    "empty": b"",
    "sub/b.bin": noise(70_000, 1),
    "sub/large.bin": noise(700_000, 2),
    "sub/same.txt": b"alpha\n",
}
LARGE = "sub/large.bin"


@pytest.fixture
def work(tmp_path: Path) -> Work:
    root = tmp_path / "work"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    work = Work(root)
    work.dv("init", "--no-hooks")
    work.dv("remote", "add", "origin", str(tmp_path / "remote"))
    work.commit("init")
    return work


@pytest.fixture
def bucket(work: Work, s3_env: S3Server) -> Bucket:
    bucket = Bucket(work, s3_env)
    bucket.put(DATA)
    bucket.dv("import", "--reference", bucket.url, "out")
    work.commit("imported")
    return bucket


def stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "packs").rglob("*") if path.is_file())


def test_only_places_are_kept_and_every_reader_finds_the_bytes(
    bucket: Bucket, tmp_path: Path
) -> None:
    work = bucket.work
    assert bucket.manifest().source.reference
    assert not (work.root / "out").exists()
    work.dv("push")
    assert (stored(work.root / ".git" / "dv"), stored(tmp_path / "remote")) == (0, 0)
    snapshot = dvtool.snapshot(repo=work.root)
    assert snapshot.read(f"out/{LARGE}") == DATA[LARGE]
    with snapshot.open(f"out/{LARGE}", "rb") as file:
        file.seek(300_000)
        assert file.read(10) == DATA[LARGE][300_000:300_010]
    assert stored(work.root / ".git" / "dv") == 0
    work.dv("pull")
    assert files(work.root / "out") == DATA
    work.dv("status", "--exit-code")
    work.dv("push")
    assert stored(tmp_path / "remote") == 0
    work.dv("fsck")
    work.dv("fsck", "--remote", "origin", "--deep")
    work.dv("drop", "out")
    assert (files(work.root / "out") if (work.root / "out").exists() else {}) == {}
    assert stored(work.root / ".git" / "dv") == 0
    work.dv("pull")
    assert files(work.root / "out") == DATA


def imported(work: Work, server: S3Server, *, versions: bool = False) -> Bucket:
    bucket = Bucket(work, server)
    if versions:
        with server.client() as client:
            client.put_bucket_versioning(
                Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
            )
    bucket.put(DATA)
    bucket.dv("import", "--reference", bucket.url, "out")
    work.commit("imported")
    work.dv("push")
    return bucket


CHANGED = noise(700_000, 3)
"""Of the size of the large file."""


def refused(bucket: Bucket, *, exit_code: int, names: str) -> None:
    """See that nothing gives the bytes of the large file, and that all say what is wrong."""
    work = bucket.work
    for verb in (("pull",), ("fetch",), ("push",), ("cat", f"out/{LARGE}")):
        ran = work.dv(*verb, code=exit_code if verb != ("push",) else 4)
        assert f"s3://{bucket.name}/data/{LARGE}" in ran.err, verb
        assert names in ran.err
    assert f"data/{LARGE}" in work.dv("fsck", "--remote", "origin", code=4).out
    assert not (work.root / "out" / LARGE).exists()
    snapshot = dvtool.snapshot(repo=work.root)
    assert snapshot.read("out/a.txt") == DATA["a.txt"]
    with pytest.raises(dvtool.DvError, match=LARGE):
        snapshot.read(f"out/{LARGE}")
    with snapshot.open(f"out/{LARGE}", "rb") as file, pytest.raises(dvtool.DvError):
        file.seek(1)
        file.read(4)


@pytest.mark.parametrize("change", ["replaced", "same size", "gone", "shorter"])
def test_an_object_that_changed_is_named_and_nothing_else_is_given(
    bucket: Bucket, change: str
) -> None:
    work = bucket.work
    work.dv("push")
    if change == "gone":
        bucket.delete(f"data/{LARGE}")
    else:
        data = {"replaced": b"other", "same size": CHANGED, "shorter": DATA[LARGE][:-1]}
        bucket.put({LARGE: data[change]})
    refused(bucket, exit_code=4, names="is gone" if change == "gone" else "was replaced")
    lost = work.dv("import", "--materialise", "out", code=4)
    assert f"out/{LARGE}" in lost.err.replace("  ", " ")
    assert "out/a.txt" not in lost.err
    # The rest is copied, and the way that is named leads out.
    work.dv("checkout", "--", "out/a.txt", "out/sub/b.bin")
    work.dv("update")
    work.commit("updated")
    work.dv("push")
    work.dv("pull")
    assert files(work.root / "out").get(LARGE) == {
        "replaced": b"other", "same size": CHANGED, "shorter": DATA[LARGE][:-1], "gone": None
    }[change]  # fmt: skip


def test_an_object_that_was_put_back_is_good_again(bucket: Bucket) -> None:
    work = bucket.work
    bucket.put({LARGE: CHANGED})
    work.dv("push", code=4)
    bucket.put({LARGE: DATA[LARGE]})
    work.dv("push")
    work.dv("pull")
    assert files(work.root / "out") == DATA


def test_a_version_that_was_taken_is_read_whatever_is_newest(
    work: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    bucket = imported(work, moto_server, versions=True)
    bucket.put({LARGE: CHANGED})
    bucket.delete("data/a.txt")
    work.dv("push")
    work.dv("fsck", "--remote", "origin", "--deep")
    work.dv("pull")
    assert files(work.root / "out") == DATA
    work.dv("drop", "out")
    # The version itself is removed: then only what is there now counts.
    with moto_server.client() as client:
        rows = client.list_object_versions(Bucket=bucket.name, Prefix=f"data/{LARGE}")["Versions"]
        old = next(row["VersionId"] for row in rows if not row["IsLatest"])
        client.delete_object(Bucket=bucket.name, Key=f"data/{LARGE}", VersionId=old)
    refused(bucket, exit_code=4, names="was replaced")
    bucket.put({LARGE: DATA[LARGE]})
    work.dv("push")
    work.dv("pull")
    assert files(work.root / "out") == DATA


class Liar:
    """A proxy's policy that changes a bit in the bodies of one key, and nothing of its headers."""

    def __init__(self, key: str) -> None:
        self.key = key

    def choose(self, request: Request) -> Fault | None:
        lies = request.kind == "GET" and request.path.partition("?")[0].endswith(self.key)
        return Fault("GET", flip_at=0.5) if lies else None


def test_other_bytes_under_the_same_etag_are_never_given(
    work: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    with CountingProxy(moto_server.endpoint_url) as proxy:
        monkeypatch.setattr(s3_origin, "SETTLED_S", 0)  # the data is as if it were old
        bucket = imported(work, S3Server("proxied", proxy.url))
        work.dv("pull")
        proxy.policy = Liar(LARGE)
        # ETag and time are what they were, so the push and a check of metadata believe the store;
        # nobody is given its bytes.
        work.dv("push")
        work.dv("fsck", "--remote", "origin")
        assert f"data/{LARGE}" in work.dv("fsck", "--remote", "origin", "--deep", code=6).out
        # Files and store here are the only good copy: nothing may go.
        dropped = work.dv("drop", "out", code=5)
        assert f"out/{LARGE}" in dropped.err
        assert files(work.root / "out") == DATA
        clone = work.clone("clone")
        clone.dv("pull", code=3)
        assert "dv update --trust" in clone.dv("cat", f"out/{LARGE}", code=3).err
        clone.dv("update", "--trust", "out")
        for verb in (("pull",), ("cat", f"out/{LARGE}"), ("import", "--materialise", "out")):
            ran = clone.dv(*verb, code=4 if verb[0] == "import" else 6)
            assert f"s3://{bucket.name}/data/{LARGE} has other bytes" in ran.err
        assert not (clone.root / "out" / LARGE).exists()
        # The clone that has the bytes makes the copy, and the other one finds it.
        manifest = bucket.manifest()
        work.dv("import", "--materialise", "out")
        assert manifest_digest(bucket.manifest()) == manifest_digest(manifest)
        assert not bucket.manifest().source.reference
        work.commit("copied")
        work.dv("push")
        clone.git("pull", "-q")
        clone.dv("pull")
        assert files(clone.root / "out") == DATA


TWIN = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
    "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
    "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
)
OTHER_TWIN = bytes(
    byte ^ (0x80 if at in (19, 45, 59, 83, 109, 123) else 0) for at, byte in enumerate(TWIN)
)
"""128 bytes with the same MD5, found by X. Wang and H. Yu: for a real store, the same object."""


@pytest.mark.parametrize("listed", [False, True])
def test_other_bytes_of_the_same_etag_are_found_by_the_time_they_were_written(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    work = bucket.work
    assert hashlib.md5(TWIN).digest() == hashlib.md5(OTHER_TWIN).digest()
    if listed:  # the proof by a listing, as of many objects
        monkeypatch.setattr(remote_references, "LOOKS_LIST_MIN", 1)
    twin = Bucket(work, bucket.server)
    twin.put({"twin": TWIN, "b": b"b"})
    twin.dv("import", "--reference", twin.url, "twin")
    work.commit("twin")
    work.dv("push")
    twin.put({"twin": OTHER_TWIN})
    ran = work.dv("push", code=4)
    assert f"twin/twin: s3://{twin.name}/data/twin has other bytes than were taken" in ran.err
    assert "data/b" not in ran.err
    assert "data/twin" in work.dv("fsck", "--remote", "origin", code=6).out
    assert f"s3://{twin.name}/data/twin has other bytes" in work.dv("pull", "twin", code=6).err
    assert not (work.root / "twin" / "twin").exists()
    twin.put({"twin": TWIN})
    work.dv("push")
    work.dv("fsck", "--remote", "origin")
    work.dv("pull", "twin")
    assert files(work.root / "twin") == {"twin": TWIN, "b": b"b"}


@pytest.mark.parametrize("listed", [False, True])
def test_a_push_reads_no_object_that_was_not_written_since(
    work: Work, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    monkeypatch.setattr(s3_origin, "SETTLED_S", 0)
    if listed:
        monkeypatch.setattr(remote_references, "LOOKS_LIST_MIN", 1)
    with CountingProxy(s3_env.endpoint_url) as proxy:
        imported(work, S3Server("proxied", proxy.url))
        counts = dict(proxy.counts)
        proxy.reset()
        work.dv("push")
        asked = "LIST" if listed else "HEAD"
        # Three objects: two with different contents each, one that another has, too.
        assert dict(proxy.counts) == {asked: 1 if listed else 3}, counts


def test_a_time_that_tells_nothing_has_the_object_read_again(
    work: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    monkeypatch.setattr(s3_origin, "SETTLED_S", 3_600)  # all that is here was written just now
    with CountingProxy(moto_server.endpoint_url) as proxy:
        imported(work, S3Server("proxied", proxy.url))
        proxy.reset()
        work.dv("push")
        assert proxy.counts["GET"] == 3
        monkeypatch.setattr(s3_origin, "SETTLED_S", 0)
        work.dv("push")
        proxy.reset()
        work.dv("push")
        assert proxy.counts["GET"] == 0


def test_a_version_that_is_restored_holds_as_it_was_taken(
    work: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    bucket = imported(work, moto_server, versions=True)
    key = f"data/{LARGE}"
    with moto_server.client() as client:
        # Deleted, and the mark of that removed.
        marker = client.delete_object(Bucket=bucket.name, Key=key)["VersionId"]
        work.dv("push")
        client.delete_object(Bucket=bucket.name, Key=key, VersionId=marker)
        work.dv("push")
        # Replaced, the version copied on top of that, and then itself removed.
        version = client.head_object(Bucket=bucket.name, Key=key)["VersionId"]
        bucket.put({LARGE: CHANGED})
        source = {"Bucket": bucket.name, "Key": key, "VersionId": version}
        client.copy_object(Bucket=bucket.name, Key=key, CopySource=source)
        work.dv("push")
        client.delete_object(Bucket=bucket.name, Key=key, VersionId=version)
    work.dv("push")
    work.dv("fsck", "--remote", "origin", "--deep")
    work.dv("pull")
    assert files(work.root / "out") == DATA


def test_dv_remote_names_the_sources_at_which_data_stays(bucket: Bucket) -> None:
    work = bucket.work
    (source,) = work.dv("remote", "list", "--json").json["sources"]
    assert source == {"url": f"{bucket.url}/", "targets": ["out"], "approved": True}
    assert f"  {bucket.url}/  (by reference, of out)\n" in work.dv("remote").out
    clone = work.clone("clone")
    assert "not approved: dv update --trust out" in clone.dv("remote", "list").out
    clone.dv("update", "--trust", "out")
    assert "not approved" not in clone.dv("remote", "list").out
    work.dv("import", "--materialise", "out")
    assert work.dv("remote", "list", "--json").json["sources"] == []


def test_copies_of_a_part_go_to_the_remote_without_another_commit(
    bucket: Bucket, tmp_path: Path
) -> None:
    work = bucket.work
    work.dv("push")
    done = work.dv("import", "--materialise", f"out/{LARGE}", "--json").json["targets"][0]
    assert (done["files"], done["bytes"], done["changed"]) == (1, len(DATA[LARGE]), False)
    work.dv("push")
    assert stored(tmp_path / "remote") > 600_000
    bucket.delete(f"data/{LARGE}")
    work.dv("push")
    work.dv("fsck", "--remote", "origin", "--deep")
    assert work.dv("import", "--materialise", "nothing", code=2)


def test_another_target_with_the_same_bytes_gets_its_own_copy(
    bucket: Bucket, tmp_path: Path
) -> None:
    work = bucket.work
    work.dv("push")
    work.write("own/large.bin", DATA[LARGE])
    work.dv("add", "own")
    work.commit("own")
    work.dv("push")
    assert stored(tmp_path / "remote") > 600_000
    bucket.delete(f"data/{LARGE}")
    work.dv("drop", "own")
    work.dv("pull", "own")
    assert work.read("own/large.bin") == DATA[LARGE]


def test_references_survive_what_happens_to_a_remote(bucket: Bucket, tmp_path: Path) -> None:
    work = bucket.work
    work.dv("push")
    (tmp_path / "other").mkdir()
    other = str(tmp_path / "other")
    work.dv("remote", "copy", "origin", other)
    work.dv("gc")
    work.dv("gc", "--remote", "origin", "--grace", "0d")
    work.dv("remote", "add", "second", other)
    work.dv("fsck", "--remote", "second", "--deep")
    (work.root / ".git" / "dv" / "references.db").unlink()
    work.dv("pull", "--remote", "second")
    assert files(work.root / "out") == DATA
    assert work.dv("export", "out", "--to", str(tmp_path / "copy")).code == 0
    assert files(tmp_path / "copy") == DATA


def test_what_cannot_be_referred_to_is_refused(work: Work) -> None:
    work.dv("import", "--reference", "https://example.org/x.csv", code=2)
    work.dv("import", "--reference", "--unpack", "s3://bucket/x.tar", code=2)
    work.dv("import", "--materialise", "out", "--limit", "3", code=2)


def test_a_drop_leaves_the_copy_of_files_that_another_worktree_has(
    work: Work, tmp_path: Path, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    bucket = imported(work, moto_server)
    other = Work(tmp_path / "other")
    work.git("worktree", "add", "-q", "-b", "other", str(other.root))
    work.dv("pull")
    other.dv("checkout", "--", f"out/{LARGE}")
    work.dv("drop", "out")
    assert 600_000 < stored(work.root / ".git" / "dv") < 750_000
    # The source changes, and so does the file: its content is in the store, as that of any file.
    bucket.put({LARGE: CHANGED})
    other.write(f"out/{LARGE}", b"edited")
    other.dv("restore", f"out/{LARGE}")
    assert files(other.root / "out") == {LARGE: DATA[LARGE]}
    # Another version takes its place, the worktree goes, and the content can be had all the same.
    other.dv("drop", "out", code=5)
    other.dv("update")
    other.commit("updated")
    other.dv("pull")
    assert files(other.root / "out")[LARGE] == CHANGED
    work.dv("gc")
    work.dv("checkout", "--", f"out/{LARGE}")
    assert files(work.root / "out") == {LARGE: DATA[LARGE]}


def test_a_listing_says_that_the_bytes_are_at_the_source(bucket: Bucket) -> None:
    work, url = bucket.work, f"{bucket.url}/"
    work.write("own.txt", b"own\n")
    work.dv("add", "own.txt")
    described = {one["target"]: one for one in work.dv("describe", "--json").json["targets"]}
    assert (described["out"]["source"], described["out"]["reference"]) == (url, True)
    assert (described["own.txt"]["source"], described["own.txt"]["reference"]) == (None, False)
    assert f"at {url}" in work.dv("describe").out
    targets = {one["target"]: one for one in work.dv("status", "--json").json["targets"]}
    assert (targets["out"]["source"], targets["out"]["reference"]) == (url, True)
    assert (targets["own.txt"]["source"], targets["own.txt"]["reference"]) == (None, False)
    screen = work.dv("status").out
    assert "Kept at the source" in screen and screen.count(url) == 1
    for rev in ((), ("--rev", "HEAD")):
        entries = work.dv("ls", "--json", *rev).json["entries"]
        assert {one.get("source") for one in entries if one["target"] == "out"} == {url}
        assert all("source" not in one for one in entries if one["target"] != "out")
    assert f"at {url}" in work.dv("ls", "-l", "out").out
    snapshot = dvtool.snapshot(repo=work.root)
    assert snapshot.info(f"out/{LARGE}").source == url
    work.dv("import", "--materialise", "out")
    assert "Kept at the source" not in work.dv("status").out


def test_a_repository_that_is_read_by_its_url_asks_no_source_and_says_the_way(
    work: Work, tmp_path: Path, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    monkeypatch.setenv("DV_CACHE_PATH", str(tmp_path / "cache"))
    imported(work, moto_server)
    monkeypatch.setenv("DV_REMOTE_ORIGIN_URL", str(tmp_path / "remote"))
    url = f"file://{work.root}"
    for ran in (
        work.dv("get", url, "out", "-o", "copy", code=3),
        work.dv("cat", url, "out/a.txt", code=3),
    ):
        assert "read by its URL" in ran.err
        assert f"git clone {url} FOLDER && cd FOLDER && dv update --trust TARGET" in ran.err
    with (
        dvtool.snapshot(repo=url) as snapshot,
        pytest.raises(dvtool.SetupError, match="read by its URL"),
    ):
        snapshot.read(f"out/{LARGE}")
    # The way that is named leads there.
    monkeypatch.delenv("DV_REMOTE_ORIGIN_URL")
    clone = work.clone("clone")
    clone.dv("update", "--trust", "out")
    with dvtool.snapshot(repo=clone.root) as snapshot:
        assert snapshot.read(f"out/{LARGE}") == DATA[LARGE]


def test_a_drop_reads_from_the_source_though_the_remote_states_its_objects(
    work: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    url = f"s3://{moto_server.new_bucket()}/remote"
    work.dv("remote", "set", "origin", url, "--endpoint-url", moto_server.endpoint_url)
    bucket = imported(work, moto_server)
    work.dv("pull")
    bucket.put({LARGE: CHANGED})
    # Of every object of the remote the MD5 is stated and known here: that says nothing of the data.
    assert f"out/{LARGE}" in work.dv("drop", "out", code=5).err
    assert files(work.root / "out") == DATA
    bucket.put({LARGE: DATA[LARGE]})
    work.dv("drop", "out")
    assert stored(work.root / ".git" / "dv") == 0


def test_gc_forgets_the_references_that_no_manifest_names(
    work: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    bucket = imported(work, moto_server)
    other = Bucket(work, moto_server)
    other.put({"more.bin": CHANGED})
    other.dv("import", "--reference", other.url, "more")
    [entry] = work.dv("ls", "--json", "more").json["entries"]
    kept = {one["blake3"] for one in work.dv("ls", "--json", "out").json["entries"]}

    def known() -> set[str]:
        with closing(References(str(work.root / ".git" / "dv"), reading=True)) as references:
            every = [*kept, entry["blake3"]]
            return {one.hex() for one in references.known([bytes.fromhex(one) for one in every])}

    everything = known()
    assert entry["blake3"] in everything
    work.dv("gc", "--unpushed", "--grace", "0d")
    assert known() == everything  # a manifest in the worktree names it
    work.git("reset", "-q", "--hard")
    work.dv("gc")
    work.dv("gc", "--unpushed")
    assert known() == everything  # it is young, and on no remote
    work.dv("gc", "--unpushed", "--grace", "0d")
    assert known() == everything - {entry["blake3"]}
    work.dv("pull")
    assert files(work.root / "out") == DATA
    # It can be referred to again.
    other.dv("import", "--reference", other.url, "more")
    work.dv("pull", "more")
    assert files(work.root / "more") == {"more.bin": CHANGED}
    assert bucket.manifest().source.reference


GOLDEN = Path(__file__).parent.parent / "data" / "format-1"
SCANS = {
    "a.txt": b"alpha\n",
    "empty": b"",
    "sub/large.bin": blake3(b"large").digest(400_000),
    "sub/same.txt": b"alpha\n",
    "sub/copied.bin": blake3(b"copied").digest(3_000),
    "ünïcödé 図.txt": b"odd\n",
}


def test_references_of_format_1_are_read_and_written_as_they_were(
    tmp_path: Path, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = json.loads((GOLDEN / "references.json").read_text())["data/scans"]
    bundle = str(GOLDEN / "references.bundle")
    subprocess.run(["git", "clone", "-q", "-b", "main", bundle, "work"], cwd=tmp_path, check=True)
    shutil.copytree(GOLDEN / "references", tmp_path / "remote")
    work = Work(tmp_path / "work")
    text = work.read("data/scans.dv.json")
    manifest = decode(text, "data/scans")
    assert manifest.source is not None
    assert manifest.source.reference
    assert (blake3(text).hexdigest(), encode(manifest)) == (said["text"], text)
    assert manifest_digest(manifest).hex() == said["manifest"]
    [path] = (path for path in (tmp_path / "remote" / "shards").rglob("*") if path.is_file())
    data = path.read_bytes()
    entries, shard = decode_object(data, bytes.fromhex(path.name), path.name)
    assert (len(shard.locations), len(shard.references)) == (1, 3)
    assert {(one.address.url, bool(one.version)) for one in shard.references.values()} == {
        ("s3://lab-scans/scans/", True)
    }
    assert max(len(one.chunks) for one in shard.references.values()) > 1
    places = places_in_order(entries, shard.locations, shard.references)
    assert encode_locations(places) == split_object(data, path.name)[1]
    # The objects are in a bucket of that name: other versions of the same states.
    use(moto_server, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server.endpoint_url)
    with moto_server.client() as client:
        client.create_bucket(Bucket="lab-scans")
        for name, body in SCANS.items():
            client.put_object(Bucket="lab-scans", Key=f"scans/{name}", Body=body)
    work.dv("remote", "add", "origin", tmp_path / "remote")
    work.dv("pull", code=3)
    work.dv("update", "--trust", "data/scans")
    work.dv("pull")
    assert files(work.root / "data/scans") == SCANS


def test_fsck_asks_the_source_of_what_was_not_pushed_yet(bucket: Bucket) -> None:
    work = bucket.work
    work.write("own.txt", b"own\n")
    work.dv("add", "own.txt")
    work.commit("own")
    work.dv("push", "--", "own.txt")
    work.dv("fsck")
    work.dv("fsck", "--remote")
    work.dv("fsck", "--remote", "--deep")
    bucket.put({LARGE: CHANGED})
    ran = work.dv("fsck", "--remote", code=4)
    assert f"data/{LARGE}" in ran.out and "was replaced" in ran.out
    bucket.put({LARGE: DATA[LARGE]})
    work.dv("fsck", "--remote")
    work.dv("remote", "remove", "origin")
    work.dv("fsck")
