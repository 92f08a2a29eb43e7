"""What each command shows on a terminal of 80 and of 120 columns, as golden texts in screens/.

To write them anew, run this with DV_WRITE_SCREENS=1, then read the difference in git.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest

from dvtool import cli
from tests.cli.conftest import Work, _Stream

SCREENS = Path(__file__).parent / "screens"
WRITE = os.environ.get("DV_WRITE_SCREENS", "0") not in ("", "0")
WITHOUT_SCREEN = {
    "completion": "prints scripts, which test_completion runs",
    "doctor": "tells of the machine",
}
TEMPORARY = "/tmp"
PLACE = "/tmp/dv-12345678"
MASKS = (
    (r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", "HASH"),
    (r"(?<![0-9a-f])[0-9a-f]{32,40}(?![0-9a-f])", "ID"),
    (r"(?<![0-9a-f])[0-9a-f]{10,16}(?![0-9a-f])", "SHORT"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE"),
    (r"(stored|freed|packs?,)(\s)[0-9.]+ [KMG]?i?B", r"\1\2SIZE"),
    (r"[0-9.]+ [KMG]?i?B (transferred|of it|would go|would be)", r"SIZE \1"),
    (r"about [0-9.]+ [KMG]?i?B", "about SIZE"),
    (r"\d{8}T\d{6,9}Z-[0-9a-f]{6}", "RUN"),
    (r"(\.parquet\s+1 file, )[0-9.]+ [KMG]?i?B", r"\1SIZE"),
)
"""What differs from run to run, or with the version of a library."""
STORY: tuple[tuple[str, str], ...] = (
    ("init", "dv init --remote REMOTE"),
    ("remote", "dv remote list"),
    ("config", "dv config core.remote"),
    ("add", "dv add data/images data/table.csv"),
    ("status-new", "dv status"),
    ("", "git commit -qm First"),
    ("status", "dv status"),
    ("push-check", "dv push --check"),
    ("push", "dv push"),
    ("push-again", "dv push"),
    ("push-origin-main", "dv push origin main"),
    ("", "write data/images/a.txt"),
    ("", "write data/images/.DS_Store"),
    ("status-changed", "dv status"),
    ("diff", "dv diff"),
    ("add-dry-run", "dv add -n -u"),
    ("restore", "dv restore data/images"),
    ("add-litter", "dv add data/images"),
    ("", "git commit -qam Second"),
    ("log", "dv log"),
    ("ls", "dv ls -l"),
    ("cat", "dv cat HEAD~1:data/table.csv"),
    ("describe", "dv describe"),
    ("checkout", "dv checkout HEAD~1 -- data/images"),
    ("mv", "dv mv data/images data/photos"),
    ("rm", "dv rm data/table.csv"),
    ("", "git reset -q --hard"),
    ("", "dv push"),
    ("fetch", "dv fetch"),
    ("fetch-plan", "dv fetch --plan"),
    ("drop", "dv drop data/table.csv"),
    ("pull", "dv pull"),
    ("gc", "dv gc -n"),
    ("fsck", "dv fsck"),
    ("sparse", "dv sparse set --exclude data/table.csv"),
    ("status-sparse", "dv status"),
    ("hooks", "dv hooks status"),
    ("resolve", "dv resolve"),
    ("clone", "dv clone --remote REMOTE . ../copy"),
    ("show", "dv show HEAD~1"),
    ("check-overlap", "dv check-overlap data/images data/images/sub/b.txt"),
    ("export-plan", "dv export data/images --to ../exported --plan"),
    ("export", "dv export data/images --to ../exported"),
    ("get", "dv get ../work data/images -o ../got"),
    ("import", "dv import ../work//data/images data/pictures"),
    ("", "sqlite ../lab.db"),
    ("import-sql", "dv import-sql sqlite:///../lab.db points data/points.parquet"),
    ("", "git commit -qam Imported"),
    ("update-dry-run", "dv update -n data/pictures"),
    ("update", "dv update data/pictures"),
    ("", "git clean -fdq data/photos"),
    ("run", "dv run -- true"),
    ("runs", "dv runs"),
    ("serve-error", "dv serve nosuch"),
    ("cache", "dv cache"),
    ("cache-clean", "dv cache clean"),
    ("unknown", "dv commit -m x"),
    (
        "error",
        "dv add nosuch/with/a/rather/long/name/that/is/not/there/at/all/as/everybody/can/see",
    ),
)


def _run(work: Work, line: str) -> str:
    """Run a line of the story, with both streams on one terminal; return what it showed."""
    program, *words = line.split(" ")
    words = [str(work.root.parent / "remote") if word == "REMOTE" else word for word in words]
    if program == "write":
        work.write(words[0], f"{words[0]} is another now")
        return ""
    if program == "sqlite":
        with contextlib.closing(sqlite3.connect(work.root / words[0])) as db, db:
            db.execute("CREATE TABLE points (x INTEGER)")
        return ""
    if program == "git":
        work.git(*words)
        return ""
    terminal = _Stream(terminal=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work.root)
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        cli.run_command(["--progress", "never", *words])
    return terminal.taken().decode()


def _masked(text: str) -> str:
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text)
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("columns", [80, 120])
def test_screens(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.realpath(TEMPORARY) != TEMPORARY:
        pytest.skip(f"{TEMPORARY} is a link here, so that paths are longer than in the texts")
    # The length of its path decides where lines end: it has to be the same in each run.
    place = tempfile.mkdtemp(prefix="dv-", dir=TEMPORARY)
    try:
        bare = Work(Path(place) / "work")
        bare.root.mkdir()
        bare.git("init", "-q")
        _tell(bare, columns, monkeypatch)
    finally:
        shutil.rmtree(place)


def _tell(bare: Work, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(bare.root.parent / "cache"))
    bare.write("data/images/a.txt", "content of a")
    bare.write("data/images/sub/b.txt", "content of b")
    bare.write("data/table.csv", "x,y\n1,2\n")
    folder = SCREENS / str(columns)
    differing = []
    for name, line in STORY:
        shown = _run(bare, line)
        long = [each for each in shown.split("\n") if len(each) > columns]
        # Names that are longer than a line are not broken.
        assert not [each for each in long if max(map(len, each.split())) < columns // 2], shown
        if not name:
            continue
        place = str(bare.root.parent)
        text = f"$ {line}\n{_masked(shown.replace(place, PLACE))}"
        file = folder / f"{name}.txt"
        if WRITE:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            differing.append(f"{file.name}:\n{text}")
    assert not differing, "\n".join(differing)
    if not WRITE:
        assert {file.stem for file in folder.iterdir()} == {name for name, _ in STORY if name}


def test_each_command_has_a_screen() -> None:
    commands = {name for section in cli.COMMANDS.values() for name in section}
    shown = {line.split(" ")[1] for name, line in STORY if name}
    assert commands - set(WITHOUT_SCREEN) <= shown
