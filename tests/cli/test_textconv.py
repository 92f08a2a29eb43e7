"""What git shows of manifests: files and sizes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dvtool.errors import size_text
from dvtool.format.digest import digest_of
from dvtool.format.manifest import Entries, Entry, build, encode
from tests.cli.conftest import ODD_NAMES, Work
from tests.cli.merging import TARGET, change, put_manifest, run, with_drivers

MANIFEST = f"{TARGET}.dv.json"


@pytest.fixture
def driven(data: Work) -> Work:
    with_drivers(data)
    return data


def test_lines(data: Work) -> None:
    data.write(f"{TARGET}/run.sh", "#!/bin/sh").chmod(0o755)
    (data.root / TARGET / "link").symlink_to("a.txt")
    (data.root / TARGET / "empty").mkdir()
    data.dv("add", TARGET)
    short = digest_of(b"content of a.txt").hex()[:12]
    assert data.dv("textconv", MANIFEST).lines == [
        "# folder, 6 files, 61 B",
        f"a.txt  16 B  {short}  file",
        f"b.txt  16 B  {digest_of(b'content of b.txt').hex()[:12]}  file",
        "empty/  empty folder",
        "link  -> a.txt",
        f"run.sh  9 B  {digest_of(b'#!/bin/sh').hex()[:12]}  executable",
        f"sub/c.txt  20 B  {digest_of(b'content of sub/c.txt').hex()[:12]}  file",
    ]
    assert data.dv("textconv", "data/table.csv.dv.json").lines[0] == "# file, 1 file, 8 B"


def test_git_diff_log_and_show(driven: Work) -> None:
    change(driven, {"a.txt": "new content here", "b.txt": None, "z.txt": "z"}, None)
    for shown in (run(driven, "diff", "HEAD"), run(driven, "diff", "--cached")):
        lines = shown.splitlines()
        assert f"-a.txt  16 B  {digest_of(b'content of a.txt').hex()[:12]}  file" in lines
        assert f"+a.txt  16 B  {digest_of(b'new content here').hex()[:12]}  file" in lines
        assert f"+z.txt  1 B  {digest_of(b'z').hex()[:12]}  file" in lines
        assert any(line.startswith("-b.txt  16 B") for line in lines)
    driven.commit("changed")
    assert "+z.txt  1 B" in run(driven, "log", "-p", "-1")
    assert "+z.txt  1 B" in run(driven, "show")
    assert "+z.txt  1 B" in run(driven, "-C", "data", "diff", "HEAD~1")


def test_names_are_escaped(driven: Work) -> None:
    change(driven, dict.fromkeys(ODD_NAMES, "x"), None)
    shown = run(driven, "diff", "HEAD", "--", MANIFEST)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "+new\\nline  1 B" in shown


def many(count: int = 9_000, **changed: str) -> Entries:
    return {
        f"n{number:05d}": Entry(
            blake3=digest_of(changed.get(f"n{number:05d}", "x").encode()).hex(), size=1
        )
        for number in range(count)
    }


def test_sharded_manifests_show_their_entries(driven: Work) -> None:
    put_manifest(driven, many())
    driven.git("commit", "-qm", "many")
    put_manifest(driven, many(n00007="y"))
    shown = run(driven, "diff", "HEAD").splitlines()
    changed = [line for line in shown if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == [
        f"-n00007  1 B  {digest_of(b'x').hex()[:12]}  file",
        f"+n00007  1 B  {digest_of(b'y').hex()[:12]}  file",
    ]


def test_shards_that_are_not_here_show_as_lines(driven: Work) -> None:
    put_manifest(driven, many())
    shutil.rmtree(driven.root / ".git/dv/shards")
    refs = build("dir", many()).manifest.shards
    lines = driven.dv("textconv", MANIFEST).lines
    assert lines[0] == "# folder, 9,000 files, 8.8 KiB"
    assert len(lines) == 1 + len(refs)
    assert lines[1] == (
        f"n00000 …  {refs[0].files:,} files, {size_text(refs[0].bytes)}  "
        f"{refs[0].blake3[:12]}  its shard is not here (dv fetch)"
    )


def test_outside_of_a_repository(tmp_path: Path) -> None:
    work = Work(tmp_path / "none")
    work.write("m.dv.json", encode(build("dir", many()).manifest))
    assert work.dv("textconv", "m.dv.json").lines[0].startswith("# folder, 9,000 files")


@pytest.mark.parametrize("text", [b"<<<<<<< ours\n\xc3\xbc\n", b"", b"{}\n", b'{"dv": 9}\n'])
def test_what_is_no_manifest_is_shown_as_it_is(driven: Work, text: bytes) -> None:
    driven.write(MANIFEST, text)
    assert driven.dv("textconv", MANIFEST).raw == text
    run(driven, "diff")
