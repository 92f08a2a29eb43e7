"""What an add that fails half way has read stays in the store."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from dvtool.errors import InputError
from dvtool.format.digest import digest_of
from dvtool.jobs import ingest
from dvtool.jobs.engine import InProcess
from tests.scenario import Clone, Remote


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
