"""Which packages the Python has that a command starts: asked of that Python itself, no network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

import msgspec

from dvtool.system.decoders import json_decoder
from dvtool.verbs.record.records import Packages

ASK_MAX_S = 60
_PYTHON = re.compile(r"(python|pypy)[0-9.]*(\.exe)?")
_SHEBANG_MAX_BYTES = 512
_QUESTION = """
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import importlib.metadata, json, platform
found = {}
for one in importlib.metadata.distributions():
    name = one.metadata["Name"]
    if name:
        found.setdefault(name, one.version or "")
versions = dict(sorted(found.items(), key=lambda pair: pair[0].lower()))
print(json.dumps([platform.python_version(), sys.executable, versions]))
"""


def packages_of(
    command: Sequence[str], env: Mapping[str, str], folder: str
) -> tuple[Packages | None, str | None]:
    """Return the packages of a command, and what went wrong; None and None if it is no Python.

    It is if the program is called python, or is a script whose first line names one. The same
    interpreter is then asked, in the environment of the command.
    """
    program = shutil.which(_from_folder(command[0], folder), path=env.get("PATH", os.defpath))
    if program is None:
        return None, None
    interpreter, how = [program], f"{os.path.basename(program)} is the command"
    if not _PYTHON.fullmatch(os.path.basename(program)):
        interpreter = _interpreter_of(program)
        how = f"the first line of {command[0]} names it"
        if not interpreter:
            return None, None
    try:
        done = subprocess.run(
            [*interpreter, "-c", _QUESTION],
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_MAX_S,
            check=True,
        )
        version, executable, distributions = json_decoder(tuple[str, str, dict[str, str]]).decode(
            done.stdout.splitlines()[-1]
        )
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError, IndexError) as error:
        return None, f"the packages of {interpreter[0]} are not known: {type(error).__name__}"
    return (
        Packages(python=version, executable=executable, how=how, distributions=distributions),
        None,
    )


def _from_folder(program: str, folder: str) -> str:
    """Return a program's path as the command's folder has it; a plain name is for the PATH."""
    return os.path.join(folder, program) if os.path.dirname(program) else program


def _interpreter_of(script: str) -> list[str]:
    """Return the Python, with its options, that the first line of a script names; none if none."""
    try:
        with open(script, "rb") as file:
            line = os.fsdecode(file.readline(_SHEBANG_MAX_BYTES))
    except OSError:
        return []
    words = line.removeprefix("#!").split() if line.startswith("#!") else []
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if word != "-S"]
    if not words or not _PYTHON.fullmatch(os.path.basename(words[0])):
        return []
    return words
