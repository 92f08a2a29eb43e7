"""The scripts of the hooks, and what git tells them."""

from __future__ import annotations

import subprocess

import pytest

from dvtool.hooks.interpreter import Interpreter
from dvtool.hooks.scripts import NAMES, VERSION, script, version_of


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("python", ["/usr/bin/python3", '/it\'s "a" $(folder)/python', ""])
def test_a_script_is_a_shell_script_of_this_version(name: str, python: str) -> None:
    text = script(name, Interpreter(python, ('/it\'s a "folder"', "/$(x)")))
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
