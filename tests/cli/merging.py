"""Branches that change data, merged by real git, with the drivers of dv or without."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping

from dvtool.format.manifest import Entries, build, encode
from dvtool.hooks import drivers
from dvtool.repo import Repo
from tests.cli.conftest import Work

Files = Mapping[str, str | None]
"""Path in the target -> its content, or None where it is to go."""

TARGET = "data/images"


def with_drivers(work: Work) -> None:
    """Install the drivers, as `dv init` does, and commit that."""
    with Repo.open(str(work.root)) as repo:
        drivers.install(repo._project)
    work.commit("Drivers")


def without_drivers(work: Work) -> None:
    """Leave git to merge manifests as text."""
    with Repo.open(str(work.root)) as repo:
        drivers.uninstall(repo._project)
    work.commit("No drivers")


def run(work: Work, *args: str, code: int | None = 0) -> str:
    """Run git, which may fail, and return all that it said."""
    done = subprocess.run(["git", *args], cwd=work.root, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert code is None or done.returncode == code, said
    return said


def change(work: Work, files: Files, message: str | None = "change", target: str = TARGET) -> None:
    """Change files of a target, add it and (with a message) commit."""
    for path, content in files.items():
        place = work.root / target if path == "." else work.root / target / path
        if content is None:
            place.unlink()
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
    work.dv("add", target)
    if message is not None:
        work.git("commit", "-qam", message)


def branches(work: Work, ours: Files, theirs: Files, target: str = TARGET) -> None:
    """Make `other` with their change, and leave main, with ours, checked out."""
    work.git("checkout", "-q", "-b", "other")
    change(work, theirs, "theirs", target)
    work.git("checkout", "-q", "main")
    work.dv("checkout", "--force")
    change(work, ours, "ours", target)


def tree(work: Work, target: str = TARGET) -> dict[str, str]:
    """Return path in the target -> content, as it lies in the workspace."""
    top = work.root / target
    return {
        os.path.relpath(os.path.join(folder, name), top): (top / folder / name).read_text()
        for folder, _, files in os.walk(top)
        for name in files
    }


def conflicts(work: Work) -> dict[str, list[str]]:
    """Return target -> paths that conflict, as `dv status` has them."""
    return {
        one["target"]: [conflict["path"] for conflict in one["conflicts"]]
        for one in work.dv("status", "--json").json["targets"]
        if one["manifest"] == "conflicted"
    }


def put_manifest(work: Work, entries: Entries, target: str = TARGET) -> None:
    """Write and stage the manifest of a target whose data is not here."""
    built = build("dir", entries)
    with Repo.open(str(work.root)) as repo:
        repo._project.store.put_shards(built.shards)
        before = repo._project.manifest_text(target)
        repo._project.write_manifest(target, built.manifest, instead_of=before)
    (work.root / f"{target}.dv.json").write_bytes(encode(built.manifest))
    work.git("add", "-A")


Bring = Callable[[Work], str]


def by_merge(work: Work) -> str:
    return run(work, "merge", "--no-edit", "other", code=None)


def by_rebase(work: Work) -> str:
    # Turned round, so that what main has is ours here too.
    work.git("checkout", "-q", "other")
    return run(work, "rebase", "main", code=None)


def by_cherry_pick(work: Work) -> str:
    return run(work, "cherry-pick", "other", code=None)


def by_stash_pop(work: Work) -> str:
    work.git("checkout", "-q", "other")
    work.git("reset", "-q", "--soft", "HEAD~1")
    work.git("stash", "-q")
    work.git("checkout", "-q", "main")
    return run(work, "stash", "pop", code=None)


WAYS: dict[str, Bring] = {
    "merge": by_merge,
    "rebase": by_rebase,
    "cherry-pick": by_cherry_pick,
    "stash pop": by_stash_pop,
}
