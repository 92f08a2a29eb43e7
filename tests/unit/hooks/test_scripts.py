"""The scripts of the hooks, and what git tells them."""

from __future__ import annotations

import subprocess

import pytest

from dvtool.errors import DvError
from dvtool.hooks.install import parse_refs, parse_rewritten
from dvtool.hooks.scripts import NAMES, VERSION, script, version_of

ZEROS, A, B, C = "0" * 40, "a" * 40, "b" * 40, "c" * 40


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("python", ["/usr/bin/python3", '/it\'s "a" $(folder)/python', ""])
def test_a_script_is_a_shell_script_of_this_version(name: str, python: str) -> None:
    text = script(name, python)
    assert text.startswith(b"#!/bin/sh\n")
    assert version_of(text) == VERSION
    subprocess.run(["sh", "-n"], input=text, check=True)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (b"", None),
        (b"#!/bin/sh\nexit 0\n", None),
        (b"#!/bin/sh\n# dvtool hook, version 12: pre-push\n", 12),
        (b"#!/bin/sh\n# dvtool hook, version x: pre-push\n", None),
        (b"#!/bin/sh\n\n\n\n# dvtool hook, version 1: pre-push\n", None),
    ],
)
def test_ours_are_told_by_their_mark(text: bytes, version: int | None) -> None:
    assert version_of(text) == version


def test_refs_to_push() -> None:
    refs = parse_refs(
        [
            f"refs/heads/one {A} refs/heads/one {ZEROS}",
            f"(delete) {ZEROS} refs/heads/gone {B}",
            f"refs/heads/two {B} refs/heads/two {C}",
            f"HEAD {A} refs/heads/three {C}",
            "",
        ]
    )
    assert refs.new == (A, B)
    assert refs.old == (C,)
    assert parse_refs([]).new == ()
    with pytest.raises(DvError, match="means nothing"):
        parse_refs(["what is this"])


def test_rewritten_commits() -> None:
    assert parse_rewritten([f"{A} {B}", f"{B} {C} extra"]) == [A, B, C]
