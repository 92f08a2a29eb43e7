from __future__ import annotations

from tests.cli.conftest import Work


def test_rm_leaves_the_files(data: Work) -> None:
    ran = data.dv("rm", "data/images")
    assert ran.out == "data/images is not tracked any more; the files stay\n"
    assert ran.err == "next: git commit\n"
    assert (data.root / "data/images/a.txt").exists()
    assert not (data.root / "data/images.dv.json").exists()
    assert data.dv("ls").lines == ["data/table.csv"]


def test_rm_data(data: Work) -> None:
    ran = data.dv("rm", "--data", "data/images")
    assert ran.out == "data/images is not tracked any more; 3 files removed\n"
    assert not (data.root / "data/images").exists()
    data.dv("checkout", "HEAD", "--", "data/images")
    assert data.read("data/images/a.txt") == b"content of a.txt"


def test_rm_a_part(data: Work) -> None:
    (data.root / "data/images/empty").mkdir()
    data.dv("add", "data/images")
    ran = data.dv("rm", "--data", "images/sub", cwd="data")
    assert ran.out == "1 file taken out of images; 1 file removed\n"
    assert not (data.root / "data/images/sub").exists()
    # An empty folder that is tracked, and not meant, stays.
    assert (data.root / "data/images/empty").is_dir()
    assert data.dv("status").out.count("deleted:") == 0


def test_rm_json(data: Work) -> None:
    assert data.dv("rm", "--json", "data/images/*.txt", "data/table.csv").json == {
        "schema": 1,
        "targets": [
            {"target": "data/images", "whole": False, "entries": 2, "files": 0},
            {"target": "data/table.csv", "whole": True, "entries": 1, "files": 0},
        ],
    }


def test_rm_data_that_is_not_saved(data: Work) -> None:
    data.write("data/images/a.txt", "precious")
    ran = data.dv("rm", "--data", "data/images", code=5)
    assert "data/images/a.txt" in ran.err
    assert "--force" in ran.err
    assert (data.root / "data/images.dv.json").exists()
    data.dv("rm", "--data", "--force", "data/images")
    assert not (data.root / "data/images/a.txt").exists()


def test_rm_usage(data: Work) -> None:
    assert "no target" in data.dv("rm", "nope", code=2).err
    data.dv("rm", code=2)
    data.dv("rm", "--force", "data/images", code=2)


def test_rm_odd_name(work: Work) -> None:
    work.write("data/esc\x1b[31m\n", "x")
    work.write("data/other", "x")
    work.dv("add", "data")
    assert work.dv("rm", "data/esc\x1b[31m\n").out.isascii()
    assert work.dv("ls").lines == ["data/other"]
