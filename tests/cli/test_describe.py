from __future__ import annotations

from tests.cli.conftest import Work


def test_describe(data: Work) -> None:
    head = data.git("rev-parse", "HEAD")
    lines = data.dv("describe").lines
    assert lines[0] == f"commit  {head}"
    assert lines[1] == "branch  main"
    assert lines[2].startswith("data    ")
    assert lines[3].endswith("  data/images  3 files, 52 B")
    assert all(len(line) <= 80 for line in lines)


def test_describe_json(data: Work) -> None:
    found = data.dv("describe", "--json").json
    assert found["commit"] == data.git("rev-parse", "HEAD")
    assert (found["dirty"], found["code_dirty"], found["data_dirty"]) == (False, False, False)
    assert [one["target"] for one in found["targets"]] == ["data/images", "data/table.csv"]
    status = data.dv("status", "--json").json["targets"]
    assert [one["blake3"] for one in found["targets"]] == [one["blake3"] for one in status]
    assert data.dv("describe", "HEAD", "--json").json == {**found, "branch": None}


def test_describe_a_revision(data: Work) -> None:
    before = data.dv("describe", "--json").json["data_id"]
    data.write("data/table.csv", "new")
    data.dv("add", "data/table.csv")
    data.commit()
    assert data.dv("describe", "--json").json["data_id"] != before
    assert data.dv("describe", "HEAD~1", "--json").json["data_id"] == before
    assert "unknown revision" in data.dv("describe", "nope", code=2).err


def test_describe_check(data: Work) -> None:
    data.write("train.py", "code")
    data.commit()
    data.dv("describe", "--check")
    data.write("data/images/new.txt")
    ran = data.dv("describe", "--check", code=1)
    assert "(dirty: data)" in ran.out
    assert "data or its manifests differ from HEAD" in ran.err
    assert "  data/images" in ran.err
    assert "data/table.csv" not in ran.err
    data.write("train.py", "other code")
    ran = data.dv("describe", "--check", "--json", code=1)
    assert ran.json["dirty"] is True
    assert "files that git tracks differ" in ran.err
    assert "(dirty: code and data)" in data.dv("describe").out
    data.dv("describe", "HEAD", "--check", code=2)


def test_describe_before_the_first_commit(work: Work) -> None:
    work.write("data/a")
    work.dv("add", "data")
    assert work.dv("describe").lines[0].startswith("commit  none yet")
    assert work.dv("describe", "--json").json["commit"] is None
    assert "no commit yet" in work.dv("describe", "--check", code=1).err
