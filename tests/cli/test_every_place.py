"""A manifest in every place where git can hold one, and each verb that frees or looks for content.

`plant` leaves a manifest in one place and in no other; the content that it names is nowhere else
either. No reflog names it, but where the reflog is the place.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.format.digest import digest_of
from dvtool.project.history import FOR_FSCK, needed_content, versions_anywhere
from dvtool.repo import Repo
from tests.cli.conftest import Work
from tests.scenario import noise

ALONE = noise(100_000, 7)
"""What only the planted manifest names."""
SHARED = noise(120_000, 1)
"""What the planted manifest and that of HEAD name, which was pushed."""

Plant = Callable[[Work], None]
PLACES: dict[str, Plant] = {}


def place(name: str) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        PLACES[name] = plant
        return plant

    return register


def git(work: Work, *args: str, code: int | None = 0, **env: str) -> str:
    """Run git, which may fail."""
    done = subprocess.run(
        ["git", *args], cwd=work.root, capture_output=True, text=True, env={**os.environ, **env}
    )
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done.stdout.strip()


def text_of(work: Work, name: str = "planted") -> str:
    return (work.root.parent / name).read_text()


def forget(work: Work) -> None:
    """Take away what would name a commit besides the place that is tried."""
    git(work, "reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    (work.root / ".git/ORIG_HEAD").unlink(missing_ok=True)


def planted_commit(work: Work, *parents: str, path: str = "data.dv.json") -> str:
    """Make a commit whose tree is HEAD's with the planted manifest; nothing refers to it."""
    blob = git(work, "hash-object", "-w", str(work.root.parent / "planted"))
    index = {"GIT_INDEX_FILE": str(work.root.parent / "index")}
    git(work, "read-tree", "HEAD", **index)
    git(work, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", **index)
    tree = git(work, "write-tree", **index)
    options = [option for parent in parents or ("HEAD",) for option in ("-p", parent)]
    return git(work, "commit-tree", *options, "-m", "planted", tree)


def second(work: Work, *args: str) -> Work:
    """Make another worktree."""
    git(work, "worktree", "add", "-q", *args, "../second")
    return Work(work.root.parent / "second")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target pushed; the content of the manifest to plant is in the store and nowhere else."""
    top = tmp_path_factory.mktemp("template")
    work = Work(top / "work")
    work.root.mkdir()
    git(work, "init", "-q")
    work.dv("init", "--no-hooks", "--remote", top / "remote")
    work.write("code.txt", "one\n" * 9)
    work.write("data/shared.bin", SHARED)
    work.dv("add", "data")
    work.commit("base")
    work.write("code.txt", "two\n" * 9)
    work.write("data/more.txt", "more")
    work.dv("add", "data")
    work.commit("pushed")
    work.dv("push")
    work.write("data/alone.bin", ALONE)
    work.dv("add", "data")
    shutil.copy(work.root / "data.dv.json", top / "planted")
    git(work, "reset", "-q", "--hard")
    (work.root / "data/alone.bin").unlink()
    forget(work)
    return top


@pytest.fixture
def ground(template: Path, tmp_path: Path) -> Work:
    """A copy of the template, which the test may change."""
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    work = Work(tmp_path / "work")
    git(work, "config", "dv.remote.origin.url", str(tmp_path / "remote"))
    return work


# --- commits and refs -----------------------------------------------------------------------


@place("HEAD, attached")
def _(work: Work) -> None:
    git(work, "update-ref", "HEAD", planted_commit(work))
    git(work, "reset", "-q", "--hard", "HEAD")
    head = git(work, "rev-parse", "HEAD")
    # Not the manifest at HEAD, which a drop proves, but the one before.
    git(work, "rm", "-q", "--cached", "data.dv.json")
    git(work, "checkout", "-q", f"{head}~1", "--", "data.dv.json")
    git(work, "commit", "-q", "-m", "back")
    git(work, "branch", "-q", "-m", "renamed")


@place("HEAD, detached")
def _(work: Work) -> None:
    commit = planted_commit(work)
    back = git(work, "commit-tree", "-p", commit, "-m", "back", "HEAD^{tree}")
    git(work, "checkout", "-q", "--detach", back)


@place("a branch")
def _(work: Work) -> None:
    git(work, "branch", "side", planted_commit(work))


@place("an annotated tag")
def _(work: Work) -> None:
    git(work, "tag", "-a", "-m", "tag", "v1", planted_commit(work))


@place("a tag of a tree")
def _(work: Work) -> None:
    git(work, "tag", "tree", planted_commit(work) + "^{tree}")


@place("a tag of a blob")
def _(work: Work) -> None:
    blob = git(work, "hash-object", "-w", str(work.root.parent / "planted"))
    git(work, "tag", "-a", "-m", "tag", "blob", blob)


@place("a remote branch")
def _(work: Work) -> None:
    other = Work(work.root.parent / "origin")
    git(work, "init", "-q", "--bare", str(other.root))
    git(work, "remote", "add", "origin", str(other.root))
    git(work, "push", "-q", "origin", f"{planted_commit(work)}:refs/heads/theirs")
    git(work, "fetch", "-q", "origin")
    (work.root / ".git/FETCH_HEAD").unlink()


@place("a note")
def _(work: Work) -> None:
    git(work, "notes", "add", "-F", str(work.root.parent / "planted"))


@place("a note that was replaced")
def _(work: Work) -> None:
    git(work, "notes", "--ref", "data", "add", "-F", str(work.root.parent / "planted"))
    git(work, "notes", "--ref", "data", "add", "-f", "-m", "no more")


@place("refs/original")
def _(work: Work) -> None:
    git(work, "update-ref", "refs/original/refs/heads/main", planted_commit(work))


@place("a replacement")
def _(work: Work) -> None:
    tree = planted_commit(work) + "^{tree}"
    git(work, "replace", "HEAD~1", git(work, "commit-tree", "-m", "another root", tree))


@place("a commit hidden by a replacement")
def _(work: Work) -> None:
    commit = planted_commit(work)
    git(work, "branch", "side", commit)
    git(work, "replace", commit, git(work, "commit-tree", "-m", "other", "HEAD^{tree}"))


@place("a stash")
def _(work: Work) -> None:
    work.write("data.dv.json", text_of(work))
    git(work, "stash", "-q")


@place("the index of a stash")
def _(work: Work) -> None:
    head = work.read("data.dv.json")
    work.write("data.dv.json", text_of(work))
    git(work, "add", "data.dv.json")
    work.write("data.dv.json", head + b"\n")
    git(work, "stash", "-q")


@place("an untracked file in a stash")
def _(work: Work) -> None:
    work.write("other.dv.json", text_of(work))
    git(work, "stash", "-q", "-u")


@place("an older stash")
def _(work: Work) -> None:
    work.write("data.dv.json", text_of(work))
    git(work, "stash", "-q")
    work.write("code.txt", "changed")
    git(work, "stash", "-q")


@place("a reflog")
def _(work: Work) -> None:
    git(work, "update-ref", "--create-reflog", "-m", "there", "HEAD", planted_commit(work))
    git(work, "update-ref", "-m", "and back", "HEAD", "HEAD~1")


@place("the reflog of another worktree")
def _(work: Work) -> None:
    other = second(work, "--detach")
    git(other, "update-ref", "--no-deref", "-m", "there", "HEAD", planted_commit(work))
    git(other, "update-ref", "--no-deref", "-m", "and back", "HEAD", "HEAD~1")


# --- index, files and worktrees -------------------------------------------------------------


@place("the index")
def _(work: Work) -> None:
    head = work.read("data.dv.json")
    work.write("data.dv.json", text_of(work))
    git(work, "add", "data.dv.json")
    work.write("data.dv.json", head)


@place("a conflict in the index")
def _(work: Work) -> None:
    blob = git(work, "hash-object", "-w", str(work.root.parent / "planted"))
    ours = git(work, "rev-parse", "HEAD:data.dv.json")
    lines = [f"100644 {ours} 2\tdata.dv.json", f"100644 {blob} 3\tdata.dv.json"]
    subprocess.run(
        ["git", "update-index", "--force-remove", "data.dv.json"], cwd=work.root, check=True
    )
    subprocess.run(
        ["git", "update-index", "--index-info"],
        cwd=work.root, input="\n".join(lines) + "\n", text=True, check=True,
    )  # fmt: skip


@place("a file that git does not track")
def _(work: Work) -> None:
    work.write("other.dv.json", text_of(work))


@place("the HEAD of another worktree")
def _(work: Work) -> None:
    commit = planted_commit(work)
    other = second(work, "--detach")
    git(other, "checkout", "-q", "--detach", commit)
    git(other, "checkout", "-q", "HEAD~1", "--", "data.dv.json")
    forget(work)


@place("the index of another worktree")
def _(work: Work) -> None:
    other = second(work, "--detach")
    other.write("data.dv.json", text_of(work))
    git(other, "add", "data.dv.json")
    git(other, "show", "HEAD:data.dv.json")
    shutil.copy(work.root / "data.dv.json", other.root / "data.dv.json")


@place("a file of another worktree")
def _(work: Work) -> None:
    second(work, "--detach").write("data.dv.json", text_of(work))


@place("a ref of another worktree alone")
def _(work: Work) -> None:
    git(second(work, "--detach"), "update-ref", "refs/worktree/own", planted_commit(work))


@place("the index of a worktree whose folder is gone")
def _(work: Work) -> None:
    other = second(work, "--detach")
    other.write("data.dv.json", text_of(work))
    git(other, "add", "data.dv.json")
    shutil.rmtree(other.root)


@place("the HEAD of a worktree whose folder is gone")
def _(work: Work) -> None:
    commit = planted_commit(work)
    other = second(work, "--detach")
    git(other, "checkout", "-q", "--detach", commit)
    git(other, "rm", "-q", "--cached", "data.dv.json")
    forget(work)
    shutil.rmtree(other.root)


@place("below saved/")
def _(work: Work) -> None:
    work.write(".git/dv/saved/1.dv.json", text_of(work))


# --- what is under way ----------------------------------------------------------------------


def clash(work: Work, start: str) -> str:
    """Return a commit upon `start` that changes a file otherwise than HEAD's next commit does."""
    blob = git(work, "hash-object", "-w", str(work.write("../blob", "theirs\n" * 9)))
    index = {"GIT_INDEX_FILE": str(work.root.parent / "index")}
    git(work, "read-tree", start, **index)
    git(work, "update-index", "--add", "--cacheinfo", f"100644,{blob},code.txt", **index)
    tree = git(work, "write-tree", **index)
    return git(work, "commit-tree", "-p", start, "-m", "theirs", tree)


def diverge(work: Work) -> None:
    work.write("code.txt", "ours\n" * 9)
    git(work, "commit", "-q", "-am", "ours")


def resolve_as_ours(work: Work) -> None:
    """Let neither index nor files name what is being brought in."""
    git(work, "reset", "-q", "HEAD", "--", "data.dv.json", code=None)
    git(work, "checkout", "-q", "HEAD", "--", "data.dv.json")


@place("FETCH_HEAD")
def _(work: Work) -> None:
    other = Work(work.root.parent / "origin")
    git(work, "clone", "-q", "--bare", ".", str(other.root))
    git(work, "push", "-q", str(other.root), f"{planted_commit(work)}:refs/heads/theirs")
    git(work, "fetch", "-q", str(other.root), "theirs")


@place("ORIG_HEAD")
def _(work: Work) -> None:
    git(work, "update-ref", "HEAD", planted_commit(work))
    git(work, "reset", "-q", "--hard", "HEAD~1")
    git(work, "reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    assert (work.root / ".git/ORIG_HEAD").exists()


@place("MERGE_HEAD")
def _(work: Work) -> None:
    theirs = clash(work, planted_commit(work))
    diverge(work)
    git(work, "merge", "-q", theirs, code=1)
    resolve_as_ours(work)
    (work.root / ".git/AUTO_MERGE").unlink(missing_ok=True)
    forget(work)


@place("AUTO_MERGE")
def _(work: Work) -> None:
    theirs = clash(work, planted_commit(work))
    diverge(work)
    git(work, "merge", "-q", theirs, code=1)
    resolve_as_ours(work)
    for name in ("MERGE_HEAD", "MERGE_MSG", "MERGE_MODE"):
        (work.root / ".git" / name).unlink()
    forget(work)


@place("CHERRY_PICK_HEAD")
def _(work: Work) -> None:
    theirs = clash(work, planted_commit(work))
    diverge(work)
    git(work, "cherry-pick", theirs, code=1)
    assert (work.root / ".git/CHERRY_PICK_HEAD").exists()
    resolve_as_ours(work)
    (work.root / ".git/AUTO_MERGE").unlink(missing_ok=True)
    forget(work)


@place("REVERT_HEAD")
def _(work: Work) -> None:
    theirs = clash(work, planted_commit(work))
    diverge(work)
    git(work, "revert", "--no-edit", theirs, code=1)
    assert (work.root / ".git/REVERT_HEAD").exists()
    resolve_as_ours(work)
    (work.root / ".git/AUTO_MERGE").unlink(missing_ok=True)
    forget(work)


@place("a sequence of cherry-picks")
def _(work: Work) -> None:
    """The second of two picks, of commits that share no history: only the list of steps has it."""
    first = clash(work, "HEAD")
    last = planted_commit(work)
    diverge(work)
    git(work, "cherry-pick", first, last, code=1)
    assert (work.root / ".git/sequencer/todo").exists()
    forget(work)


@place("a rebase")
def _(work: Work) -> None:
    """The second of two commits to be rebased; the first conflicts."""
    theirs = planted_commit(work, clash(work, "HEAD"))
    diverge(work)
    onto = git(work, "rev-parse", "HEAD")
    git(work, "checkout", "-q", "--detach", theirs)
    git(work, "rebase", "-q", onto, code=1)
    for name in ("orig-head", "git-rebase-todo.backup"):
        (work.root / ".git/rebase-merge" / name).unlink(missing_ok=True)
    for name in ("REBASE_HEAD", "CHERRY_PICK_HEAD", "AUTO_MERGE"):
        (work.root / ".git" / name).unlink(missing_ok=True)
    forget(work)


@place("the start of a rebase")
def _(work: Work) -> None:
    """All but orig-head is behind it."""
    theirs = planted_commit(work, clash(work, "HEAD"))
    diverge(work)
    onto = git(work, "rev-parse", "HEAD")
    git(work, "checkout", "-q", "--detach", theirs)
    git(work, "rebase", "-q", onto, code=1)
    for name in ("git-rebase-todo", "git-rebase-todo.backup"):
        (work.root / ".git/rebase-merge" / name).unlink(missing_ok=True)
    forget(work)


@place("the autostash of a rebase")
def _(work: Work) -> None:
    theirs = clash(work, "HEAD")
    diverge(work)
    onto = git(work, "rev-parse", "HEAD")
    git(work, "checkout", "-q", "--detach", theirs)
    work.write("data.dv.json", text_of(work))
    git(work, "rebase", "-q", "--autostash", onto, code=1)
    assert (work.root / ".git/rebase-merge/autostash").exists()
    forget(work)


@place("an am")
def _(work: Work) -> None:
    """The patch says which commit it was made of."""
    theirs = clash(work, planted_commit(work))
    patch = git(work, "format-patch", "-1", "--stdout", theirs) + "\n"
    work.write("../patch", patch)
    diverge(work)
    git(work, "am", "-q", str(work.root.parent / "patch"), code=128)
    assert (work.root / ".git/rebase-apply").is_dir()
    forget(work)


@place("the blob of a patch of an am")
def _(work: Work) -> None:
    """The commit is not here, as its mail is somebody else's, but the blob is."""
    theirs = clash(work, "HEAD")
    commits = (theirs, planted_commit(work))
    mails = [git(work, "format-patch", "-1", "--stdout", commit) + "\n" for commit in commits]
    strange = re.sub("^From [0-9a-f]{40} ", f"From {'1' * 40} ", "".join(mails), flags=re.M)
    work.write("../patch", strange)
    diverge(work)
    git(work, "am", "-q", "-3", str(work.root.parent / "patch"), code=128)
    forget(work)


@place("a bisect")
def _(work: Work) -> None:
    bad = clash(work, planted_commit(work))
    git(work, "bisect", "start", bad, "HEAD~1")
    git(work, "checkout", "-q", "main", code=None)
    forget(work)


@place("a bisect in another worktree")
def _(work: Work) -> None:
    other = second(work, "--detach")
    bad = clash(work, planted_commit(work))
    git(other, "bisect", "start", bad, "HEAD~1")
    for name in ("BISECT_LOG", "BISECT_START", "BISECT_EXPECTED_REV"):
        (work.root / ".git/worktrees/second" / name).unlink(missing_ok=True)
    git(other, "checkout", "-q", "--detach", "main")
    forget(work)


# --- the verbs ------------------------------------------------------------------------------


def has(work: Work, content: bytes) -> bool:
    with Repo.open(str(work.root)) as repo:
        return not repo._project.store.lacking([digest_of(content)])


@pytest.fixture(params=PLACES)
def planted_in(request: pytest.FixtureRequest, ground: Work) -> tuple[str, Work]:
    PLACES[request.param](ground)
    return request.param, ground


def test_gc_frees_nothing_that_any_place_names(planted_in: tuple[str, Work]) -> None:
    _, work = planted_in
    work.dv("gc", "--unpushed", "--grace", "0d")
    assert has(work, ALONE)


def test_gc_frees_it_where_no_place_names_it(ground: Work) -> None:
    planted_commit(ground)
    ground.dv("gc", "--unpushed", "--grace", "0d")
    assert not has(ground, ALONE)


def test_gc_frees_nothing_that_a_remote_holds_and_any_place_names(
    planted_in: tuple[str, Work],
) -> None:
    _, work = planted_in
    blob = git(work, "hash-object", "-w", str(work.root.parent / "planted"))
    tree = subprocess.run(
        ["git", "mktree"], cwd=work.root, check=True, text=True, capture_output=True,
        input=f"100644 blob {blob}\tdata.dv.json\n",
    ).stdout.strip()  # fmt: skip
    work.dv("push", git(work, "commit-tree", "-m", "pushed once", tree))
    work.dv("gc")
    assert has(work, ALONE)


def test_drop_keeps_what_any_place_names_that_was_not_pushed(
    planted_in: tuple[str, Work],
) -> None:
    name, work = planted_in
    with Repo.open(str(work.root)) as repo:
        dropped = repo.drop(["data"], workspace=False)
    assert dropped.targets
    assert has(work, ALONE)
    # A remote branch was pushed by whoever has it: their push hook saw to its data.
    assert has(work, SHARED) == (name != "a remote branch")


def test_drop_frees_it_where_no_place_names_it(ground: Work) -> None:
    planted_commit(ground)
    ground.dv("drop", "--store", "data")
    assert not has(ground, SHARED)


def test_fsck_needs_what_any_place_names_but_reflogs(planted_in: tuple[str, Work]) -> None:
    name, work = planted_in
    with Repo.open(str(work.root)) as repo:
        needed = needed_content(repo._project, FOR_FSCK)
    assert (digest_of(ALONE) in needed.contents) == ("reflog" not in name)


def test_fsck_names_what_damage_touches_in_any_place(planted_in: tuple[str, Work]) -> None:
    """Also in a reflog, once something else needs the same content."""
    name, work = planted_in
    packs = [path for path in (work.root / ".git/dv/packs").rglob("*") if path.is_file()]
    for path in packs:
        harm(path)
    found = work.dv("fsck", "--json", code=None).json
    assert not found["clean"]
    with Repo.open(str(work.root)) as repo:
        report = repo.fsck()
    contents = {digest for damage in report.damage for digest in damage.contents}
    assert (digest_of(ALONE) in contents) == ("reflog" not in name)
    files = {file.path.rpartition("/")[2] for damage in report.damage for file in damage.files}
    assert ("alone.bin" in files) == ("reflog" not in name)


def harm(path: Path) -> None:
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes(len(data) - 100))


def test_push_looks_for_content_by_what_any_place_names(planted_in: tuple[str, Work]) -> None:
    _, work = planted_in
    with Repo.open(str(work.root)) as repo:
        known = [
            entry.digest
            for target in ("data", "other", "")
            for manifest in versions_anywhere(repo._project, target)
            for entry in (manifest.entries or {}).values()
        ]
    assert digest_of(ALONE) in known
