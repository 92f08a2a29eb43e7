"""Files of a dataset, model or space of the Hugging Face hub, at a revision, as an origin.

huggingface_hub (the extra `hub`) says which files there are, and with which headers to ask; server
and token are those of its own settings. Content is checked against the hash that the hub states:
SHA-256 of large files, git's own of others.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from dvtool.errors import DvError, MissingError, RemoteError, RemoteForbidden, UsageError, printable
from dvtool.format.paths import path_fault
from dvtool.format.source import DataSource
from dvtool.remotes.origins.base import Body, ContentCheck, OriginObject
from dvtool.remotes.origins.checks import GitCheck, HashCheck
from dvtool.remotes.origins.web import WebOrigin
from dvtool.system.extras import import_extra

LISTED_AT_ONCE = 1_000
HUB_FORM = "hf://datasets/OWNER/NAME[@REV][/PATH], or hf://OWNER/NAME for a model"
_HUB_URL = re.compile(
    r"hf://(?P<kind>datasets/|models/|spaces/)?"
    r"(?P<name>(?!(?:datasets|models|spaces)/)[\w.-]+/[\w.-]+)"
    r"(?:@(?P<rev>[^/]+))?(?:/(?P<path>.*))?"
)


def hub_source(url: str) -> DataSource:
    """Return what an address of the hub means as typed; UsageError if it is none.

    A slash in a revision is written %2F, as huggingface_hub has it.
    """
    match = _HUB_URL.fullmatch(url)
    path = (match["path"] or "").strip("/") if match else ""
    if match is None or (path and path_fault(path)):
        raise UsageError(f"{printable(url)} is no address of the hub", hint=f"write {HUB_FORM}")
    kind = "" if match["kind"] in (None, "models/") else match["kind"]
    rev = (match["rev"] or "").replace("%2F", "/").replace("%2f", "/")
    return DataSource("hf", f"hf://{kind}{match['name']}", "", path, rev)


def _of_hub(module: str) -> Any:
    return import_extra(module, extra="hub", user="sources hf://")


class HubOrigin:
    """The files at and below a path of a repository of the hub.

    The tag of an object is its SHA-256 or the id of its blob, its version the commit.
    """

    def __init__(self, url: str, path: str, rev: str) -> None:
        self._url = url
        self._path = path
        self._rev = rev

    def __reduce__(self) -> tuple[Any, ...]:
        return HubOrigin, (self._url, self._path, self._rev)

    @property
    def url(self) -> str:
        """The repository and path, for messages."""
        return printable(self._url + (f"/{self._path}" if self._path else ""))

    @cached_property
    def _hub(self) -> Any:
        return _of_hub("huggingface_hub")

    @property
    def _repository(self) -> tuple[str, str]:
        """The kind of the repository, and its name."""
        kind, _, name = self._url.removeprefix("hf://").partition("/")
        if kind in ("datasets", "spaces"):
            return kind[:-1], name
        return "model", f"{kind}/{name}"

    @cached_property
    def _commit(self) -> str:
        """The commit that the revision is now; asked once."""
        kind, name = self._repository
        with self._explained():
            info = self._hub.HfApi().repo_info(name, repo_type=kind, revision=self._rev or None)
        if not info.sha:
            raise RemoteError(
                f"{self.url}: the hub names no commit",
                hint="name a commit: hf://datasets/OWNER/NAME@COMMIT/PATH",
            )
        return str(info.sha)

    def commit(self) -> str:
        """Return the commit that the revision is now; asked once."""
        return self._commit

    def batches(self) -> Iterator[list[OriginObject]]:
        """Yield the files at the commit that the revision is; a path of one file is that file."""
        kind, name = self._repository
        hub, commit = self._hub, self._commit
        kind_of_file = _of_hub("huggingface_hub.hf_api").RepoFile
        with self._explained():
            if self._path:
                named = hub.HfApi().get_paths_info(
                    name, [self._path], revision=commit, repo_type=kind
                )
                files = [each for each in named if isinstance(each, kind_of_file)]
                if files or not named:
                    yield [self._described(each, self._path) for each in files]
                    return
            tree = hub.HfApi().list_repo_tree(
                *(name, self._path or None),
                recursive=True,
                revision=commit,
                repo_type=kind,
            )
            listed: list[OriginObject] = []
            for each in tree:
                if isinstance(each, kind_of_file):
                    listed.append(self._described(each, self._path))
                if len(listed) >= LISTED_AT_ONCE:
                    yield listed
                    listed = []
            yield listed

    def _described(self, file: Any, top: str) -> OriginObject:
        path = file.path[len(top) :].lstrip("/") if top else file.path
        tag = file.lfs.sha256 if file.lfs is not None else file.blob_id
        return OriginObject(path, int(file.size), str(tag), self._commit)

    @contextlib.contextmanager
    def open(
        self, described: OriginObject, *, offset: int = 0, size: int | None = None
    ) -> Iterator[Body]:
        """Open a file at the commit that it was listed at; see `Origin.open`."""
        kind, name = self._repository
        path = "/".join(part for part in (self._path, described.key) if part)
        url = self._hub.hf_hub_url(name, path, repo_type=kind, revision=described.version)
        headers = _of_hub("huggingface_hub.utils").build_hf_headers()
        file = WebOrigin(url, {key.lower(): value for key, value in headers.items()})
        with (
            contextlib.closing(file),
            file.open(described._replace(tag=""), offset=offset) as body,
        ):
            yield body

    def read_many(self, objects: Iterable[tuple[int, OriginObject]]) -> Iterator[tuple[int, bytes]]:
        """Yield nothing; see `Origin.read_many`."""
        return iter(())

    def content_check(self, described: OriginObject) -> ContentCheck:
        """Return the check of a file's hash."""
        if len(described.tag) == 64:
            return HashCheck("sha256", described.tag)
        return GitCheck(described.tag, described.size)

    def close(self) -> None:
        """Do nothing: each file has a connection of its own."""

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what huggingface_hub raises into our errors."""
        errors = _of_hub("huggingface_hub.errors")
        missing = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)
        try:
            yield
        except errors.GatedRepoError as error:
            raise RemoteForbidden(
                f"{self.url} is open to those whom its owner lets in",
                hint="ask on its page, then: hf auth login",
            ) from error
        except (*missing, errors.EntryNotFoundError) as error:
            at = f" at {printable(self._rev)}" if self._rev else ""
            raise MissingError(
                f"the hub has no {self.url}{at}, or does not show it to you",
                hint="check owner, name, revision and path; for a private one: hf auth login",
            ) from error
        except DvError:
            raise
        except Exception as error:  # of its HTTP client, which is another from release to release
            said = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
            raise RemoteError(
                f"{self.url}: {said}", hint="check the address and your network"
            ) from error
