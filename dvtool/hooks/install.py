"""Put git hooks in place beside those of others, and take them out; the drivers with them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from dvtool.errors import SetupError, printable
from dvtool.hooks.interpreter import Interpreter, this_interpreter
from dvtool.hooks.scripts import KEPT_SUFFIX, NAMES, VERSION, script, version_of
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.system import atomic
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.hooks import drivers, own_folder
else:
    drivers = later("dvtool.hooks.drivers")
    own_folder = later("dvtool.hooks.own_folder")

HookState: TypeAlias = Literal["absent", "installed", "outdated", "other", "replaced", "called"]
"""`other`: a hook that is not ours, and none of ours. `replaced`: one was put over ours.
`called`: as `replaced`, but it runs ours, which it has renamed."""
LEGACY_SUFFIX = ".legacy"
"""How the pre-commit framework renames a hook that it then calls."""


class Hook(msgspec.Struct, frozen=True):
    """One of git's hooks as it is."""

    name: str
    """Its name, such as pre-push."""
    state: HookState
    """installed, outdated (of another version), absent, other (than ours), replaced (ours, by
    another) or called (ours, by another)."""
    kept: bool
    """Whether a hook from before runs first."""


class HookStatus(msgspec.Struct, frozen=True):
    """All hooks of a repository, and the folder they are in."""

    folder: str
    hooks: tuple[Hook, ...]

    @property
    def complete(self) -> bool:
        """Whether every hook of ours runs, in this version."""
        return all(hook.state in ("installed", "called") for hook in self.hooks)


class HookPlan(msgspec.Struct, frozen=True):
    """The plan of installing or uninstalling; the lists hold names of hooks."""

    folder: str
    write: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    """The hooks to write whose present file is kept and goes on running."""
    remove: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    """The hooks whose kept file comes back."""
    left: tuple[str, ...] = ()
    """The hooks that somebody put over ours: they are not touched."""
    shared: str = ""
    """The folder in which git looks for the hooks of all repositories of this user: it is not
    touched, and `folder` is one for this repository alone, whose hooks run those there first."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.write or self.remove or self.restore)


class Hooks:
    """The git hooks and drivers of a repository: their state, and putting them in and out."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self._project = project
        self._settings = settings
        self._python = this_interpreter(project.root)

    def status(self) -> HookStatus:
        """Return which hooks are in place, and where."""
        return _hook_status(self._project)

    def states(self) -> tuple[str, dict[str, str]]:
        """Return the folder that git looks into, and the state of each hook by its name."""
        status = self.status()
        return status.folder, {hook.name: hook.state for hook in status.hooks}

    def drivers_installed(self) -> bool:
        """Whether git knows the merge and diff drivers for manifests."""
        return drivers.installed(self._project)

    def install(self, *, dry_run: bool = False) -> HookPlan:
        """Put hooks and drivers in place, keeping what is there; return what was to be done."""
        plan = _plan_install(self._project)
        if not dry_run:
            drivers.install(self._project)  # first: it may find .gitattributes unusable
            if plan.shared:
                own_folder.make(plan.folder, plan.shared)
            _apply_hooks(plan, self._python)
            if plan.shared:
                self._project.git.config.set(None, own_folder.KEY, plan.folder)
            _record_installed(self._project, installed=True)
            self._settings.allow_hooks()
        return plan

    def uninstall(self, *, dry_run: bool = False) -> HookPlan:
        """Put back what was there before, and remember in this clone that hooks are not wanted."""
        plan = _plan_uninstall(self._project)
        if not dry_run:
            drivers.uninstall(self._project)
            if own_folder.in_use(self._project.git):
                own_folder.remove_own_folder(self._project.git)
            else:
                _apply_hooks(plan, self._python)
            self.refuse()
        return plan

    def refuse(self) -> None:
        """Remember in this clone that hooks are not wanted."""
        _record_installed(self._project, installed=False)
        if self._project.config.flag("hooks.install"):
            self._settings.set("hooks.install", "false", local=True)

    def overridden_folder(self) -> str:
        """Return the folder of hooks for all repositories that `ensure` would have git leave.

        Empty if there is none, or if `ensure` would do nothing.
        """
        if _is_marked(self._project) or not self._project.config.flag("hooks.install"):
            return ""
        return own_folder.shared_folder(self._project.git)

    def ensure(self, *, dry_run: bool = False) -> HookPlan | None:
        """Install unless that was done in this clone, or is not wanted; return what was done."""
        if _is_marked(self._project) or not self._project.config.flag("hooks.install"):
            return None
        return self.install(dry_run=dry_run)


def _hook_status(project: Project) -> HookStatus:
    """Look at the hooks in the folder that git uses."""
    folder = project.git.hooks_folder()
    return HookStatus(folder, tuple(_look_at_hook(folder, name) for name in NAMES))


def _look_at_hook(folder: str, name: str) -> Hook:
    path = os.path.join(folder, name)
    kept = os.path.lexists(path + KEPT_SUFFIX)
    text = _text(path)
    if text is None:
        return Hook(name, "absent", kept)
    if version_of(text) is not None:
        return Hook(name, "installed" if _is_current(path, text) else "outdated", kept)
    behind = _text(path + LEGACY_SUFFIX)
    if behind is not None and version_of(behind) is not None:
        return Hook(name, "called", kept)
    same = kept and _text(path + KEPT_SUFFIX) == text  # an installation that was cut short
    return Hook(name, "replaced" if kept and not same else "other", kept)


def _is_current(path: str, text: bytes) -> bool:
    # Another interpreter is no reason to write the hook anew: the script copes with one that is
    # gone.
    return version_of(text) == VERSION and os.access(path, os.X_OK)


def _text(path: str) -> bytes | None:
    """Return what a hook begins with, None if there is nothing; b"" if it cannot be read."""
    if not os.path.lexists(path):
        return None
    try:
        with open(path, "rb") as file:
            return file.read(own_folder.HOOK_SIZE_MAX_BYTES)
    except OSError:
        return b""


def _plan_install(project: Project) -> HookPlan:
    """Plan to put all hooks of this version in place."""
    shared = own_folder.shared_folder(project.git)
    if shared:
        return HookPlan(own_folder.path_of(project.git), write=NAMES, shared=shared)
    now = _hook_status(project)
    missing = [hook for hook in now.hooks if hook.state in ("absent", "outdated", "other")]
    return HookPlan(
        now.folder,
        write=tuple(hook.name for hook in missing),
        keep=tuple(hook.name for hook in missing if hook.state == "other"),
        left=tuple(hook.name for hook in now.hooks if hook.state == "replaced"),
    )


def _plan_uninstall(project: Project) -> HookPlan:
    """Plan to put back what was there before; what serves other repositories too stays."""
    now = _hook_status(project)
    if own_folder.shared_folder(project.git):
        installed = [hook.name for hook in now.hooks if hook.state in _OURS]
        return HookPlan(now.folder, shared=now.folder if installed else "")
    if own_folder.in_use(project.git):
        return HookPlan(now.folder, remove=tuple(hook.name for hook in now.hooks))
    ours = [hook for hook in now.hooks if hook.state in ("installed", "outdated")]
    back = [hook for hook in now.hooks if hook.kept and hook.state in ("absent", *_OURS)]
    return HookPlan(
        now.folder,
        remove=tuple(hook.name for hook in ours if not hook.kept),
        restore=tuple(hook.name for hook in back),
        left=tuple(hook.name for hook in now.hooks if hook.state in ("replaced", "called")),
    )


_OURS: tuple[HookState, ...] = ("installed", "outdated")


def _apply_hooks(plan: HookPlan, python: Interpreter) -> None:
    """Carry out a plan. At every instant each hook is the old one or the new one."""
    if plan.write:
        _make_folder(plan.folder)
    for name in plan.write:
        path = os.path.join(plan.folder, name)
        if name in plan.keep:
            _keep(path)
        with atomic.replacing(path) as file:
            file.write(script(name, python))
            os.fchmod(file.fileno(), 0o755)
    for name in plan.remove:
        os.unlink(os.path.join(plan.folder, name))
    for name in plan.restore:
        path = os.path.join(plan.folder, name)
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


def _is_marked(project: Project) -> bool:
    """Whether this version of the hooks was put in place in this clone before."""
    try:
        with open(_mark_path(project), encoding="ascii") as file:
            return file.read().strip() == str(VERSION)
    except (OSError, UnicodeDecodeError):
        return False


def _record_installed(project: Project, *, installed: bool) -> None:
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
