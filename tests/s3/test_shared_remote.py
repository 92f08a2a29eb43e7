"""Places that others use too: other repositories, other formats, other tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvtool.errors import DvError, RemoteError, SetupError
from dvtool.remotes.transports.base import Backend
from dvtool.remotes.transports.registry import open_backend
from dvtool.repo import Repo
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.s3.soundness import check_remote
from tests.scenario import Clone, Remote, noise


def backend_of(remote: Remote) -> Backend:
    return open_backend(remote.url, {"endpoint_url": remote.endpoint_url})


def keys(remote: Remote, prefix: str = "") -> list[str]:
    return [info.key for info in backend_of(remote).list(prefix)]


def repository(path: Path, remote: Remote, *, own: int | None = None) -> Clone:
    """Return a repository of its own with data that others have too, and a file that none has."""
    clone = Clone.new(path, remote)
    for number in range(4):
        clone.write(f"data/{number}", noise(100_000, number))
    if own is not None:
        clone.write("data/own", noise(10_000, 1_000 + own))
    clone.add("data")
    clone.commit("data")
    return clone


# --- several repositories in one place ------------------------------------------------------


def test_the_same_target_in_two_repositories_shares_packs(remote: Remote, tmp_path: Path) -> None:
    one = repository(tmp_path / "one", remote)
    two = repository(tmp_path / "two", remote)
    with one.repo() as repo:
        assert repo.push().pushed.packs == 1
    with two.repo() as repo:
        pushed = repo.push().pushed
        assert (pushed.packs, pushed.changed) == (0, True)  # a root, and nothing else
    assert len(keys(remote, "packs/")) == 1
    assert len({key.split("/")[1] for key in keys(remote, "roots/")}) == 2


def test_repositories_in_one_place_do_not_disturb_each_other(
    remote: Remote, tmp_path: Path
) -> None:
    clones = [repository(tmp_path / f"{n}", remote, own=n) for n in range(3)]
    for clone in clones:
        with clone.repo() as repo:
            repo.push()
    before = set(keys(remote))
    clones[0].write("data/0", b"changed")
    clones[0].add("data")
    clones[0].commit("change")
    with clones[0].repo() as repo:
        repo.push()
    assert before < set(keys(remote))
    assert len(check_remote(remote)) == 4
    for number, clone in enumerate(clones):
        with clone.repo() as repo:
            assert not repo.push().pushed.changed
        theirs = clone.clone(tmp_path / f"clone of {number}", remote)
        with theirs.repo() as repo:
            repo.pull()
        assert theirs.tree("data") == clone.tree("data")


def test_what_is_dropped_in_one_repository_another_still_gets(
    remote: Remote, tmp_path: Path
) -> None:
    one, two = (repository(tmp_path / name, remote) for name in ("one", "two"))
    for clone in (one, two):
        with clone.repo() as repo:
            repo.push()
    tree = two.tree("data")
    for clone in (one, two):
        with clone.repo() as repo:
            repo.drop(["data"])
    with two.repo() as repo:
        repo.pull()
    assert two.tree("data") == tree


# --- places that are no remote of ours ------------------------------------------------------

ID = b'"id": "00112233445566778899aabbccddeeff", "created": "2026-01-01T00:00:00+00:00"'
REFUSED: dict[str, tuple[dict[str, bytes], type[DvError], str]] = {
    "a later format": ({"dv.json": b'{"dv": 2, %s}' % ID}, SetupError, "format 2"),
    "a far later format": ({"dv.json": b'{"dv": 99, "new": 1, %s}' % ID}, SetupError, "format 99"),
    "an earlier format": ({"dv.json": b'{"dv": 0, %s}' % ID}, SetupError, "format 0"),
    "another tool's bucket": ({"files/md5/00/11": b"x"}, SetupError, "other things"),
    "a folder named like ours": ({"packs/readme": b"x"}, SetupError, "other things"),
    "garbage": ({"dv.json": b"\x00\xff" * 100}, SetupError, "dv.json"),
    "html": ({"dv.json": b"<!doctype html><html></html>"}, SetupError, "dv.json"),
    "empty": ({"dv.json": b""}, SetupError, "dv.json"),
    "another json": ({"dv.json": b'{"name": "davinci", "version": 3}'}, SetupError, "dv.json"),
    "a list": ({"dv.json": b"[]"}, SetupError, "dv.json"),
    "an id of another form": (
        {"dv.json": b'{"dv": 1, "id": "../x", "created": ""}'},
        SetupError,
        "dv.json",
    ),
    "huge": ({"dv.json": b'{"dv": 1, "x": "%s"}' % (b"x" * (2 << 20))}, RemoteError, "dv.json"),
}
"""What lies there -> the error of whoever comes, and what it names."""


@pytest.fixture
def proxy(s3_env: S3Server) -> Iterator[CountingProxy]:
    with CountingProxy(s3_env.endpoint_url) as proxy:
        yield proxy


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_anything_is_written(
    s3_env: S3Server, proxy: CountingProxy, tmp_path: Path, name: str
) -> None:
    objects, error, message = REFUSED[name]
    remote = Remote(f"s3://{s3_env.new_bucket()}/p", proxy.url)
    for key, body in objects.items():
        backend_of(remote).put(key, body)
    clone = repository(tmp_path / "clone", remote)
    other = clone.clone(tmp_path / "other", remote)
    proxy.reset()
    _refused(clone, error, message, lambda repo: repo.push())
    assert proxy.counts["PUT"] + proxy.counts["DELETE"] + proxy.counts["POST"] == 0
    # Who only reads need not tell a strange place from an empty one.
    error = error if "dv.json" in objects else SetupError
    _refused(other, error, remote.url, lambda repo: repo.pull())
    assert proxy.counts["PUT"] + proxy.counts["DELETE"] + proxy.counts["POST"] == 0
    assert not (other.path / "data").exists()
    assert keys(remote) == list(objects)


def _refused(
    clone: Clone, error: type[DvError], message: str, act: Callable[[Repo], object]
) -> None:
    with clone.repo() as repo, pytest.raises(error, match=message):
        act(repo)


def test_a_remote_beside_another_tool_in_one_bucket(
    s3_env: S3Server, proxy: CountingProxy, tmp_path: Path
) -> None:
    """Under a prefix of its own the rest of the bucket is nobody's business."""
    bucket = s3_env.new_bucket()
    top = Remote(f"s3://{bucket}", proxy.url)
    for key in ("other/thing", "pp/dv.json", "q"):
        backend_of(top).put(key, b"not ours")
    remote = Remote(f"s3://{bucket}/p", proxy.url)
    clone = repository(tmp_path / "clone", remote)
    with clone.repo() as repo:
        assert repo.push().pushed.changed
    assert len(check_remote(remote)) == 1
    for key in ("other/thing", "pp/dv.json", "q"):
        assert backend_of(top).get(key, size_max=100) == b"not ours"
