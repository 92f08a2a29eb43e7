"""Data that another repository keeps with DVC or git-lfs: which files there are, and where.

The repository is cloned bare, as one with dv is; its small files are read at a commit. Neither DVC
nor git-lfs runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from msgspec import structs

from dvtool.errors import InputError, UsageError, count_text, printable
from dvtool.format.chunker import FILE_SIZE_MAX_BYTES
from dvtool.format.source import DataSource, holds_credentials
from dvtool.git import (
    EXECUTABLE_MODE,
    FILE_MODES,
    LINK_MODE,
    SUBMODULE_MODE,
    Git,
    TreeEntry,
)
from dvtool.jobs.members import LINK_SIZE_MAX_BYTES
from dvtool.remotes.origins import dvc, lfs
from dvtool.remotes.origins.base import FORM_EXECUTABLE, FORM_LINK, OriginObject
from dvtool.remotes.origins.registry import open_origin, source_of
from dvtool.verbs.imports.import_repo import REMOTE, OtherRepository
from dvtool.verbs.imports.listing import NAMES_MAX, Opened

_DVC_OPTIONS = {"endpointurl": "endpoint_url", "region": "region", "profile": "profile"}
_SSH = (
    r"(?:ssh://(?:[^@/]+@)?(?P<host>[^:/]+)(?::\d+)?/|(?:[^@/]+@)?(?P<short>[^:/]+):)(?P<path>.+)"
)


def kept_otherwise(other: OtherRepository) -> Opened | None:
    """Return what DVC, else git-lfs, keeps at the path of a source; None if neither does.

    The source of the answer has its kind, and as an option the place where the content is.
    """
    git, source = other.project.git, other.source
    tree = git.tree_at(source.state)
    files = {name: entry.id for name, entry in tree.items() if entry.mode in FILE_MODES}
    if dvc.CONFIG_PATH in files:
        opened = _outs_of_dvc(git, source, files)
        if opened is not None:
            return opened
    return _files_of_lfs(git, source, tree)


def _outs_of_dvc(git: Git, source: DataSource, files: dict[str, str]) -> Opened | None:
    named = [
        path
        for path in sorted(files)
        if path.endswith(".dvc") or path.rpartition("/")[2] == dvc.LOCK_NAME
    ]
    git.need_blobs(files[path] for path in (*named, dvc.CONFIG_PATH))

    def text(path: str) -> bytes:
        return git.read_blob(files[path], size_max=dvc.DVC_FILE_SIZE_MAX_BYTES)

    outs = [out for path in named for out in dvc.outs_of(text(path), path)]
    chosen, below = _chosen_outs(outs, source.path)
    if not chosen:
        return None
    configurations = [text(dvc.CONFIG_PATH)]
    own = os.path.join(source.url, ".dvc", "config.local")
    if os.path.isfile(own):
        with open(own, "rb") as file:
            configurations.append(file.read(dvc.DVC_FILE_SIZE_MAX_BYTES))
    remotes, default = dvc.remotes_of(*configurations)
    places: dict[str, dvc.DvcPlace] = {}
    texts = []
    for name in sorted({out.remote for _, out in chosen}):
        remote = remotes.get(name or default)
        places[name], said = _dvc_place(source.url, remote, name or default)
        texts += [said] if said else []
    options = {REMOTE: ", ".join(texts)} if texts else {}
    found = structs.replace(source, kind="dvc", state="", options=options)
    origin = dvc.DvcOrigin(source.url, chosen, places, below)
    return Opened(found, origin, origin.batches(), source.state)


def _chosen_outs(outs: Iterable[dvc.DvcOut], path: str) -> tuple[list[tuple[str, dvc.DvcOut]], str]:
    """Return the outputs that a path means, by path in the target, and the path within one."""
    chosen = []
    for out in outs:
        if out.path == path:
            return [("", out)], ""
        if out.is_folder and path.startswith(out.path + "/"):
            return [("", out)], path[len(out.path) + 1 :]
        if not path or out.path.startswith(path + "/"):
            chosen.append((out.path[len(path) :].lstrip("/"), out))
    return chosen, ""


def _dvc_place(url: str, remote: dvc.DvcRemote | None, name: str) -> tuple[dvc.DvcPlace, str]:
    """Return where content of a remote is, and how the manifest says that."""
    caches = _dvc_caches(url)
    if remote is None:
        if not caches or name:
            raise UsageError(
                f"{printable(url)} names no remote of DVC{f' {printable(name)}' if name else ''}, "
                "so nobody knows where its data is",
                hint="push it there: dvc remote add -d NAME URL; dvc push; and commit .dvc/config",
            )
        return dvc.DvcPlace(caches, None, ""), ""
    if holds_credentials(remote.url):
        raise UsageError(
            f"the address of DVC's remote {printable(remote.name)} holds credentials",
            hint="take them out of .dvc/config there; use your AWS configuration",
        )
    if any(remote.settings.get(key, "").lower() == "true" for key in ("version_aware", "worktree")):
        raise UsageError(
            f"DVC's remote {printable(remote.name)} keeps files by the versions of its bucket, "
            "which is not read here",
            hint=f"import the bucket itself: dv import {printable(remote.url)}",
        )
    scheme = remote.url.partition("://")[0] if "://" in remote.url else ""
    if scheme == "s3":
        return _dvc_bucket(remote)
    path = remote.url.removeprefix("file://")
    if scheme not in ("", "file"):
        raise dvc.refuse_kind(remote)
    if not os.path.isabs(os.path.expanduser(path)):
        if not os.path.isdir(url):
            raise UsageError(
                f"DVC's remote {printable(remote.name)} is {printable(path)}, beside a clone that "
                "is not on this machine",
                hint="clone the repository there, and import from that folder",
            )
        path = os.path.join(url, ".dvc", path)
    folder = os.path.normpath(os.path.expanduser(path))
    return dvc.DvcPlace((folder, *caches), None, ""), remote.url


def _dvc_caches(url: str) -> tuple[str, ...]:
    """Return the cache of a repository on this machine: before a push, data is only there."""
    cache = os.path.join(url, ".dvc", "cache")
    return (cache,) if os.path.isdir(cache) else ()


def _dvc_bucket(remote: dvc.DvcRemote) -> tuple[dvc.DvcPlace, str]:
    bucket, _, prefix = remote.url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    given: dict[str, str | None] = {
        ours: remote.settings[theirs]
        for theirs, ours in _DVC_OPTIONS.items()
        if theirs in remote.settings
    }
    source, local = source_of(f"s3://{bucket}/", given)
    origin = open_origin(source, local)
    words = [f"{name.replace('_', '-')} {value}" for name, value in sorted(given.items())]
    place = dvc.DvcPlace((), origin, f"{prefix}/" if prefix else "")
    return place, " ".join([remote.url, *words])


def _files_of_lfs(git: Git, source: DataSource, tree: Mapping[str, TreeEntry]) -> Opened | None:
    path = source.path
    chosen = {
        name: entry
        for name, entry in tree.items()
        if not path or name == path or name.startswith(path + "/")
    }
    blobs = [entry.id for entry in chosen.values() if entry.mode != SUBMODULE_MODE]
    git.need_blobs(blobs)
    sizes = git.object_sizes(blobs)
    objects = [
        _described_by_git(git, name[len(path) :].lstrip("/"), entry, sizes.get(entry.id, 0))
        for name, entry in chosen.items()
        if entry.mode != SUBMODULE_MODE
    ]
    if all(each.version for each in objects):
        return None  # git has all of it, and git-lfs nothing
    place = _lfs_place(git, source)
    options = {REMOTE: place.server} if place.server else {}
    found = structs.replace(source, kind="lfs", state="", options=options)
    origin = lfs.LfsOrigin(
        source.url,
        objects,
        place,
        lambda blob: git.read_blob(blob, size_max=FILE_SIZE_MAX_BYTES),
    )
    modules = [name for name, entry in chosen.items() if entry.mode == SUBMODULE_MODE]
    return Opened(found, origin, origin.batches(), source.state, _notes_of(modules))


def _described_by_git(git: Git, key: str, entry: TreeEntry, size: int) -> OriginObject:
    """Describe a file or symlink of a commit; what is a pointer, as what it points to."""
    if entry.mode == LINK_MODE:
        target = git.read_blob(entry.id, size_max=LINK_SIZE_MAX_BYTES)
        return OriginObject(key, 0, entry.id, os.fsdecode(target), form=FORM_LINK)
    form = FORM_EXECUTABLE if entry.mode == EXECUTABLE_MODE else ""
    small = size <= lfs.LFS_POINTER_SIZE_MAX_BYTES
    pointer = lfs.lfs_pointer(git.read_blob(entry.id)) if small else None
    if pointer is None:
        return OriginObject(key, size, entry.id, "git", form=form)
    return OriginObject(key, pointer.size, pointer.oid, form=form)


def _notes_of(modules: Sequence[str]) -> tuple[str, ...]:
    if not modules:
        return ()
    names = ", ".join(map(printable, modules[:NAMES_MAX]))
    return (
        f"{count_text(len(modules), 'submodule')} of git not taken ({names}): import from the "
        "repository of each",
    )


def _lfs_place(git: Git, source: DataSource) -> lfs.LfsPlace:
    """Return where git-lfs keeps the data of a repository: as `.lfsconfig` says, else beside git's.

    A repository on this machine has it in its own folder, and so has the one that it came from.
    """
    url = source.url
    if url.startswith("file://"):
        url = unquote(urlsplit(url).path)
    stated = dict(git.config_items_at(source.state, ".lfsconfig")).get("lfs.url", "")
    if holds_credentials(stated):
        raise InputError(
            f"{printable(source.url)}: its .lfsconfig holds credentials",
            hint="take them out there; use git's credential helper",
        )
    if os.path.isdir(url):
        folders = _lfs_folders(url)
        if any(map(os.path.isdir, folders)) or not stated:
            return lfs.LfsPlace(folders)
    return lfs.LfsPlace(server=stated or lfs_server(source.url), credential=git.credential)


def _lfs_folders(path: str) -> tuple[str, ...]:
    """Return where a repository on this machine has git-lfs's data, and the one it came from."""
    with Git.discover(path) as original:
        folders = [os.path.join(original.common_dir, "lfs", "objects")]
        upstream = original.config.get("remote.origin.url") or ""
    if upstream.startswith("file://"):
        upstream = unquote(urlsplit(upstream).path)
    above = os.path.join(path, upstream)
    if upstream and os.path.isdir(above):
        with Git.discover(above) as theirs:
            folders.append(os.path.join(theirs.common_dir, "lfs", "objects"))
    return tuple(folders)


def lfs_server(url: str) -> str:
    """Return the address of git-lfs's API of a git URL, by the rule of git-lfs's own documents.

    Of a repository by SSH, the one by HTTPS of the same host.
    """
    match = re.fullmatch(_SSH, url)
    if match and "://" not in url.removeprefix("ssh://"):
        url = f"https://{match['host'] or match['short']}/{match['path'].lstrip('/')}"
    if not url.startswith(("http://", "https://")):
        raise UsageError(
            f"{printable(url)} names no server of git-lfs",
            hint="name it in the repository's .lfsconfig, as lfs.url",
        )
    url = url.rstrip("/")
    return f"{url if url.endswith('.git') else url + '.git'}/info/lfs"
