"""Every block of every page: it is run and prints what the page shows, or its options exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

import dvtool
from tests.s3.servers import S3Server
from tests.site.blocks import DOCS, PROJECT, Block, blocks, steps
from tests.site.options import dv_commands, refusal
from tests.site.session import NEEDS_S3, differences, matches, s3_environment

PAGES = sorted(
    (
        *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
    )
)


def _name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def _blocks(path: Path) -> list[Block]:
    return blocks(path.read_text("utf-8"))


ELSEWHERE = {
    "docs/filesystem.md": "tests/unit/filesystem/test_filesystem_page.py",
    "docs/format.md": "tests/unit/format/test_format_doc.py",
    "docs/python.md": "tests/unit/snapshots/test_python_page.py",
    "docs/training.md": "tests/unit/stream/test_training_page.py",
}
"""Pages whose blocks a test of its own runs, with more to compare."""
RUN = [
    path
    for path in PAGES
    if _name(path) not in ELSEWHERE
    and any(block.kind in ("console", "python") and not block.not_run for block in _blocks(path))
]
NOT_RUN = {
    "CONTRIBUTING.md": ["needs the address of this repository"],
    "README.md": [
        "installs, and needs the address of this repository",
        "takes minutes, and CI runs both",
    ],
    "docs/howto/bucket.md": ["needs hosts that are not there"],
    "docs/howto/clusters.md": [
        "needs a bucket and a cluster",
        "needs a bucket and a cluster",
        "needs a cluster",
        "needs a cluster",
    ],
    "docs/howto/database.md": ["needs a server of PostgreSQL"],
    "docs/howto/lake.md": [
        "needs Java and pyspark; tests/s3/test_leftovers.py runs it where they are"
    ],
    "docs/howto/pytorch.md": [
        "needs TensorFlow; tests/unit/stream/test_adapters.py runs the like where it is"
    ],
    "docs/howto/tables.md": ["it runs until it is ended"],
    "docs/imports.md": [
        "needs hosts that are not there",
        "needs hosts that are not there",
        "needs hosts that are not there",
        "needs hosts that are not there",
        "needs hosts that are not there",
        "needs a server of PostgreSQL",
    ],
    "docs/index.md": ["the tutorial is"],
    "docs/install.md": ["needs zsh and fish"],
    "docs/gc.md": ["REPO-ID is of a repository that is gone"],
    "docs/remotes.md": ["needs a disk at /mnt"],
    "docs/serve.md": [
        "it runs until it is ended",
        "needs a server that runs; tests/s3 have clients",
        "needs a server that runs; tests/s3 have clients",
        "needs rclone and a server that runs",
    ],
    "docs/tutorial/bucket.md": [
        "a virtual environment with the same packages is made before the tests"
    ],
    "docs/tutorial/images.md": [
        "a virtual environment with the same packages is made before the tests"
    ],
}
"""Why blocks are not run. Commands of `dv` in them are parsed all the same."""
ANEW = "if the new output is right: python -m tests.site.session PAGE"


@pytest.mark.parametrize("page", RUN, ids=_name)
def test_a_page_shows_what_is_printed(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = page.read_text("utf-8")
    environ = {}
    if NEEDS_S3 in text:
        server: S3Server = request.getfixturevalue("moto_server")
        server.drop_named(text)
        environ = s3_environment(server)
    wrong, _ = differences(text, tmp_path / "page", environ)
    assert not wrong, "\n\n".join([*wrong, ANEW])


def test_no_page_shows_an_error_by_mistake() -> None:
    errors = {
        _name(path): step.command
        for path in RUN
        for block in _blocks(path)
        if block.kind == "console"
        for step in steps(block.body)
        if step.shown.startswith("error:")
    }
    assert errors == {"docs/howto/privacy.md": 'dv cat --hash "$hash"'}


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


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_in_sentences_exist_with_their_options(page: Path) -> None:
    """Only arguments may be left out there; a synopsis with brackets or bars is passed over."""
    text = re.sub(r"^(```+).*?^\1$|^<!--.*?-->$", "", page.read_text("utf-8"), flags=re.M | re.S)
    refused = [
        why
        for typed in re.findall(r"`(dv [^`\[|]+)`", text)
        for arguments in dv_commands(" ".join(typed.split()))
        if (why := refusal(arguments)) and not re.search("Missing parameter|an argument", why)
    ]
    assert not refused, "\n".join(refused)


def test_all_blocks_are_run_or_say_why_not() -> None:
    reasons = {
        _name(path): [block.not_run for block in _blocks(path) if block.not_run]
        for path in PAGES
        if path.name != "cli.md"  # made from the examples of the help
    }
    assert {name: said for name, said in reasons.items() if said} == NOT_RUN
    for name, test in ELSEWHERE.items():
        assert f'"{Path(name).name}"' in (PROJECT / test).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_block_says_what_it_is(page: Path) -> None:
    kinds = {"console", "file", "hidden", "python", "text", "yaml", "dockerfile", "sh", "sql"}
    kinds |= {"json", "diff", "{toctree}"}
    for block in _blocks(page):
        assert block.kind in kinds, f"a block of {block.kind or 'no language'}:\n{block.body}"
        if block.kind == "yaml":
            assert yaml.safe_load(block.body)
    indented = re.sub(
        r"^```+.*?^```+$|^<!-- run\n.*?-->$", "", page.read_text("utf-8"), flags=re.M | re.S
    )
    assert not re.search(r"\n\n {4,}[^-* ]", indented), "an indented block is not run"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_rows_of_tables_have_the_cells_of_their_head(page: Path) -> None:
    """A bar ends a cell, also in code, unless there is a backslash before it."""
    wrong, cells = [], 0
    text = re.sub(r"^(```+).*?^\1$|^<!--.*?-->$", "", page.read_text("utf-8"), flags=re.M | re.S)
    for line in text.splitlines():
        found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        if found and cells and found != cells:
            wrong.append(line)
        cells = found and (cells or found)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_names_what_is_public(page: Path) -> None:
    named = {
        node.attr
        for block in blocks(page.read_text("utf-8"))
        if block.kind == "python" or block.file.endswith(".py")
        for node in ast.walk(ast.parse(block.body))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "dvtool"
    }
    assert all(hasattr(dvtool, name) for name in named), named


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
