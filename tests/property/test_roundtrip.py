"""Any tree: the same manifest everywhere, and the same bytes back."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings, strategies as st

from dvtool.format.paths import path_fault
from dvtool.jobs import engine, ingest
from dvtool.repo import Repo
from dvtool.system.atomic import TEMP_PREFIX

KIB = 1 << 10


@dataclass(frozen=True)
class File:
    """A file of `size` bytes that follow from `seed`, repetitive or not."""

    seed: int
    size: int
    executable: bool
    repetitive: bool

    def content(self) -> bytes:
        stream = blake3(b"%d" % self.seed).digest(max(self.size, 1))
        if self.repetitive:
            stream = stream[:100] * (self.size // 100 + 1)
        return stream[: self.size]


@dataclass(frozen=True)
class Link:
    target: str


Tree = dict[str, "Tree | File | Link"]

name_characters = st.one_of(
    st.sampled_from("ab.-_ *?[]!#\\'\"$%\n\té\u0301\u2028\u200b\U0001f600あ"),
    st.characters(exclude_categories=("Cs",), exclude_characters="/\x00\\"),
)
names = st.text(name_characters, min_size=1, max_size=8).filter(
    lambda name: (
        path_fault(name) is None
        and len(name.encode()) < 200
        and name != ".dvignore"
        and not name.startswith(TEMP_PREFIX)
    )
)
sizes = st.sampled_from([0, 32 * KIB, 64 * KIB, 300 * KIB]).flatmap(
    lambda around: st.integers(max(0, around - 2), around + 2)
)
file_nodes = st.builds(File, st.integers(0, 5), sizes, st.booleans(), st.booleans())
link_nodes = st.builds(Link, names)
folders = st.recursive(
    st.dictionaries(names, st.one_of(file_nodes, link_nodes), max_size=5),
    lambda inner: st.dictionaries(names, st.one_of(file_nodes, link_nodes, inner), max_size=4),
    max_leaves=12,
).filter(bool)


def write(tree: Tree, folder: Path) -> None:
    folder.mkdir()
    for name, node in tree.items():
        path = folder / name
        if isinstance(node, File):
            path.write_bytes(node.content())
            path.chmod(0o755 if node.executable else 0o644)
        elif isinstance(node, Link):
            path.symlink_to(node.target)
        else:
            write(node, path)


def read(folder: Path) -> dict[str, object]:
    """Return path -> (bytes, executable), link target or None for a folder."""
    found: dict[str, object] = {}
    for top, names, files in os.walk(folder):
        for name in (*names, *files):
            path = Path(top, name)
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = os.readlink(path)
            elif path.is_dir():
                found[key] = None
            else:
                found[key] = (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
    return found


def new_repository(path: Path) -> Path:
    path.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", path], check=True)
    with Repo.open(str(path)) as repo:
        repo.config.init()
    return path


def add(root: Path, *, jobs: int) -> bytes:
    with Repo.open(str(root)) as repo:
        repo.add(["data"], jobs=jobs)
    return (root / "data.dv.json").read_bytes()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two repositories, one of them deeper and with other things in its store from before."""
    base = tmp_path_factory.mktemp("roundtrip")
    return new_repository(base / "one"), new_repository(base / "deeper down" / "twö")


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tree=folders, first=folders)
def test_one_content_has_one_manifest_and_comes_back(
    places: tuple[Path, Path], tree: Tree, first: Tree
) -> None:
    one, two = places
    for root in places:
        shutil.rmtree(root / "data", ignore_errors=True)
        (root / "data.dv.json").unlink(missing_ok=True)
    write(tree, one / "data")
    manifest = add(one, jobs=1)
    # Elsewhere: something else is added first, and then it becomes the same, read by two workers.
    write(first, two / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "PARALLEL_MIN_BYTES", 0)
        patch.setattr(ingest, "BATCH_SIZE_MIN_BYTES", 100 * KIB)
        add(two, jobs=2)
        shutil.rmtree(two / "data")
        write(tree, two / "data")
        assert add(two, jobs=2) == manifest
    for root in places:
        expected = read(root / "data")
        shutil.rmtree(root / "data")
        with Repo.open(str(root)) as repo:
            repo.checkout()
        assert read(root / "data") == expected
        # And nothing is left to add.
        assert add(root, jobs=1) == manifest


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(before=folders, after=folders)
def test_checkout_goes_from_any_tree_to_any_other(
    places: tuple[Path, Path], before: Tree, after: Tree
) -> None:
    root = places[0]
    manifests = []
    trees = []
    for tree in (before, after):
        shutil.rmtree(root / "data", ignore_errors=True)
        (root / "data.dv.json").unlink(missing_ok=True)
        write(tree, root / "data")
        manifests.append(add(root, jobs=1))
        trees.append(read(root / "data"))
    for manifest, expected in itertools.islice(
        itertools.cycle(zip(manifests, trees, strict=True)), 3
    ):
        (root / "data.dv.json").write_bytes(manifest)
        with Repo.open(str(root)) as repo:
            repo.checkout()
        assert read(root / "data") == expected


def test_files_of_many_batches_are_the_same_by_one_worker_and_by_two(tmp_path: Path) -> None:
    manifests = []
    for name, jobs in (("one", 1), ("two", 2)):
        root = new_repository(tmp_path / name)
        (root / "data").mkdir()
        for number in range(40):
            data = blake3(b"%d" % (number // 2)).digest(1 << 20)
            (root / "data" / f"{number:02}").write_bytes(data)
        manifests.append(add(root, jobs=jobs))
        shutil.rmtree(root / "data")
        with Repo.open(str(root)) as repo:
            repo.checkout()
        for number in range(40):
            data = blake3(b"%d" % (number // 2)).digest(1 << 20)
            assert (root / "data" / f"{number:02}").read_bytes() == data
    assert manifests[0] == manifests[1]
