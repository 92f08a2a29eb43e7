from __future__ import annotations

import re

from tests.cli.conftest import Work


def _second(data: Work) -> None:
    data.write("data/images/a.txt", "changed")
    data.write("data/images/new.txt", "new")
    data.dv("add", "data/images")
    data.commit("Change \x1b[31mit")


def test_log(data: Work) -> None:
    _second(data)
    ran = data.dv("log", "data/images")
    assert ran.lines[1] == "    Change \\x1b[31mit"
    assert ran.lines[2] == "    4 files, 46 B: 1 added, 1 modified"
    assert ran.lines[5] == "    3 files, 52 B: 3 added"
    assert len(ran.lines) == 6
    assert all(len(line) <= 80 for line in ran.lines)


def test_log_json_and_limits(data: Work) -> None:
    _second(data)
    found = data.dv("log", "data/images", "--json").json["commits"]
    assert [one["added"] for one in found] == [1, 3]
    assert found[0]["commit"] == data.git("rev-parse", "HEAD")
    assert len(found[0]["blake3"]) == 64
    assert set(found[0]) == {
        *("commit", "author", "date", "subject", "target", "renamed_from"),
        *("blake3", "files", "bytes"),
        *("added", "modified", "removed", "renamed"),
    }
    assert len(data.dv("log", "data/images", "-n", "1").lines) == 3
    assert "Add the data" in data.dv("log", "data/images", "HEAD~1").lines[1]
    data.dv("log", "data/images", "-n", "0", code=2)


def test_log_of_a_removed_target(data: Work) -> None:
    data.dv("rm", "data/table.csv")
    data.commit("Remove it")
    ran = data.dv("log", "data/table.csv")
    assert "    removed" in ran.lines[2]
    assert data.dv("log", "data/table.csv", "--json").json["commits"][0]["blake3"] is None


def test_log_from_a_subfolder(data: Work) -> None:
    assert "Add the data" in data.dv("log", "../images", cwd="data/images").out


def test_log_of_what_is_no_target(data: Work) -> None:
    assert "not a target" in data.dv("log", "nope", code=2).err
    ran = data.dv("log", "data/images/sub", code=2)
    assert "hint: run: dv log data/images" in ran.err
    data.write("fresh")
    data.dv("add", "fresh")
    assert "no commit has fresh yet" in data.dv("log", "fresh", code=2).err


def test_log_unknown_revision(data: Work) -> None:
    assert "unknown revision" in data.dv("log", "data/images", "nope", code=2).err


def test_log_before_the_first_commit(work: Work) -> None:
    ran = work.dv("log", "x", code=3)
    assert "no commits yet" in ran.err
    assert "hint: " in ran.err


def test_log_follows_a_target_to_the_name_it_had_before(data: Work) -> None:
    _second(data)
    data.dv("mv", "data/images", "data/photos")
    data.commit("Rename it")
    data.write("data/photos/more.txt", "more")
    data.dv("add", "data/photos")
    data.commit("Add more")
    found = data.dv("log", "data/photos", "--json").json["commits"]
    names = [(one["target"], one["renamed_from"], one["added"]) for one in found]
    assert names == [
        ("data/photos", None, 1),
        ("data/photos", "data/images", 0),
        ("data/images", None, 1),
        ("data/images", None, 3),
    ]
    assert "target renamed from data/images" in data.dv("log", "data/photos", "-n", "2").lines[5]
    assert len(data.dv("log", "data/photos", "HEAD~2..").lines) == 6


def test_log_of_all_targets(data: Work) -> None:
    _second(data)
    data.dv("mv", "data/images", "data/photos")
    data.commit("Rename it")
    lines = data.dv("log").lines
    assert [line for line in lines if line.startswith("    data/")] == [
        "    data/photos  4 files, 46 B: target renamed from data/images",
        "    data/images  4 files, 46 B: 1 added, 1 modified",
        "    data/images  3 files, 52 B: 3 added",
        "    data/table.csv  1 file, 8 B: 1 added",
    ]
    assert sum("Add the data" in line for line in lines) == 1
    assert len(data.dv("log", "-n", "1", "HEAD~1").lines) == 3
    assert data.dv("log", "HEAD..HEAD", "--json").json["commits"] == []
    assert len(data.dv("log", "HEAD~1", "--", "data/images").lines) == 6
    assert "at most" in data.dv("log", "data/photos", "HEAD", "HEAD", code=2).err


def test_what_log_does_not_know_is_known_after_the_command_that_it_names(data: Work) -> None:
    for number in range(1_001):
        data.write(f"data/images/{number}", str(number))
    data.dv("add", "data/images")
    data.commit("Add many")
    data.write("data/images/1", "other")
    data.dv("add", "data/images")
    data.commit("Change one")
    data.dv("push")
    clone = data.clone()
    clone.dv("pull")
    (unknown,) = re.findall(
        r"changes not known here \((dv show \w+) brings", clone.dv("log", "data/images").out
    )[:1]
    clone.dv(*unknown.split()[1:])
    assert "1,004 files" in (changed := clone.dv("log", "data/images", "-n", "1").out)
    assert changed.endswith(": 1 modified\n")
