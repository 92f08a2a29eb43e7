"""Two clones, a worktree, a git remote and a data remote, at random against a plain dictionary.

What the model knows of a clone is what its user would: which files are there, which the manifest
names, which commits have been made of what. Two things always hold. A commit that was pushed can
be restored byte for byte in a fresh clone. And no command makes content vanish: what was in a
workspace is afterwards in a workspace, in a store or on the remote. Packs of the store rot now and
then, while their content is good elsewhere: then a repair must make all whole.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dvtool.errors import UnsavedError, UsageError
from dvtool.format.digest import Digest, digest_of
from dvtool.format.manifest import Manifest, decode
from dvtool.hooks import drivers
from dvtool.repo import Repo
from dvtool.store.local import LocalStore
from dvtool.system.atomic import is_temp_name
from dvtool.verbs.resolve.settle import Side
from dvtool.workspace.statcache import StatCache
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
BRANCHES = ("main", "side", "tree")
ELSEWHERE = "elsewhere/there"
"""Where the target moves, and comes back from."""
MEANWHILE = ("nothing", "gc", "fsck", "crash", "abort")
"""What happens before a merge that conflicts is settled, or in place of that."""
MOVES = {
    "reset": "git reset -q --hard HEAD~1",
    "reset --keep": "git reset -q --keep HEAD~1",
    "checkout FILE": f"git checkout -q HEAD~1 -- {MANIFEST}",
    "restore": f"git restore --source HEAD~1 --staged --worktree {MANIFEST}",
    "revert -n": "git revert -n HEAD && git revert --quit",
    "revert": "git revert --no-edit HEAD || git revert --skip",
    "cherry-pick -n": "id=$(git rev-parse HEAD); git reset -q --hard HEAD~1;"
    " git cherry-pick -n $id",
    "read-tree": "git read-tree -u -m HEAD HEAD~1",
    "rebase --exec": "git rebase -q --exec true HEAD~1",
    "rebase --root": "git rebase -q --root",
    "am": "git format-patch -q -1 -o ../patches; git reset -q --hard HEAD~1;"
    " git am -q ../patches/*; rm -r ../patches",
    "apply --index": "git diff --no-textconv HEAD~1 HEAD >../patch; git reset -q --hard HEAD~1;"
    " [ ! -s ../patch ] || git apply --index ../patch",
    "bisect": "git bisect start HEAD HEAD~1; git bisect reset",
    "stash": f"git checkout -q HEAD~1 -- {MANIFEST}; git stash -q; git stash pop -q || true",
}
"""How git moves the manifest, besides in rules of their own."""
ROTS = ("flip", "zeros", "cut", "empty", "gone")
CRASHES = {
    "add": ("add", TARGET),
    "checkout": ("checkout",),
    "push": ("push",),
    "drop": ("drop", TARGET),
    "mv": ("mv", f"{TARGET}/NAME"),
    "rm": ("rm", "--data", f"{TARGET}/NAME"),
    "gc": ("gc", "--unpushed", "--grace", "0d"),
    "gc_remote": ("gc", "--remote", "--grace", "0d"),
    "fsck": ("fsck", "--repair"),
    "rebuild": ("fsck", "--rebuild"),
}
"""What is killed at a random point; NAME stands for a file."""

File = tuple[bytes, bool]
"""Content and whether it is executable."""
Files = dict[str, File]


@dataclass
class Model:
    """What a user knows of one worktree: the files that are there, and those the manifest names."""

    clone: Clone
    files: Files
    manifest: Files
    branch: str = "main"
    base: Files = field(default_factory=dict)
    """What was last put there, or added from there."""

    def __post_init__(self) -> None:
        self.base = dict(self.manifest)
        self.git_dir = Path(self.clone.git("rev-parse", "--absolute-git-dir"))
        self.store = checks.store_of(self.clone.path)

    def standings(self) -> dict[str, str]:
        """Say how each file that is there stands to the manifest; see docs/decisions/022."""
        found = {}
        for path, file in self.files.items():
            entry, before = self.manifest.get(path), self.base.get(path)
            if file == entry:
                continue
            if file == before:
                found[path] = "outdated"
            else:
                found[path] = "edited" if before == entry else "conflicting"
        return found

    def is_edited(self, path: str) -> bool:
        """Whether a file is neither as it was last put there nor as the manifest names it."""
        return self.files[path] not in (self.base.get(path), self.manifest.get(path))

    def follow(self) -> None:
        """Note what the files follow after they followed the manifest as far as they could."""
        every = self.base.keys() | self.manifest.keys()
        left = {path for path in self.standings() if self.base.get(path) != self.manifest.get(path)}
        after = {
            path: self.base.get(path) if path in left else self.manifest.get(path) for path in every
        }
        self.base = {path: file for path, file in after.items() if file is not None}

    @property
    def known(self) -> set[str]:
        """The paths that dvtool put or saw there: if one is missing, the user deleted it.

        Asked of the statcache, which a crash may leave behind the files, or which may be lost.
        """
        with StatCache(str(self.git_dir / "dv/statcache.db")) as cache:
            return {
                f"{folder}/{name}".removeprefix(f"{TARGET}/")
                for folder, seen in cache.folders_below(TARGET).items()
                for name, what in seen.items()
                if what.tracked
            }


def files_in(clone: Clone) -> Files:
    """Return what lies in the target's place."""
    return _files_below(clone.path / TARGET)


def _files_below(top: Path) -> Files:
    return {
        str(path.relative_to(top)): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in sorted(top.rglob("*"))
        if path.is_file() and not is_temp_name(path.name)  # which a crash may leave
    }


def merged(base: Files, ours: Files, theirs: Files, *, side: Side) -> Files | None:
    """Merge by path; what both changed differently is taken from `side`.

    None if a side renamed a file, which the other's change of it follows: that is tried elsewhere.
    """
    if _renames(base, ours) or _renames(base, theirs):
        return None
    result: Files = {}
    for path in base.keys() | ours.keys() | theirs.keys():
        was, mine, other = base.get(path), ours.get(path), theirs.get(path)
        if mine == other or was == other:
            chosen = mine
        elif was == mine:
            chosen = other
        else:
            chosen = _combined(was, mine, other) or (mine if side == "ours" else other)
        if chosen is not None:
            result[path] = chosen
    return result


def _combined(was: File | None, mine: File | None, other: File | None) -> File | None:
    """Return a file with the content that one changed and the executable bit that the other did."""
    if was is None or mine is None or other is None:
        return None
    if mine[0] != other[0] and was[0] not in (mine[0], other[0]):
        return None
    content = other[0] if mine[0] == was[0] else mine[0]
    return content, (mine[1] if mine[1] == other[1] else not was[1])


def _renames(old: Files, new: Files) -> bool:
    gone = {content for path, (content, _) in old.items() if path not in new}
    return any(content in gone for path, (content, _) in new.items() if path not in old)


clones = st.sampled_from((0, 1, 2))
names = st.sampled_from(NAMES)
contents = st.sampled_from(CONTENTS)
sides: st.SearchStrategy[Side] = st.sampled_from(("ours", "theirs"))
branches = st.sampled_from(BRANCHES)
meanwhiles = st.sampled_from(MEANWHILE)


class Team(RuleBasedStateMachine):
    """Two people at work on one repository, one of them in two worktrees."""

    folder: Path
    hooked: bool = False
    """Whether git runs the hooks. Else the files follow only where a step says so."""
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
            drivers.install(repo._project)
            first.git("add", "-A")
            commit = first.commit("first")
            repo.push()
        first.git("push", "-q", "hub", "HEAD:main")
        second = self.world.clone(Clone(self.hub), "second")
        second.git("remote", "rename", "origin", "hub")
        with second.repo() as repo:
            drivers.install(repo._project)
            repo.pull()
        first.git("worktree", "add", "-q", "-b", "tree", str(self.world.live / "tree"))
        tree = Clone(self.world.live / "tree")
        with tree.repo() as repo:
            repo.checkout()
        self.snapshots[commit] = start
        self.published.add(commit)
        self.models = [Model(one, dict(start), dict(start)) for one in (first, second)]
        self.models.append(Model(tree, dict(start), dict(start), "tree"))
        for clone in (first, second) if self.hooked else ():
            with clone.repo() as repo:
                repo.hooks.install()

    def teardown(self) -> None:
        if not hasattr(self, "base"):
            return
        try:
            for commit in sorted(self.published & self._origins().keys()):
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
        (self.models[number].git_dir / "dv/statcache.db").unlink(missing_ok=True)

    @rule(number=clones)
    def lose_index(self, number: int) -> None:
        for path in self.models[number].store.glob("store.db*"):
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
        standings = model.standings()
        gone = [path for path in model.manifest if path in known and path not in model.files]
        deleted = {p: model.base.get(p) for p in gone if model.base.get(p) != model.manifest[p]}
        outdated = {path for path, standing in standings.items() if standing == "outdated"}
        outdated.update(path for path, before in deleted.items() if before is None)
        both = "conflicting" in standings.values() or any(deleted.values())
        if both:
            with pytest.raises(UsageError), model.clone.repo() as repo:
                repo.add([TARGET])
            self._check_manifest(model)
            self.done["refused a conflict"] += 1
            outdated = set()
        kept = {path: model.manifest[path] for path in outdated if path in model.manifest}
        with self._nothing_lost(), model.clone.repo() as repo:
            repo.add([TARGET], ours=both)
        files = {path: file for path, file in model.files.items() if path not in outdated}
        self.done["add"] += model.manifest != absent | files | kept
        self.done["left outdated"] += bool(outdated)
        before = {path: model.base[path] for path in outdated if path in model.base}
        model.manifest = absent | files | kept
        model.base = {p: f for p, f in model.manifest.items() if p not in outdated} | before
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
        # What dv put there it takes away again, by the record of the base if nothing else knows.
        ours = model.known | set(model.base)
        ours |= set(model.manifest if wanted != model.manifest else ())
        lacking = self._lacking(model)
        unsaved = [
            path
            for path, (content, _) in model.files.items()
            if (path in ours or path in wanted)
            and (path not in wanted or wanted[path][0] != content)
            and digest_of(content) in lacking
            and model.is_edited(path)
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
        model.base = dict(wanted)
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
            model.files = {
                path: file
                for path, file in model.files.items()
                if path not in model.manifest and model.is_edited(path)
            }
        assert files_in(model.clone) == model.files

    @rule(number=clones, old=names, new=names)
    def mv(self, number: int, old: str, new: str) -> None:
        model = self.models[number]
        entry = model.manifest.get(old)
        free = new not in model.manifest and old != new
        if new in model.files:  # a rename that somebody made, or one that was cut off
            free = free and old not in model.files and model.files[new] == entry
        with self._nothing_lost(), model.clone.repo() as repo:
            try:
                repo.mv(f"{TARGET}/{old}", f"{TARGET}/{new}")
            except UsageError:
                assert entry is None or not free or model.base.get(old) != entry
            else:
                assert entry is not None and free
                self.done["renamed"] += 1
                model.manifest[new] = model.manifest.pop(old)
                model.base.pop(old, None)
                model.base[new] = model.manifest[new]
                if old in model.files:
                    model.files[new] = model.files.pop(old)
        self._check_unchanged(model)

    @rule(number=clones)
    def mv_there_and_back(self, number: int) -> None:
        model = self.models[number]
        place = model.clone.path / ELSEWHERE
        with self._nothing_lost(), model.clone.repo() as repo:
            repo.mv(TARGET, ELSEWHERE)
            assert not (model.clone.path / TARGET).exists()
            assert _files_below(place) == model.files
            repo.mv(ELSEWHERE, TARGET)
        assert not place.exists()
        self.done["moved"] += 1
        self._check_unchanged(model)

    @rule(number=clones, name=names, files=st.booleans())
    def rm(self, number: int, name: str, files: bool) -> None:
        model = self.models[number]
        if name not in model.manifest:
            return
        unsaved = files and name in model.files and model.files[name][0] != b""
        unsaved = unsaved and digest_of(model.files[name][0]) in self._lacking(model)
        unsaved = unsaved and model.is_edited(name)
        with self._nothing_lost(), model.clone.repo() as repo:
            try:
                repo.rm([f"{TARGET}/{name}"], data=files)
            except UnsavedError:
                assert unsaved
            else:
                assert not unsaved
                self.done["removed"] += 1
                del model.manifest[name]
                model.base.pop(name, None)
                if files:
                    model.files.pop(name, None)
        self._check_unchanged(model)

    @rule(number=clones)
    def untrack(self, number: int) -> None:
        """Take the target out of dvtool's hands, and put it back as it lies there."""
        model = self.models[number]
        if not model.files:
            return
        with self._nothing_lost(), model.clone.repo() as repo:
            repo.rm([TARGET])
            assert not (model.clone.path / MANIFEST).exists()
            assert files_in(model.clone) == model.files
            repo.add([TARGET])
        model.manifest = dict(model.files)
        model.base = dict(model.files)
        self._check_unchanged(model)

    # --- git --------------------------------------------------------------------------------

    @rule(number=clones)
    def commit(self, number: int) -> None:
        model = self.models[number]
        if not self._dirty(model):
            return
        if self.hooked and not _try_git(model.clone, "commit", "-q", "-m", "change"):
            with model.clone.repo() as repo:  # pre-commit wants what was dropped in the store
                repo.fetch()
        if self._dirty(model):
            model.clone.commit("change")
        self.snapshots[model.clone.git("rev-parse", "HEAD")] = dict(model.manifest)

    @rule(number=clones, branch=branches)
    def switch(self, number: int, branch: str) -> None:
        model = self.models[number]
        here = {one.branch for one in self.models if one.store == model.store}
        if self._dirty(model) or branch in here:  # git has a branch in one worktree only
            return
        create = [] if self._has_branch(model, branch) else ["-c"]
        with self._nothing_lost():
            model.clone.git("switch", "-q", *create, branch)
        model.branch = branch
        self._at_head(model)

    @rule(number=clones, branch=branches, side=sides, meanwhile=meanwhiles)
    def merge(self, number: int, branch: str, side: Side, meanwhile: str) -> None:
        model = self.models[number]
        if branch != model.branch and self._has_branch(model, branch):
            self._merge(model, branch, side, meanwhile)

    def _merge(self, model: Model, other: str, side: Side, meanwhile: str) -> None:
        git = model.clone.git
        if self._dirty(model):
            return
        ours, theirs = git("rev-parse", "HEAD"), git("rev-parse", other)
        bases = git("merge-base", "--all", ours, theirs).split()
        if theirs in bases:
            return
        settled = False
        with self._nothing_lost():
            if not _try_git(model.clone, "merge", "-q", "--no-edit", other):
                settled = True
                if not self._settle(model, side, meanwhile):
                    git("merge", "--abort")
                    self._at_head(model)
                    assert files_in(model.clone) == model.files
                    return
                git("commit", "-q", "--no-edit")
        commit = git("rev-parse", "HEAD")
        snapshot = self._read_manifest(model)
        if commit in self.snapshots:
            assert snapshot == self.snapshots[commit]
        elif len(bases) == 1:
            self.done["merged"] += 1
            three = (self.snapshots[bases[0]], self.snapshots[ours], self.snapshots[theirs])
            assert snapshot == merged(*three, side=side) or merged(*three, side=side) is None
        self.snapshots[commit] = snapshot
        self._at_head(model)
        # Resolving gave the workspace what it could, and nothing was lost: see what that is.
        if settled:
            model.files = files_in(model.clone)
            model.follow()

    def _settle(self, model: Model, side: Side, meanwhile: str) -> bool:
        """Resolve what git left in conflict, with something in between; False: give it up."""
        self.done[f"conflict, {meanwhile}"] += 1
        if meanwhile == "abort":
            return False
        if meanwhile == "crash":
            self.world.work = model.clone.path
            at = len(self.snapshots) % 12 + 1
            self.world.run(("dv", "resolve", f"--{side}"), point=at, mode="before")
        with model.clone.repo() as repo:
            if meanwhile == "gc":
                with self._named_stays():
                    repo.gc(unpushed=True, grace_s=0)
            if meanwhile == "fsck":
                damage = [one for one in repo.fsck().damage if one.kind != "manifest"]
                assert not damage, damage
            repo.resolve(side=side)
        return True

    @rule(number=clones)
    def reset(self, number: int) -> None:
        """Abandon the last commit, which the reflog has for now."""
        model = self.models[number]
        if self._dirty(model) or not _try_git(model.clone, "rev-parse", "-q", "--verify", "HEAD~1"):
            return
        with self._nothing_lost():
            model.clone.git("reset", "-q", "--hard", "HEAD~1")
        self.done["abandoned"] += 1
        self._at_head(model)
        assert files_in(model.clone) == model.files

    @rule(number=clones)
    def stash(self, number: int) -> None:
        model = self.models[number]
        if self._dirty(model):
            with self._nothing_lost():
                model.clone.git("stash", "push", "-q")
            self.done["stashed"] += 1
            self._at_head(model)
            assert files_in(model.clone) == model.files

    @rule(number=clones, side=sides)
    def unstash(self, number: int, side: Side) -> None:
        model = self.models[number]
        git = model.clone.git
        if self._dirty(model) or not git("stash", "list"):
            return
        base, ours = git("rev-parse", "stash@{0}^1"), git("rev-parse", "HEAD")
        text = git("show", f"stash@{{0}}:{MANIFEST}").encode()
        theirs = _files_of(decode(text, MANIFEST))
        settled = False
        with self._nothing_lost():
            if not _try_git(model.clone, "stash", "pop", "-q"):
                settled = True
                self._settle(model, side, "nothing")
                git("stash", "drop", "-q")
        git("add", "-u")
        expected = merged(self.snapshots[base], self.snapshots[ours], theirs, side=side)
        model.manifest = self._read_manifest(model) if expected is None else expected
        self._check_manifest(model)
        if settled:
            model.files = files_in(model.clone)
            model.follow()
        elif self.hooked:
            self._see_followed(model, model.standings())

    @rule(number=clones, how=st.sampled_from(tuple(MOVES)), synced=st.booleans())
    def move(self, number: int, how: str, synced: bool) -> None:
        """Let git move the manifest in another way; `synced`: the files follow, as by hooks."""
        model = self.models[number]
        git = model.clone.git
        linear = not git("rev-list", "--merges", "--max-count=1", "HEAD")
        parents = int(git("rev-list", "--count", "HEAD")) > 1
        if self._dirty(model) or not (linear and parents):
            return
        branch = git("rev-parse", "--abbrev-ref", "HEAD")
        with self._nothing_lost():
            line = ["bash", "-ec", MOVES[how]]
            subprocess.run(line, cwd=model.clone.path, check=True, capture_output=True)
            assert git("rev-parse", "--abbrev-ref", "HEAD") == branch
            model.manifest = self._read_manifest(model)
            text = git("show", f"HEAD:{MANIFEST}").encode()
            self.snapshots[git("rev-parse", "HEAD")] = _files_of(decode(text, MANIFEST))
            if self.hooked:
                self._see_followed(model, model.standings())
            else:
                assert files_in(model.clone) == model.files
                if synced:
                    self._sync(model)
        self.done[f"moved by {how}"] += 1

    def _sync(self, model: Model) -> None:
        """Do as the hooks."""
        standings = model.standings()
        with model.clone.repo() as repo:
            repo.for_git.sync()
        self._see_followed(model, standings)

    def _see_followed(self, model: Model, standings: dict[str, str]) -> None:
        """See that what was not edited is in step, or is in no store and stayed."""
        now = files_in(model.clone)
        for path, file in model.files.items():
            if standings.get(path) in ("edited", "conflicting") or now.get(
                path
            ) != model.manifest.get(path):
                assert now[path] == file
        model.files = now
        model.follow()

    def _at_head(self, model: Model) -> None:
        model.manifest = dict(self.snapshots[model.clone.git("rev-parse", "HEAD")])
        self._check_manifest(model)
        if self.hooked:
            self._see_followed(model, model.standings())
            self.done["followed by hooks"] += 1

    def _dirty(self, model: Model) -> bool:
        return bool(model.clone.git("status", "--porcelain", "--untracked-files=no"))

    def _has_branch(self, model: Model, name: str) -> bool:
        return _try_git(model.clone, "rev-parse", "-q", "--verify", name)

    # --- remotes ----------------------------------------------------------------------------

    @rule(number=clones)
    def push(self, number: int) -> None:
        model = self.models[number]
        with self._nothing_lost(), model.clone.repo() as repo:
            warnings = repo.push().warnings
        assert all("a gc is about to let go" in one for one in warnings), warnings
        behind = model.clone.git("rev-list", "HEAD").split()
        self.done["published"] += not self.published.issuperset(behind)
        self.published.update(behind)
        _try_git(model.clone, "push", "-q", "hub", f"HEAD:{model.branch}")

    @rule(number=clones, side=sides, meanwhile=meanwhiles)
    def pull(self, number: int, side: Side, meanwhile: str) -> None:
        model = self.models[number]
        model.clone.git("fetch", "-q", "hub")
        if self._has_branch(model, f"hub/{model.branch}"):
            self._merge(model, f"hub/{model.branch}", side, meanwhile)
        self._give(model, model.manifest, lambda repo: repo.pull())

    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        commits = self.published & self._origins().keys()
        self._restore(data.draw(st.sampled_from(sorted(commits))))

    def _origins(self) -> dict[str, Clone]:
        """Return a repository to clone from for each commit that a branch has."""
        return {
            commit: origin
            for origin in (Clone(self.hub), *(model.clone for model in self.models))
            for commit in origin.git("rev-list", "--branches").split()
        }

    def _restore(self, commit: str) -> None:
        """Give a fresh clone the data of a commit, which some clone has, and nothing else."""
        self.fresh += 1
        clone = self.world.clone(self._origins()[commit], f"fresh{self.fresh}")
        with clone.repo() as repo:
            repo.checkout(commit)
        assert files_in(clone) == self.snapshots[commit]
        shutil.rmtree(clone.path)

    # --- faults -----------------------------------------------------------------------------

    @rule(
        number=clones,
        verb=st.sampled_from(tuple(CRASHES)),
        at=st.integers(1, 35),
        name=names,
        how=st.sampled_from(ROTS),
    )
    def crash(self, number: int, verb: str, at: int, name: str, how: str) -> None:
        """Kill `dv` at a fault point, see that the repository is valid, let the verb finish."""
        model = self.models[number]
        if verb == "add" and not (model.clone.path / TARGET).exists():
            return
        if verb in ("mv", "rm") and name not in model.manifest:
            return
        words = tuple(word.replace("NAME", name) for word in CRASHES[verb])
        if verb == "mv":
            words = (*words, f"{TARGET}/renamed")
        damaged = self._rot(model, how, at) if verb == "fsck" else None
        entries = Counter(model.manifest.values())
        self.world.work = model.clone.path
        holds = self._named_stays if verb in ("gc", "gc_remote") else self._nothing_lost
        with holds():
            run = self.world.run(("dv", *words), point=at, mode="before")
        print(f"{verb} crashed at: {run.hit}, or ended with {run.code}")
        self.done[f"crashed {verb}"] += bool(run.hit)
        if damaged is None:
            report = checks.check_repository(model.clone.path, checks.read_objects(self.remote))
            assert not report.problems, report.problems
        self._look_again(model)
        if verb in ("mv", "rm"):
            with self._nothing_lost():
                again = self.world.run(("dv", *words))
            assert again.code in (0, 2, 5), again.err
            self._look_again(model)
            for path in {name, "renamed"} & (model.base.keys() | model.manifest.keys()):
                if model.manifest.get(path) is not None:
                    model.base[path] = model.manifest[path]
                elif verb == "rm" or path == name:
                    model.base.pop(path, None)
        if verb == "mv":
            assert Counter(model.manifest.values()) == entries
            if f"{TARGET}/renamed" not in model.manifest and name not in model.manifest:
                assert "renamed" in model.manifest
            with self._nothing_lost(), model.clone.repo() as repo:
                repo.checkout(force=True)
                repo.mv(f"{TARGET}/renamed", f"{TARGET}/{name}")
            self._look_again(model)
            model.base = dict(model.manifest)
        elif verb == "fsck":
            self._mended(model, damaged)
        elif verb == "gc_remote":
            self._a_month_passes()
            self.gc_remote(number)
        elif verb != "rm":
            getattr(self, verb)(number)

    def _look_again(self, model: Model) -> None:
        model.files = files_in(model.clone)
        model.manifest = self._read_manifest(model)

    def _a_month_passes(self) -> None:
        """What died is believed no more; until then its claims and marks stand, by design."""
        for path in (self.remote / "gc").rglob("*"):
            os.utime(path, (1, 1))

    @rule(number=clones)
    def fsck(self, number: int) -> None:
        model = self.models[number]
        with self._nothing_lost(), model.clone.repo() as repo:
            report = repo.fsck(workspace=True, remote="", deep=True)
        assert report.clean, report.damage
        self._check_unchanged(model)

    @rule(number=clones, how=st.sampled_from(ROTS), at=st.integers(0, 1_000_000))
    def rot(self, number: int, how: str, at: int) -> None:
        """Damage a pack here whose content is good elsewhere; a repair makes all whole."""
        model = self.models[number]
        damaged = self._rot(model, how, at)
        if damaged is not None:
            self._mended(model, damaged)

    def _rot(self, model: Model, how: str, at: int) -> Digest | None:
        """Damage a pack, unless something needed is only there; return the hash of what it is."""
        objects = checks.read_objects(model.store)
        packs = sorted(key for key in objects if key.startswith("packs/"))
        if not packs:
            return None
        chosen = packs[at % len(packs)]
        rest = {key: data for key, data in objects.items() if key != chosen}
        lost = checks.contents_in(objects) - checks.contents_in(rest)
        if not lost & self._named() <= self._good_elsewhere(model):
            return None
        if how == "gone" and not (model.store / "store.db").exists():
            how = "empty"  # of what was here and is nowhere named, nobody knows
        data = bytearray(objects[chosen])
        place = at % len(data)
        if how == "flip":
            data[place] ^= 1 << at % 8
        elif how == "zeros":
            data[place : place + 512] = bytes(len(data[place : place + 512]))
        elif how == "cut":
            del data[place:]
        elif how == "empty":
            data.clear()
        path = model.store / chosen
        path.chmod(0o644)
        path.write_bytes(data)
        if how == "gone":
            path.unlink()
        self.done[f"rot, {how}"] += 1
        return digest_of(bytes(data))

    def _good_elsewhere(self, model: Model) -> set[Digest]:
        """Return what a repair finds: on the remote, by commits that are here, and in files."""
        here = self._published_here(model)
        found = {digest_of(file[0]) for commit in here for file in self.snapshots[commit].values()}
        for path, file in model.files.items():
            entry = model.manifest.get(path)
            if entry is not None and entry[0] == file[0]:
                found.add(digest_of(file[0]))
        return found

    def _published_here(self, model: Model) -> set[str]:
        return self.published.intersection(model.clone.git("rev-list", "--all").split())

    def _mended(self, model: Model, damaged: Digest | None) -> None:
        with self._nothing_lost(), model.clone.repo() as repo:
            report = repo.fsck(repair=True)
            if not report.clean:
                # The index is lost too: what the pack held is known once all is here again.
                assert all("not known" in one.problem for one in report.remaining), report.damage
                repo.fetch(revs=sorted(self._published_here(model)))
                report = repo.fsck(repair=True)
            assert report.clean, report.damage
            again = repo.fsck(workspace=True)
            assert not again.damage, again.damage
        if damaged is not None and (model.store / "aside").exists():
            self.done["mended"] += 1
        self._check_unchanged(model)

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
        for one in self.models:
            if one.store == model.store:  # but no stash, which --all would take too
                refs = one.clone.git("for-each-ref", "--format=%(refname)", "refs/heads").split()
                one.clone.git("reflog", "expire", "--expire=now", "HEAD", *refs)
                (one.git_dir / "ORIG_HEAD").unlink(missing_ok=True)
        with self._named_stays(), model.clone.repo() as repo:
            done = repo.gc(unpushed=unpushed, grace_s=0)
        self.done["forgotten"] += bool(done.freed_bytes)
        self._check_unchanged(model)

    @rule(number=clones)
    def gc_remote(self, number: int) -> None:
        """Bury what no root names, and remove at once what was buried before."""
        model = self.models[number]
        with self._named_stays(), model.clone.repo() as repo:
            done = repo.remotes.gc(grace_s=0)
        self.done["buried"] += not done.plan.empty
        self.done["swept"] += bool(done.removed_bytes)
        self._check_unchanged(model)

    @rule(number=clones)
    def gc_expire(self, number: int) -> None:
        """As `gc_remote`, and let go of what was pushed and nobody can ask for any more.

        That of others is seen only as far as git has it: else a grace period is there for it.
        """
        model = self.models[number]
        model.clone.git("fetch", "-q", "hub")
        seen = {*_every_commit(model.clone), *_every_commit(Clone(self.hub))}
        others = {commit for one in self.models for commit in _every_commit(one.clone)}
        if not others & self.published <= seen:
            return
        with self._named_stays(), model.clone.repo() as repo:
            done = repo.remotes.gc(expire=True, grace_s=0)
        self.done["expired"] += bool(done.plan.expired)
        self.done["swept"] += bool(done.removed_bytes)
        self.published &= others | seen
        self._check_unchanged(model)

    @rule(number=clones)
    def gc_undo(self, number: int) -> None:
        with self._nothing_lost(), self.models[number].clone.repo() as repo:
            repo.remotes.undo_gc()

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
            saved = [(str(path), path.read_bytes()) for path in model.store.glob("saved/*")]
            for where, text in (*checks.manifests(model.clone.path), *saved):
                entries = (decode(text, where).entries or {}).values()
                named |= {entry.digest for entry in entries if entry.size > 0}
        return named

    def _contents(self) -> set[Digest]:
        found = checks.contents_in(checks.read_objects(self.remote))
        for store in {model.store for model in self.models}:
            found |= checks.contents_in(checks.read_objects(store))
        for model in self.models:
            found |= checks.contents_of_files(model.clone.path)
        return found

    def _lacking(self, model: Model) -> set[Digest]:
        """Return the contents in the workspace that the clone's own store has not."""
        with LocalStore(str(model.store)) as store:
            return store.lacking(digest_of(content) for content, _ in model.files.values())

    def _read_manifest(self, model: Model) -> Files:
        """Return the files that the manifest in the worktree names, by their known contents."""
        return _files_of(decode((model.clone.path / MANIFEST).read_bytes(), MANIFEST))

    @invariant()
    def nothing_is_silently_another_version(self) -> None:
        """Hold status against what was put there, what was edited, and what the manifest says."""
        for model in getattr(self, "models", ()):
            with model.clone.repo() as repo:
                one = next(one for one in repo.status() if one.target == TARGET)
            told = dict.fromkeys((*one.added, *one.modified), "edited")
            told |= dict.fromkeys(one.outdated, "outdated")
            told |= dict.fromkeys(one.conflicting, "conflicting")
            told = {path: what for path, what in told.items() if path in model.files}
            assert told == model.standings()
            self.done["told"] += bool(told)

    def _check_manifest(self, model: Model) -> None:
        assert _short(self._read_manifest(model)) == _short(model.manifest)


_BY_DIGEST = {digest_of(content): content for content in CONTENTS}


def _files_of(manifest: Manifest) -> Files:
    return {
        path: (_BY_DIGEST[entry.digest], entry.exec)
        for path, entry in (manifest.entries or {}).items()
        if entry.is_file
    }


def _short(files: Files) -> dict[str, tuple[str, bool]]:
    """Return files as they can be told in a message."""
    return {path: (digest_of(data).hex()[:6], mode) for path, (data, mode) in files.items()}


def _try_git(clone: Clone, *args: str) -> bool:
    done = subprocess.run(["git", *args], cwd=clone.path, capture_output=True)
    return done.returncode == 0


def _every_commit(clone: Clone) -> list[str]:
    return clone.git("rev-list", "--all", "--reflog").split()


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
    ("write", "crash"),
    ("write", "add", "commit", "crash"),
    ("crash", "commit", "push", "crash"),
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
    ("write", "add", "commit", "push", "reset", "checkout", "forget", "gc_expire"),
    ("forget", "gc_expire", "gc_expire"),
    ("reset", "forget", "gc_expire", "gc_undo"),
    ("push", "gc", "gc_remote"),
    ("mv", "commit"),
    ("mv_there_and_back", "rm", "add", "commit"),
    ("rm", "checkout", "commit"),
    ("untrack", "commit", "push"),
    ("write", "add", "stash", "gc", "unstash", "commit"),
    ("write", "add", "stash", "forget", "merge", "unstash"),
    ("rot",),
    ("move",),
    ("move", "write", "add"),
    ("write", "move", "add", "commit"),
    ("move", "add", "checkout"),
    ("move", "write", "move", "add", "commit"),
    ("push", "rot", "fsck"),
    ("write", "add", "commit", "switch", "merge", "push"),
)
"""What somebody does in one go, in one clone. Single steps alone would seldom get anywhere."""


def _steps(dice: random.Random) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the steps of one go, with random arguments."""
    number = dice.randrange(3)
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
            "meanwhile": dice.choice(MEANWHILE),
            "files": dice.random() < 0.5,
            "how": dice.choice(list(MOVES) if name == "move" else ROTS),
            "synced": dice.random() < 0.5,
            "verb": dice.choice(list(CRASHES)),
            "at": dice.randrange(1, 35) if name == "crash" else dice.randrange(1_000_000),
            "data": _Choice(dice),
        }
        wanted = inspect.signature(getattr(Team, name)).parameters
        yield name, {key: value for key, value in every.items() if key in wanted}


@pytest.mark.skipif(sys.platform != "linux", reason="fault points are found by /proc")
def test_a_team_at_random(fast_folder: Path) -> None:
    """As below, evenly random: hypothesis seeks small examples, and these get further.

    In each fourth example git runs the real hooks.
    """
    Team.folder = fast_folder
    Team.done.clear()
    for example in range(EXAMPLES):
        dice = random.Random(f"{SEED or 0} {example}")
        team = Team()
        team.hooked = example % EXAMPLES_DEFAULT == 0
        team.begin()
        steps = []
        try:
            for _ in range(STEPS // 2 if team.hooked else STEPS):
                for name, given in _steps(dice):
                    steps.append((name, given))
                    getattr(team, name)(**given)
                    team.nothing_is_silently_another_version()
        except Exception as error:
            told = "\n".join(f"{name} {given}"[:200] for name, given in steps)
            raise AssertionError(f"example {example} of seed {SEED}:\n{told}") from error
        finally:
            team.teardown()
    did = {what for what, count in Team.done.items() if count}
    # What comes often enough in so few examples; a crash may leave out the steps that follow it.
    expected = {"add", "restored", "published", "mended"}
    assert expected <= did or EXAMPLES < EXAMPLES_DEFAULT, Team.done
    assert any(what.startswith("crashed") for what in did) or EXAMPLES < EXAMPLES_DEFAULT, Team.done


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
