"""hooks: put git hooks in place beside those of others, take them out, and their work."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from dvtool.errors import DvError, ManifestError, MissingError, SetupError, printable
from dvtool.format.manifest import Entries, Manifest, decode
from dvtool.format.paths import SUFFIX, workspace_path
from dvtool.git import Staged
from dvtool.hooks.scripts import KEPT_SUFFIX, NAMES, VERSION, script, version_of
from dvtool.project.parts import Project
from dvtool.system import atomic

HookState: TypeAlias = Literal["absent", "installed", "outdated", "other", "replaced", "called"]
"""`other`: a hook that is not ours, and none of ours. `replaced`: one was put over ours.
`called`: as `replaced`, but it runs ours, which it has renamed."""
LEGACY_SUFFIX = ".legacy"
"""How the pre-commit framework renames a hook that it then calls."""
HOOK_SIZE_MAX_BYTES = 1 << 20
_BLOB_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Hook(msgspec.Struct, frozen=True):
    """One of git's hooks as it is; `kept` says that a hook from before is beside it."""

    name: str
    state: HookState
    kept: bool


class HookStatus(msgspec.Struct, frozen=True):
    """All hooks of a repository, and the folder they are in."""

    folder: str
    hooks: tuple[Hook, ...]

    @property
    def complete(self) -> bool:
        """Whether every hook of ours runs, in this version."""
        return all(hook.state in ("installed", "called") for hook in self.hooks)


class HookPlan(msgspec.Struct, frozen=True):
    """What installing or taking out will do; the lists hold names of hooks."""

    folder: str
    write: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    """Of those to write: what is there now is kept and goes on running."""
    remove: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    """What was kept comes back."""
    left: tuple[str, ...] = ()
    """Someone put a hook over ours: it is not touched."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.write or self.remove or self.restore)


# --- in place and out -----------------------------------------------------------------------


def status(project: Project, python: str) -> HookStatus:
    """Look at the hooks in the folder that git uses."""
    folder = project.git.hooks_folder()
    return HookStatus(folder, tuple(_look(folder, name, python) for name in NAMES))


def _look(folder: str, name: str, python: str) -> Hook:
    path = os.path.join(folder, name)
    kept = os.path.lexists(path + KEPT_SUFFIX)
    text = _text(path)
    if text is None:
        return Hook(name, "absent", kept)
    if version_of(text) is not None:
        return Hook(name, "installed" if _is_current(path, text, name) else "outdated", kept)
    behind = _text(path + LEGACY_SUFFIX)
    if behind is not None and version_of(behind) is not None:
        return Hook(name, "called", kept)
    same = kept and _text(path + KEPT_SUFFIX) == text  # an installation that was cut short
    return Hook(name, "replaced" if kept and not same else "other", kept)


def _is_current(path: str, text: bytes, name: str) -> bool:
    # Another interpreter is no reason to write it anew: the script copes with one that is gone.
    return version_of(text) == VERSION and os.access(path, os.X_OK)


def _text(path: str) -> bytes | None:
    """Return what a hook begins with, None if there is nothing; b"" if it cannot be read."""
    if not os.path.lexists(path):
        return None
    try:
        with open(path, "rb") as file:
            return file.read(HOOK_SIZE_MAX_BYTES)
    except OSError:
        return b""


def plan_install(project: Project, python: str) -> HookPlan:
    """Plan to bring all hooks to this version."""
    now = status(project, python)
    todo = [hook for hook in now.hooks if hook.state in ("absent", "outdated", "other")]
    return HookPlan(
        now.folder,
        write=tuple(hook.name for hook in todo),
        keep=tuple(hook.name for hook in todo if hook.state == "other"),
        left=tuple(hook.name for hook in now.hooks if hook.state == "replaced"),
    )


def plan_uninstall(project: Project, python: str) -> HookPlan:
    """Plan to put back what was there before."""
    now = status(project, python)
    ours = [hook for hook in now.hooks if hook.state in ("installed", "outdated")]
    back = [hook for hook in now.hooks if hook.kept and hook.state in ("absent", *_OURS)]
    return HookPlan(
        now.folder,
        remove=tuple(hook.name for hook in ours if not hook.kept),
        restore=tuple(hook.name for hook in back),
        left=tuple(hook.name for hook in now.hooks if hook.state in ("replaced", "called")),
    )


_OURS: tuple[HookState, ...] = ("installed", "outdated")


def apply(todo: HookPlan, python: str) -> None:
    """Carry out a plan. At every instant each hook is the old one or the new one."""
    if todo.write:
        _make_folder(todo.folder)
    for name in todo.write:
        path = os.path.join(todo.folder, name)
        if name in todo.keep:
            _keep(path)
        with atomic.replacing(path) as file:
            file.write(script(name, python))
            os.fchmod(file.fileno(), 0o755)
    for name in todo.remove:
        os.unlink(os.path.join(todo.folder, name))
    for name in todo.restore:
        path = os.path.join(todo.folder, name)
        os.replace(path + KEPT_SUFFIX, path)


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SetupError(
            f"git looks for hooks in {printable(folder)}, which is no folder",
            hint="see: git config --show-origin core.hooksPath",
        ) from error


def _keep(path: str) -> None:
    kept = path + KEPT_SUFFIX
    with contextlib.suppress(FileNotFoundError):
        os.unlink(kept)  # the same hook, from an installation that was cut short
    try:
        os.link(path, kept, follow_symlinks=False)
    except (OSError, NotImplementedError):  # a filesystem without hard links
        os.rename(path, kept)


# --- pre-commit -----------------------------------------------------------------------------


class CommitCheck(msgspec.Struct):
    """What is wrong with what is staged. `targets` are those with a staged manifest."""

    targets: list[str] = msgspec.field(default_factory=list)
    missing: list[str] = msgspec.field(default_factory=list)
    """Files whose content is not in the store."""
    damaged: list[str] = msgspec.field(default_factory=list)
    """Manifests that cannot be read, with what is wrong with each."""
    large: list[tuple[str, int]] = msgspec.field(default_factory=list)
    """Files and sizes above hooks.maxfilesize."""

    @property
    def refused(self) -> bool:
        """Whether the commit must not be made."""
        return bool(self.missing or self.damaged or self.large)


def check_commit(project: Project) -> CommitCheck:
    """Check what is staged for the next commit, by git's index alone.

    What a parent has already is not looked at: neither its large files nor the content that its
    manifests name, which in a partial clone, or after a merge, need not be here.
    """
    result = CommitCheck()
    staged = project.git.staged()
    parents = project.git.parents_of_next()
    manifests = [one for one in staged if one.path.endswith(SUFFIX)]
    for one in manifests:
        result.targets.append(one.path.removesuffix(SUFFIX))
        try:
            _check_manifest(project, one, parents, result)
        except ManifestError as error:
            result.damaged.append(str(error))
    if result.missing:
        result.missing = _named_by_no_parent(project, result.missing, parents, manifests)
    _find_large(project, [one for one in staged if one not in manifests], parents, result)
    return result


def _check_manifest(
    project: Project, one: Staged, parents: Sequence[str], result: CommitCheck
) -> None:
    target = one.path.removesuffix(SUFFIX)
    manifest = decode(project.git.read_blob(one.blob), one.path)
    entries = _own_entries(project, target, manifest, _parents_manifests(project, target, parents))
    digests = {entry.digest for entry in entries.values() if entry.size > 0}
    lacking = project.store.lacking(digests)
    result.missing.extend(
        workspace_path(target, path)
        for path, entry in entries.items()
        if entry.size > 0 and entry.digest in lacking
    )


def _parents_manifests(project: Project, target: str, parents: Sequence[str]) -> list[Manifest]:
    found = []
    for parent in parents:
        with contextlib.suppress(ManifestError):  # nothing can be taken as known from it
            manifest = project.manifest_at(parent, target)
            if manifest is not None:
                found.append(manifest)
    return found


def _own_entries(
    project: Project, target: str, manifest: Manifest, parents: Sequence[Manifest]
) -> Entries:
    """Return the entries that no parent has in the same place.

    ManifestError for a list of files that is neither in the store nor in a parent.
    """
    shared = {ref.blake3 for parent in parents for ref in parent.shards}
    entries = dict(manifest.entries or {})
    for ref in manifest.shards:
        if ref.blake3 not in shared:
            try:
                entries.update(project.store.held_shard(ref))
            except MissingError as error:
                raise ManifestError(
                    f"{target + SUFFIX}: a list of {ref.files:,} of its files is not in the store"
                ) from error
    for parent in parents:
        known = _held_entries(project, parent)
        entries = {path: entry for path, entry in entries.items() if known.get(path) != entry}
    return entries


def _held_entries(project: Project, manifest: Manifest) -> Entries:
    """Return the entries of a manifest as far as they are here."""
    entries = dict(manifest.entries or {})
    for ref in manifest.shards:
        with contextlib.suppress(MissingError):
            entries.update(project.store.held_shard(ref))
    return entries


def _named_by_no_parent(
    project: Project, missing: Sequence[str], parents: Sequence[str], manifests: Sequence[Staged]
) -> list[str]:
    """Return those of the missing files whose content is not a parent's under another name."""
    known: set[str] = set()
    for parent in parents:
        with contextlib.suppress(ManifestError):
            for manifest in project.manifests_at(parent).values():
                known.update(e.blake3 for e in _held_entries(project, manifest).values())
    content: dict[str, str] = {}
    for one in manifests:
        target = one.path.removesuffix(SUFFIX)
        with contextlib.suppress(ManifestError):
            entries = _held_entries(project, decode(project.git.read_blob(one.blob), one.path))
            content.update({workspace_path(target, p): e.blake3 for p, e in entries.items()})
    return [path for path in missing if content.get(path) not in known]


def _find_large(
    project: Project, files: Sequence[Staged], parents: Sequence[str], result: CommitCheck
) -> None:
    limit = project.config.number("hooks.maxfilesize")
    if not limit or not files:
        return
    sizes = project.git.object_sizes([one.blob for one in files])
    large = [one for one in files if sizes.get(one.blob, 0) > limit]
    for parent in parents[1:]:  # what is staged differs from the first parent anyway
        theirs = project.git.blobs_at(parent, [one.path for one in large])
        large = [one for one in large if theirs.get(one.path) != one.blob]
    result.large = [(one.path, sizes[one.blob]) for one in large]


# --- what git tells the others ----------------------------------------------------------------


class Refs(msgspec.Struct, frozen=True):
    """What `git push` is about to send: object ids to send, and what the other side has."""

    new: tuple[str, ...]
    old: tuple[str, ...]


def parse_refs(lines: Iterable[str]) -> Refs:
    """Read what git gives a pre-push hook: ``local-ref local-id remote-ref remote-id`` a line.

    Deletions, with an id of zeros, send nothing.
    """
    new: list[str] = []
    old: list[str] = []
    for line in lines:
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 4:
            raise DvError(f"git gave the hook a line that means nothing: {printable(line)!r}")
        if fields[1].strip("0"):
            new.append(fields[1])
            if fields[3].strip("0"):
                old.append(fields[3])
    return Refs(tuple(dict.fromkeys(new)), tuple(dict.fromkeys(old)))


def parse_rewritten(lines: Iterable[str]) -> list[str]:
    """Read what git gives a post-rewrite hook: the ids of all commits, old ones and new."""
    return list(dict.fromkeys(word for line in lines for word in line.split()[:2]))


def note_in_step(project: Project, followed: Mapping[str, str]) -> None:
    """Leave the time for the scripts, which compare manifests with it.

    `followed` are the paths and blobs of manifests that the workspace now follows though HEAD has
    others: after ``git checkout REV -- PATH``.
    """
    path = _in_step_path(project)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    lines = [f"{blob} {name}\n" for name, blob in followed.items() if "\n" not in name]
    atomic.write_bytes(path, os.fsencode("".join(lines)), durable=False)


def followed(project: Project) -> dict[str, str]:
    """Return what `note_in_step` was given the last time."""
    try:
        with open(_in_step_path(project), "rb") as file:
            lines = os.fsdecode(file.read()).split("\n")
    except OSError:
        return {}
    pairs = (line.partition(" ") for line in lines)
    return {path: blob for blob, _, path in pairs if path and _BLOB_ID.fullmatch(blob)}


def _in_step_path(project: Project) -> str:
    return os.path.join(project.git.git_dir, "dv", "in-step")


def is_marked(project: Project) -> bool:
    """Whether this version of the hooks was put in place in this clone before."""
    try:
        with open(_mark_path(project), encoding="ascii") as file:
            return file.read().strip() == str(VERSION)
    except (OSError, UnicodeDecodeError):
        return False


def mark(project: Project, *, installed: bool) -> None:
    """Remember in this clone that the hooks are in place, or no longer."""
    path = _mark_path(project)
    if installed:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        atomic.write_bytes(path, f"{VERSION}\n".encode())
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _mark_path(project: Project) -> str:
    return os.path.join(project.git.common_dir, "dv", "hooks")
