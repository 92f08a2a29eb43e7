"""Git's hooks, with real git run through a shell as a user would."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dvtool.hooks.interpreter import Interpreter
from dvtool.hooks.scripts import NAMES, script
from tests.cli.conftest import Work

BIG = 11 << 20


@pytest.fixture(autouse=True)
def _hooks_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DV_HOOKS_INSTALL")


@pytest.fixture
def work(bare: Work) -> Work:
    """A repository set up here: the one that others copy has no hooks."""
    bare.dv("init", "--remote", bare.root.parent / "remote")
    return bare


@dataclass(frozen=True)
class Shell:
    code: int
    text: str


def sh(place: Work | Path, command: str, *, code: int = 0, **env: str) -> str:
    """Run a line in a shell; return all that it printed."""
    root = place.root if isinstance(place, Work) else place
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=root,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    text = os.fsdecode(done.stdout)
    assert done.returncode == code, f"$ {command}\n{text}"
    return text


def hook(work: Work, name: str, body: str, *, folder: str = ".git/hooks") -> Path:
    path = work.write(f"{folder}/{name}", "#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


def no_python(work: Work, tmp_path: Path) -> dict[str, str]:
    """Make the hooks of `work` fail loudly if they start Python; return their environment."""
    stub = tmp_path / "stub"
    stub.write_text("#!/bin/sh\necho PYTHON STARTED >&2\nexit 1\n")
    stub.chmod(0o755)
    replace_python(work, stub)
    return {}


def replace_python(work: Work, python: Path) -> None:
    for name in NAMES:
        path = work.root / ".git/hooks" / name
        old = shlex.quote(sys.executable)
        text = path.read_text().replace(f"python={old}\n", f"python={shlex.quote(str(python))}\n")
        path.write_text(text)


def change(work: Work, content: str, message: str) -> str:
    work.write("data/images/a.txt", content)
    work.dv("add", "-q", "data/images")
    sh(work, f"git commit -qam {shlex.quote(message)}")
    return work.git("rev-parse", "HEAD")


# --- in place and out -------------------------------------------------------------------------


def test_init_installs_hooks_and_uninstall_leaves_nothing(bare: Work) -> None:
    before = sorted(os.listdir(bare.root / ".git/hooks"))
    ran = bare.dv("init")
    assert "hooks" in ran.err
    assert bare.dv("hooks", "status", "--json").json["complete"]
    assert "all hooks are in place" in bare.dv("hooks", "install").out
    assert set(NAMES) <= set(os.listdir(bare.root / ".git/hooks"))
    assert "removed" in bare.dv("hooks", "uninstall").out
    assert sorted(os.listdir(bare.root / ".git/hooks")) == before
    bare.dv("hooks", "status", code=1)
    bare.write("d/x")
    assert "hooks" not in bare.dv("add", "d").err  # not wanted, so not brought back
    bare.dv("hooks", "install")
    assert bare.dv("hooks", "status", "--json").json["complete"]
    assert bare.dv("config", "hooks.install").out.strip() == "true"


def test_init_without_hooks(bare: Work) -> None:
    bare.dv("init", "--no-hooks")
    assert not (bare.root / ".git/hooks/pre-commit").exists()
    bare.write("d/x")
    bare.dv("add", "d")
    assert not (bare.root / ".git/hooks/pre-commit").exists()


def test_dry_run_changes_nothing(bare: Work) -> None:
    bare.dv("init", "--no-hooks")
    hook(bare, "pre-push", "exit 0\n")
    ran = bare.dv("hooks", "install", "--dry-run")
    assert "would be installed" in ran.out
    assert "pre-push: the hook that is there would be kept" in ran.out
    bare.dv("hooks", "status", code=1)
    bare.dv("hooks", "install")
    bare.dv("hooks", "uninstall", "-n")
    bare.dv("hooks", "status")


def test_an_older_version_is_replaced(work: Work) -> None:
    path = work.root / ".git/hooks/pre-commit"
    path.write_text("#!/bin/sh\n# dvtool hook, version 0: pre-commit\nexit 1\n")
    assert "outdated" in work.dv("hooks", "status", "--json", code=1).out
    work.dv("hooks", "install")
    assert "version 0" not in path.read_text()
    assert not (work.root / ".git/hooks/pre-commit.dv-kept").exists()


def test_existing_hooks_keep_working_and_come_back(bare: Work) -> None:
    paths = {
        "pre-commit": hook(bare, "pre-commit", 'echo "kept $# $0"; test ! -e forbid\n'),
        "pre-push": hook(bare, "pre-push", 'echo "kept $1"; cat > seen-by-kept\n'),
        "post-checkout": hook(bare, "post-checkout", 'echo "kept $3"; exit 3\n'),
    }
    paths["pre-push"].chmod(0o700)
    (bare.root / "scripts").mkdir()
    shutil.move(paths["pre-commit"], bare.root / "scripts/check")
    paths["pre-commit"].symlink_to("../../scripts/check")
    before = {name: (path.read_bytes(), path.lstat().st_mode) for name, path in paths.items()}
    bare.dv("init", "--remote", bare.root.parent / "remote")
    bare.write("data/x", "x")
    bare.dv("add", "data")
    assert "kept 0" in sh(bare, "git add .dvconfig && git commit -m one")
    assert bare.git("rev-list", "--count", "HEAD") == "1"
    bare.write("forbid")
    sh(bare, "git commit --allow-empty -m two", code=1)
    (bare.root / "forbid").unlink()
    sh(bare, "git init -q --bare ../origin.git && git remote add origin ../origin.git")
    assert "kept origin" in sh(bare, "git push origin main")
    assert "refs/heads/main" in (bare.root / "seen-by-kept").read_text()
    assert (bare.root.parent / "remote/packs").is_dir()
    assert "kept 1" in sh(bare, "git checkout -q -b other", code=1)
    bare.dv("hooks", "uninstall")
    for name, path in paths.items():
        assert (path.read_bytes(), path.lstat().st_mode) == before[name]
        assert not path.with_name(f"{name}.dv-kept").is_symlink()
    assert paths["pre-commit"].is_symlink()


def test_a_hook_put_over_ours_is_left_alone(bare: Work) -> None:
    first = hook(bare, "pre-commit", "echo first\n").read_bytes()
    bare.dv("init")
    other = hook(bare, "pre-commit", "echo other\n")
    assert "another hook was put over" in bare.dv("hooks", "install").err
    assert "another hook was put over" in bare.dv("hooks", "uninstall").err
    assert other.read_text() == "#!/bin/sh\necho other\n"
    assert (bare.root / ".git/hooks/pre-commit.dv-kept").read_bytes() == first


def test_a_framework_that_renames_and_calls_us_does_not_go_round_in_circles(bare: Work) -> None:
    hook(bare, "pre-commit", "echo first\n")
    bare.dv("init")
    folder = bare.root / ".git/hooks"
    (folder / "pre-commit").rename(folder / "pre-commit.legacy")
    hook(bare, "pre-commit", 'echo framework\n"${0%/*}/pre-commit.legacy" "$@"\n')
    assert bare.dv("hooks", "status", "--json").json["complete"]
    bare.dv("hooks", "install")
    text = sh(bare, "git commit -m one")
    assert (text.count("framework"), text.count("first")) == (1, 1)
    # Even if ours is put over that one by force.
    shutil.copy(folder / "pre-commit.legacy", folder / "ours")
    (folder / "pre-commit").replace(folder / "pre-commit.dv-kept")
    (folder / "ours").replace(folder / "pre-commit")
    sh(bare, "git commit --allow-empty -m two")


def test_hooks_path_in_the_worktree_as_with_husky(bare: Work) -> None:
    sh(bare, "git config core.hooksPath .husky")
    hook(bare, "pre-commit", '. "$(dirname -- "$0")/_/husky.sh"\necho lint\n', folder=".husky")
    bare.write(".husky/_/husky.sh", "echo husky $(basename $0)\n")
    sh(bare, "git add -A && git commit -m husky")
    bare.dv("init", "--remote", bare.root.parent / "remote")
    bare.write("data/x", "x")
    bare.dv("add", "data")
    (bare.root / "sub").mkdir()
    text = sh(bare, "cd sub && git commit -m data")
    assert "husky pre-commit" in text
    assert "lint" in text
    assert not (bare.root / ".git/hooks/pre-commit").exists()
    bare.dv("hooks", "uninstall")
    assert bare.git("status", "--short", ".husky") == ""


def test_stubs_of_husky_9_find_their_script_by_name(bare: Work) -> None:
    sh(bare, "git config core.hooksPath .husky/_")
    hook(bare, "h", 'n=$(basename "$0")\nsh -e ".husky/$n" "$@"\nexit $?\n', folder=".husky/_")
    hook(bare, "pre-commit", '. "$(dirname "$0")/h"\n', folder=".husky/_")
    bare.write(".husky/pre-commit", "echo lint; test ! -e forbid\n")
    bare.dv("init")
    assert "lint" in sh(bare, "git commit -m one")
    bare.write("forbid")
    sh(bare, "git commit --allow-empty -m two", code=1)


# --- where dv is not ----------------------------------------------------------------------------


def test_bare_environment_and_odd_folder(tmp_path: Path) -> None:
    work = Work(tmp_path / 'it\'s a "folder"')
    work.root.mkdir()
    work.git("init", "-q")
    work.dv("init")
    work.write("data/x", "x")
    work.dv("add", "data")
    keep = {name: os.environ[name] for name in ("HOME", "GIT_CONFIG_GLOBAL")}
    done = subprocess.run(
        [shutil.which("git") or "git", "commit", "-m", "one"],
        cwd=work.root,
        env={**keep, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""


def test_files_of_the_repository_are_not_imported(work: Work) -> None:
    work.write("click.py", "raise SystemExit('imported from the worktree')")
    work.write("data/x", "x")
    work.dv("add", "data")
    sh(work, "git add -A && git commit -m one")


def test_without_dv_commits_pass_and_pushes_with_data_stop(data: Work, tmp_path: Path) -> None:
    replace_python(data, tmp_path / "gone")
    bare_path = "/usr/bin:/bin"
    data.write("data/images/a.txt", "changed")
    data.dv("add", "data/images")
    text = sh(data, "git commit -m two", PATH=bare_path)
    assert "docs/install.md" in text
    text = sh(data, "git checkout -q -b other HEAD^", PATH=bare_path)
    assert "docs/install.md" in text
    sh(data, "git init -q --bare ../origin.git && git remote add origin ../origin.git")
    text = sh(data, "git push origin main", code=1, PATH=bare_path)
    assert "docs/install.md" in text
    assert "--no-verify" in text
    sh(data, "git push --no-verify origin main main:gone", PATH=bare_path)
    sh(data, "git push origin :gone", PATH=bare_path)


def test_an_interpreter_that_lost_dvtool_falls_back_to_the_path(work: Work, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 125\n")
    python.chmod(0o755)
    replace_python(work, python)
    dv = tmp_path / "bin/dv"
    dv.parent.mkdir()
    dv.write_text('#!/bin/sh\n[ "$1" != --version ] || { echo dv 9.9; exit; }\necho ran "$@"\n')
    dv.chmod(0o755)
    work.write("data/x", "x")
    work.dv("add", "data")
    path = f"{dv.parent}:/usr/bin:/bin"
    assert "ran hooks run pre-commit" in sh(work, "git commit -m one", PATH=path)


def test_git_events_that_touch_no_data_start_no_python(data: Work, tmp_path: Path) -> None:
    sh(data, "git checkout -q -b other && git checkout -q main")
    os.utime(data.root / ".git/dv/clean")  # as a commit some seconds after the add notes it
    no_python(data, tmp_path)
    data.write("code.py", "print()")
    sh(data, "git add code.py && git commit -qm code && git checkout -q other")
    sh(data, "git merge -q main && git checkout -q HEAD^ && git checkout -q main")
    sh(data, "git commit -q --amend -m better && git checkout -q -- code.py")
    sh(data, "git stash -q; git bisect start && git bisect reset")
    no_data = Work(tmp_path / "plain")
    no_data.root.mkdir()
    no_data.git("init", "-q")
    no_data.dv("init")
    no_python(no_data, tmp_path)
    sh(no_data, "git commit -qm one && git init -q --bare ../plain.git")
    sh(no_data, "git remote add origin ../plain.git && git push -q origin main && git fetch -q")
    sh(no_data, "git checkout -q -b x && git commit -q --allow-empty -m y && git rebase -q main")


# --- pre-commit ---------------------------------------------------------------------------------


def test_content_that_the_store_lacks_stops_the_commit(data: Work) -> None:
    text = (data.root / "data/table.csv.dv.json").read_text()
    digest = text.split('"blake3": "')[1][:64]
    data.write("data/table.csv.dv.json", text.replace(digest, "0" * 64))
    sh(data, "git add -u")
    data.write("data/table.csv.dv.json", text)  # what is staged counts
    said = sh(data, "git commit -m bad", code=1)
    assert "data/table.csv" in said
    assert "not in the store" in said
    assert "dv add" in said
    sh(data, "git commit --no-verify -qm bad")
    data.write("other.txt", "x")
    sh(data, "git add other.txt && git commit -qm 'does not touch it'")


def test_a_manifest_in_conflict_stops_the_commit(data: Work) -> None:
    data.write("data/table.csv.dv.json", "<<<<<<< ours\n{}\n=======\n{}\n>>>>>>> theirs\n")
    said = sh(data, "git commit -am bad", code=1)
    assert "data/table.csv.dv.json" in said
    assert data.git("rev-list", "--count", "HEAD") == "1"


def test_a_large_file_stops_the_commit_and_the_hint_works(work: Work) -> None:
    work.write("big file.bin", b"x" * BIG)
    sh(work, "git add . && cp 'big file.bin' b; rm b")
    said = sh(work, "git commit -m big", code=1)
    assert "11.0 MiB" in said
    assert "dv add --untrack 'big file.bin'" in said
    assert "dv config hooks.maxfilesize 11MiB" in said
    work.dv("config", "--local", "hooks.maxfilesize", "11MiB")
    work.dv("config", "--local", "--unset", "hooks.maxfilesize")
    work.dv("add", "--untrack", "big file.bin")
    sh(work, "git commit -qm small")
    assert "big file.bin" not in work.git("ls-files").splitlines()


def test_the_size_limit_is_a_setting(work: Work) -> None:
    work.write("code.py", "x" * 2000)
    work.dv("config", "hooks.maxfilesize", "1 KiB")
    sh(work, "git add code.py && git commit -m x", code=1)
    sh(work, "git commit -qm x", DV_HOOKS_MAXFILESIZE="1m")
    work.write("code2.py", "x" * 2000)
    sh(work, "git add code2.py && git commit -m x", code=1)
    work.dv("config", "--local", "hooks.maxfilesize", "0")
    sh(work, "git commit -qm x")


def test_data_of_a_target_that_is_staged_in_git_stops_the_commit(data: Work) -> None:
    sh(data, "git add -f data/images/a.txt")
    said = sh(data, "git commit -m bad", code=1)
    assert "  data/images/a.txt\n" in said
    assert "git rm -r --cached" in said
    sh(data, "git rm -q --cached data/images/a.txt && git commit -q --allow-empty -m good")


def test_a_rename_by_hand_lets_no_data_into_git(data: Work) -> None:
    data.dv("push")
    sh(data, "git mv data/images.dv.json data/pictures.dv.json")
    data.dv("checkout")
    sh(data, "git add -A && git commit -qm rename")
    assert not [path for path in data.git("ls-files").split() if path.startswith("data/pictures/")]
    assert "not kept out" not in data.dv("status").out


def test_a_target_that_nothing_ignores_is_said(data: Work) -> None:
    (data.root / "data/.gitignore").unlink()
    ran = data.dv("status")
    assert "data/images is not kept out of git" in " ".join(ran.out.split())
    said = sh(data, "git commit -q --allow-empty -m x")
    assert "no line in .gitignore keeps data/images out of git" in said
    sh(data, "git add -A")
    said = sh(data, "git commit -qm bad", code=1)
    assert "data/images/a.txt" in said
    sh(data, "git reset -q")
    data.dv("add", "data/images", "data/table.csv")
    assert "not kept out" not in data.dv("status").out
    sh(data, "git add -A && git commit -q --allow-empty -m good")


def test_a_pattern_of_the_users_own_keeps_data_out_as_well(data: Work) -> None:
    (data.root / "data/.gitignore").unlink()
    data.write(".gitignore", "data/*\n!data/*.json\n")
    assert "not kept out" not in data.dv("status").out


def test_attributes_that_change_manifests_stop_the_commit(data: Work) -> None:
    data.write("data/.gitattributes", "* filter=lfs -text\n")
    data.git("config", "filter.lfs.clean", "echo pointer; cat >/dev/null")
    data.write("data/images/new.txt", "new")
    data.dv("add", "data/images")
    said = sh(data, "git commit -m bad", code=1)
    assert "filter=lfs" in said
    assert "git check-attr -a data/images.dv.json" in said


def test_a_change_is_noticed_by_a_commit_that_has_no_manifest(data: Work) -> None:
    os.utime(data.root / ".git/dv/clean")
    assert sh(data, "git commit -q --allow-empty -m nothing") == ""
    data.write("data/images/b.txt", "three")
    said = sh(data, "git commit -q --allow-empty -m nothing")
    assert "data/images has changed since dv add" in said
    said = sh(data, "git commit -q --allow-empty -m again")
    assert "data/images has changed since dv add" in said
    data.dv("config", "hooks.changeddata", "refuse")
    data.write("code.py", "x")
    said = sh(data, "git add code.py && git commit -qm refused", code=1)
    assert "data has changed since dv add:\n  data/images\n" in said
    data.dv("config", "hooks.changeddata", "ignore")
    assert sh(data, "git commit -qm ignored") == ""
    data.dv("config", "hooks.changeddata", "refuse")
    data.dv("add", "data/images")
    sh(data, "git commit -qam added")


def test_names_that_git_quotes_are_looked_at(work: Work) -> None:
    work.write('we"ird/x', "x")
    work.write("-dash name/x", "x")
    work.dv("add", 'we"ird', "./-dash name")
    sh(work, "git commit -qm one")
    os.utime(work.root / ".git/dv/clean")
    work.write("-dash name/x", "y")
    assert "has changed since dv add" in sh(work, "git commit -q --allow-empty -m two")
    sh(work, "git add -f 'we\"ird/x'")
    assert "which dv keeps" in sh(work, "git commit -m bad", code=1)


def test_a_target_changed_since_add_is_warned_of(data: Work) -> None:
    data.write("data/images/a.txt", "two")
    data.dv("add", "data/images")
    data.write("data/images/b.txt", "three")
    said = sh(data, "git commit -m two")
    assert "data/images has changed since dv add" in said
    assert "dv add data/images" in said


def test_a_partial_clone_commits_and_merges(pushed: Work) -> None:
    sh(pushed, "git checkout -q -b side")
    change(pushed, "side", "side")
    pushed.dv("push")
    sh(pushed, "git checkout -q main")
    clone = pushed.clone()
    clone.write("data/images/new.txt", "new")
    clone.dv("add", "data/images/new.txt")
    sh(clone, "git commit -qm new")
    sh(clone, "git merge -q --no-commit origin/side && git commit -qm merge")
    sh(clone, "git mv code x 2>/dev/null; git commit -q --amend -m again")


# --- pre-push -----------------------------------------------------------------------------------


@pytest.fixture
def origin(pushed: Work) -> Path:
    place = pushed.root.parent / "origin.git"
    sh(pushed, f"git init -q --bare {place} && git remote add origin {place}")
    sh(pushed, "git push -q origin main")
    return place


def test_push_of_branches_and_a_tag_from_a_clone_that_holds_some_data(
    pushed: Work, origin: Path
) -> None:
    clone = Work(pushed.root.parent / "clone")
    sh(pushed, f"git clone -q {origin} ../clone")
    clone.dv("remote", "add", "origin", pushed.root.parent / "remote")
    assert "hooks" in clone.dv("pull", "--", "data/table.csv").err
    for name in ("one", "two", "three"):
        sh(clone, f"git checkout -q -b {name} origin/main")
        clone.write(f"data/images/{name}.txt", f"content {name}")
        clone.dv("add", f"data/images/{name}.txt")
        sh(clone, f"git commit -qm {name}")
    sh(clone, "git tag -a v1 -m tagged one && git checkout -q main")
    text = sh(clone, "git push origin one two three v1 :refs/heads/gone", code=0)
    assert "proven" in text
    there = Work(pushed.root.parent / "there")
    sh(pushed, f"git clone -q -b v1 {origin} ../there")
    there.dv("remote", "add", "origin", pushed.root.parent / "remote")
    for name in ("one", "two", "three"):
        sh(there, f"git checkout -q {name}")
        there.dv("pull")
        assert there.read(f"data/images/{name}.txt") == f"content {name}".encode()
    sh(clone, "git push -q origin :two")


def test_push_stops_when_data_cannot_follow(pushed: Work, origin: Path) -> None:
    change(pushed, "unreachable", "two")
    remote = pushed.root.parent / "remote"
    remote.rename(remote.with_name("away"))
    remote.write_text("no folder")
    text = sh(pushed, "git push origin main", code=1)
    assert "--no-verify" in text
    assert pushed.git("rev-parse", "origin/main") == pushed.git("rev-parse", "main^")
    remote.unlink()
    remote.with_name("away").rename(remote)
    sh(pushed, "git push -q origin main")


def test_push_without_any_data_remote_is_refused(bare: Work) -> None:
    bare.dv("init")
    bare.write("data/x", "x")
    bare.dv("add", "data")
    sh(bare, "git commit -qm one; git init -q --bare ../o.git; git remote add origin ../o.git")
    text = sh(bare, "git push origin main", code=1)
    assert "dv remote add" in text
    assert "git push --no-verify" in text


# --- post-checkout, post-merge, post-rewrite ----------------------------------------------------


def test_checkout_and_merge_bring_the_data(data: Work) -> None:
    sh(data, "git checkout -q -b side")
    data.write("data/images/sub/new.txt", "new")
    (data.root / "data/images/b.txt").unlink()
    data.write("more.bin", "more")
    data.dv("add", "data/images", "more.bin")
    sh(data, "git commit -qam side")
    assert "1 file written, 2 files removed" in sh(data, "git checkout main")
    assert data.read("data/images/b.txt") == b"content of b.txt"
    assert not (data.root / "data/images/sub/new.txt").exists()
    assert not (data.root / "more.bin").exists()
    assert sh(data, "git checkout -q -b quiet") == ""
    sh(data, "git merge -q side")
    assert data.read("data/images/sub/new.txt") == b"new"
    assert data.read("more.bin") == b"more"
    assert not (data.root / "data/images/b.txt").exists()
    assert data.dv("status", "--exit-code")
    sh(data, "git checkout -q main -- data/images.dv.json && git checkout -q HEAD -- data")
    assert data.read("data/images/sub/new.txt") == b"new"


def test_local_changes_are_kept_and_named(data: Work) -> None:
    sh(data, "git checkout -q -b side")
    data.write("data/images/b.txt", "side b")
    data.write("data/images/added.txt", "side added")
    change(data, "side a", "side")
    sh(data, "git checkout -q main")
    data.write("data/images/a.txt", "unsaved")
    data.write("data/images/added.txt", "mine")
    data.write("data/images/own.txt", "own")
    text = sh(data, "git checkout side")
    assert "data/images/a.txt" in text
    assert "data/images/added.txt" in text
    assert "own.txt" not in text
    assert data.read("data/images/a.txt") == b"unsaved"
    assert data.read("data/images/added.txt") == b"mine"
    assert data.read("data/images/b.txt") == b"side b"
    sh(data, "git checkout main")
    assert data.read("data/images/a.txt") == b"unsaved"
    assert data.read("data/images/added.txt") == b"mine"
    assert data.read("data/images/own.txt") == b"own"
    assert data.read("data/images/b.txt") == b"content of b.txt"


def test_a_target_that_vanishes_leaves_what_was_changed_in_it(data: Work) -> None:
    sh(data, "git checkout -q -b with-more")
    data.write("more/x", "x")
    data.write("more/deep/y", "y")
    data.dv("add", "more")
    sh(data, "git commit -qam more")
    sh(data, "git checkout -q main")
    assert not (data.root / "more").exists()
    sh(data, "git checkout -q with-more")
    data.write("more/x", "changed")
    assert "more/x" in sh(data, "git checkout main")
    assert data.read("more/x") == b"changed"
    assert not (data.root / "more/deep").exists()


def test_missing_content_is_named_or_fetched(pushed: Work, origin: Path) -> None:
    sh(pushed, f"git clone -q {origin} ../clone")
    clone = Work(pushed.root.parent / "clone")
    clone.dv("remote", "add", "origin", pushed.root.parent / "remote")
    clone.dv("pull")
    change(pushed, "second", "second")
    sh(pushed, "git push -q origin main")
    text = sh(clone, "git pull -q")
    assert "1 file (6 B)" in text
    assert "dv pull" in text
    assert clone.read("data/images/a.txt") == b"content of a.txt"
    clone.dv("pull")
    assert clone.read("data/images/a.txt") == b"second"
    clone.dv("config", "--local", "hooks.autofetch", "true")
    change(pushed, "third", "third")
    sh(pushed, "git push -q origin main")
    sh(clone, "git pull -q")
    assert clone.read("data/images/a.txt") == b"third"
    shutil.rmtree(pushed.root.parent / "remote")
    sh(pushed, "git checkout -q main")
    change(pushed, "fourth", "fourth")
    sh(pushed, "git push -q --no-verify origin main")
    text = sh(clone, "git pull -q")  # git is done already, so it is not stopped
    assert "not in the local store" in text
    assert clone.read("data/images/a.txt") == b"third"


def test_rebase_stash_bisect_amend_and_cherry_pick(data: Work) -> None:
    base = data.git("rev-parse", "HEAD")
    for number in range(10):
        data.write(f"data/images/n{number}.txt", f"n{number}")
        change(data, f"version {number}", f"change {number}")
    sh(data, f"git checkout -q -b up {base}")
    data.write("data/table.csv", "other")
    data.dv("add", "data/table.csv")
    sh(data, "git commit -qam table")
    sh(data, "git checkout -q main && git rebase -q up")
    data.dv("status", "--exit-code")
    assert data.read("data/images/a.txt") == b"version 9"
    assert data.read("data/table.csv") == b"other"
    # bisect over the data
    script = "grep -q 'version [0-4]' data/images/a.txt || test ! -e data/images/n5.txt"
    text = sh(data, f"git bisect start main up && git bisect run sh -c {shlex.quote(script)}")
    assert "change 5" in text.split("is the first bad commit")[1]
    sh(data, "git bisect reset")
    assert data.read("data/images/a.txt") == b"version 9"
    # stash takes the manifest back and brings it again, and the data goes with it
    data.write("data/images/a.txt", "stashed")
    data.dv("add", "data/images")
    sh(data, "git stash -q")
    assert data.read("data/images/a.txt") == b"version 9"
    sh(data, "git stash pop -q")
    assert data.read("data/images/a.txt") == b"stashed"
    sh(data, "git commit -q -a --amend -m amended")
    data.dv("status", "--exit-code")
    # cherry-pick onto another branch
    sh(data, "git checkout -q -b pick HEAD~2 && git cherry-pick main^ >/dev/null")
    data.dv("status", "--exit-code")
    sh(data, "git revert --no-edit HEAD >/dev/null")
    data.dv("status", "--exit-code")


def test_worktrees_share_hooks_and_store(data: Work) -> None:
    sh(data, "git worktree add -q ../tree -b tree")
    tree = Work(data.root.parent / "tree")
    assert tree.read("data/images/a.txt") == b"content of a.txt"
    change(tree, "in the tree", "tree")
    sh(data, "git merge -q tree")
    assert data.read("data/images/a.txt") == b"in the tree"


# --- a fresh clone ------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [("pull",), ("checkout",), ("add", "own")])
def test_the_first_command_in_a_clone_installs(pushed: Work, first: tuple[str, ...]) -> None:
    clone = pushed.clone()
    clone.write("own/x")
    assert "hooks" not in clone.dv("status").err
    ran = clone.dv(*first)
    assert sum("hooks" in line for line in ran.err.splitlines()) == 1
    assert clone.dv("hooks", "status", "--json").json["complete"]
    assert "hooks" not in clone.dv("checkout").err


def test_a_setting_stops_that(pushed: Work) -> None:
    pushed.dv("config", "hooks.install", "false")
    sh(pushed, "git commit -qam 'no hooks'")
    clone = pushed.clone()
    assert "hooks" not in clone.dv("pull").err
    clone.dv("hooks", "status", code=1)


def test_mode_of_the_hooks(work: Work) -> None:
    mode = (work.root / ".git/hooks/pre-push").stat().st_mode
    assert stat.S_IMODE(mode) & 0o111 == 0o111


# --- a folder of hooks for all repositories ---------------------------------------------------


@pytest.fixture
def shared_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that core.hooksPath names for all repositories, with two hooks in it."""
    folder = tmp_path / "hooks of all"
    folder.mkdir()
    for name in ("pre-commit", "commit-msg"):
        path = folder / name
        path.write_text(f"#!/bin/sh\necho {name} of all\n")
        path.chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text())
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    subprocess.run(["git", "config", "--global", "core.hooksPath", str(folder)], check=True)
    return folder


def test_a_folder_of_hooks_for_all_repositories_is_left_alone(
    bare: Work, shared_hooks: Path
) -> None:
    before = sorted(path.name for path in shared_hooks.iterdir())
    ran = bare.dv("init")
    assert "for all your repositories" in ran.err
    assert str(shared_hooks) in ran.err
    assert sorted(path.name for path in shared_hooks.iterdir()) == before
    bare.write("data/x", "x")
    bare.dv("add", "data")
    said = sh(bare, "git commit -qm one")
    assert said.splitlines() == ["pre-commit of all", "commit-msg of all"]
    sh(bare, "git add -f data/x")
    assert "which dv keeps" in sh(bare, "git commit -qm two", code=1)
    bare.dv("hooks", "status")
    assert bare.dv("init").err == ""
    bare.dv("hooks", "uninstall")
    assert bare.git("config", "core.hooksPath") == str(shared_hooks)
    sh(bare, "git commit -qm two")


def test_hooks_in_a_folder_for_all_are_not_taken_out(bare: Work, shared_hooks: Path) -> None:
    (shared_hooks / "pre-push").write_bytes(script("pre-push", Interpreter(sys.executable)))
    ran = bare.dv("hooks", "uninstall")
    assert "serve other repositories too" in ran.err
    assert (shared_hooks / "pre-push").exists()


def answered(work: Work, answer: str, *args: str) -> tuple[int, str]:
    """Run `dv` on a terminal where a person types an answer; return code and what was shown."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "dvtool", *args],
        cwd=work.root,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while data := os.read(ours, 4096):
                shown += data
        code = process.wait()
    os.close(ours)
    return code, shown.decode().replace("\r", "")


@pytest.mark.parametrize("command", [("init",), ("hooks", "install")])
@pytest.mark.parametrize("answer", ["y", "n"])
def test_on_a_terminal_a_folder_of_hooks_for_all_is_asked_about(
    bare: Work, shared_hooks: Path, command: tuple[str, ...], answer: str
) -> None:
    if command != ("init",):
        bare.dv("init", "--no-hooks")
    code, shown = answered(bare, answer, *command)
    assert code == 0
    assert f"core.hooksPath is {shared_hooks} for all your repositories." in " ".join(shown.split())
    own = bare.git("config", "core.hooksPath") != str(shared_hooks)
    assert own == (answer == "y")
    assert (bare.root / ".git/dv/githooks/pre-push").exists() == own
    # The answer is remembered: nothing is asked or said any more.
    bare.write("data/x", "x")
    assert "hooksPath" not in bare.dv("add", "data").err


def test_a_clone_in_which_nothing_was_typed_about_hooks_only_says_it(
    bare: Work, shared_hooks: Path, tmp_path: Path
) -> None:
    bare.dv("init", "--yes")
    bare.write("data/x", "x")
    bare.dv("add", "data")
    bare.commit("one")
    bare.git("clone", "-q", ".", str(tmp_path / "clone"))
    clone = Work(tmp_path / "clone")
    clone.write("data/x", "y")
    for _ in range(2):
        said = clone.dv("add", "data").err
        assert f"core.hooksPath is {shared_hooks} for all your repositories, so no hooks" in said
        assert "dv hooks install" in said
    assert clone.git("config", "core.hooksPath") == str(shared_hooks)
    assert "run yours first" in clone.dv("hooks", "install").err
    assert "hooksPath" not in clone.dv("add", "data").err
