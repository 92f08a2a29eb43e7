from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Work


def test_init_makes_and_stages_dvconfig(bare: Work) -> None:
    ran = bare.dv("init")
    assert "set up" in ran.out
    assert "dv add" in ran.err
    assert bare.git("diff", "--cached", "--name-only") == ".dvconfig"
    assert (bare.root / ".git/dv/store.db").exists()


def test_init_is_safe_to_repeat(bare: Work) -> None:
    bare.dv("init", "--remote", "../remote")
    before = bare.read(".dvconfig")
    assert "before" in bare.dv("init", "--remote", "../remote").out
    assert bare.read(".dvconfig") == before


def test_init_prepares_a_clone(data: Work) -> None:
    clone = data.clone(remote=False)
    ran = clone.dv("init")
    assert "this clone is ready" in ran.out
    assert clone.git("status", "--short") == ""
    assert (clone.root / ".git/dv/store.db").exists()


def test_init_with_a_bucket_commits_the_remote(bare: Work) -> None:
    bare.dv(
        *("init", "--remote", "s3://bucket/prefix"),
        *("--endpoint-url", "http://127.0.0.1:9000", "--region", "eu-central-1"),
    )
    text = bare.read(".dvconfig").decode()
    assert "s3://bucket/prefix" in text
    assert "http://127.0.0.1:9000" in text
    assert "eu-central-1" in text


def test_init_with_a_folder_keeps_it_to_this_clone(bare: Work, tmp_path: Path) -> None:
    ran = bare.dv("init", "--remote", "../remote")
    assert "for this clone only" in ran.out
    assert str(tmp_path) not in bare.read(".dvconfig").decode()
    assert (tmp_path / "remote").is_dir()


def test_init_from_a_subfolder(bare: Work) -> None:
    (bare.root / "sub").mkdir()
    bare.dv("init", cwd="sub")
    assert (bare.root / ".dvconfig").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("--remote", "gs://bucket"),
        ("--remote", "s3://"),
        ("--remote", "s3://key:secret@bucket"),
        ("--remote", "s3://bucket", "--endpoint-url", "nonsense"),
        ("--remote", "s3://bucket", "--region", "not a region"),
        ("--region", "eu-central-1"),
    ],
)
def test_init_refuses_a_bad_remote_before_it_changes_anything(
    bare: Work, args: tuple[str, ...]
) -> None:
    ran = bare.dv("init", *args, code=2)
    assert ran.err.startswith("error: ")
    assert "secret" not in ran.err
    assert not (bare.root / ".dvconfig").exists()


def test_init_does_not_replace_another_origin(work: Work) -> None:
    ran = work.dv("init", "--remote", "s3://elsewhere", code=2)
    assert "hint: to change it: dv remote set origin s3://elsewhere" in ran.err


def test_init_outside_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    place = tmp_path / "plain"
    place.mkdir()
    ran = Work(place).dv("init", code=3)
    assert "not inside a git repository" in ran.err
    assert "hint: run: git init" in ran.err


def test_init_in_a_bare_repository(bare: Work) -> None:
    bare.git("init", "-q", "--bare", "../bare.git")
    ran = Work(bare.root.parent / "bare.git").dv("init", code=3)
    assert "bare repository" in ran.err
    assert Work(bare.root.parent / "bare.git").dv("init", "-n", code=3).err == ran.err


def test_init_quiet(bare: Work) -> None:
    ran = bare.dv("init", "-q")
    assert (ran.out, ran.err) == ("", "")


def test_init_stages_what_an_interrupted_init_made(bare: Work) -> None:
    bare.dv("init")
    bare.git("rm", "-q", "--cached", ".dvconfig")
    before = bare.read(".dvconfig")
    bare.dv("init")
    assert bare.git("diff", "--cached", "--name-only") == ".dvconfig"
    assert bare.read(".dvconfig") == before


def test_init_says_what_it_would_do(
    bare: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DV_HOOKS_INSTALL")

    def everything() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    before = everything()
    shown = bare.dv("init", "-n", "--remote", tmp_path / "not made").out
    assert shown.splitlines()[0] == "would be set up for dvtool: a .dvconfig, staged for git"
    assert f"remote origin: would be {tmp_path / 'not made'}" in shown
    assert "git hooks would be installed: pre-commit pre-push" in shown
    assert "hooks" not in bare.dv("init", "-n", "--no-hooks").out
    assert everything() == before
    assert not (tmp_path / "not made").exists()
    bare.dv("init")
    assert bare.dv("init", "-n").out == "this repository is set up for dvtool already\n"
