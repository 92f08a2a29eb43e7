"""A repository with data of several kinds in one commit, and a clone of it without any content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dvtool import Snapshot, snapshot
from tests.scenario import Clone, Remote, noise

BIG = noise(3 << 20, 1)
TABLE = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(60_000))


@dataclass(frozen=True)
class Dataset:
    """The clone with the content, one without, the commit, and path -> bytes of its files."""

    mine: Clone
    bare: Clone
    remote: Remote
    commit: str
    files: dict[str, bytes]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Data in a large target, two small ones and a single file; not to be changed."""
    top = tmp_path_factory.mktemp("snapshots")
    remote = Remote(str(top / "remote"))
    mine = Clone.new(top / "mine", remote)
    files = {f"data/images/{n % 7}/{n:04}.jpg": noise(n % 900, n) for n in range(1_300)}
    files |= {"data/images.txt": b"beside", "data/big.bin": BIG, "data/table.csv": TABLE}
    files |= {"data/empty/none": b"", "data/empty/réd \U0001f600.txt": b"unicode"}
    for path, data in files.items():
        mine.write(path, data, executable=path == "data/images/0/0007.jpg")
    mine.link("data/empty/link", "none")
    mine.link("data/images/first", "0/0007.jpg")
    mine.link("data/images/zero", "0")
    mine.link("data/images/loop", "loop2")
    mine.link("data/images/loop2", "loop")
    (mine.path / "data/images/hollow").mkdir()
    mine.write("code.py", b"print()\n")
    mine.git("add", "code.py")
    mine.add("data/images", "data/images.txt", "data/big.bin", "data/table.csv", "data/empty")
    commit = mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    return Dataset(mine, mine.clone(top / "bare", remote), remote, commit, files)


@pytest.fixture(params=["local", "remote"])
def data(request: pytest.FixtureRequest, dataset: Dataset) -> Iterator[Snapshot]:
    """A snapshot whose content is in the local store, or only on the remote."""
    clone = dataset.mine if request.param == "local" else dataset.bare
    with snapshot(repo=clone.path) as opened:
        yield opened
