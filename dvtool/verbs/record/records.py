"""Records of runs: JSON files below `.dv-runs/`, which anybody may commit, so they are foreign."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from dvtool.errors import INSTALL_NEWER, CorruptError, SetupError, UsageError, listing, printable
from dvtool.format.paths import RUNS_FOLDER
from dvtool.project.ledger import ReadEntry
from dvtool.project.parts import Project, require_worktree
from dvtool.system import atomic
from dvtool.system.decoders import json_decoder
from dvtool.verbs.describe import TargetDescription

RECORD_VERSION = 1
RECORD_SUFFIX = ".json"
READS_SUFFIX = ".reads"
RECORD_SIZE_MAX_BYTES = 64 << 20
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}(?:[0-9]{3})?Z-[0-9a-f]{6}")

RunState: TypeAlias = Literal["running", "ended"]


class Reads(msgspec.Struct, kw_only=True):
    """Which entries of snapshots a run read, each once, however often it read them."""

    count: int = 0
    """How many entries."""
    root: str | None = None
    """The Merkle root over them, in hex; null if there are none. Equal roots mean equal entries."""
    entries: list[ReadEntry] = []
    """The entries, sorted by hash and path, if they are at most 1,000."""
    file: str | None = None
    """The file, beside the record, that has all entries, a line each; null if there are none."""


class Packages(msgspec.Struct, kw_only=True):
    """The packages of the Python that a command starts."""

    python: str
    """Its version."""
    executable: str
    """The interpreter, as it calls itself."""
    how: str
    """How the interpreter was told from the command, in words."""
    distributions: dict[str, str]
    """Name and version of each installed package, as importlib.metadata of that Python has them."""


class RunOutput(msgspec.Struct, kw_only=True):
    """A target that a run wrote, as it was added afterwards."""

    target: str
    """The target, as a path from the top of the worktree."""
    blake3: str
    """Its manifest hash, in hex."""
    files: int
    """How many entries it has."""
    bytes: int
    """Bytes of all its files together."""


class RunRecord(msgspec.Struct, kw_only=True):
    """One run: what it started with, what it read, and what came of it."""

    version: int = RECORD_VERSION
    """The version of this form of records."""
    id: str
    """The id of the run, which begins with the time of its start."""
    state: RunState = "running"
    """`running` until the command has ended; it stays so where `dv run` itself was killed."""
    commit: str
    """The commit with code and data: HEAD, or the one that was made of what was not committed."""
    parent: str | None = None
    """HEAD, where the commit was made for this run; null otherwise."""
    ref: str | None = None
    """The ref that keeps such a commit and its data; null otherwise."""
    branch: str | None = None
    """The branch that was checked out; null if none was."""
    data_id: str
    """One hash over all targets, in hex."""
    targets: list[TargetDescription] = []
    """The targets, sorted."""
    command: list[str]
    """The command and its arguments."""
    folder: str = ""
    """The folder in which it was started, from the top of the worktree; empty for the top."""
    environment: dict[str, str] = {}
    """The variables of the environment that are on a list of harmless ones."""
    packages: Packages | None = None
    """The packages, where the command is Python; null otherwise."""
    start: str
    """When the command was started, in UTC."""
    end: str | None = None
    """When it ended, in UTC; null while it runs."""
    seconds: float | None = None
    """How long it took, in seconds."""
    exit_status: int | None = None
    """Its exit status; 128 and the number of the signal that ended it, 127 if it was not found."""
    problem: str | None = None
    """Faults besides the exit status, in words."""
    reads: Reads = msgspec.field(default_factory=Reads)
    """Which entries it read through dvtool."""
    out: list[str] = []
    """The paths, from the top of the worktree, that were to be added once it had succeeded."""
    outputs: list[RunOutput] = []
    """The targets that were added."""
    reproduces: str | None = None
    """The id of the run that it repeats."""
    dvtool: str
    """The version of dvtool."""


@dataclass(slots=True)
class RunList:
    """The runs that have a record in this worktree."""

    runs: list[RunRecord] = field(default_factory=list)
    """The records, newest first."""
    damaged: list[str] = field(default_factory=list)
    """Faults of the other records, in words."""


def runs_folder(project: Project) -> str:
    """Return the folder of the records, absolute; SetupError if it is none of ours."""
    require_worktree(project.git)
    folder = os.path.join(project.root, RUNS_FOLDER)
    if os.path.lexists(folder) and not stat.S_ISDIR(os.lstat(folder).st_mode):
        raise SetupError(
            f"{RUNS_FOLDER} at the top of the worktree is no folder, so no record can go there",
            hint="move it away, or name a place: dv run --record FILE -- COMMAND",
        )
    return folder


def record_path(project: Project, run_id: str) -> str:
    """Return where the record of a run is by default."""
    return os.path.join(runs_folder(project), run_id + RECORD_SUFFIX)


def write_record(path: str, record: RunRecord) -> None:
    """Put a record in its place, durably: the one before or this one, never a part."""
    atomic.make_folders(os.path.dirname(path))
    atomic.write_bytes(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def read_record(path: str) -> RunRecord:
    """Return the record in a file; CorruptError if it is none."""
    try:
        with open(path, "rb") as file:
            text = file.read(RECORD_SIZE_MAX_BYTES + 1)
        record = json_decoder(RunRecord).decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptError(
            f"{printable(path)} is no record of a run: {printable(str(error))}",
            hint="see what changed it: git log --stat -- " + RUNS_FOLDER,
        ) from error
    if record.version != RECORD_VERSION or not RUN_ID.fullmatch(record.id):
        raise CorruptError(
            f"{printable(path)} is no record of this version: {record.version}, "
            f"{printable(record.id)}",
            hint=f"a later dvtool may read it: {INSTALL_NEWER}",
        )
    return record


def list_runs(project: Project) -> RunList:
    """Return the runs that have a record in this worktree, newest first."""
    folder = runs_folder(project)
    runs = RunList()
    for name in sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else ():
        if name.endswith(RECORD_SUFFIX) and RUN_ID.fullmatch(name.removesuffix(RECORD_SUFFIX)):
            try:
                runs.runs.append(read_record(os.path.join(folder, name)))
            except CorruptError as error:
                runs.damaged.append(str(error))
    return runs


def find_run(project: Project, name: str) -> RunRecord:
    """Return the record of a run by its id, the beginning of one, `last`, or the path of the file.

    UsageError if there is none, or several.
    """
    if os.sep in name or name.endswith(RECORD_SUFFIX):
        try:
            return read_record(name)
        except FileNotFoundError as error:
            raise UsageError(f"there is no file {printable(name)}", hint="run: dv runs") from error
    folder = runs_folder(project)
    names = sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []
    ids = [run_id.removesuffix(RECORD_SUFFIX) for run_id in names if run_id.endswith(RECORD_SUFFIX)]
    ids = [run_id for run_id in ids if RUN_ID.fullmatch(run_id)]
    fitting = (
        ids[:1]
        if name == "last"
        else [run_id for run_id in ids if name and run_id.startswith(name)]
    )
    if len(fitting) == 1:
        return read_record(os.path.join(folder, fitting[0] + RECORD_SUFFIX))
    if fitting:
        raise UsageError(
            f"{printable(name)} could be any of:\n{listing(fitting)}", hint="give more of the id"
        )
    raise UsageError(f"there is no run {printable(name)}", hint="see what there is: dv runs")
