"""Chunks that were received are kept whatever comes after them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dvtool.errors import RemoteError
from dvtool.format.digest import digest_of
from dvtool.store.local import LocalStore
from dvtool.verbs.fetch.download import ReceivedChunks


@pytest.mark.parametrize("error", [RemoteError, KeyboardInterrupt])
def test_what_arrived_before_an_error_is_kept(tmp_path: Path, error: type[BaseException]) -> None:
    with LocalStore(str(tmp_path)) as store:
        with pytest.raises(error), ReceivedChunks(store) as received:
            received.add([(digest_of(b"x"), b"x")])
            raise error("gone")
        assert store.lacking([digest_of(b"x")]) == set()
        assert os.listdir(store.temp_folder()) == []


def test_a_disk_that_is_full_at_the_end_keeps_no_unfinished_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with LocalStore(str(tmp_path)) as store:
        store.db.packs()
        with pytest.raises(OSError, match="space"), ReceivedChunks(store) as received:
            received.add([(digest_of(b"x"), b"x")])
            assert os.listdir(store.temp_folder())
            monkeypatch.setattr(os, "fsync", full)
        assert os.listdir(store.temp_folder()) == []
