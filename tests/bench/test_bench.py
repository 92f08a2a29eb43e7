"""The parts of scripts/bench: what it counts, computes and writes. Nothing here is timed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import chapters, reach, results, special
from benchmarks.data import Dataset, Edit, big_file, labels, renamed_folder, same, small_files
from benchmarks.measure import Bench, BenchError, Command, Stored, Taken, count_calls
from benchmarks.report import NOTES_BEGIN, NOTES_END, duration, size, text_of, write_report
from benchmarks.results import Count, Results, ResultsError, Run, Workload, slope
from benchmarks.scale import QUICK, SCALES
from benchmarks.story import UNMEASURED, Chapter, play_rounds
from benchmarks.tools import (
    ADD,
    BACK,
    BACKUP,
    FORTH,
    PULL,
    PULL_AGAIN,
    PUSH,
    PUSH_AGAIN,
    STATUS,
    STEPS,
    TOOLS,
    Place,
    Tool,
    environment,
    prepare_home,
)

PROJECT = Path(__file__).parents[2]


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_the_slope_of_a_power_is_its_exponent(exponent: float) -> None:
    points = [(float(x), 3 * x**exponent) for x in (1_000, 10_000, 1_000_000)]
    assert slope(points) == pytest.approx(exponent)


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(2.0, 1.0), (2.0, 5.0)], [(1.0, 0.0)] * 2])
def test_what_has_no_slope_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match=r"slope"):
        slope(points)


def run_of(tool: str, number: int, *, workload: str = "S", **walls_s: float) -> Run:
    names = {"add": ADD, "push": PUSH, "pull": PULL, "status": STATUS, "backup": BACKUP}
    peak_bytes = 40_000_000 if number == 0 else None
    steps = {
        names[name]: Taken(wall_s, wall_s / 2, 0.5, peak_bytes) for name, wall_s in walls_s.items()
    }
    return Run(workload, tool, number, steps)


def small_results() -> Results:
    found = Results(command="scripts/bench", scale="default", machine={"cores": "2"})
    found.workloads = [Workload("S", "S: many files"), Workload("B", "B: a large file")]
    for number, wall_s in enumerate((9.0, 1.0, 2.0, 4.0)):
        found.runs.append(run_of("dv", number, add=wall_s, push=1.0, pull=3.0, status=0.5))
        found.runs.append(run_of("dvc", number, add=10 * wall_s, push=20.0, status=1.0))
        found.runs.append(run_of("restic", number, backup=2.5))
        found.runs.append(run_of("cp", number, add=5.0, pull=2.0))
    for tool, growth_bytes in (("dv", 550_000), ("dvc", 270_000_000)):
        stored = {"remote": Stored(1_000_000, 3), "growth": Stored(growth_bytes, 1)}
        found.runs.append(Run("B", tool, 1, {}, stored))
    found.requests = [Count("requests", "dv", PUSH, 28, 20_000, {"PUT": 24, "HEAD": 4})]
    found.flushes = [Count("flushes", "dv", ADD, 12, 500)]
    return found


def test_medians_leave_the_warm_up_out_and_memory_comes_from_it() -> None:
    found = small_results()
    assert found.median("S", "dv", ADD) == 2.0
    assert found.median("S", "dv", ADD, "cpu_s") == 1.0
    assert found.median("S", "dv", ADD, "flushed_s") == 2.5
    assert found.median("S", "dv", ADD, "peak_bytes") == 40_000_000
    assert found.median("S", "dv", BACK) is None
    assert found.median("S", "nobody", ADD) is None


def test_a_sum_of_steps_is_made_in_each_round() -> None:
    found = small_results()
    assert found.median("S", "dv", BACKUP) == 3.0  # of 2, 3 and 5
    assert found.median("S", "restic", BACKUP) == 2.5
    assert found.median("S", "cp", BACKUP) is None  # it has no push


def test_a_goal_is_reached_missed_or_not_measured() -> None:
    rows = {row.what: row for row in reach.rows(small_results())}
    assert rows["add S, dv / `cp -r` + `sync`"].measured == "0.40"
    assert rows["add S, dv / `cp -r` + `sync`"].reached is True
    assert rows["clone and pull S, dv / `cp -r` + `sync`"].reached is False
    assert rows["status of S unchanged, dv / `git status`"].reached is None
    assert rows["add of 1,000,000 files of 75 bytes"].reached is None
    assert rows["remote growth from B to B'"].measured == "0.550 MB (dvc 270.0)"
    assert rows["requests, push S to an empty bucket"].reached is True
    assert rows["requests, pull S"].reached is None
    assert rows["peak memory on S, all processes"].measured == "40 MB"


def test_limits_hold_at_their_edge() -> None:
    found = Results()
    for number in (0, 1):
        found.runs += [
            run_of("dv", number, add=1.0, pull=2.0),
            run_of("cp", number, add=2.0, pull=2.0),
        ]
    rows = {row.what: row for row in reach.rows(found)}
    assert rows["add S, dv / `cp -r` + `sync`"].reached is True
    assert rows["clone and pull S, dv / `cp -r` + `sync`"].reached is True


# --- results and the report ---------------------------------------------------------------------


def test_results_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    found = small_results()
    found.save(tmp_path / "results.json")
    assert results.load([tmp_path / "results.json"]) == found


def test_of_a_workload_in_two_files_the_last_counts(tmp_path: Path) -> None:
    first, second = small_results(), Results(command="scripts/bench --only S", scale="default")
    second.left_out = {"x": "y"}
    first.left_out = {"restic": "not on PATH"}
    second.runs = [run_of("dv", 1, add=7.0), run_of("restic", 1, backup=1.0)]
    second.workloads = [Workload("S", "S: again")]
    for name, one in (("a", first), ("b", second)):
        one.save(tmp_path / name)
    both = results.load([tmp_path / "a", tmp_path / "b"])
    assert both.median("S", "dv", ADD) == 7.0
    assert both.tools("S") == ["dv", "restic"]
    assert both.tools("B") == ["dv", "dvc"]
    assert sorted(one.title for one in both.workloads) == ["B: a large file", "S: again"]
    assert both.left_out == {"x": "y"}
    assert both.requests == first.requests
    assert both.command == "scripts/bench` and `scripts/bench --only S"


def test_small_data_and_large_are_not_put_into_one_report(tmp_path: Path) -> None:
    small_results().save(tmp_path / "default")
    Results(scale="quick").save(tmp_path / "quick")
    with pytest.raises(ResultsError, match="of a quick run"):
        results.load([tmp_path / "default", tmp_path / "quick"])
    curve = [Workload("growth-files-9", "9 files", "growth-files", 9)]
    Results(scale="quick", workloads=curve).save(tmp_path / "curve")
    both = results.load([tmp_path / "default", tmp_path / "curve"])
    assert both.scale == "default" and both.workloads[-1:] == curve


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 99}', '{"format": 1}', '{"format": 1, "runs": [{}]}']
)
def test_a_file_that_is_no_results_is_named(tmp_path: Path, text: str) -> None:
    place = tmp_path / "other.json"
    place.write_text(text)
    with pytest.raises(ResultsError, match=r"other\.json"):
        results.load([place])
    done = bench("--report", str(place))
    assert done.returncode == 2
    assert "other.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_report_has_each_table_and_keeps_the_notes() -> None:
    found = small_results()
    for x, wall_s in ((10_000, 1.0), (100_000, 10.0), (1_000_000, 100.0)):
        name = f"{chapters.GROWTH_FILES}-{x}"
        found.workloads.append(Workload(name, f"{x:,} files", chapters.GROWTH_FILES, x))
        found.runs.append(run_of("dv", 1, workload=name, add=wall_s))
    found.tables[chapters.READ] = ["| a | b |", "|---|---|"]
    text = text_of(found, ["benchmarks-growth-files.svg"], "dv pull waits for the disk.")
    for line in (
        "| add | 2.00 s | 20.0 s (10×) |   | 5.00 s (2.5×) |",
        "| add and push | 3.00 s | 40.0 s (13×) | 2.50 s (0.83×) |   |",
        "| add S, dv / `cp -r` + `sync` | at most 0.5 | 0.40 | yes |",
        "| add of 1,000,000 files of 75 bytes | at most 18 s | 100.0 s | **no** |",
        "## Reading a commit from Python\n\n| a | b |\n|---|---|",
        "| dvtool | 20,000 | push | 28 | 4 HEAD, 24 PUT |",
        "| dvtool | add | 12 | 0.02 |",
        "| add | wall time | 1.00 s | 10.0 s | 100 s | 1.00 | 1.00 |",
        "![Growth with the number of files](benchmarks-growth-files.svg)",
        f"{NOTES_BEGIN}\ndv pull waits for the disk.\n{NOTES_END}",
    ):
        assert line in text, line
    assert text_of(Results(), [], "").startswith("# Benchmarks")


def test_a_report_written_again_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need it; scripts/bench installs it")
    write_report(small_results(), tmp_path)
    place = tmp_path / "benchmarks.md"
    place.write_text(place.read_text().replace(NOTES_BEGIN, f"{NOTES_BEGIN}\nWhy it is slow."))
    write_report(small_results(), tmp_path)
    assert place.read_text().count("Why it is slow.") == 1
    assert "<svg" in (tmp_path / "benchmarks-s.svg").read_text()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (duration(0.0123), "12 ms"),
        (duration(9.876), "9.88 s"),
        (duration(98.76), "98.8 s"),
        (duration(987.6), "988 s"),
        (size(999), "999 B"),
        (size(554_000), "0.55 MB"),
        (size(268_000_000), "268 MB"),
        (size(10_700_000_000), "10.70 GB"),
    ],
)
def test_numbers_are_shown_with_what_they_are_worth(shown: str, expected: str) -> None:
    assert shown == expected


# --- measuring ----------------------------------------------------------------------------------

CHILD = (
    "import sys, time\n"
    "memory = bytearray(b'x') * 30_000_000\n"
    "while time.process_time() < 0.25: pass\n"
    "time.sleep(0.3)\n"
)
PARENT = (
    "import subprocess, sys\n"
    f"both = [subprocess.Popen([sys.executable, '-c', {CHILD!r}]) for _ in range(2)]\n"
    "for one in both: one.wait()\n"
)


@pytest.fixture
def at(tmp_path: Path) -> Bench:
    """A work folder whose tools are the ones of these tests."""
    env = environment(tmp_path, (Path(sys.executable).parent,))
    bench = Bench(tmp_path, env)
    prepare_home(bench, has_lfs=False)
    return bench


@pytest.mark.skipif(sys.platform != "linux", reason="memory of several processes: Linux only")
def test_what_descendants_take_is_counted(at: Bench) -> None:
    taken = at.take([Command((sys.executable, "-c", PARENT), at.work)], memory=True)
    assert taken.cpu_s >= 0.5
    assert taken.peak_bytes is not None
    assert taken.peak_bytes >= 60_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="memory of several processes: Linux only")
def test_a_child_that_still_runs_in_its_parents_memory_does_not_count_twice(at: Bench) -> None:
    program = (
        "import subprocess\n"
        "memory = bytearray(b'x') * 80_000_000\n"
        "for _ in range(150): subprocess.run(['true'])\n"
    )
    taken = at.take([Command((sys.executable, "-c", program), at.work)], memory=True)
    assert taken.peak_bytes is not None
    assert 80_000_000 <= taken.peak_bytes < 130_000_000


def test_what_is_set_up_in_between_is_not_counted(at: Bench) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    aside = Command((sys.executable, "-c", burn), at.work, timed=False)
    taken = at.take([aside, Command(("true",), at.work)])
    assert taken.cpu_s < 0.5
    assert taken.peak_bytes is None


def test_a_command_that_fails_is_shown_with_what_it_said(at: Bench) -> None:
    fails = Command((sys.executable, "-c", "import sys; print('told so'); sys.exit(7)"), at.work)
    for attempt in (lambda: at.take([fails]), lambda: at.run(fails)):
        with pytest.raises(BenchError, match=r"(?s)ended with 7.*told so"):
            attempt()


def test_calls_are_counted_once_though_strace_tells_of_them_twice() -> None:
    log = (
        "10  fsync(3) = 0\n"
        "11  fdatasync(4 <unfinished ...>\n"
        "10  syncfs(5) = 0\n"
        "11  <... fdatasync resumed>) = 0\n"
        "10  +++ exited with 0 +++\n"
    )
    assert count_calls(log) == 3


# --- data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dataset", [small_files(30, 512), big_file(3 << 20), labels(40), renamed_folder(5)]
)
def test_a_seed_makes_the_same_data_and_its_edit_changes_them(
    tmp_path: Path, dataset: Dataset
) -> None:
    digests = []
    for name in ("one", "two"):
        before, edit = dataset.ready(tmp_path / name)
        copy = tmp_path / f"{name}-copy"
        subprocess.run(["cp", "-r", before, copy], check=True)
        edit.apply(copy)
        assert not same(before, copy)
        digests.append((digest(before), digest(copy)))
    assert digests[0] == digests[1]


def digest(top: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in top.rglob("*") if path.is_file()):
        found.update(str(path.relative_to(top)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def test_the_edit_of_the_large_file_is_the_one_that_is_told(tmp_path: Path) -> None:
    size_bytes = 3 << 20
    before, edit = big_file(size_bytes).ready(tmp_path)
    old, new = (before / "B").read_bytes(), (edit.after / "B").read_bytes()
    quarter, middle = size_bytes // 4, size_bytes // 2
    assert len(new) == len(old) + 1_000 + 100_000
    assert new[:quarter] == old[:quarter]
    assert new[quarter : quarter + 4096] != old[quarter : quarter + 4096]
    assert new[quarter + 4096 : middle] == old[quarter + 4096 : middle]
    assert new[middle + 1_000 : -100_000] == old[middle:]


def test_an_edit_replaces_files_and_does_not_write_through_links(tmp_path: Path) -> None:
    (tmp_path / "after").mkdir()
    (tmp_path / "after" / "file").write_text("new")
    (tmp_path / "data").mkdir()
    (tmp_path / "stored").write_text("old")
    (tmp_path / "data" / "file").symlink_to(tmp_path / "stored")
    (tmp_path / "data" / "gone").write_text("")
    Edit(tmp_path / "after", removed=("gone",)).apply(tmp_path / "data")
    assert (tmp_path / "stored").read_text() == "old"
    assert (tmp_path / "data" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "data") == ["file"]


# --- the story ----------------------------------------------------------------------------------


def test_the_story_runs_and_what_comes_back_is_compared(at: Bench) -> None:
    chapter = Chapter("small", "a few files", small_files(12), ("dv", "cp", "git"))
    runs: list[Run] = []
    failed: list[str] = []
    tools = [TOOLS[name] for name in chapter.tools]

    def fail(tool: Tool, error: BenchError) -> None:
        failed.append(f"{tool.name}: {error}")

    play_rounds(at, chapter, tools, 1, runs.append, fail)
    assert not failed
    assert [(run.round, run.tool) for run in runs] == [
        *((0, "dv"), (0, "cp"), (0, "git")),
        *((1, "cp"), (1, "git"), (1, "dv")),
    ]
    ours = runs[0]
    assert {ADD, STATUS, PUSH, PULL, BACK, FORTH} <= set(ours.steps)
    assert ours.stored["remote"].bytes > 12 * 8192
    assert 0 < ours.stored["growth"].bytes < ours.stored["remote"].bytes
    assert all(taken.peak_bytes for taken in ours.steps.values()) or sys.platform != "linux"
    assert not (at.work / "run").exists()


def test_a_tool_that_gives_back_other_data_is_found_out(at: Bench) -> None:
    def wrong(place: Place) -> dict[str, tuple[Command, ...]]:
        steps = dict(TOOLS["cp"].steps(place))
        spoil = Command(("sh", "-c", "echo x >> data/d0000/f0000003.bin"), place.clone)
        return {**steps, PULL: (*steps[PULL], spoil)}

    failed: list[str] = []
    play_rounds(
        at,
        Chapter("small", "a few files", small_files(12), ("cp",)),
        [Tool("cp", "cp", wrong, ("cp", "--version"))],
        3,
        lambda run: pytest.fail(f"kept {run}"),
        lambda tool, error: failed.append(str(error)),
    )
    assert len(failed) == 1
    assert PULL in failed[0]


def test_every_workload_names_tools_and_steps_that_exist(tmp_path: Path) -> None:
    for scale in SCALES.values():
        for chapter in chapters.chapters(scale, tmp_path):
            assert set(chapter.tools) <= set(TOOLS)
            assert chapter.leave_out <= {*STEPS, *UNMEASURED}
            assert chapter.room_bytes > 0
        found = [chapter.name for chapter in chapters.chapters(scale, tmp_path)]
        assert len(found) == len(set(found))
        assert set(chapters.SPECIAL) <= set(chapters.names(scale))


# --- beside the story ---------------------------------------------------------------------------

TINY = replace(QUICK, s_files=30, few_files=20, many_files=25, growth_versions=(6,))


def test_requests_are_counted_at_a_real_server(at: Bench) -> None:
    found = {one.step: one for one in special.requests(at, TINY, ["dv", "cp"])}
    assert {one.tool for one in found.values()} == {"dv"}
    assert found[PUSH].files == 30
    assert 3 < found[PUSH].count == sum(found[PUSH].kinds.values()) < 30
    assert found[PUSH_AGAIN].count < found[PUSH].count
    assert found[PULL].kinds["GET"] > 0
    assert found[PULL_AGAIN].count == 0


def test_versions_are_made_and_each_is_another(at: Bench) -> None:
    runs: list[Run] = []
    noted: list[Workload] = []
    special.versions(at, TINY, runs.append, noted.append, rounds=1)
    assert [(one.curve, one.x) for one in noted] == [(chapters.GROWTH_VERSIONS, 6)]
    assert [run.round for run in runs] == [0, 1]
    assert {STATUS, PUSH_AGAIN, BACK, special.LOG} <= set(runs[0].steps)


def test_status_is_taken_of_the_same_files_in_both(at: Bench) -> None:
    runs: list[Run] = []
    special.status_of_many(at, TINY, ["git", "dv", "cp"], 1, runs.append)
    assert [(run.tool, run.round) for run in runs] == [("dv", 0), ("git", 0), ("dv", 1), ("git", 1)]


# --- the command --------------------------------------------------------------------------------


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=PROJECT / "scripts",
        capture_output=True,
        text=True,
    )


def test_help_needs_no_set_up() -> None:
    env = {**os.environ, "DV_VENV": "/nonexistent"}
    done = subprocess.run(
        [PROJECT / "scripts" / "bench", "--help"], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    for option in ("--quick", "--full", "--rounds", "--only", "--tools", "--work", "--report"):
        assert option in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--only", "nothing"), ("--tools", "nothing"), ("--rounds", "0")),
        *(("--quick", "--full"), ("--rounds", "many")),
    ],
)
def test_wrong_usage_is_refused_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = bench(*arguments, "--work", str(tmp_path / "work"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "work").exists()
