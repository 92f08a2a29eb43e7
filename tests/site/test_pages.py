"""Every block of every page: it is run and prints what the page shows, or its options exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site.blocks import DOCS, PROJECT, blocks, steps
from tests.site.options import dv_commands, refusal
from tests.site.session import differences, matches

PAGES = sorted(
    (
        *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
    )
)
RUN = [
    path for path in PAGES if path.parent.name in ("tutorial", "howto") or path.stem == "dvignore"
]
ANEW = "if the new output is right: python -m tests.site.session PAGE"


def _name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("page", RUN, ids=_name)
def test_a_page_shows_what_is_printed(page: Path, tmp_path: Path) -> None:
    wrong, _ = differences(page.read_text("utf-8"), tmp_path / "page")
    assert not wrong, "\n\n".join([*wrong, ANEW])


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_each_command_takes_its_options(page: Path) -> None:
    refused = [
        why
        for block in blocks(page.read_text("utf-8"))
        if block.kind == "console"
        for step in steps(block.body)
        for arguments in dv_commands(step.command)
        if (why := refusal(arguments))
    ]
    assert not refused, "\n".join(refused)


@pytest.mark.parametrize("page", RUN, ids=_name)
def test_only_blocks_that_can_be_checked(page: Path) -> None:
    kinds = {"console", "file", "hidden", "python", "text", "yaml", "dockerfile", "ini"}
    taken = blocks(page.read_text("utf-8"))
    assert {block.kind for block in taken} <= kinds
    assert all(block.not_run == block.not_run.strip() for block in taken)


def test_what_does_not_match_is_noticed() -> None:
    assert matches("data  3 files, 1.0 KiB", "data  3 files, 1.7 MiB")
    assert not matches("data  3 files, 1.0 KiB", "data  4 files, 1.0 KiB")
    assert not matches("", "error: this failed")
    assert matches("first\n…\nlast", "first\nsecond\nlast")
    assert refusal(["push", "--no-such-option"]) and refusal(["no-such-command"])
    assert list(dv_commands("A=1 dv push -q && dv ls | dv cat x > y # dv no")) == [
        ["push", "-q"],
        ["ls"],
        ["cat", "x"],
    ]


def test_equal_hashes_stay_equal(tmp_path: Path) -> None:
    page = "```console\n$ echo {} {} {}\n{}\n```\n"
    names = ("a1b2c3d4", "a1b2c3d4", "f0f0f0f0")
    assert not differences(page.format(*names, " ".join(names)), tmp_path / "a")[0]
    assert differences(page.format(*names, "1234abcd 5678abcd f0f0f0f0"), tmp_path / "b")[0]
