"""--json: one document on standard output whatever happens, an error too. (Each `Work.dv` with
--json checks its document against the published schema.)"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dvtool.errors import CorruptError
from dvtool.verbs import read
from tests.cli.conftest import Patch, Work
from tests.json_reference import check


def test_an_error_is_a_document_and_said_in_words(data: Work) -> None:
    ran = data.dv("ls", "nosuch", "--json", code=2)
    error = ran.json["error"]
    assert ran.json == {"schema": 1, "error": error}
    assert error["exit_code"] == 2
    assert "nosuch" in error["message"]
    assert ran.err.startswith(f"error: {error['message']}")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("status", "--nosuch", "--json"), 2),
        (("log", "nosuch", "--json"), 2),
        (("nosuch", "--json"), 2),
        (("init", "--json"), 2),  # which has no --json
        (("config", "no.such", "--json"), 2),
        (("drop", "data/images", "--json"), 3),
        (("mv", "--json", "data/images", "data/table.csv"), 2),
    ],
)
def test_every_kind_of_error_is_a_document(data: Work, args: tuple[str, ...], code: int) -> None:
    data.dv("remote", "remove", "origin")
    ran = data.dv(*args, code=None)
    assert (ran.code, ran.json["error"]["exit_code"]) == (code, code)
    assert ran.err.startswith("error: ")


def test_a_path_called_json_asks_for_none(data: Work) -> None:
    assert data.dv("status", "--", "--json", code=2).out == ""


def test_a_bug_is_a_document(data: Work, raising: Patch) -> None:
    raising("status", RuntimeError("oh"))
    error = data.dv("status", "--json", code=1).json["error"]
    assert "this is a bug in dvtool: RuntimeError" in error["message"]
    raising("status", KeyboardInterrupt())
    assert data.dv("status", "--json", code=130).out == ""


def test_a_list_that_breaks_off_says_so_in_its_document(
    data: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read.ls

    def breaking(*args: object, **options: object) -> object:
        for number, one in enumerate(whole(*args, **options)):  # type: ignore[arg-type]
            if number == 2:
                raise CorruptError("a shard is damaged", hint="dv fsck")
            yield one

    monkeypatch.setattr(read, "ls", breaking)
    ran = data.dv("ls", "--json", code=6)
    assert len(ran.json["entries"]) == 2
    assert ran.json["error"] == {
        "message": "a shard is damaged",
        "hint": "dv fsck",
        "exit_code": 6,
    }
    assert ran.err == "error: a shard is damaged\nhint: dv fsck\n"


def test_a_push_to_several_remotes_says_which_failed(data: Work, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    data.git("config", "dv.remote.broken.url", str(tmp_path / "file/place"))
    ran = data.dv("push", "--remote", "broken", "--remote", "origin", "--json", code=None)
    (failed,) = ran.json["failed"]
    (pushed,) = ran.json["pushes"]
    assert (failed["remote"], pushed["manifests"]) == ("broken", 2)
    assert ran.code == failed["exit_code"] != 0
    assert failed["message"] in ran.err
    alone = data.dv("push", "--remote", "broken", "--json", code=ran.code).json
    assert alone["error"]["message"] == failed["message"]


def test_a_setting_is_shown_as_it_is_after_a_change(work: Work) -> None:
    def setting(*args: str) -> object:
        return work.dv("config", *args, "--json").json["settings"]

    def row(value: str | None, source: str) -> list[dict[str, object]]:
        return [{"key": "core.remote", "value": value, "source": source}]

    assert setting("core.remote", "backup") == row("backup", ".dvconfig")
    assert setting("--local", "core.remote", "disk") == row("disk", ".git/config")
    assert setting("--unset", "core.remote") == row("backup", ".dvconfig")
    assert setting("--unset", "core.remote") == row(None, "default")


def test_a_clone_with_nothing_in_it_has_an_answer(bare: Work) -> None:
    bare.commit()
    answer = bare.dv("clone", str(bare.root), "../copy", "--json").json
    assert answer == {"schema": 1, "targets": [], "saved": [], "fetched": None}


def test_the_check_of_documents_can_fail(data: Work) -> None:
    document = data.dv("status", "--json").json
    check(["status", "--json"], json.dumps(document).encode())
    for wrong in (
        document | {"more": 1},
        document | {"clean": "yes"},
        {key: value for key, value in document.items() if key != "schema"},
        document | {"targets": [document["targets"][0] | {"files": None}]},
    ):
        with pytest.raises(Exception, match="is not valid under any of the given schemas"):
            check(["status", "--json"], json.dumps(wrong).encode())
    with pytest.raises(ValueError, match="Extra data"):
        check(["status", "--json"], json.dumps(document).encode() * 2)


def test_help_shows_the_keys_and_loads_no_verb(data: Work) -> None:
    text = data.dv("push", "--help").out
    assert '"resumed_packs"' in text
    assert "With --plan:" in text
    assert "docs/reference/json.md" in text
    assert sys.modules.get("dvtool.cli.json_keys") is not None
