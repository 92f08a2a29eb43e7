"""What an add that fails half way has read stays in the store."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from dvtool.errors import InputError
from dvtool.format.digest import digest_of
from dvtool.jobs import ingest
from dvtool.jobs.engine import InProcess
from dvtool.store.local import LocalStore
from tests.scenario import Clone, Remote, noise


class FailsAtLast(InProcess):
    """Works on one batch after the other, and fails before the third."""

    def map(self, *args: object, **options: object) -> Generator[object, None, None]:  # type: ignore[override]
        results = super().map(*args, **options)  # type: ignore[arg-type]
        yield next(results)
        yield next(results)
        raise InputError("the third cannot be read")


def test_an_add_that_fails_keeps_what_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "BATCH_FILES_MAX", 1)
    monkeypatch.setattr("dvtool.verbs.add.store.engine_for", lambda engine, **_: engine)
    clone = Clone.new(tmp_path / "work", Remote(str(tmp_path / "remote")))
    for name in ("a", "b", "c"):
        clone.write(f"data/{name}", name.encode() * 100)
    with clone.repo() as repo:
        with pytest.raises(InputError, match="third"):
            repo.add("data", engine=FailsAtLast())
        store = repo._project.store
        read = {digest_of(name.encode() * 100) for name in ("a", "b")}
        assert store.db.held_chunks([*read, digest_of(b"c" * 100)]) == read
        assert not list(Path(store.temp_folder()).iterdir())


def test_a_file_that_is_gone_when_its_turn_comes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Clone.new(tmp_path / "work", Remote(str(tmp_path / "remote")))
    for number in range(20):
        clone.write(f"data/small-{number:02}", b"%d" % number)
    for number in range(36):  # so much that workers read it
        clone.write(f"data/large-{number:02}", noise(1 << 20, number))

    monkeypatch.setattr("dvtool.verbs.add.publish.LISTED_MIN_FILES", 1)

    def after_listing(store: LocalStore) -> None:
        (clone.path / "data/small-07").unlink(missing_ok=True)

    monkeypatch.setattr("dvtool.verbs.add.store.sweep_temp", after_listing)
    with clone.repo() as repo, pytest.raises(InputError, match="data/small-07 cannot be read: No"):
        repo.add("data")
