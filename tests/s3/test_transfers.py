"""What transfers promise besides arriving: plans that hold, proof, resuming, falling back."""

from __future__ import annotations

import io
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.errors import CorruptError, MissingError, RemoteError
from dvtool.format import pack
from dvtool.format.digest import digest_of
from dvtool.format.locations import Located, RemotePack, encode_object
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports import retry
from tests.faulty import Faulty
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.scenario import Clone, Remote, noise

MIB = 1 << 20


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let packs end at 1 MiB, so that a few files make many."""
    monkeypatch.setattr(pack, "PACK_SIZE_AIM_BYTES", MIB)


def make(path: Path, remote: Remote, *, files: int = 40) -> Clone:
    clone = Clone.new(path, remote)
    for number in range(files):
        clone.write(f"data/{number:03}", noise(200_000, number))
    clone.add("data")
    clone.commit("one")
    return clone


def broken(clone: Clone, wrap: Callable[[RemoteStore], Faulty]) -> list[Faulty]:
    """Push through a faulty backend, which must fail; return it."""
    made: list[Faulty] = []
    with clone.repo() as repo:
        open_remote = repo.config.open_remote

        def faulty(name: str | None = None, *, anew: bool = False) -> RemoteStore:
            made.append(wrap(open_remote(name, anew=anew)))
            return RemoteStore(made[0])

        repo.config.open_remote = faulty  # type: ignore[method-assign]
        with pytest.raises(RemoteError):
            repo.push()
    return made


class TestPlans:
    def test_a_push_takes_what_its_plan_said(
        self, s3_env: S3Server, tmp_path: Path, small_packs: None
    ) -> None:
        with CountingProxy(s3_env.endpoint_url) as proxy:
            clone = make(tmp_path / "mine", Remote(f"s3://{s3_env.new_bucket()}", proxy.url))
            with clone.repo() as repo:
                plan = repo.plans.push()
            assert proxy.counts["PUT"] == 0
            looked = Counter(proxy.counts)
            proxy.reset()
            with clone.repo() as repo:
                pushed = repo.push().pushed
            said = plan.estimate.requests
            done = Counter(proxy.counts) - looked
            assert (plan.would.packs, said.put) == (pushed.packs, done["PUT"])
            assert abs(said.total - done.total()) <= 2, (said, done)
            assert abs(plan.estimate.bytes - pushed.bytes) < 0.02 * pushed.bytes

    def test_a_pull_takes_what_its_plan_said(
        self, s3_env: S3Server, tmp_path: Path, small_packs: None
    ) -> None:
        with CountingProxy(s3_env.endpoint_url) as proxy:
            remote = Remote(f"s3://{s3_env.new_bucket()}", proxy.url)
            mine = make(tmp_path / "mine", remote)
            with mine.repo() as repo:
                repo.push()
            theirs = mine.clone(tmp_path / "theirs", remote)
            proxy.reset()
            with theirs.repo() as repo:
                would, estimate = repo.plans.pull()
            assert proxy.counts["PUT"] == 0 and proxy.received < MIB
            proxy.reset()
            with theirs.repo() as repo:
                fetched = repo.pull().fetched
            assert fetched is not None
            assert (would.files, would.bytes) == (fetched.files, fetched.bytes) == (40, 8_000_000)
            assert estimate.requests.get == proxy.counts["GET"] == proxy.total
            assert estimate.bytes == fetched.transferred_bytes


class TestProof:
    def damage(self, s3: S3Server, bucket: str, kind: str, change: str) -> None:
        """Change an object behind our back; where it stays as long, only an MD5 can tell."""
        with s3.client() as client:
            objects = client.list_objects_v2(Bucket=bucket, Prefix=kind)["Contents"]
            for key in [one["Key"] for one in objects][:2]:
                body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
                if change == "delete":
                    client.delete_object(Bucket=bucket, Key=key)
                    continue
                body = body[:-1] if change == "truncate" else body[:-1] + bytes([body[-1] ^ 1])
                client.put_object(Bucket=bucket, Key=key, Body=body)

    @pytest.mark.parametrize("change", ["delete", "truncate", "flip a bit"])
    @pytest.mark.parametrize("kind", ["packs/", "shards/", "roots/"])
    def test_what_changed_behind_our_back_is_uploaded_again(
        self, s3_env: S3Server, tmp_path: Path, small_packs: None, kind: str, change: str
    ) -> None:
        bucket = s3_env.new_bucket()
        remote = Remote(f"s3://{bucket}", s3_env.endpoint_url)
        mine = make(tmp_path / "mine", remote)
        with mine.repo() as repo:
            repo.push()
            assert not repo.push().pushed.changed
        self.damage(s3_env, bucket, kind, change)
        with mine.repo() as repo:
            assert repo.push().pushed.changed
            assert not repo.push().pushed.changed
        theirs = mine.clone(tmp_path / "theirs", remote)
        with theirs.repo() as repo:
            repo.pull()
        assert theirs.tree("data") == mine.tree("data")

    def test_a_store_that_keeps_other_bytes_is_found_out(
        self, s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """moto checks no Content-MD5: what is damaged on the way must be seen by its ETag."""
        mine = make(tmp_path / "mine", Remote(f"s3://{s3_env.new_bucket()}", s3_env.endpoint_url))
        put_pack = RemoteStore.put_pack

        def damaged(self: RemoteStore, digest: bytes, file: object) -> object:
            stored = put_pack(self, digest, file)  # type: ignore[arg-type]
            key = stored.key
            self.backend.put(key, b"x" * stored.size)
            return stored

        monkeypatch.setattr(RemoteStore, "put_pack", damaged)
        with mine.repo() as repo, pytest.raises(RemoteError, match="not as they were sent"):
            repo.push()

    @pytest.mark.parametrize("kind", ["pack", "shard", "root"])
    def test_a_store_that_loses_what_it_took_is_found_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        mine = make(tmp_path / "mine", Remote(str(tmp_path / "remote")), files=2)
        put = getattr(RemoteStore, f"put_{kind}")

        def forgetful(self: RemoteStore, *args: object) -> object:
            stored = put(self, *args)
            self.backend.delete((stored[1] if kind == "root" else stored).key)
            return stored

        monkeypatch.setattr(RemoteStore, f"put_{kind}", forgetful)
        with mine.repo() as repo, pytest.raises(RemoteError, match=f"not have .*\n.*{kind}s/"):
            repo.push()
        assert kind == "root" or not (tmp_path / "remote/roots").exists()
        monkeypatch.undo()
        with mine.repo() as repo:
            assert repo.push().pushed.changed


class TestResuming:
    def test_a_push_goes_on_where_it_was_cut_off(
        self, remote: Remote, tmp_path: Path, small_packs: None
    ) -> None:
        mine = make(tmp_path / "mine", remote)
        (faulty,) = broken(mine, lambda store: Faulty(store.backend, on="put", skip=5, times=None))
        there = {info.key: info.size for info in faulty.backend.list("packs/")}
        assert there
        with mine.repo() as repo:
            plan = repo.plans.push()
            pushed = repo.push().pushed
        assert pushed.resumed_packs == plan.would.resumed_packs == len(there)
        assert pushed.resumed_bytes == sum(there.values())
        assert pushed.packs < 9
        with mine.repo() as repo:
            assert repo.push().pushed.resumed_packs == 0
        theirs = mine.clone(tmp_path / "theirs", remote)
        with theirs.repo() as repo:
            repo.pull()
        assert theirs.tree("data") == mine.tree("data")

    def test_a_fetch_goes_on_where_it_was_cut_off(self, tmp_path: Path, small_packs: None) -> None:
        remote = Remote(str(tmp_path / "remote"))
        mine = make(tmp_path / "mine", remote)
        with mine.repo() as repo:
            repo.push()
        theirs = mine.clone(tmp_path / "theirs", remote)
        packs = sorted((tmp_path / "remote" / "packs").glob("*/*"))
        hidden = [(path, path.rename(tmp_path / path.name)) for path in packs[:3]]
        with theirs.repo() as repo, pytest.raises(MissingError):
            repo.fetch()
        for place, path in hidden:
            path.rename(place)
        with theirs.repo() as repo:
            fetched = repo.fetch()
        assert 0 < fetched.files < 20
        assert fetched.files + fetched.found == 40

    def test_no_temporary_file_stays_behind(
        self, remote: Remote, tmp_path: Path, small_packs: None
    ) -> None:
        mine = make(tmp_path / "mine", remote)
        broken(mine, lambda store: Faulty(store.backend, on="put", skip=3, times=None))
        with mine.repo() as repo:
            assert list(Path(repo._project.store.path, "tmp").iterdir()) == []


class TestSeveralRemotes:
    def two(self, tmp_path: Path) -> tuple[Clone, Clone]:
        """Return a clone that pushed to two remotes, and one that has fetched nothing yet."""
        mine = make(tmp_path / "mine", Remote(str(tmp_path / "a")))
        theirs = mine.clone(tmp_path / "theirs", Remote(str(tmp_path / "a")))
        for clone in (mine, theirs):
            with clone.repo() as repo:
                repo.config.set_remote("second", str(tmp_path / "b"), local=True)
        with mine.repo() as repo:
            repo.push(remote="origin")
            repo.push(remote="second")
        return mine, theirs

    @pytest.mark.parametrize("kind", ["packs", "shards", "roots", "dv.json"])
    def test_what_one_lacks_the_other_gives(
        self, tmp_path: Path, small_packs: None, kind: str
    ) -> None:
        mine, theirs = self.two(tmp_path)
        if kind == "dv.json":
            (tmp_path / "a/dv.json").unlink()
        else:
            shutil.rmtree(next((tmp_path / "a" / kind).iterdir()))
        with theirs.repo() as repo:
            fetched = repo.pull().fetched
        assert fetched is not None
        assert bool(fetched.warnings) == (kind != "roots")
        assert theirs.tree("data") == mine.tree("data")

    def test_damage_in_one_is_made_good_by_the_other(
        self, tmp_path: Path, small_packs: None
    ) -> None:
        mine, theirs = self.two(tmp_path)
        for path in (tmp_path / "a/packs").glob("*/*"):
            path.write_bytes(b"x" * path.stat().st_size)
        with theirs.repo() as repo, pytest.raises(CorruptError):
            repo.pull(remote="origin")  # a remote that is named is asked alone
        with theirs.repo() as repo:
            fetched = repo.pull().fetched
        assert fetched is not None and "bytes are not what its name says" in fetched.warnings[0]
        assert theirs.tree("data") == mine.tree("data")

    def test_a_remote_that_cannot_be_reached_is_passed_over(
        self, tmp_path: Path, small_packs: None
    ) -> None:
        mine, theirs = self.two(tmp_path)
        shutil.rmtree(tmp_path / "a")
        with theirs.repo() as repo:
            repo.pull()
        assert theirs.tree("data") == mine.tree("data")

    def test_what_none_has_is_said_of_each(self, tmp_path: Path, small_packs: None) -> None:
        _, theirs = self.two(tmp_path)
        shutil.rmtree(tmp_path / "a/packs")
        shutil.rmtree(tmp_path / "b/packs")
        with theirs.repo() as repo, pytest.raises(MissingError) as caught:
            repo.pull()
        assert str(tmp_path / "a") in str(caught.value)
        assert f"and: {tmp_path / 'b'}" in str(caught.value)


def test_a_pack_under_the_name_of_another_is_not_kept(tmp_path: Path) -> None:
    """Sound in itself, with the same chunks and of the same size: only its id tells."""
    remote = Remote(str(tmp_path / "remote"))
    mine = Clone.new(tmp_path / "mine", remote)
    chunks = [noise(40_000, 0), noise(40_000, 1)]
    for number, chunk in enumerate(chunks):
        mine.write(f"data/{number}", chunk)
    mine.add("data")
    mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    (path,) = [path for path in (tmp_path / "remote/packs").rglob("*") if path.is_file()]
    before = path.read_bytes()
    index = pack.read_index(io.BytesIO(before), size=len(before), where="")
    made = io.BytesIO()
    writer = pack.PackWriter(made)
    for chunk in sorted(chunks, key=lambda data: -index.chunk_digests.index(digest_of(data))):
        writer.add(digest_of(chunk), chunk)
    writer.finish()
    assert made.getvalue() != before
    assert len(made.getvalue()) == len(before)
    path.chmod(0o644)
    path.write_bytes(made.getvalue())
    theirs = mine.clone(tmp_path / "theirs", remote)
    with theirs.repo() as repo, pytest.raises(CorruptError, match="name says"):
        repo.pull()
    assert not list((theirs.path / ".git/dv/packs").rglob(path.name))


def test_a_pack_that_was_replaced_meanwhile_is_found_by_its_shard(
    tmp_path: Path, small_packs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gc rewrites packs and shards; who read a shard before must read it again."""
    remote = Remote(str(tmp_path / "remote"))
    mine = make(tmp_path / "mine", remote)
    with mine.repo() as repo:
        repo.push()
    theirs = mine.clone(tmp_path / "theirs", remote)
    before = tmp_path / "remote/packs"
    later = tmp_path / "later"
    before.rename(later)
    asked: list[tuple[str, bytes]] = []
    lock = threading.Lock()

    def first_gone(name: str) -> Callable[..., object]:
        real = getattr(RemoteStore, name)

        def get(self: RemoteStore, digest: bytes, *args: object, **kwargs: object) -> object:
            asked.append((name, digest))
            try:
                return real(self, digest, *args, **kwargs)
            finally:
                with lock:
                    if later.exists():
                        shutil.rmtree(before, ignore_errors=True)
                        later.rename(before)

        return get

    for name in ("read_pack", "copy_pack"):
        monkeypatch.setattr(RemoteStore, name, first_gone(name))
    with theirs.repo() as repo:
        repo.pull()
    assert len(asked) > len(set(asked))
    assert theirs.tree("data") == mine.tree("data")


def test_a_role_that_may_not_list_can_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvtool.errors import RemoteForbidden

    clone = make(tmp_path / "mine", Remote(str(tmp_path / "remote")))
    with clone.repo() as repo:
        open_remote = repo.config.open_remote

        def no_listing(name: str | None = None, *, anew: bool = False) -> RemoteStore:
            return RemoteStore(
                Faulty(
                    open_remote(name, anew=anew).backend,
                    on="list",
                    times=None,
                    error=lambda: RemoteForbidden("access refused"),
                )
            )

        repo.config.open_remote = no_listing  # type: ignore[method-assign]
        assert repo.push().pushed.changed
        assert not repo.push().pushed.changed


def test_a_pack_shorter_than_the_lists_say_is_read_in_ranges(
    s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "PAUSE_FIRST_S", 0.001)
    remote = Remote(f"s3://{s3_env.new_bucket()}", s3_env.endpoint_url)
    clone = make(tmp_path / "mine", remote, files=5)
    with clone.repo() as repo:
        repo.push()
        store = repo.config.open_remote()
        for info in list(store.backend.list("shards/")):
            digest = bytes.fromhex(info.key.rpartition("/")[2])
            shard = store.read_shard(digest)
            longer = {
                file: [
                    Located(RemotePack(at.pack.digest, at.pack.size + 1), at.placement)
                    for at in chunks
                ]
                for file, chunks in shard.locations.items()
            }
            store.put_shard(digest, encode_object(shard.text, longer))
    other = clone.clone(tmp_path / "other", remote)
    with other.repo() as repo:
        assert repo.fetch().files == 5
