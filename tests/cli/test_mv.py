from __future__ import annotations

import pytest

from tests.cli.conftest import Work


def test_mv_a_target(data: Work) -> None:
    ran = data.dv("mv", "data/images", "data/photos")
    assert ran.out == "data/images -> data/photos\n"
    assert ran.err == "next: git commit\n"
    assert data.read("data/photos/a.txt") == b"content of a.txt"
    staged = data.git("diff", "--cached", "--name-status", "-M").splitlines()
    assert "R100\tdata/images.dv.json\tdata/photos.dv.json" in staged


def test_mv_entries_from_a_subfolder(data: Work) -> None:
    data.dv("mv", "sub", "other", cwd="data/images")
    assert "data/images/other/c.txt" in data.dv("ls").lines
    assert data.read("data/images/other/c.txt") == b"content of sub/c.txt"
    assert data.dv("diff", "--stat").out == "data/images: 1 renamed\n"


@pytest.mark.parametrize(
    ("source", "destination"),
    [("data/images", "archive/photos"), ("data/images/sub", "data/images/other")],
)
def test_a_dry_run_moves_nothing(data: Work, source: str, destination: str) -> None:
    before = data.git("status", "--porcelain"), data.dv("ls").out
    for name in ("-n", "--dry-run", "--plan"):
        ran = data.dv("mv", name, source, destination)
        assert ran.out == f"{source} -> {destination}\n"
        assert ran.err == "nothing was changed\n"
    assert (data.git("status", "--porcelain"), data.dv("ls").out) == before
    assert data.read("data/images/sub/c.txt") == b"content of sub/c.txt"
    assert not (data.root / destination).exists()
    assert "exists already" in data.dv("mv", "-n", "data/images", ".dvconfig", code=2).err


def test_mv_json(data: Work) -> None:
    assert data.dv("mv", "--json", "data/table.csv", "table.csv").json == {
        "schema": 1,
        "source": "data/table.csv",
        "destination": "table.csv",
    }


def test_mv_odd_name(data: Work) -> None:
    ran = data.dv("mv", "data/table.csv", "data/quo\"te's \x1b[31m.csv")
    assert "\x1b" not in ran.out
    assert data.read("data/quo\"te's \x1b[31m.csv") == b"x,y\n1,2\n"


def test_mv_refuses(data: Work) -> None:
    assert "git mv" in data.dv("mv", "nope", "other", code=2).err
    assert "exists already" in data.dv("mv", "data/table.csv", ".dvconfig", code=2).err
    assert "into itself" in data.dv("mv", "data/images", "data/images/x", code=2).err
    assert "outside" in data.dv("mv", "data/images", "../x", code=2).err
    data.dv("mv", "data/images", code=2)
    assert data.dv("status", "--exit-code").out.startswith("Clean")


def test_mv_into_a_folder_that_was_tracked_as_empty(data: Work) -> None:
    (data.root / "data/images/empty/deep").mkdir(parents=True)
    data.dv("add", "data/images")
    data.dv("mv", "data/images/a.txt", "data/images/empty/deep/a.txt")
    assert data.dv("ls", "data/images").lines == [
        "data/images/b.txt",
        "data/images/empty/deep/a.txt",
        "data/images/sub/c.txt",
    ]
    assert data.dv("diff", "--stat").out == "data/images: 1 renamed\n"
    data.commit()
    data.dv("mv", "data/images/b.txt", "data/images/sub/b.txt")
    assert (
        "is not a folder"
        in data.dv("mv", "data/images/sub/c.txt", "data/images/sub/b.txt/c.txt", code=2).err
    )


@pytest.mark.parametrize("name", ["sub", "a.txt"])
def test_a_move_that_was_cut_off_is_finished_where_rules_leave_out(data: Work, name: str) -> None:
    data.write("data/.dvignore", "*.tmp\n")
    (data.root / "data/images" / name).rename(data.root / "data/images/new.tmp")
    data.dv("mv", f"data/images/{name}", "data/images/new.tmp")
    ran = data.dv("status", "--json")
    assert [one["deleted"] + one["added"] for one in ran.json["targets"]] == [[], []]
    assert any(path.startswith("new.tmp") for path in data.dv("ls", "data/images").out.split("/"))
