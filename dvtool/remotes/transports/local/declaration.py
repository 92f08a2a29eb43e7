"""A folder as a remote: a path, or file:// in front of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from dvtool.errors import UsageError
from dvtool.remotes.transports.declaration import Transport, Value, refuse_credentials
from dvtool.system.lazy import later

if TYPE_CHECKING:
    import urllib.parse as urls

    from dvtool.remotes.transports.base import Features
    from dvtool.remotes.transports.local import backend
else:
    backend = later("dvtool.remotes.transports.local.backend")
    urls = later("urllib.parse")


def folder_path(url: str) -> str:
    """Return the path that a folder's URL names; UsageError if it names none or a relative one."""
    path = url
    if "://" in url:
        rest = url.partition("://")[2]
        host, slash, below = rest.partition("/")
        if host not in ("", "localhost"):
            raise UsageError(
                f"{url}: a file url names no host", hint=f"write three slashes: file:///{rest}"
            )
        path = urls.unquote(slash + below, errors="surrogateescape")
    if not os.path.isabs(path) or "\0" in path:
        raise UsageError(f"the path of a remote must be absolute: {url}")
    return path


def _open_folder(
    url: str, values: Mapping[str, Value], features: Features | None
) -> backend.LocalBackend:
    return backend.LocalBackend(folder_path(url), url=url, features=features)


def _resolve_folder(url: str, folder: str) -> str:
    if "://" in url:
        return folder_path(url)
    path = os.path.normpath(os.path.join(folder, url))
    if not os.path.isdir(path):
        _refuse_half_url(url)
    return path


def _refuse_half_url(url: str) -> None:
    """UsageError for what may be a URL mistyped: a folder of that name would be made silently."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", url)
    if url.startswith("arn:"):
        raise UsageError(
            f"{url} is neither a url nor the path of a folder that is there",
            hint="write s3://BUCKET/PREFIX; of an access point the alias is the bucket",
        )
    if scheme:
        rest = url[scheme.end() :].lstrip("/")
        raise UsageError(
            f"{url} is neither a url nor the path of a folder that is there",
            hint=f"write two slashes, {scheme[1]}://{rest}; or, for a folder, ./{url}",
        )
    if re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*/", url):
        raise UsageError(
            f"{url} may be a bucket or a folder, and there is no such folder",
            hint=f"write s3://{url}; or, for a folder, ./{url}",
        )


def _create_folder(url: str) -> None:
    backend.LocalBackend(folder_path(url)).create()


def _folder_may_be_committed(url: str, root: str | None) -> bool:
    """Tell whether a URL is a folder inside the repository."""
    parts = [part for part in url.split("/") if part not in {"", "."}]
    # A colon in the first part makes it a scheme or a drive, "~" somebody's home.
    if not parts or url.startswith(("/", "~")) or "\\" in url or ":" in parts[0]:
        return False
    if not _are_inside(parts):
        return False
    if root is None:
        return True
    root = os.path.realpath(root)
    reached = os.path.relpath(os.path.realpath(os.path.join(root, url)), root)
    return reached != "." and _are_inside(reached.split(os.sep))


def _are_inside(parts: Iterable[str]) -> bool:
    """Tell whether a path stays where it starts, and out of git's own folder.

    Some filesystems ignore case and, at the end, dots and spaces; ``git~1`` is a short name there.
    """
    return not any(part == ".." or part.lower().rstrip(". ") in {".git", "git~1"} for part in parts)


FOLDER = Transport(
    noun="a folder",
    schemes=("", "file"),
    url_form="a directory (/path or file:///path)",
    committed_form="a folder inside the repository",
    open=_open_folder,
    resolve=_resolve_folder,
    create=_create_folder,
    check_setting=refuse_credentials,
    may_be_committed=_folder_may_be_committed,
    remote=False,
)
