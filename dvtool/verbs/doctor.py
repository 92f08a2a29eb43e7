"""doctor: checks of the machine, the repository and the remote, as data to print.

A check never raises for what it looks for: what is wrong becomes its state, with the next step.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from dvtool.errors import DvError, RemoteForbidden, count_text, printable

if TYPE_CHECKING:
    # Only for types: these load git and the packages that are to be checked here.
    from dvtool.project.config import Config
    from dvtool.project.parts import Project
    from dvtool.remotes.examine import Examination
    from dvtool.remotes.objects import Mark
    from dvtool.remotes.remote import RemoteStore
    from dvtool.remotes.transports.base import Features, StoreFacts

State: TypeAlias = Literal["ok", "warning", "failed"]

PACKAGE = "dvtool"
PYTHON_MIN = (3, 11)
GIT_MIN = (2, 31)
FREE_MIN_BYTES = 1 << 30
GIT_TIMEOUT_S = 10
CLOCK_OFF_S = 60
CLOCK_OFF_MAX_S = 900
"""S3 refuses requests that are signed by a clock which is further off."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check."""

    name: str
    """The subject of the check."""
    state: State
    """ok, warning or failed."""
    detail: str
    """The finding, in words."""
    hint: str | None = None
    """The next step; null if none is needed."""
    bytes: int | None = None
    """The size in bytes that `detail` is about, shown before it; null if it is about none."""


def failed(name: str, error: DvError) -> Check:
    """Return the check that an error answers."""
    return Check(name, "failed", str(error), error.hint)


# --- the machine ----------------------------------------------------------------------------


def check_machine() -> Iterator[Check]:
    """Check Python, git and the packages that dvtool needs."""
    yield _check_python()
    yield _check_git()
    yield _check_packages()


def _check_python() -> Check:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] < PYTHON_MIN:
        return Check("python", "failed", text, "install Python 3.11 or newer")
    return Check("python", "ok", text)


def _check_git() -> Check:
    hint = f"install git {'.'.join(map(str, GIT_MIN))} or newer and see that it is on the PATH"
    program = shutil.which("git")
    if program is None:
        return Check("git", "failed", "there is no git", hint)
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("git", "failed", f"git cannot be run: {error}", hint)
    text = os.fsdecode(done.stdout).strip()
    version = re.search(r"(\d+)\.(\d+)", text)
    if version is None or (int(version[1]), int(version[2])) < GIT_MIN:
        return Check("git", "failed", text or "git tells no version", hint)
    return Check("git", "ok", text.removeprefix("git version "))


def _check_packages() -> Check:
    """Look for each package that dvtool's own metadata requires, without importing any."""
    try:
        own = importlib.metadata.version(PACKAGE)
        required = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return Check("packages", "warning", f"{PACKAGE} runs without being installed")
    versions, missing = [f"{PACKAGE} {own}"], []
    for requirement in required:
        name = re.split(r"[ <>=!~;\[(]", requirement, maxsplit=1)[0]
        if "extra ==" in requirement.replace("extra==", "extra =="):
            continue
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        detail = f"missing: {', '.join(missing)}"
        hint = "install dvtool again, which brings them: see docs/install.md"
        return Check("packages", "failed", detail, hint)
    return Check("packages", "ok", ", ".join(versions))


# --- the repository -------------------------------------------------------------------------


def check_repository(
    project: Project,
    hook_states: Callable[[], tuple[str, Mapping[str, str]]],
    open_default: Callable[[], RemoteStore],
) -> Iterator[Check]:
    """Check an opened repository, what git runs in it, and its default remote.

    `hook_states` gives the folder of the hooks, and the state of each; `open_default` the remote.
    """
    yield from check_project(project)
    folder, states = hook_states()
    yield check_hooks(folder, states)
    yield from check_default_remote(project.config, open_default)


def check_project(project: Project) -> Iterator[Check]:
    """Check the parts of a repository: set-up, settings, manifests, local store."""
    yield Check("repository", "ok", project.root)
    yield _check_settings(project.config)
    yield _check_manifests(project)
    yield _check_store(project)
    yield _check_space(project)


def _check_settings(config: Config) -> Check:
    if config.text("core.repoid") is None:
        detail = "not set up: there is no .dvconfig with this repository's id"
        return Check("settings", "failed", detail, "run: dv init")
    if config.unknown:
        detail = f"not known to this version: {', '.join(config.unknown)}"
        return Check("settings", "warning", detail, "run: dv config, for what there is")
    return Check("settings", "ok", f"repository id {config.text('core.repoid')}")


def _check_manifests(project: Project) -> Check:
    targets = project.targets()
    for target in targets:
        try:
            project.manifest(target)
        except DvError as error:
            return failed("manifests", error)
    return Check("manifests", "ok", f"{len(targets):,} read")


def _check_store(project: Project) -> Check:
    folder_path = project.store.path
    refused = _refused_folder([project.store.path, os.path.join(project.git.git_dir, "dv")])
    if refused is not None:
        folder, may = refused
        detail = f"{folder} may {may} by this user: dv can change and fetch nothing here"
        hint = "check who owns it, its permissions, and whether the disk is mounted read-only"
        return Check("store", "failed", detail, hint)
    try:
        packs = project.store.db.packs().values()
    except DvError as error:
        return failed("store", error)
    except OSError as error:
        detail = f"{folder_path} cannot be used: {error.strerror}"
        return Check("store", "failed", detail, "check who owns it, and its permissions")
    size = sum(pack.size for pack in packs)
    return Check("store", "ok", f"in {count_text(len(packs), 'pack')} in {folder_path}", bytes=size)


def _refused_folder(folders: Sequence[str]) -> tuple[str, str] | None:
    """Return the first of these folders, or of those in it, that may not be used, and how so."""
    for folder in folders:
        for part in (folder, *(os.path.join(folder, name) for name in ("packs", "shards", "tmp"))):
            if not os.path.isdir(part):
                continue
            if not os.access(part, os.R_OK | os.X_OK):
                return part, "not be read"
            if not os.access(part, os.W_OK):
                return part, "only be read"
    return None


def check_hooks(folder: str, states: Mapping[str, str]) -> Check:
    """Say whether git runs our hooks; `states` is hook -> what `dv hooks status` says of it.

    A repository may well have no hooks, but not a part of them.
    """
    if all(state in ("installed", "called") for state in states.values()):
        return Check("hooks", "ok", f"installed in {folder}")
    if not any(state in ("installed", "called", "outdated") for state in states.values()):
        hint = "for git push to take the data along: dv hooks install"
        return Check("hooks", "ok", "not installed", hint)
    texts = (f"{name}: {state}" for name, state in states.items() if state != "installed")
    return Check("hooks", "warning", ", ".join(texts), "run: dv hooks install")


def _check_space(project: Project) -> Check:
    free = shutil.disk_usage(project.root).free
    if free < FREE_MIN_BYTES:
        hint = "make some space before adding or pulling data"
        return Check("disk", "warning", "free", hint, bytes=free)
    return Check("disk", "ok", "free", bytes=free)


# --- the remote -----------------------------------------------------------------------------


def check_default_remote(
    config: Config, open_default: Callable[[], RemoteStore]
) -> Iterator[Check]:
    """Check the default remote: it answers, lets us list and read, and is one of dvtool's."""
    if not config.remotes():
        hint = "add one: dv remote add origin s3://BUCKET/PREFIX (or a folder)"
        yield Check("remote", "warning", "there is none yet", hint)
        return
    try:
        store = open_default()
        mark = store.mark()
        yield _check_answer(store, mark)
    except DvError as error:
        yield failed("remote", error)
    except OSError as error:  # what is known of a remote is in the local store
        detail = f"not asked: {error.filename or 'the local store'}: {error.strerror}"
        yield Check("remote", "failed", detail, "check who owns it, and its permissions")


def _check_answer(store: RemoteStore, mark: Mark | None) -> Check:
    """Look at a remote that answers, and may be read; say whether it is one of ours."""
    made = f"made {mark.created}" if mark is not None else "has no dv.json that can be read"
    try:
        first = next(iter(store.backend.list("")), None)
    except RemoteForbidden:
        if store.backend.features.list_allowed is not False:
            raise
        detail = f"{store.url} answers, {made}, and may not be listed"
        return Check("remote", "warning", detail, "run: dv doctor --remote, for the rights there")
    if mark is not None:
        return Check("remote", "ok", f"{store.url} answers, {made}")
    if first is None:
        return Check("remote", "warning", f"{store.url} answers, and is empty", "run: dv push")
    detail = f"{store.url} holds other things and no dv.json"
    return Check("remote", "failed", detail, "choose an empty bucket, prefix or folder")


# --- one remote, examined -------------------------------------------------------------------


def check_examined(url: str, examination: Examination) -> Iterator[Check]:
    """Say what the examination of a remote has found."""
    yield _remote(url, examination)
    yield _check_permissions(examination)
    yield from _check_features(examination.features)
    yield from _check_facts(examination.facts)
    yield from _check_rates(examination.features)


def _remote(url: str, examination: Examination) -> Check:
    if examination.mark is not None:
        return Check(
            "remote",
            "ok",
            f"{url} answers, format {examination.mark.dv}, {examination.mark.created}",
        )
    if examination.stranger is not None:
        detail = (
            f"{url} holds other things (such as {printable(examination.stranger)}) and no dv.json"
        )
        return Check("remote", "failed", detail, "choose an empty bucket, prefix or folder")
    return Check("remote", "warning", f"{url} answers, and has no dv.json yet", "run: dv push")


def _check_permissions(examination: Examination) -> Check:
    refused = dict(examination.refused)
    may = ", ".join(
        deed for deed in ("read", "list", "write", "delete") if deed in examination.done
    )
    not_tried = "" if "write" in examination.done | refused.keys() else "; writing was not tried"
    if not refused:
        return Check("permissions", "ok", f"{may or 'none was tried'}{not_tried}")
    reasons = "; ".join(f"no {deed}: {error}" for deed, error in refused.items())
    # Without these two dvtool does its work, with more requests or without gc of the remote.
    bearable = refused.keys() <= {"list", "delete"} and bool(examination.done)
    hint = next(iter(refused.values())).hint or "see docs/remotes.md for the rights that dv uses"
    detail = f"{may or 'none confirmed'}{not_tried}; {reasons}"
    return Check("permissions", "warning" if bearable else "failed", detail, hint)


def _check_features(features: Features) -> Iterator[Check]:
    texts = {True: "honoured", False: "not honoured, which dv copes with", None: "not known"}
    yield Check("conditional put", "ok", texts[features.conditional_put])
    if features.ranged_get is False:
        detail = "answered with whole objects: partial fetches read more than they need"
        yield Check("ranged get", "warning", detail)
    else:
        yield Check("ranged get", "ok", "honoured" if features.ranged_get else "not known")
    sent = {True: "accepted", False: "not used", None: "not known"}[features.content_md5]
    etag = {True: "is the MD5", False: "is not the MD5", None: "not known"}[features.md5_etag]
    yield Check("checksums", "ok", f"Content-MD5: {sent}; ETag: {etag}")


def _check_facts(facts: StoreFacts) -> Iterator[Check]:
    if facts.server is not None:
        yield Check("server", "ok", facts.server)
    if facts.clock_ahead_s is not None:
        off_s = abs(facts.clock_ahead_s)
        side = "ahead of" if facts.clock_ahead_s > 0 else "behind"
        detail = f"{off_s:,.0f} s {side} the store's" if off_s >= 2 else "agrees with the store's"
        state: State = "ok" if off_s < CLOCK_OFF_S else "warning"
        state = state if off_s < CLOCK_OFF_MAX_S else "failed"
        yield Check("clock", state, detail, None if state == "ok" else "set this machine's clock")
    words = {True: "on", False: "off", None: "not known"}
    if facts.versioning is not None or facts.object_lock is not None:
        detail = f"versioning {words[facts.versioning]}, object lock {words[facts.object_lock]}"
        yield Check("bucket", "ok", detail)


def _check_rates(features: Features) -> Iterator[Check]:
    if features.latency_s is not None:
        yield Check("latency", "ok", f"{features.latency_s * 1000:,.1f} ms a request")
    rates = {"download": features.down_bytes_per_s, "upload": features.up_bytes_per_s}
    for name, rate in rates.items():
        if rate is not None:
            yield Check(name, "ok", "a second, one transfer at a time", bytes=int(rate))
