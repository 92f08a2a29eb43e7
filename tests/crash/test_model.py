"""Two clones, a git remote and a data remote, driven at random against a plain dictionary.

What the model knows of a clone is what its user would: which files are there, which the manifest
names, which commits have been made of what. Two things always hold. A commit that was pushed can
be restored byte for byte in a fresh clone. And no command makes content vanish: what was in a
workspace is afterwards in a workspace, in a store or on the remote.

DV_TEST_MODEL_EXAMPLES and DV_TEST_MODEL_STEPS make it longer; with DV_TEST_SEED the examples are
others each time.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from dvtool.digest import Digest, digest_of
from dvtool.errors import UnsavedError
from dvtool.manifest import decode
from dvtool.ops import drivers
from dvtool.ops.resolve import Side
from dvtool.repo import Repo
from dvtool.statcache import StatCache
from dvtool.store.local import LocalStore
from tests.crash import checks
from tests.crash.world import World
from tests.scenario import Clone, noise

EXAMPLES_DEFAULT = 4
EXAMPLES = int(os.environ.get("DV_TEST_MODEL_EXAMPLES", EXAMPLES_DEFAULT))
STEPS = int(os.environ.get("DV_TEST_MODEL_STEPS", "30"))
SEED = os.environ.get("DV_TEST_SEED")
SHRINK = "DV_TEST_MODEL_SHRINK" in os.environ
"""Looking for the shortest example that fails takes minutes."""
TARGET = "data"
MANIFEST = "data.dv.json"
NAMES = ("a", "b", "c.txt", "sub/d", "sub/e", "sub/deep/f")
CONTENTS = (
    b"",
    b"one",
    b"two",
    b"three",
    noise(70_000, 1),
    noise(70_000, 1)[:40_000] + b"edited" + noise(70_000, 1)[40_000:],
    noise(200_000, 2),
)
BRANCHES = ("main", "side")

File = tuple[bytes, bool]
"""Content and whether it is executable."""
Files = dict[str, File]


@dataclass
class Model:
    """What a user knows of one clone: the files that are there, and those the manifest names."""

    clone: Clone
    files: Files
    manifest: Files
    branch: str = "main"

    @property
    def known(self) -> set[str]:
        """The paths that dvtool put or saw there: if one is missing, the user deleted it.

        Asked of the statcache, which a crash may leave behind the files, or which may be lost.
        """
        with StatCache(str(self.clone.path / ".git/dv/statcache.db")) as cache:
            return {
                f"{folder}/{name}".removeprefix(f"{TARGET}/")
                for folder, seen in cache.folders_below(TARGET).items()
                for name, what in seen.items()
                if what.tracked
            }


def files_in(clone: Clone) -> Files:
    """Return what lies in the target's place."""
    top = clone.path / TARGET
    return {
        str(path.relative_to(top)): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in sorted(top.rglob("*"))
        if path.is_file()
    }


def merged(base: Files, ours: Files, theirs: Files, *, side: Side) -> Files:
    """Merge by path; what both changed differently is taken from `side`."""
    result: Files = {}
    for path in base.keys() | ours.keys() | theirs.keys():
        was, mine, other = base.get(path), ours.get(path), theirs.get(path)
        if mine == other or was == other:
            chosen = mine
        elif was == mine:
            chosen = other
        else:
            chosen = mine if side == "ours" else other
        if chosen is not None:
            result[path] = chosen
    return result


clones = st.sampled_from((0, 1))
names = st.sampled_from(NAMES)
contents = st.sampled_from(CONTENTS)
sides: st.SearchStrategy[Side] = st.sampled_from(("ours", "theirs"))


class Team(RuleBasedStateMachine):
    """Two people at work on one repository."""

    folder: Path
    done: ClassVar[Counter[str]] = Counter()
    """How often each kind of step did something, over all examples."""

    @initialize()
    def begin(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="dv-model-", dir=self.folder))
        self.world = World(self.base / "world")
        self.remote = self.world.live / "remote"
        self.hub = self.world.live / "hub.git"
        self.snapshots: dict[str, Files] = {}
        self.published: set[str] = set()
        self.fresh = 0
        start: Files = {"a": (b"one", False)}
        first = self.world.new()
        first.git("init", "-q", "--bare", "--template=", str(self.hub))
        first.git("remote", "add", "hub", str(self.hub))
        first.write("data/a", b"one")
        first.add(TARGET)
        with first.repo() as repo:
            drivers.install(repo.project)
            first.git("add", "-A")
            commit = first.commit("first")
            repo.push()
        first.git("push", "-q", "hub", "HEAD:main")
        second = self.world.clone(Clone(self.hub), "second")
        second.git("remote", "rename", "origin", "hub")
        with second.repo() as repo:
            drivers.install(repo.project)
            repo.pull()
        self.snapshots[commit] = start
        self.published.add(commit)
        self.models = [Model(one, dict(start), dict(start)) for one in (first, second)]

    def teardown(self) -> None:
        if not hasattr(self, "base"):
            return
        try:
            for commit in sorted(self.published):
                self._restore(commit)
            for model in self.models:
                with model.clone.repo() as repo:
                    report = repo.fsck(workspace=True, remote="", deep=True)
                assert report.clean, report.damage
        finally:
            shutil.rmtree(self.base)

    # --- the user and the filesystem --------------------------------------------------------

    @rule(number=clones, name=names, content=contents, executable=st.booleans())
    def write(self, number: int, name: str, content: bytes, executable: bool) -> None:
        model = self.models[number]
        (model.clone.path / TARGET / name).unlink(missing_ok=True)
        model.clone.write(f"{TARGET}/{name}", content, executable=executable)
        model.files[name] = (content, executable)

    @rule(number=clones, name=names)
    def delete(self, number: int, name: str) -> None:
        model = self.models[number]
        if model.files.pop(name, None) is not None:
            model.clone.remove(f"{TARGET}/{name}")

    @rule(number=clones, old=names, new=names)
    def rename(self, number: int, old: str, new: str) -> None:
        model = self.models[number]
        if old in model.files and old != new:
            place = model.clone.path / TARGET
            (place / new).parent.mkdir(parents=True, exist_ok=True)
            (place / old).rename(place / new)
            model.files[new] = model.files.pop(old)

    @rule(number=clones, name=names)
    def chmod(self, number: int, name: str) -> None:
        model = self.models[number]
        if name in model.files:
            content, executable = model.files[name]
            (model.clone.path / TARGET / name).chmod(0o644 if executable else 0o755)
            model.files[name] = (content, not executable)

    @rule(number=clones)
    def lose_statcache(self, number: int) -> None:
        (self.models[number].clone.path / ".git/dv/statcache.db").unlink(missing_ok=True)

    @rule(number=clones)
    def lose_index(self, number: int) -> None:
        for path in (self.models[number].clone.path / ".git/dv").glob("store.db*"):
            path.unlink()

    # --- verbs on the workspace -------------------------------------------------------------

    @rule(number=clones)
    def add(self, number: int) -> None:
        model = self.models[number]
        if not (model.clone.path / TARGET).exists():
            return
        known = model.known
        absent = {
            path: file
            for path, file in model.manifest.items()
            if path not in known and path not in model.files
        }
        with self._nothing_lost():
            model.clone.add(TARGET)
        self.done["add"] += model.manifest != absent | model.files
        model.manifest = absent | model.files
        self._check_manifest(model)

    @rule(number=clones)
    def checkout(self, number: int) -> None:
        model = self.models[number]
        self._give(model, model.manifest, lambda repo: repo.checkout())

    @rule(number=clones, data=st.data())
    def checkout_commit(self, number: int, data: st.DataObject) -> None:
        model = self.models[number]
        here = model.clone.git("rev-list", "--all").split()
        commit = data.draw(st.sampled_from(sorted(self.snapshots.keys() & set(here))))
        self._give(model, self.snapshots[commit], lambda repo: repo.checkout(commit))

    def _give(self, model: Model, wanted: Files, call: Callable[[Repo], object]) -> None:
        """Let a command put `wanted` into the workspace; or it refuses, and changes nothing."""
        ours = model.known | set(model.manifest if wanted != model.manifest else ())
        lacking = self._lacking(model)
        unsaved = [
            path
            for path, (content, _) in model.files.items()
            if (path in ours or path in wanted)
            and (path not in wanted or wanted[path][0] != content)
            and digest_of(content) in lacking
        ]
        try:
            with self._nothing_lost(), model.clone.repo() as repo:
                call(repo)
        except UnsavedError:
            assert unsaved, "it refused, and nothing would have been lost"
            assert files_in(model.clone) == model.files
            self.done["refused"] += 1
            return
        assert not unsaved, f"it replaced what was saved nowhere: {unsaved}"
        after = {p: f for p, f in model.files.items() if p not in ours} | wanted
        self.done["restored"] += model.files != after
        model.files = after
        model.manifest = dict(wanted)
        assert files_in(model.clone) == model.files
        self._check_manifest(model)

    @rule(number=clones)
    def drop(self, number: int) -> None:
        model = self.models[number]
        try:
            with self._nothing_lost(), model.clone.repo() as repo:
                repo.drop([TARGET])
        except UnsavedError:
            pass
        else:
            self.done["dropped"] += 1
            model.files = {p: f for p, f in model.files.items() if p not in model.manifest}
        assert files_in(model.clone) == model.files

    # --- git --------------------------------------------------------------------------------

    @rule(number=clones)
    def commit(self, number: int) -> None:
        model = self.models[number]
        if self._dirty(model):
            self.snapshots[model.clone.commit("change")] = dict(model.manifest)

    @rule(number=clones, branch=st.sampled_from(BRANCHES))
    def switch(self, number: int, branch: str) -> None:
        model = self.models[number]
        if self._dirty(model) or branch == model.branch:
            return
        create = [] if self._has_branch(model, branch) else ["-c"]
        with self._nothing_lost():
            model.clone.git("switch", "-q", *create, branch)
        model.branch = branch
        self._at_head(model)

    @rule(number=clones, side=sides)
    def merge(self, number: int, side: Side) -> None:
        model = self.models[number]
        other = next(branch for branch in BRANCHES if branch != model.branch)
        if self._has_branch(model, other):
            self._merge(model, other, side)

    def _merge(self, model: Model, other: str, side: Side) -> None:
        git = model.clone.git
        if self._dirty(model):
            return
        ours, theirs = git("rev-parse", "HEAD"), git("rev-parse", other)
        bases = git("merge-base", "--all", ours, theirs).split()
        if theirs in bases:
            return
        with self._nothing_lost():
            if not _try_git(model.clone, "merge", "-q", "--no-edit", other):
                with model.clone.repo() as repo:
                    repo.resolve(side=side)
                git("commit", "-q", "--no-edit")
        commit = git("rev-parse", "HEAD")
        snapshot = self._read_manifest(model)
        if commit in self.snapshots:
            assert snapshot == self.snapshots[commit]
        elif len(bases) == 1:
            self.done["merged"] += 1
            three = (self.snapshots[bases[0]], self.snapshots[ours], self.snapshots[theirs])
            assert snapshot == merged(*three, side=side)
        self.snapshots[commit] = snapshot
        self._at_head(model)
        # Resolving gave the workspace what it could, and nothing was lost: see what that is.
        model.files = files_in(model.clone)

    def _at_head(self, model: Model) -> None:
        model.manifest = dict(self.snapshots[model.clone.git("rev-parse", "HEAD")])
        self._check_manifest(model)

    def _dirty(self, model: Model) -> bool:
        return bool(model.clone.git("status", "--porcelain", "--untracked-files=no"))

    def _has_branch(self, model: Model, name: str) -> bool:
        return _try_git(model.clone, "rev-parse", "-q", "--verify", name)

    # --- remotes ----------------------------------------------------------------------------

    @rule(number=clones)
    def push(self, number: int) -> None:
        model = self.models[number]
        with self._nothing_lost(), model.clone.repo() as repo:
            assert not repo.push().warnings
        behind = model.clone.git("rev-list", "HEAD").split()
        self.done["published"] += not self.published.issuperset(behind)
        self.published.update(behind)
        _try_git(model.clone, "push", "-q", "hub", f"HEAD:{model.branch}")

    @rule(number=clones, side=sides)
    def pull(self, number: int, side: Side) -> None:
        model = self.models[number]
        model.clone.git("fetch", "-q", "hub")
        if self._has_branch(model, f"hub/{model.branch}"):
            self._merge(model, f"hub/{model.branch}", side)
        self._give(model, model.manifest, lambda repo: repo.pull())

    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        self._restore(data.draw(st.sampled_from(sorted(self.published))))

    def _restore(self, commit: str) -> None:
        """Give a fresh clone the data of a commit, which some clone has, and nothing else."""
        origin = next(m.clone for m in self.models if _try_git(m.clone, "cat-file", "-e", commit))
        self.fresh += 1
        clone = self.world.clone(origin, f"fresh{self.fresh}")
        with clone.repo() as repo:
            repo.checkout(commit)
        assert files_in(clone) == self.snapshots[commit]
        shutil.rmtree(clone.path)

    # --- faults -----------------------------------------------------------------------------

    @rule(
        number=clones,
        verb=st.sampled_from(("add", "checkout", "push", "drop")),
        at=st.integers(1, 40),
    )
    def crash(self, number: int, verb: str, at: int) -> None:
        """Kill `dv` at a fault point, see that the repository is valid, let the verb finish."""
        model = self.models[number]
        if verb == "add" and not (model.clone.path / TARGET).exists():
            return
        words = (verb, TARGET) if verb in ("add", "drop") else (verb,)
        self.world.work = model.clone.path
        with self._nothing_lost():
            run = self.world.run(("dv", *words), point=at, mode="before")
        print(f"crashed at: {run.hit}, or ended with {run.code}")
        self.done["crashed"] += bool(run.hit)
        report = checks.check_repository(model.clone.path, checks.read_objects(self.remote))
        assert not report.problems
        model.files = files_in(model.clone)
        model.manifest = self._read_manifest(model)
        getattr(self, verb)(number)

    # --- giving space back ------------------------------------------------------------------

    @rule(number=clones)
    def gc(self, number: int) -> None:
        model = self.models[number]
        with self._nothing_lost(), model.clone.repo() as repo:
            done = repo.gc()
        assert not done.warnings
        self.done["freed"] += bool(done.freed_bytes)
        self._check_unchanged(model)

    @rule(number=clones, unpushed=st.booleans())
    def forget(self, number: int, unpushed: bool) -> None:
        """Lose what git knows of earlier states, then free what only these had, even unpushed."""
        model = self.models[number]
        model.clone.git("reflog", "expire", "--expire=now", "--all")
        (model.clone.path / ".git/ORIG_HEAD").unlink(missing_ok=True)
        with self._named_stays(), model.clone.repo() as repo:
            done = repo.gc(unpushed=unpushed, grace_s=0)
        self.done["forgotten"] += bool(done.freed_bytes)
        self._check_unchanged(model)

    @rule(number=clones)
    def gc_remote(self, number: int) -> None:
        """Bury what no root names, and remove at once what was buried before."""
        model = self.models[number]
        with self._named_stays(), model.clone.repo() as repo:
            done = repo.gc_remote(grace_s=0)
        self.done["buried"] += not done.plan.empty
        self.done["swept"] += bool(done.removed_bytes)
        self._check_unchanged(model)

    @rule(number=clones)
    def gc_undo(self, number: int) -> None:
        with self._nothing_lost(), self.models[number].clone.repo() as repo:
            repo.gc_undo()

    @rule(number=clones)
    def rebuild(self, number: int) -> None:
        """Lose the index and have `fsck` make it again from the packs."""
        model = self.models[number]
        self.lose_index(number)
        with self._nothing_lost(), model.clone.repo() as repo:
            report = repo.fsck(rebuild=True)
        assert report.clean, report.damage
        self._check_unchanged(model)

    def _check_unchanged(self, model: Model) -> None:
        assert files_in(model.clone) == model.files
        self._check_manifest(model)

    # --- what always holds ------------------------------------------------------------------

    @contextlib.contextmanager
    def _nothing_lost(self) -> Iterator[None]:
        """Content that can be had before a command can be had after it, however it ends."""
        before = self._contents()
        try:
            yield
        finally:
            lost = before - self._contents()
            assert not lost, f"lost: {[digest.hex() for digest in lost]}"

    @contextlib.contextmanager
    def _named_stays(self) -> Iterator[None]:
        """What files, or manifests in git, have or name can be had after a command as before."""
        before = self._contents() & self._named()
        try:
            yield
        finally:
            lost = before - self._contents()
            assert not lost, f"lost: {[digest.hex() for digest in lost]}"

    def _named(self) -> set[Digest]:
        named = set()
        for model in self.models:
            named |= checks.contents_of_files(model.clone.path)
            for where, text in checks.manifests(model.clone.path):
                entries = (decode(text, where).entries or {}).values()
                named |= {entry.digest for entry in entries if entry.size > 0}
        return named

    def _contents(self) -> set[Digest]:
        found = checks.contents_in(checks.read_objects(self.remote))
        for model in self.models:
            found |= checks.contents_in(checks.read_objects(model.clone.path / ".git/dv"))
            found |= checks.contents_of_files(model.clone.path)
        return found

    def _lacking(self, model: Model) -> set[Digest]:
        """Return the contents in the workspace that the clone's own store has not."""
        with LocalStore(str(model.clone.path / ".git/dv")) as store:
            return store.lacking(digest_of(content) for content, _ in model.files.values())

    def _read_manifest(self, model: Model) -> Files:
        """Return the files that the manifest in the worktree names, by their known contents."""
        text = (model.clone.path / MANIFEST).read_bytes()
        return {
            path: (_BY_DIGEST[entry.digest], entry.exec)
            for path, entry in (decode(text, MANIFEST).entries or {}).items()
            if entry.is_file
        }

    def _check_manifest(self, model: Model) -> None:
        assert self._read_manifest(model) == model.manifest


_BY_DIGEST = {digest_of(content): content for content in CONTENTS}


def _try_git(clone: Clone, *args: str) -> bool:
    done = subprocess.run(["git", *args], cwd=clone.path, capture_output=True)
    return done.returncode == 0


class _Choice:
    """Draws as hypothesis does, from a generator of our own."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def draw(self, strategy: st.SearchStrategy[str]) -> str:
        return self._dice.choice(list(strategy.elements))  # type: ignore[attr-defined]


_DAYS = (
    ("write", "add", "commit"),
    ("write", "rename", "add", "commit", "push"),
    ("chmod", "delete", "add", "commit", "push"),
    ("switch", "checkout", "write", "add", "commit"),
    ("pull", "merge", "push"),
    ("crash",),
    ("commit", "drop", "restore"),
    ("checkout_commit", "commit"),
    ("pull", "checkout"),
    ("write", "checkout"),
    ("lose_statcache",),
    ("lose_index",),
    ("rebuild",),
    ("gc",),
    ("checkout_commit", "commit", "forget", "gc"),
    ("gc_remote",),
    ("gc_remote", "gc_undo", "push"),
    ("push", "gc", "gc_remote"),
)
"""What somebody does in one go, in one clone. Single steps alone would seldom get anywhere."""


def _steps(dice: random.Random) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the steps of one go, with random arguments."""
    number = dice.randrange(2)
    for name in dice.choice(_DAYS):
        every: dict[str, object] = {
            "number": number,
            "name": dice.choice(NAMES),
            "old": dice.choice(NAMES),
            "new": dice.choice(NAMES),
            "content": dice.choice(CONTENTS),
            "executable": dice.random() < 0.3,
            "unpushed": dice.random() < 0.5,
            "branch": dice.choice(BRANCHES),
            "side": dice.choice(("ours", "theirs")),
            "verb": dice.choice(("add", "checkout", "push", "drop")),
            "at": dice.randrange(1, 40),
            "data": _Choice(dice),
        }
        wanted = inspect.signature(getattr(Team, name)).parameters
        yield name, {key: value for key, value in every.items() if key in wanted}


@pytest.mark.skipif(sys.platform != "linux", reason="fault points are found by /proc")
def test_a_team_at_random(fast_folder: Path) -> None:
    """As below, evenly random: hypothesis seeks small examples, and these get further."""
    Team.folder = fast_folder
    Team.done.clear()
    for example in range(EXAMPLES):
        dice = random.Random(f"{SEED or 0} {example}")
        team = Team()
        team.begin()
        steps = []
        try:
            for _ in range(STEPS):
                for name, given in _steps(dice):
                    steps.append((name, given))
                    getattr(team, name)(**given)
        except Exception as error:
            told = "\n".join(f"{name} {given}"[:200] for name, given in steps)
            raise AssertionError(f"example {example} of seed {SEED}:\n{told}") from error
        finally:
            team.teardown()
    expected = {"add", "restored", "dropped", "published", "crashed", "refused", "merged"}
    assert expected <= Team.done.keys() or EXAMPLES < EXAMPLES_DEFAULT, Team.done


@pytest.mark.skipif(sys.platform != "linux", reason="fault points are found by /proc")
def test_a_team_loses_nothing(fast_folder: Path) -> None:
    Team.folder = fast_folder
    how = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
        derandomize=SEED is None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    machine = Team if SEED is None else seed(int(SEED))(Team)
    run_state_machine_as_test(machine, settings=how)
