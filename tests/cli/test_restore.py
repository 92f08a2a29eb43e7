"""`dv restore` does for data what `git restore` does for files that git keeps."""

from __future__ import annotations

from tests.cli.conftest import Work


def test_restore_undoes_changes_and_saves_what_was_nowhere_else(data: Work) -> None:
    data.write("data/images/a.txt", "edited")
    (data.root / "data/images/b.txt").unlink()
    data.write("data/images/new.txt", "new")
    ran = data.dv("restore", "data/images")
    assert "data/images  2 files written" in ran.out
    assert data.read("data/images/a.txt") == b"content of a.txt"
    assert data.read("data/images/b.txt") == b"content of b.txt"
    assert data.read("data/images/new.txt") == b"new"
    back = next(line for line in ran.lines if "dv cat --hash" in line).split()[3]
    assert data.dv("cat", "--hash", back).out == "edited"


def test_the_hint_of_status_works(data: Work) -> None:
    data.write("data/images/a.txt", "edited")
    assert "dv restore data/images undoes them" in data.dv("status").out
    data.dv("restore", "data/images")
    assert data.dv("status", "--exit-code", code=0).code == 0


def test_restore_of_some_files_from_the_folder_that_they_are_in(data: Work) -> None:
    data.write("data/images/a.txt", "edited")
    data.write("data/images/sub/c.txt", "edited")
    data.dv("restore", "*.txt", cwd="data/images")
    assert data.read("data/images/a.txt") == b"content of a.txt"
    assert data.read("data/images/sub/c.txt") == b"edited"
    data.dv("restore", ".", cwd="data/images")
    assert data.read("data/images/sub/c.txt") == b"content of sub/c.txt"
    assert "no target of dvtool" in data.dv("restore", "nope", code=2).err


def test_restore_from_a_revision_leaves_the_manifest(data: Work) -> None:
    data.write("data/images/a.txt", "second")
    data.write("data/images/later.txt", "later")
    data.dv("add", "data/images")
    data.commit("second")
    manifest = data.read("data/images.dv.json")
    for arguments in (("--source", "HEAD~1", "data/images"), ("HEAD~1:data/images",)):
        data.dv("restore", *arguments)
        assert data.read("data/images/a.txt") == b"content of a.txt"
        assert not (data.root / "data/images/later.txt").exists()
        assert data.read("data/images.dv.json") == manifest
        status = data.dv("status", "--json").json["targets"][0]
        assert (status["modified"], status["deleted"]) == (["a.txt"], ["later.txt"])
        data.dv("restore", "data/images")
        assert data.read("data/images/later.txt") == b"later"


def test_dry_runs_change_nothing(data: Work) -> None:
    data.write("data/images/a.txt", "edited")
    ran = data.dv("restore", "-n", "data/images")
    assert "1 file would be written" in ran.out
    assert ran.err == "nothing was changed\n"
    assert data.read("data/images/a.txt") == b"edited"
    data.dv("add", "data/images")
    data.commit("second")
    assert "1 file would be written" in data.dv("checkout", "--dry-run", "HEAD~1").out
    assert data.read("data/images/a.txt") == b"edited"
    ran = data.dv("rm", "-n", "--data", "data/images")
    assert ran.out == "data/images would not be tracked; 3 files would be removed\n"
    assert (data.root / "data/images.dv.json").exists()
    assert (data.root / "data/images/a.txt").exists()
