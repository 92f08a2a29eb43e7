"""What git's state files name, read from files as git writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool.git.state import names_in_state

FULL, OTHER = "a" * 40, "0123456789" * 4


@pytest.mark.parametrize(
    ("path", "text", "names"),
    [
        ("HEAD", "ref: refs/heads/main\n", set()),
        ("HEAD", f"{FULL}\n", {FULL}),
        ("MERGE_HEAD", f"{FULL}\n{OTHER}\n", {FULL, OTHER}),
        ("FETCH_HEAD", f"{FULL}\tnot-for-merge\tbranch 'x' of ../y\n", {FULL}),
        ("BISECT_LOG", f"# bad: [{FULL}] text\ngit bisect bad {OTHER}\n", {FULL, OTHER}),
        ("sequencer/todo", "pick abc1234 a subject\n", {"abc1234"}),
        ("rebase-merge/git-rebase-todo", f"fixup -C {FULL} # text\nlabel onto\n", {FULL}),
        ("rebase-merge/done", "merge -C abc1234 side # text\n", {"abc1234"}),
        ("rebase-merge/rewritten/x", f"{FULL}\n", {FULL}),
        ("rebase-apply/0001", f"From {FULL} Mon Sep 17\nindex abcd..ef01 100644\n",
         {FULL, "abcd", "ef01"}),
        ("description", f"{FULL}\n", set()),
    ],
)  # fmt: skip
def test_names_in_one_file(tmp_path: Path, path: str, text: str, names: set[str]) -> None:
    place = tmp_path / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    assert names_in_state(str(tmp_path)) == names


def test_bytes_that_are_no_text_hide_no_id_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "COMMIT_EDITMSG").write_bytes(b"\xff\xfe" + FULL.encode() + b"\n")
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "elsewhere").write_text(OTHER)
    (tmp_path / "LINK").symlink_to(tmp_path / "elsewhere")
    assert names_in_state(str(tmp_path)) == {FULL}
