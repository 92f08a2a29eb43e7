"""A clone with two remotes: what the first lacks, or does not say, comes from the second."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

import dvtool
from dvtool.errors import ObjectMissing, RemoteError
from dvtool.remotes.objects import Mark
from dvtool.remotes.remote import RemoteStore
from dvtool.snapshots.lost import LostPacks
from dvtool.stream import Stream
from tests.scenario import Clone, Remote, noise

FILES = {f"data/{number // 4}/{number:02}": noise(3_000, number) for number in range(24)}
PACK_FILES = 4
"""Of so many files each push makes a pack."""


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository, `mine`, whose files are in several packs of a remote, `A`."""
    top = tmp_path_factory.mktemp("several")
    mine = Clone.new(top / "mine", Remote(str(top / "A")))
    for begin in range(0, len(FILES), PACK_FILES):
        for path in list(FILES)[begin : begin + PACK_FILES]:
            mine.write(path, FILES[path])
        mine.add("data")
        mine.commit("data")
        with mine.repo() as repo:
            repo.push()
    return top


@pytest.fixture
def bare(pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A clone without content, with the remotes A and B, which are the same."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in "AB":
        shutil.copytree(pushed / "A", tmp_path / name)
    clone = Clone(pushed / "mine").clone(tmp_path / "bare", Remote(str(tmp_path / "A")))
    with clone.repo() as repo:
        repo.config.set_remote("second", str(tmp_path / "B"))
    return clone


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often packs were asked for, by the last letter of the remote."""
    asked: Counter[str] = Counter()
    read_pack = RemoteStore.read_pack

    def counting(self: RemoteStore, *args: object, **ranges: int) -> None:
        asked[self.url[-1]] += 1
        read_pack(self, *args, **ranges)  # type: ignore[arg-type]

    monkeypatch.setattr(RemoteStore, "read_pack", counting)
    return asked


def packs(remote: Path) -> list[Path]:
    return sorted(path for path in (remote / "packs").rglob("*") if path.is_file())


def read_stream(clone: Clone) -> dict[str, bytes]:
    stream = Stream("data", repo=clone.path)
    return {sample.key: sample.data for number in range(2) for sample in stream.epoch(number)}


@pytest.mark.parametrize("cache", ["cached", "uncached"])
@pytest.mark.parametrize("kept", [0, 2])
def test_packs_that_the_first_remote_lost_come_from_the_second(
    bare: Clone,
    tmp_path: Path,
    asked: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    kept: int,
    cache: str,
) -> None:
    """Some or all; each is asked for once more than it is needed."""
    if cache == "uncached":
        monkeypatch.setenv("DV_CACHE_SIZE", "0")
    assert len(packs(tmp_path / "A")) == len(FILES) // PACK_FILES
    for pack in packs(tmp_path / "A")[kept:]:
        pack.unlink()
    with dvtool.snapshot(repo=bare.path) as data:
        assert {path: data.read(path) for path in FILES} == FILES
        lost = len(data._contents._remote._lost._packs)
    assert lost == len(FILES) // PACK_FILES - kept
    assert asked["B"] > 0
    asked.clear()
    assert read_stream(bare) == FILES
    assert cache == "cached" or 0 < asked["A"] <= len(FILES)


def test_each_remote_may_have_lost_other_packs(bare: Clone, tmp_path: Path) -> None:
    for number, pack in enumerate(packs(tmp_path / "A")):
        (pack if number % 2 else tmp_path / "B" / pack.relative_to(tmp_path / "A")).unlink()
    assert read_stream(bare) == FILES
    with dvtool.snapshot(repo=bare.path) as data:
        assert data.prefetch(list(FILES)) == 0


def test_a_pack_that_all_remotes_lost_is_named_and_asked_for_again(
    bare: Clone, tmp_path: Path
) -> None:
    lost = packs(tmp_path / "A")
    away = tmp_path / "away"
    shutil.copytree(tmp_path / "A/packs", away)
    for pack in (*lost, *packs(tmp_path / "B")):
        pack.unlink()
    with dvtool.snapshot(repo=bare.path) as data:
        with pytest.raises(ObjectMissing, match="has no object packs/"):
            data.prefetch(list(FILES))
        shutil.copytree(away, tmp_path / "A/packs", dirs_exist_ok=True)
        assert {path: data.read(path) for path in FILES} == FILES


def test_a_first_remote_that_does_not_answer_is_asked_once(
    bare: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    required_mark, tried = RemoteStore.required_mark, list[str]()

    def failing(self: RemoteStore) -> Mark:
        if self.url.endswith("A"):
            tried.append(self.url)
            raise RemoteError(f"{self.url} does not answer")
        return required_mark(self)

    monkeypatch.setattr(RemoteStore, "required_mark", failing)
    assert read_stream(bare) == FILES
    assert len(tried) == 1


def test_lost_packs_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvtool.snapshots.lost.LOST_PACKS_MAX", 3)
    lost = LostPacks(None)
    for number in range(9):
        lost.note(0, bytes([number]))
    assert set(LostPacks(lost)._packs) == {(0, bytes([number])) for number in (6, 7, 8)}
    assert lost.clear()
    assert not lost.clear()
