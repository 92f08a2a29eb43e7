from __future__ import annotations

from tests.cli.conftest import ODD_NAMES, Work


def test_pull_into_a_clone(pushed: Work) -> None:
    clone = pushed.clone()
    ran = clone.dv("pull")
    assert ran.lines[0].startswith("fetched from ")
    assert "data/images  3 files written, 52 B" in ran.lines
    assert clone.read("data/images/sub/c.txt") == b"content of sub/c.txt"
    assert clone.dv("pull").out == "the workspace is as it should be\n"
    assert clone.dv("status", "--exit-code").out.startswith("Clean: 2 targets")


def test_pull_json(pushed: Work) -> None:
    found = pushed.clone().dv("pull", "--json").json
    assert found["fetched"]["files"] == 4
    assert [one["written"] for one in found["targets"]] == [3, 1]


def test_pull_a_part(pushed: Work) -> None:
    clone = pushed.clone()
    clone.dv("pull", "--", "data/images/sub")
    assert not (clone.root / "data/images/a.txt").exists()
    clone.dv("pull", "images/a.txt", cwd="data")
    assert (clone.root / "data/images/a.txt").exists()


def test_pull_a_revision(pushed: Work) -> None:
    pushed.write("data/table.csv", "new")
    pushed.dv("add", "data/table.csv")
    pushed.commit("second")
    pushed.dv("push")
    clone = pushed.clone()
    clone.dv("pull", "HEAD~1", "--", "data/table.csv")
    assert clone.read("data/table.csv") == b"x,y\n1,2\n"


def test_pull_odd_names(work: Work) -> None:
    for name in ODD_NAMES:
        work.write(f"data/{name}", name)
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    clone = work.clone()
    ran = clone.dv("pull")
    assert all(line.isprintable() for line in ran.lines)
    for name in ODD_NAMES:
        assert clone.read(f"data/{name}") == name.encode()


def test_pull_refuses_to_lose_changes(pushed: Work) -> None:
    pushed.write("data/table.csv", "precious")
    assert "data/table.csv" in pushed.dv("pull", code=5).err
    assert "dv cat --hash" in pushed.dv("pull", "--force").out


def test_pull_without_a_remote(pushed: Work) -> None:
    assert "dv remote add" in pushed.clone(remote=False).dv("pull", code=4).err


def test_pull_as_a_process_shows_no_progress_when_piped(pushed: Work) -> None:
    clone = pushed.clone()
    ran = clone.process("pull")
    assert ran.err == ""
    assert "\r" not in ran.out
