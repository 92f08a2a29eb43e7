"""A merge's conflicts outlive `git add -A` and `git commit -am`, until somebody settles them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Work
from tests.cli.merging import TARGET, branches, run, with_drivers, without_drivers
from tests.cli.spoils import SPOILS, spoil

MERGE = ("merge", "-q", "other")
RECORDS = ".git/dv/conflicts"


@pytest.fixture
def conflicted(data: Work, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A merge that left a conflict, with the hooks and the driver in place."""
    monkeypatch.delenv("DV_HOOKS_INSTALL")
    data.dv("hooks", "install")
    data.commit("hooks")
    branches(data, {"a.txt": "ours", "b.txt": "ours only"}, {"a.txt": "theirs"})
    run(data, *MERGE, code=1)
    return data


def conflicts_of(work: Work) -> list[str]:
    targets = work.dv("status", "--json").json["targets"]
    found = next(one for one in targets if one["target"] == TARGET)
    assert (found["manifest"] == "conflicted") == bool(found["conflicts"])
    return [one["path"] for one in found["conflicts"]]


def test_a_commit_of_all_is_refused_until_it_is_resolved(conflicted: Work) -> None:
    text = run(conflicted, "commit", "-q", "-am", "merged", code=1)
    assert f"a merge left conflicts in the manifests of:\n  {TARGET}" in text
    assert "dv resolve" in text
    conflicted.git("add", "-A")
    assert conflicts_of(conflicted) == ["a.txt"]
    assert "dv resolve" in conflicted.dv("add", TARGET, code=2).err
    run(conflicted, "commit", "-q", "-m", "merged", code=1)
    conflicted.dv("resolve", "--theirs")
    assert conflicts_of(conflicted) == []
    assert conflicted.read(f"{TARGET}/a.txt") == b"theirs"
    conflicted.git("commit", "-q", "-m", "merged")
    conflicted.dv("status", "--exit-code")
    assert not any((conflicted.root / RECORDS).iterdir())


def test_no_other_manifest_need_be_staged(data: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our side in place is no change against HEAD, so nothing of the target is staged."""
    monkeypatch.delenv("DV_HOOKS_INSTALL")
    data.dv("hooks", "install")
    data.commit("hooks")
    branches(data, {"a.txt": "ours"}, {"a.txt": "theirs"})
    run(data, *MERGE, code=1)
    run(data, "commit", "-q", "-am", "merged", code=1)
    assert conflicts_of(data) == ["a.txt"]


@pytest.mark.parametrize("how", [("merge", "--abort"), ("reset", "-q", "--hard")])
def test_an_abort_ends_it(conflicted: Work, how: tuple[str, ...]) -> None:
    conflicted.git("add", "-A")
    conflicted.git(*how)
    assert conflicts_of(conflicted) == []
    conflicted.dv("status", "--exit-code")
    conflicted.write("code", "1")
    conflicted.commit("something else")
    # Another merge, which leaves the target alone, is none of its business.
    conflicted.git("branch", "code", "HEAD~1")
    conflicted.git("checkout", "-q", "code")
    conflicted.write("more", "1")
    conflicted.commit("more")
    conflicted.git("merge", "-q", "-m", "merge", "main")
    assert conflicts_of(conflicted) == []


def test_it_is_told_after_a_commit_that_nothing_checked(conflicted: Work) -> None:
    conflicted.git("commit", "-q", "--no-verify", "-am", "merged")
    assert conflicts_of(conflicted) == ["a.txt"]
    conflicted.dv("resolve", "--both")
    assert conflicted.read(f"{TARGET}/a.theirs.txt") == b"theirs"
    conflicted.git("commit", "-q", "-am", "resolved")
    conflicted.dv("status", "--exit-code")


def test_a_side_taken_by_git_settles_it(conflicted: Work) -> None:
    conflicted.git("checkout", "-q", "--theirs", f"{TARGET}.dv.json")
    conflicted.git("add", "-A")
    assert conflicts_of(conflicted) == []
    conflicted.git("commit", "-q", "-m", "merged")


def test_what_is_settled_in_part_stays_so(data: Work) -> None:
    with_drivers(data)
    branches(data, {"a.txt": "ours", "b.txt": "b1"}, {"a.txt": "theirs", "b.txt": "b2"})
    run(data, *MERGE, code=1)
    data.dv("resolve", "--ours", f"{TARGET}/a.txt", code=1)
    data.git("add", "-A")
    assert conflicts_of(data) == ["b.txt"]
    data.dv("resolve", "--theirs")
    assert data.read(f"{TARGET}/a.txt") == b"ours"
    assert data.read(f"{TARGET}/b.txt") == b"b2"


def test_a_removal_against_a_change_is_recorded_too(data: Work) -> None:
    without_drivers(data)
    data.git("checkout", "-q", "-b", "other")
    data.dv("rm", TARGET)
    data.git("commit", "-qm", "no images")
    data.git("checkout", "-q", "main")
    data.dv("checkout")
    data.write(f"{TARGET}/a.txt", "ours")
    data.dv("add", TARGET)
    data.git("commit", "-qm", "ours")
    run(data, *MERGE, code=1)
    assert conflicts_of(data) == ["."]  # this look records it
    data.git("add", "-A")
    assert conflicts_of(data) == ["."]
    data.dv("resolve", "--ours")
    assert conflicts_of(data) == []


def test_a_cherry_pick(data: Work) -> None:
    with_drivers(data)
    branches(data, {"a.txt": "ours"}, {"a.txt": "theirs"})
    run(data, "cherry-pick", "other", code=1)
    data.git("add", "-A")
    assert conflicts_of(data) == ["a.txt"]
    data.git("cherry-pick", "--abort")
    assert conflicts_of(data) == []


def test_a_damaged_record_is_none(conflicted: Work) -> None:
    record = next(Path(conflicted.root / RECORDS).iterdir())
    record.write_bytes(b"{")
    assert conflicts_of(conflicted) == ["a.txt"]  # git's index has it still


def test_a_record_that_is_no_file_of_ours_is_none(conflicted: Work, tmp_path: Path) -> None:
    record = next(Path(conflicted.root / RECORDS).iterdir())
    for how in SPOILS:
        if how != "folder":
            spoil(record, how, tmp_path / "elsewhere")
            assert conflicts_of(conflicted) == ["a.txt"], how
    conflicted.dv("resolve", "--theirs")
    assert conflicts_of(conflicted) == []
