from __future__ import annotations

import pytest

from tests.cli.conftest import ODD_NAMES, Work


@pytest.fixture
def changed(data: Work) -> Work:
    """One file of each kind of change, in the workspace only."""
    data.write("data/images/a.txt", "content of a.txt, longer")
    (data.root / "data/images/b.txt").rename(data.root / "data/images/moved.txt")
    (data.root / "data/images/sub/c.txt").unlink()
    (data.root / "data/images/sub").rmdir()
    data.write("data/images/new.txt", "new")
    return data


TEXT = """\
data/images
  M         +8 B  data/images/a.txt
  R         16 B  data/images/b.txt -> data/images/moved.txt
  A         +3 B  data/images/new.txt
  D        -20 B  data/images/sub/c.txt
total: 1 added (+3 B), 1 modified (+8 B), 1 removed (-20 B), 1 renamed
"""


def _sorted(text: str) -> list[str]:
    return sorted(text.splitlines())


def test_diff_of_the_workspace(changed: Work) -> None:
    # Sizes: "content of sub/c.txt" has 20 bytes.
    assert _sorted(changed.dv("diff").out) == _sorted(TEXT)
    assert changed.dv("diff", "HEAD").out == changed.dv("diff").out
    assert all(len(line) <= 80 for line in changed.dv("diff").lines)


def test_diff_of_commits(changed: Work) -> None:
    changed.dv("add", "data/images")
    assert _sorted(changed.dv("diff").out) == _sorted(TEXT)
    changed.commit("second")
    assert changed.dv("diff").out == "no difference\n"
    assert _sorted(changed.dv("diff", "HEAD~1", "HEAD").out) == _sorted(TEXT)
    assert _sorted(changed.dv("diff", "HEAD~1").out) == _sorted(TEXT)
    back = changed.dv("diff", "HEAD", "HEAD~1").out
    assert "1 added (+20 B), 1 modified (-8 B), 1 removed (-3 B), 1 renamed" in back


def test_diff_stat_and_names(changed: Work) -> None:
    assert changed.dv("diff", "--stat").out == (
        "data/images: 1 added (+3 B), 1 modified (+8 B), 1 removed (-20 B), 1 renamed\n"
    )
    assert sorted(changed.dv("diff", "--name-only").lines) == [
        "data/images/a.txt",
        "data/images/moved.txt",
        "data/images/new.txt",
        "data/images/sub/c.txt",
    ]
    changed.dv("diff", "--stat", "--name-only", code=2)


def test_diff_json(changed: Work) -> None:
    found = changed.dv("diff", "--json").json
    assert found["totals"]["renamed"] == {"count": 1, "bytes": 0}
    assert found["totals"]["removed"] == {"count": 1, "bytes": -20}
    (target,) = found["targets"]
    changes = {one["path"]: one for one in target["changes"]}
    assert changes["new.txt"]["old"] is None
    assert changes["new.txt"]["old_path"] is None
    assert changes["new.txt"]["new"]["type"] == "file"
    assert changes["moved.txt"]["old_path"] == "b.txt"
    assert changes["moved.txt"]["old"] == changes["moved.txt"]["new"]
    short = changed.dv("diff", "--json", "--stat").json
    assert "changes" not in short["targets"][0]


def test_diff_paths(changed: Work) -> None:
    changed.write("data/table.csv", "x")
    assert "table" not in changed.dv("diff", "data/images").out
    assert "a.txt" in changed.dv("diff", "HEAD", "--", "data/images/a.txt").out
    only = changed.dv("diff", "--", "data/images/*.txt").out
    assert "a.txt" in only
    assert "sub/c.txt" not in only
    inside = changed.dv("diff", "--name-only", "images/new.txt", cwd="data")
    assert inside.out == "images/new.txt\n"


def test_diff_of_new_and_removed_targets(data: Work) -> None:
    data.write("more.txt", "more")
    data.dv("add", "more.txt")
    data.dv("rm", "--data", "data/images")
    out = data.dv("diff").out
    assert "more.txt (new target)\n  A         +4 B  more.txt" in out
    assert "data/images (target removed)" in out


def test_diff_executable_bit(data: Work) -> None:
    (data.root / "data/images/a.txt").chmod(0o755)
    assert "data/images/a.txt (executable bit)" in data.dv("diff").out


def test_diff_odd_names(work: Work) -> None:
    work.write("data/plain")
    work.dv("add", "data")
    work.commit()
    for name in ODD_NAMES:
        work.write(f"data/{name}", name)
    for args in ((), ("--stat",), ("--name-only",), ("--json",)):
        assert all(line.isprintable() for line in work.dv("diff", *args).lines)
    assert len(work.dv("diff", "--name-only").lines) == len(ODD_NAMES)


def test_diff_unknown_revision(data: Work) -> None:
    ran = data.dv("diff", "nope", code=2)
    assert "nope is neither a revision nor a target" in ran.err
    assert "hint: put paths behind `--`" in ran.err
    ran = data.dv("diff", "nope", "--", code=2)
    assert "unknown revision: nope" in ran.err
    assert "hint: " in ran.err
    assert "too many revisions" in data.dv("diff", "HEAD", "HEAD", "HEAD", code=2).err


def test_diff_of_no_target(data: Work) -> None:
    assert "no target of dvtool" in data.dv("diff", "--", "nope", code=2).err


def test_diff_a_file_named_like_an_option(work: Work) -> None:
    work.write("-dash", "x")
    work.dv("add", "--", "-dash")
    work.commit()
    work.write("-dash", "xyz")
    assert work.dv("diff", "--name-only", "--", "-dash").out == "-dash\n"


def test_diff_before_the_first_commit(work: Work) -> None:
    work.write("data/a")
    work.dv("add", "data")
    assert "data (new target)" in work.dv("diff").out
    assert "no commit yet" in work.dv("diff", "HEAD", "--", code=3).err


def test_diff_of_ranges(changed: Work) -> None:
    changed.dv("add", "data/images")
    changed.git("checkout", "-q", "-b", "topic")
    changed.commit("second")
    changed.git("checkout", "-q", "-")
    changed.dv("checkout", "--force")
    changed.write("data/table.csv", "more")
    changed.dv("add", "data/table.csv")
    changed.commit("third")
    assert "table" in changed.dv("diff", "topic..").out
    assert "table" in changed.dv("diff", "HEAD..topic").out
    assert _sorted(changed.dv("diff", "...topic").out) == _sorted(TEXT)
    assert changed.dv("diff", "HEAD..topic", "--", "data/table.csv").out.startswith("data/table")
    assert "nope" in changed.dv("diff", "nope..HEAD", code=2).err
    assert "takes single revisions" in changed.dv("fetch", "HEAD..topic", code=2).err


def test_a_path_of_a_revision(changed: Work) -> None:
    assert "a.txt" in changed.dv("diff", "HEAD:data/images/a.txt").out
    assert "new.txt" not in changed.dv("diff", "HEAD:data/images/a.txt").out
    assert changed.dv("cat", "HEAD:data/images/a.txt").out == "content of a.txt"
    assert changed.dv("cat", "HEAD:./a.txt", cwd="data/images").out == "content of a.txt"
    assert "a.txt" in changed.dv("ls", "HEAD:data/images/a.txt").out
    assert len(changed.dv("ls", "HEAD:").lines) == 4
    assert "too many revisions" in changed.dv("ls", "--rev", "HEAD", "@:data", code=2).err
    changed.dv("checkout", "--force", "HEAD:data/images/a.txt")
    assert changed.read("data/images/a.txt") == b"content of a.txt"


def test_diff_exit_code(changed: Work) -> None:
    assert "total" in changed.dv("diff", "--exit-code", code=1).out
    assert changed.dv("diff", "--exit-code", "HEAD", "HEAD").out == "no difference\n"


def test_diff_follows_a_target_to_its_new_name(changed: Work) -> None:
    changed.dv("mv", "data/images", "data/photos")
    shown = changed.dv("diff").out
    assert "data/photos (renamed from data/images)" in shown
    assert "  R         16 B  data/images/b.txt -> data/photos/moved.txt" in shown
    assert "(target removed)" not in shown
    changed.commit("Rename it")
    changed.dv("checkout", "--force", "--", "data/photos")
    (target,) = changed.dv("diff", "HEAD~1", "HEAD", "--json").json["targets"]
    assert (target["target"], target["renamed_from"]) == ("data/photos", "data/images")
    assert target["changes"] == []
    assert "no file changed" in changed.dv("diff", "HEAD~1..", "--stat", "--exit-code", code=1).out
