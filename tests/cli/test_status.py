from __future__ import annotations

import os

import pytest

from tests.cli.conftest import ODD_NAMES, Work


def test_status_clean(pushed: Work) -> None:
    assert pushed.dv("status").out == "Clean: 2 targets, 4 files, 60 B\n"


def test_status_says_what_is_not_pushed(data: Work) -> None:
    text = "Committed and not pushed (dv push):\n    data/images  3 files, 52 B\n"
    assert text in data.dv("status").out
    assert data.dv("status", "--exit-code").code == 0
    clone = data.clone()  # git has it from somebody who pushed, or should have
    assert "not pushed" not in clone.dv("status").out
    data.dv("push")
    data.write("data/images/a.txt", "other")
    data.dv("add", "data/images")
    assert not any(one["unpushed"] for one in data.dv("status", "--json").json["targets"])
    data.commit("second")
    states = data.dv("status", "--json").json["targets"]
    assert [one["unpushed"] for one in states] == [True, False]
    assert states[0]["unpushed_files"] == states[0]["files"] == 3
    shown = data.dv("status").out
    data.write("data/images/new.txt", "more")
    data.dv("add", "data/images")  # what HEAD has is counted, not what is staged
    assert data.dv("status").out.endswith(shown[shown.index("Committed and not pushed") :])
    data.git("reset", "-q", "--hard")
    data.dv("push")
    assert "not pushed" not in data.dv("status").out
    assert data.dv("push", "--check").out.startswith("everything is on ")


def test_status_sections(data: Work) -> None:
    data.write("data/images/a.txt", "changed")
    data.write("data/images/new.txt")
    (data.root / "data/images/b.txt").unlink()
    data.write("data/table.csv", "other")
    data.dv("add", "data/table.csv")
    ran = data.dv("status")
    assert ran.out == (
        "Manifests that differ from HEAD (git commit):\n"
        "    modified:  data/table.csv  1 file, 5 B\n"
        "\n"
        "Changes in data/images that are not added\n"
        "  (dv add data/images keeps them, dv restore data/images undoes them):\n"
        "    added:     data/images/new.txt\n"
        "    modified:  data/images/a.txt\n"
        "    deleted:   data/images/b.txt\n"
        "\n"
        "Committed and not pushed (dv push):\n"
        "    data/images  3 files, 52 B\n"
        "    data/table.csv  1 file, 8 B\n"
    )


def test_status_of_a_new_and_a_deleted_target(data: Work) -> None:
    data.write("more/a.txt")
    data.dv("add", "more")
    data.dv("rm", "data/table.csv")
    ran = data.dv("status")
    assert "    new:       more  1 file, 7 B\n" in ran.out
    assert "    deleted:   data/table.csv\n" in ran.out


def test_status_json(data: Work) -> None:
    data.write("data/images/new.txt")
    ran = data.dv("status", "--json")
    assert ran.json["clean"] is False
    images, table = ran.json["targets"]
    assert images["added"] == ["new.txt"]
    assert images["manifest"] == "committed"
    assert len(images["blake3"]) == 64
    assert table["clean"] is True
    assert set(images) == {
        *("target", "manifest", "blake3", "files", "bytes", "clean"),
        *(
            "added",
            "modified",
            "deleted",
            "outdated",
            "conflicting",
            "absent",
            "absent_bytes",
            "left_out",
            "left_out_bytes",
            "unpushed",
            "unpushed_files",
            "unpushed_bytes",
            "faults",
            "conflicts",
            "source",
            "reference",
        ),
    }


def test_status_verbose_shows_hashes_and_all_names(data: Work) -> None:
    digest = data.dv("status", "--json").json["targets"][0]["blake3"]
    assert digest in data.dv("status", "-v").out
    assert digest in data.dv("-v", "status").out
    for number in range(25):
        data.write(f"data/images/{number:02}.txt", str(number))
    short = data.dv("status").out
    assert "… and 5 more added (-v shows all)" in short
    assert "24.txt" not in short
    assert "24.txt" in data.dv("status", "-v").out


def test_status_paths_and_subfolder(data: Work) -> None:
    data.write("data/images/new.txt")
    assert data.dv("status", "data/table.csv").out.startswith("Clean: 1 target")
    ran = data.dv("status", "images", cwd="data")
    assert "added:     images/new.txt" in ran.out
    assert "dv add images keeps" in ran.out
    up = data.dv("status", cwd="data/images/sub")
    assert "added:     ../new.txt" in up.out


def test_status_of_absent_data(pushed: Work) -> None:
    clone = pushed.clone()
    ran = clone.dv("status", "--exit-code")
    assert "Not in the workspace (dv pull gets it):\n    data/images  3 files, 52 B" in ran.out
    assert clone.dv("status", "--json").json["targets"][0]["absent_bytes"] == 52


def test_status_exit_code(data: Work) -> None:
    data.dv("status", "--exit-code")
    data.write("data/images/new.txt")
    data.dv("status")
    data.dv("status", "--exit-code", code=1)
    data.dv("status", "--exit-code", "--json", code=1)


def test_status_odd_names(work: Work) -> None:
    work.write("data/plain")
    work.dv("add", "data")
    for name in ODD_NAMES:
        work.write(f"data/{name}")
    ran = work.dv("status")
    assert len([line for line in ran.lines if "added:" in line]) == len(ODD_NAMES)
    assert all(line.isprintable() for line in ran.lines)
    found = work.dv("status", "--json")
    assert set(found.json["targets"][0]["added"]) == set(ODD_NAMES)
    assert found.out.replace("\n", "").isprintable()


def test_status_names_what_cannot_be_versioned(data: Work) -> None:
    os.mkfifo(data.root / "data/images/pipe")
    ran = data.dv("status")
    assert "problem:   data/images/pipe is a named pipe" in ran.out
    assert data.dv("status", "--json").json["targets"][0]["faults"][0]["path"] == "pipe"


def test_status_without_targets(work: Work) -> None:
    assert work.dv("status").out == "no targets yet (dv add PATH makes one)\n"


def test_status_without_init(bare: Work) -> None:
    assert "hint: run: dv init" in bare.dv("status", code=3).err


def test_status_of_no_target(data: Work) -> None:
    ran = data.dv("status", "nope", code=2)
    assert "no target of dvtool is or holds:\n  nope" in ran.err
    assert "hint: `dv status` lists the targets" in ran.err


def test_status_outside(data: Work) -> None:
    assert "outside of this repository" in data.dv("status", "/etc", code=2).err


CONFLICT = """\
{
 "dv": 1,
<<<<<<< HEAD
 "kind": "dir",
=======
 "kind": "file",
>>>>>>> other
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CONFLICT, "conflict"),
        ("not json", "data/images.dv.json"),
        ('{"dv": 99, "kind": "dir", "entries": {}}', "99"),
        ('{\n "dv": 1,\n "kind": "dir",\n "entries": {"../x": {"dir": true}}\n}\n', "x"),
    ],
)
def test_status_of_a_manifest_that_cannot_be_read(data: Work, text: str, said: str) -> None:
    data.write("data/images.dv.json", text)
    for command in ("status", "ls", "checkout", "diff"):
        ran = data.dv(command, code=6)
        assert said in ran.err
        assert ran.err.startswith("error: data/images.dv.json")


def test_status_needs_a_git_repository(data: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(data.root.parent))
    ran = data.dv("-C", "..", "status", code=3)
    assert "hint: run: git init" in ran.err


def test_status_in_a_folder_that_does_not_exist(data: Work) -> None:
    assert "not a folder" in data.dv("-C", "nope", "status", code=2).err


def test_a_path_that_is_no_utf_8_is_said_to_be_none(data: Work) -> None:
    odd = os.fsdecode(b"data/images/\xff")
    assert "Clean" in data.process("status", odd).out  # nothing is there
    try:
        (data.root / odd).write_bytes(b"odd")
    except OSError:
        return  # a disk of macOS has no such names
    assert "problem:   data/images/\\udcff has a name that is not valid UTF-8" in (
        data.process("status", odd).out
    )
