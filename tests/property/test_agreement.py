"""What is known to agree is never wrong: `status` and `add` say the same without agreed folders.

Manifests of many small shards, so that few files make many; random changes by the user, by git and
by dv between the looks.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs
from msgspec.structs import asdict

from dvtool.errors import InputError, ManifestError, UnsavedError, UsageError
from dvtool.format import manifest as manifests
from dvtool.format.digest import digest_of
from dvtool.format.manifest import Entries, Entry, Manifest, ShardRef, build, encode
from dvtool.project.parts import Project
from dvtool.repo import Repo
from dvtool.store.freeing import drop_chunks
from dvtool.store.local import PACKS, LocalStore
from dvtool.store.mending import rebuild
from dvtool.verbs import diff, status as status_ops
from dvtool.verbs.add import publish
from dvtool.verbs.add.foresee import Added
from dvtool.verbs.status import Fault, TargetStatus
from dvtool.workspace import statcache
from dvtool.workspace.files import Workspace
from dvtool.workspace.rules import IGNORE_FILE
from dvtool.workspace.scan import content_of, find_left_out, scan_target
from dvtool.workspace.statcache import StatCache
from dvtool.workspace.walk import _Walk

FILES = 60
STEPS = 25
SEEDS = int(os.environ.get("DV_TEST_AGREEMENT_SEEDS", "3"))
RULES = (
    *("f0*", "*1", "!f03", "!f1*", "link", "empty", "a/", "b", "/a", "a/b", "!a", "!b/", "**/B"),
    *("a-b/**", "*", "!*/", "f2?"),
)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "INLINE_ENTRIES_MAX", 10)
    monkeypatch.setattr(manifests, "SHARD_ENTRIES_AVERAGE", 8)
    # All files here differ in size from what they were: none needs to be read for its time.
    monkeypatch.setattr(statcache, "TICK_NS", -(10**15))
    monkeypatch.setattr(statcache, "WHOLE_SECOND_NS", 10**30)


class Model:
    """A repository with one target, and what a user does to it."""

    def __init__(self, root: Path, seed: int) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        self.random = random.Random(seed)
        self.data = root / "data"
        self.size = 1
        self.git("init", "-q", "-b", "main")
        with Repo.open(str(root)) as repo:
            repo.config.init()
        for _ in range(FILES):
            self.write()
        self.add()
        self.git("add", "-A")
        self.git("commit", "-qm", "first")

    def git(self, *args: str) -> None:
        subprocess.run(["git", *args], cwd=self.root, check=True, capture_output=True)

    def folder(self) -> Path:
        parts = [self.random.choice(("", "a", "b", "a-b", "B")) for _ in range(3)]
        return self.data.joinpath(*(part for part in parts if part))

    def files(self) -> list[Path]:
        """Return all files but those with rules."""
        return sorted(
            path for path in self.data.rglob("*") if path.is_file() and path.name != IGNORE_FILE
        )

    def rules(self) -> list[Path]:
        return sorted(self.root.rglob(IGNORE_FILE))

    def write(self) -> None:
        path = self.folder() / f"f{self.random.randrange(30):02}"
        self.put(path)

    def put(self, path: Path) -> None:
        for above in (path, *path.parents):
            if above.is_symlink() or above.is_file():
                above.unlink()
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.size += 1
        path.write_bytes(bytes(self.size))

    def change(self) -> None:
        self.put(self.random.choice(self.files()))

    def touch(self) -> None:
        os.utime(self.random.choice(self.files()), ns=(self.size, self.size))

    def mode(self) -> None:
        path = self.random.choice(self.files())
        path.chmod(path.stat().st_mode ^ 0o111)

    def remove(self) -> None:
        self.random.choice(self.files()).unlink()

    def remove_folder(self) -> None:
        folder = self.folder()
        if folder != self.data and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)

    def empty_folder(self) -> None:
        path = self.folder() / "empty"
        if not path.exists() and not any(one.is_file() for one in path.parents):
            path.mkdir(parents=True)

    def link(self) -> None:
        path = self.folder() / "link"
        if not os.path.lexists(path) and path.parent.is_dir():
            path.symlink_to(self.random.choice(("f01", "f02", "a")))

    def folder_becomes_file(self) -> None:
        folder = self.folder()
        if folder != self.data and folder.is_dir():
            self.put(folder)

    def swap(self) -> None:
        one, other = self.random.choice(self.files()), self.random.choice(self.files())
        if one != other:
            os.rename(one, self.data / "swap")
            os.rename(other, one)
            os.rename(self.data / "swap", other)

    def ignore(self) -> None:
        """Write rules, which may come to match what is tracked; in the target or above it."""
        folder = self.random.choice((self.root, self.data, self.folder(), self.folder()))
        rules = self.random.sample(RULES, self.random.randint(1, 3))
        if folder == self.root:
            rules = [rule for rule in rules if rule != "*"]  # which would leave out the target
        self.size += 1
        if folder.is_dir() and not folder.is_symlink():
            lines = [*rules, "#" * self.size]  # of a size that it never had
            (folder / IGNORE_FILE).write_text("\n".join(lines))

    def ignore_no_more(self) -> None:
        for path in self.rules():
            if self.random.random() < 0.6:
                path.unlink()

    def rm_and_add(self) -> None:
        with Repo.open(str(self.root)) as repo:
            repo.rm(["data"])
        self.add()
        self.some_go()

    def rm_and_back(self) -> None:
        self.commit()
        with Repo.open(str(self.root)) as repo:
            repo.rm(["data"])
        self.git("reset", "-q", "--hard")
        if self.random.random() < 0.7:
            self.add()
        self.some_go()

    def rm_part(self) -> None:
        path = self.random.choice(self.files())
        path = self.random.choice((path, path.parent))
        data = self.random.random() < 0.5
        with Repo.open(str(self.root)) as repo, contextlib.suppress(UsageError):
            if path != self.data:
                repo.rm([str(path)], data=data, force=True)
        self.some_go()

    def mv_part(self) -> None:
        path = self.random.choice(self.files())
        path = self.random.choice((path, path.parent))
        self.size += 1
        # Not to what is there, nor below a file.
        with Repo.open(str(self.root)) as repo, contextlib.suppress(UsageError, UnsavedError):
            if path != self.data:
                repo.mv(str(path), str(self.folder() / f"m{self.size}"))
        self.some_go()

    def mv(self) -> None:
        with Repo.open(str(self.root)) as repo:
            repo.mv("data", "other")
            if self.random.random() < 0.5:
                repo.status()
            repo.mv("other", "data")
        self.some_go()

    def some_go(self) -> None:
        for _ in range(self.random.randrange(3)):
            self.remove()

    def add(self) -> None:
        other = self.root.parent / f"{self.root.name}-as-plain"
        shutil.copytree(self.root, other, symlinks=True)
        with plainly(), Repo.open(str(other)) as repo:
            (expected,) = repo.add(["data"], ours=True)
            text = encode(repo._project.manifest("data"))
            tracked = all_tracked(repo)
        with Repo.open(str(self.root)) as repo:
            (added,) = repo.add(["data"], ours=True)
            assert counts_of(added) == counts_of(expected)
            assert encode(repo._project.manifest("data")) == text
            assert all_tracked(repo) == tracked
            if not self.rules():
                assert text == encode(self.plain_manifest(repo))
            (again,) = repo.add(["data"], ours=True)
            assert not again.changed
        shutil.rmtree(other)

    def plain_manifest(self, repo: Repo) -> manifests.Manifest:
        """Return the manifest that a look at everything makes; what is absent stays in it."""
        entries: dict[str, Entry] = {}
        for path in self.data.rglob("*"):
            name = str(path.relative_to(self.data))
            if path.is_symlink():
                entries[name] = Entry(symlink=os.readlink(path))
            elif path.is_file():
                content = path.read_bytes()
                executable = bool(path.stat().st_mode & 0o100)
                entries[name] = Entry(digest_of(content).hex(), len(content), executable)
            elif path.is_dir() and not any(path.iterdir()):
                entries[name] = Entry(dir=True)
        for name in repo.status()[0].absent:
            for above in Path(name).parents:  # what is to be filled is no empty folder
                entries.pop(str(above), None)
            entries[name] = repo._project.entries(repo._project.manifest("data"))[name]
        return build("dir", entries).manifest

    def add_part(self) -> None:
        path = self.random.choice(self.files()).parent
        if path != self.data:
            # What rules leave out is refused.
            with Repo.open(str(self.root)) as repo, contextlib.suppress(UsageError):
                repo.add([str(path)])

    def commit(self) -> None:
        self.add()
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "next")

    def checkout(self) -> None:
        # What stands in the way and is in no manifest is refused.
        with Repo.open(str(self.root)) as repo, contextlib.suppress(UnsavedError):
            repo.checkout(force=True)

    def checkout_before(self) -> None:
        with Repo.open(str(self.root)) as repo:
            if repo._project.git.has_commit("HEAD~1"):
                with contextlib.suppress(UnsavedError):
                    repo.checkout("HEAD~1", force=True)

    def forget_files(self) -> None:
        """As after a clone: files are absent, and nothing is remembered."""
        (self.root / ".git/dv/statcache.db").unlink(missing_ok=True)
        for path in self.files()[:3]:
            path.unlink()

    def look(self) -> None:
        """Nothing happens but one more look."""

    def step(self) -> str:
        verbs = (
            *(self.write, self.change, self.touch, self.mode, self.remove, self.remove_folder),
            *(self.empty_folder, self.link, self.folder_becomes_file, self.swap, self.add),
            *(self.add, self.add_part, self.commit, self.checkout, self.checkout_before),
            *(self.forget_files, self.look, self.ignore, self.ignore, self.ignore_no_more),
            *(self.rm_and_add, self.rm_and_back, self.rm_part, self.mv_part, self.mv),
        )
        verb = self.random.choice(verbs)
        while len(self.files()) < 20:
            self.write()
        verb()
        return verb.__name__


def all_tracked(repo: Repo) -> set[str]:
    """Return all that the statcache knows to have been added or checked out."""
    return {
        f"{folder}/{name}"
        for folder, row in repo._project.statcache.folders_below("data").items()
        for name, seen in row.items()
        if seen.tracked
    }


def counts_of(added: Added) -> tuple[int, int, int, int, int]:
    return added.added, added.modified, added.removed, added.files, added.bytes


def seen_by(root: Path) -> list[dict[str, object]]:
    with Repo.open(str(root)) as repo:
        return [asdict(one) for one in repo.status()]


def compared_by(root: Path) -> list[tuple[str, str, str | None]]:
    with Repo.open(str(root)) as repo:
        return sorted(
            (change.change, change.path, change.source)
            for one in repo.diff()
            for change in one.changes
        )


@contextlib.contextmanager
def without_agreed_folders() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StatCache, "agreed_folders", lambda *_: {})
        patch.setattr(StatCache, "save_agreed", lambda *_: None)
        yield


def seen_without_agreed_folders(root: Path) -> list[dict[str, object]]:
    with without_agreed_folders():
        return seen_by(root)


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Let large targets be looked at as small ones are."""
    with without_agreed_folders(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "_agreement", lambda *_: None)
        patch.setattr(status_ops, "_compare_large", _compare_plainly)
        patch.setattr(diff, "_differing_workspace", _differing_plainly)
        yield


def _compare_plainly(project: Project, manifest: Manifest, result: TargetStatus) -> None:
    wanted = project.entries(manifest)
    scan = scan_target(project, result.target, content_at=content_of(wanted))
    find_left_out(project, scan, wanted)
    scan.leave_unfilled(wanted)
    status_ops.compare(project, scan, wanted, result)
    result.faults = [Fault(*fault) for fault in scan.faults]
    result.added = sorted({*scan.files, *scan.links, *scan.empty_folders} - wanted.keys())


def _differing_plainly(
    project: Project, target: str, before: Manifest | None, manifest: Manifest
) -> tuple[Entries, Entries]:
    old = project.entries(before) if before else {}
    return old, diff.workspace_entries(project, target, manifest)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_status_diff_and_add_are_as_without_agreed_folders(tmp_path: Path, seed: int) -> None:
    root = tmp_path / "work"
    root.mkdir()
    model = Model(root, seed)
    done = []
    for _ in range(STEPS):
        done.append(model.step())
        first, differences = seen_by(root), compared_by(root)
        assert first == seen_without_agreed_folders(root), done
        with plainly():
            assert differences == compared_by(root), done
            assert [sorted_by(one) for one in first] == [sorted_by(o) for o in seen_by(root)], done
        assert first == seen_by(root), done


def sorted_by(status: dict[str, object]) -> dict[str, object]:
    """Return a status with its paths in order: which comes first is of no meaning."""
    return {key: sorted(one) if isinstance(one, list) else one for key, one in status.items()}


def there_is(data: Path) -> dict[str, object]:
    """Return all that is in a folder, with what counts of it."""
    found: dict[str, object] = {}
    for path in data.rglob("*"):
        name = str(path.relative_to(data))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        else:
            found[name] = "folder"
    return found


def went_to(root: Path, how: str) -> tuple[object, ...]:
    """Go to another version; return what dv said, what is there then, and what it says of that."""
    said: object
    with Repo.open(str(root)) as repo:
        git = repo._project.git
        try:
            if how == "follow":
                target = "HEAD~1" if git.has_commit("HEAD~1") else "HEAD"
                subprocess.run(["git", "checkout", "-qf", target], cwd=root, check=True)
                said = str(repo.for_git.sync())
            elif git.has_commit("HEAD~1"):
                said = str(repo.checkout("HEAD~1", force=how == "force").targets)
            else:
                said = str(repo.checkout(force=how == "force").targets)
        except UnsavedError as error:
            said = str(error)
    return said, there_is(root / "data"), seen_by(root)


@pytest.mark.parametrize("how", ["checkout", "force", "follow"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_checkout_does_as_without_agreed_folders(tmp_path: Path, how: str, seed: int) -> None:
    model = Model(tmp_path / "one", seed)
    done: list[str] = []
    for _ in range(STEPS // 3):
        done += [model.step() for _ in range(3)]
        if model.random.random() < 0.3:
            model.commit()
        twin = tmp_path / "twin"
        shutil.copytree(model.root, twin, symlinks=True)
        # The one remembers agreed folders then.
        assert seen_by(model.root) == seen_by(twin), done
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StatCache, "agreed_folders", lambda *_: {})
            expected = went_to(twin, how)
        assert went_to(model.root, how) == expected, done
        assert seen_by(model.root) == seen_without_agreed_folders(model.root), done
        shutil.rmtree(twin)
        model.git("checkout", "-qf", "main")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the entries that `status` compares, by run."""
    counts: list[int] = []
    compare_large, compare = status_ops._compare_large, status_ops._compare

    def counting(scan, wanted, result):  # type: ignore[no-untyped-def]
        counts[-1] += len(wanted)
        compare(scan, wanted, result)

    def beginning(project, manifest, result):  # type: ignore[no-untyped-def]
        counts.append(0)
        compare_large(project, manifest, result)

    monkeypatch.setattr(status_ops, "_compare", counting)
    monkeypatch.setattr(status_ops, "_compare_large", beginning)
    yield counts


def test_what_is_unchanged_is_not_listed(tmp_path: Path, counted: list[int]) -> None:
    model = Model(tmp_path, 1)
    seen_by(tmp_path)
    assert counted[-1] == 0  # add knows that what it added agrees
    every = len(model.files())
    changed = model.files()[0]
    model.put(changed)
    seen_by(tmp_path)
    beside = sum(path.parent == changed.parent for path in model.files())
    assert beside <= counted.pop() < every
    model.add()
    seen_by(tmp_path)
    assert counted[-1] == 0


def test_a_switch_costs_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(tmp_path, 1)
    model.git("tag", "before")
    changed = model.files()[0]
    text = changed.read_bytes()
    model.put(changed)
    model.commit()
    model.git("tag", "after")
    read: list[ShardRef] = []
    walked: list[str] = []
    held_shard, walk_one = LocalStore.held_shard, _Walk.folder

    def reading(store, ref):  # type: ignore[no-untyped-def]
        read.append(ref)
        return held_shard(store, ref)

    def walking(walk, at):  # type: ignore[no-untyped-def]
        walked.append(f"{walk.path}/{at.inner}".rstrip("/"))
        return walk_one(walk, at)

    monkeypatch.setattr(LocalStore, "held_shard", reading)
    monkeypatch.setattr(_Walk, "folder", walking)
    for rev, old in (("before", text), ("after", bytes(model.size)), ("before", text)):
        read.clear()
        walked.clear()
        with Repo.open(str(tmp_path)) as repo:
            shards = set(repo._project.manifest("data").shards)
            repo.checkout(rev)
            differ = shards ^ set(repo._project.manifest("data").shards)
        assert changed.read_bytes() == old
        assert len(differ) == 2
        here = sum(path.parent == changed.parent for path in model.files())
        # Besides the shards that differ, those with the other files of the changed folder.
        assert differ <= set(read) and len(set(read)) <= 2 + here < len(shards)
        folder = changed.parent.relative_to(tmp_path)
        # Above it, folders that have nothing but folders may be looked into.
        assert str(folder) in walked and set(walked) <= {
            str(one) for one in (folder, *folder.parents)
        }


@pytest.mark.parametrize("above", ["file", "folder", "empty"])
def test_paths_below_an_entry_are_refused(tmp_path: Path, above: str) -> None:
    """Also if they lie in different shards, each of which is sound, and one is not loaded."""
    model = Model(tmp_path, 4)
    with Repo.open(str(tmp_path)) as repo:
        entries = dict(repo._project.entries(repo._project.manifest("data")))
    entry = next(entry for entry in entries.values() if entry.is_file)

    def nested(name: str) -> dict[str, Entry]:
        entries_here = {name: Entry(dir=True) if above == "empty" else entry, f"{name}/x": entry}
        return dict(sorted((entries | entries_here).items()))

    def built(name: str) -> manifests.Built:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(manifests, "check_nesting", lambda *_: None)
            return build("dir", nested(name))

    names = (f"a/n{number}" for number in range(1_000))
    name = next(
        one for one in names if f"{one}/x" in {shard.ref.first for shard in built(one).shards}
    )
    if above == "empty":
        (model.data / name).mkdir(parents=True)
    else:
        model.put(model.data / (f"{name}/x" if above == "folder" else name))
    model.add()
    before = there_is(model.data)
    with Repo.open(str(tmp_path)) as repo:
        made = built(name)
        repo._project.store.put_shards(made.shards)
        put_manifest(repo, made.manifest)
    with Repo.open(str(tmp_path)) as repo, pytest.raises(ManifestError, match=f"below '{name}'"):
        repo.checkout(force=True)
    assert there_is(model.data) == before


def put_manifest(repo: Repo, manifest: Manifest) -> None:
    project = repo._project
    project.write_manifest("data", manifest, instead_of=project.manifest_text("data"))


def test_a_folder_of_another_spelling_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(tmp_path, 4)
    model.put(model.data / "C/one")
    model.add()
    with Repo.open(str(tmp_path)) as repo:
        entries = dict(repo._project.entries(repo._project.manifest("data")))
        built = build("dir", entries | {"c/two": entries["C/one"]})
        repo._project.store.put_shards(built.shards)
        put_manifest(repo, built.manifest)
    monkeypatch.setattr(Workspace, "folds_names", lambda *_: True)
    with Repo.open(str(tmp_path)) as repo, pytest.raises(InputError, match="differ only in case"):
        repo.checkout()


def test_a_look_by_two_processes_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvtool.workspace import folder_state

    model = Model(tmp_path, 2)
    folders = ["data", *sorted(str(one.relative_to(tmp_path)) for one in model.data.rglob("?"))]
    alone = folder_state.states_of(str(tmp_path), folders, [3] * len(folders))
    monkeypatch.setattr(folder_state, "PARALLEL_MIN_NAMES", 1)
    monkeypatch.setattr(folder_state, "may_fork", lambda: True)
    assert folder_state.states_of(str(tmp_path), folders, [3] * len(folders)) == alone
    assert None not in alone
    more = [*folders, "gone", "x"]
    assert folder_state.states_of(str(tmp_path), more, [3] * len(more)) == [*alone, None, None]
    # A process that was killed leaves the rest to us.
    monkeypatch.setattr("dvtool.system.workers._write_result", lambda *_: os._exit(1))
    assert folder_state.states_of(str(tmp_path), folders, [3] * len(folders)) == alone


def test_content_that_the_store_lost_is_stored_again(tmp_path: Path) -> None:
    model = Model(tmp_path, 3)
    lost = digest_of(model.files()[0].read_bytes())
    with Repo.open(str(tmp_path)) as repo:
        store = repo._project.store
        shards = [ref.digest for ref in repo._project.manifest("data").shards]
        assert store.db.held_shards(shards) == set(shards)
        drop_chunks(store, [lost])
        assert store.db.held_shards(shards) == set()
        assert store.lacking([lost]) == {lost}
    model.add()
    with Repo.open(str(tmp_path)) as repo:
        assert repo._project.store.lacking([lost]) == set()
        assert repo._project.store.db.held_shards(shards) == set(shards)


def test_an_index_made_again_forgets_what_was_found_stored(tmp_path: Path) -> None:
    Model(tmp_path, 3)
    with Repo.open(str(tmp_path)) as repo:
        store = repo._project.store
        shards = [ref.digest for ref in repo._project.manifest("data").shards]
        assert store.db.held_shards(shards) == set(shards)
        for path, _ in store.files(PACKS):
            with open(path, "r+b") as file:  # of its old size, but what it holds cannot be told
                file.seek(-64, os.SEEK_END)
                file.write(bytes(64))
        rebuild(store, usable=True)
        assert store.db.held_shards(shards) == set()


def test_what_rm_forgot_is_remembered_again_by_add(tmp_path: Path) -> None:
    model = Model(tmp_path, 5)
    with Repo.open(str(tmp_path)) as repo:
        repo.rm(["data"])
    model.git("reset", "-q", "--hard")  # the manifest is there again
    assert not seen_by(tmp_path)[0]["deleted"]
    model.add()
    gone = model.files()[0]
    gone.unlink()
    assert seen_by(tmp_path)[0]["deleted"] == [str(gone.relative_to(model.data))]


def test_an_ignored_file_has_nothing_else_added(tmp_path: Path) -> None:
    model = Model(tmp_path, 6)
    (model.data / ".dvignore").write_text("*.tmp\n")
    (model.data / "a" / "x.tmp").write_text("no entry")
    with Repo.open(str(tmp_path)) as repo:
        repo.add(["data"])
    (model.data / "a-b" / "y.tmp").write_text("no entry")
    model.put(model.data / "b" / "new")
    for added in (1, 0):
        with Repo.open(str(tmp_path)) as repo:
            (done,) = repo.add(["data"])
            assert (done.added, done.modified, done.removed) == (added, 0, 0)


def test_a_folder_that_comes_to_be_ignored_is_no_entry(tmp_path: Path) -> None:
    model = Model(tmp_path, 7)
    (model.data / "a" / "q").mkdir()
    (model.data / "a" / "q" / "f").write_text("no entry")
    (tmp_path / ".dvignore").write_text("q\n*.tmp\n")
    (model.data / "new.tmp").write_text("no entry")
    model.git("add", ".dvignore")
    seen_without_agreed_folders(tmp_path)
    assert (model.data / "a").is_dir()
    with Repo.open(str(tmp_path)) as repo:
        for path in ("data", "data/a", "data/a/q", "data/a/q/f", "data/new.tmp"):
            (one,) = repo.status([path])
            assert not one.changed, path
        (done,) = repo.add(["data"])
        assert not done.changed


def test_of_folders_that_are_gone_nothing_is_kept(tmp_path: Path) -> None:
    model = Model(tmp_path, 9)
    # A folder of no files agrees with every manifest.
    model.put(model.data / "only" / "folders" / "f")
    model.put(model.data / "more" / "f")
    model.add()
    with StatCache(str(tmp_path / ".git/dv/statcache.db")) as cache:
        before = cache.agreed_folders("data").keys()
        assert {"data/only", "data/only/folders", "data/more"} <= before
        # As of another branch, which has other shards.
        (one,) = cache.agreed_folders("data/more").values()
        cache.save_agreed({"data/more": structs.replace(one, entries={bytes(16): 1})})
    shutil.rmtree(model.data / "only")
    shutil.rmtree(model.data / "more")
    seen_by(tmp_path)
    with StatCache(str(tmp_path / ".git/dv/statcache.db")) as cache:
        assert cache.agreed_folders("data").keys() == before - {
            *("data/only", "data/only/folders", "data/more")
        }


def test_a_folder_all_of_which_is_left_out_is_not_empty(tmp_path: Path) -> None:
    model = Model(tmp_path, 10)
    model.put(model.data / "a" / "x" / "y" / "f")
    model.commit()
    (model.data / "a" / "x" / IGNORE_FILE).write_text("*\n")
    (one,) = seen_by(tmp_path)
    assert (one["added"], one["modified"], one["deleted"]) == ([], [], [])
    with Repo.open(str(tmp_path)) as repo:
        assert not repo.add(["data"])[0].changed
        assert repo.diff()[0].changes == []


def test_a_tracked_empty_folder_that_is_filled_is_a_difference(tmp_path: Path) -> None:
    model = Model(tmp_path, 11)
    for name in ("x", "y"):
        (model.data / name / "empty").mkdir(parents=True)
    model.commit()
    # Of x another manifest than HEAD's, of y the same.
    model.put(model.data / "x" / "f")
    model.add()
    for name in ("x", "y"):
        model.put(model.data / name / "empty" / "new")
    found = compared_by(tmp_path)
    assert ("removed", "x/empty", None) in found
    assert ("removed", "y/empty", None) in found
    with plainly():
        assert compared_by(tmp_path) == found


def test_a_tracked_empty_folder_that_is_filled_from_below_is_no_entry(tmp_path: Path) -> None:
    model = Model(tmp_path, 12)
    (model.data / "x" / "empty").mkdir(parents=True)
    model.put(model.data / "x" / "f")
    model.commit()
    # In the folder itself there is nothing but a folder, which every manifest agrees with.
    model.put(model.data / "x" / "empty" / "deep" / "new")
    seen_by(tmp_path)
    found = compared_by(tmp_path)
    assert found == [("added", "x/empty/deep/new", None), ("removed", "x/empty", None)]
    with Repo.open(str(tmp_path)) as repo:
        (added,) = repo.add(["data"])
        assert (added.added, added.modified, added.removed) == (1, 0, 1)
        (added,) = repo.add(["data"])
        assert not added.changed


def test_a_folder_of_what_comes_to_be_ignored_is_an_empty_one(tmp_path: Path) -> None:
    model = Model(tmp_path, 13)
    model.put(model.data / "x" / "b" / "new")
    model.put(model.data / "x" / "b" / "newer")
    seen_by(tmp_path)
    (tmp_path / IGNORE_FILE).write_text("/data/x/b\n")
    (one,) = seen_by(tmp_path)
    assert one["added"] == ["x"]
