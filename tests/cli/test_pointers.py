"""Files that stand for the data of another tool are not taken for data unseen."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Work

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
DVC = "outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  path: raw\n"


@pytest.mark.parametrize("untrack", [False, True])
def test_pointers_of_lfs_are_refused(work: Work, untrack: bool) -> None:
    work.write("data/a.bin", POINTER)
    work.write("data/b.bin", "real data" * 30)
    flags = ["--untrack"] if untrack else []
    if untrack:
        work.git("add", "data")
    ran = work.dv("add", *flags, "data", code=2)
    assert "  data/a.bin\n" in ran.err
    assert "git lfs pull" in ran.err
    assert "b.bin" not in ran.err
    assert not (work.root / "data.dv.json").exists()
    work.dv("add", *flags, "--as-is", "data")
    work.dv("add", "data")  # they are known now


def test_a_file_that_is_a_pointer_is_refused(work: Work) -> None:
    work.write("model.bin", POINTER)
    assert "git lfs pull" in work.dv("add", "model.bin", code=2).err


@pytest.mark.parametrize("place", ["data/raw.dvc", "data.dvc"])
def test_what_dvc_keeps_is_refused(work: Work, place: str) -> None:
    work.write("data/raw", "raw")
    work.write(place, DVC)
    ran = work.dv("add", "data", code=2)
    assert f"  {place}\n" in ran.err
    assert "dvc pull" in ran.err
    work.dv("add", "--as-is", "data")


def test_names_alone_make_no_pointer(work: Work) -> None:
    work.write("data/notes.dvc", "not of that tool")
    work.write("data/text", "version 2 " * 20)
    work.dv("add", "data")
