"""Files that git-lfs keeps, and files of git beside them, as an origin.

Content comes from the objects of a repository on this machine, or from a server by the batch API
(https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md), in basic transfers. It is named by
its SHA-256, which is checked while it is read; a file of git by git's own hash.
"""

from __future__ import annotations

import base64
import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from dvtool.errors import (
    ObjectMissing,
    RemoteError,
    RemoteForbidden,
    RemoteTransient,
    printable,
)
from dvtool.remotes.origins.base import Body, ContentCheck, OriginObject
from dvtool.remotes.origins.checks import GitCheck, HashCheck
from dvtool.remotes.origins.folder import opened_in
from dvtool.remotes.origins.web import pool_for, web_body

LFS_POINTER_SIZE_MAX_BYTES = 1_024
ASKED_AT_ONCE = 100
BATCH_ANSWER_MAX_BYTES = 16 << 20
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n?"
)
_JSON = "application/vnd.git-lfs+json"
_WORTH_ANOTHER_ATTEMPT = frozenset({408, 425, 429, 500, 502, 503, 504, 509})


class LfsPointer(NamedTuple):
    """A file that git-lfs keeps: its SHA-256 in hex, and its size in bytes."""

    oid: str
    size: int


def lfs_pointer(text: bytes) -> LfsPointer | None:
    """Return what a pointer names; None for a text that is none."""
    match = _POINTER.fullmatch(text) if len(text) <= LFS_POINTER_SIZE_MAX_BYTES else None
    return None if match is None else LfsPointer(match[1].decode(), int(match[2]))


class LfsAction(NamedTuple):
    """Where an object is, as the server said, and the headers that it wants, which are secret."""

    url: str
    headers: Mapping[str, str]


class LfsPlace(NamedTuple):
    """Where content is: in folders of this machine, or (`server`) at the address of an API.

    `credential` is asked for user and password once the server wants to know who asks.
    """

    folders: tuple[str, ...] = ()
    server: str = ""
    credential: Callable[[str], tuple[str, str] | None] = lambda _: None


class LfsOrigin:
    """Files of a commit, by the paths that they get in a target; not for other processes.

    `files` are objects whose tag is a SHA-256 (of git-lfs) or the id of a blob (`version` "git").
    `blob` reads a file of git.
    """

    def __init__(
        self,
        url: str,
        files: Iterable[OriginObject],
        kept_at: LfsPlace,
        blob: Callable[[str], bytes],
    ) -> None:
        self._url = url
        self._files = list(files)
        self._place = kept_at
        self._blob = blob
        self._headers: dict[str, str] = {}
        self._actions: dict[str, LfsAction] = {}
        self._lock = threading.Lock()
        self._pools: dict[str, urllib3.PoolManager] = {}

    @property
    def url(self) -> str:
        """The repository, for messages."""
        return printable(self._url)

    def commit(self) -> str:
        """Return "": the repository's commit is known to whom it was cloned for."""
        return ""

    def batches(self) -> Iterator[list[OriginObject]]:
        """Yield the files."""
        yield self._files

    @contextlib.contextmanager
    def open(
        self, described: OriginObject, *, offset: int = 0, size: int | None = None
    ) -> Iterator[Body]:
        """Open an object; see `Origin.open`."""
        if described.version == "git":
            yield _Bytes(self._blob(described.tag)[offset:])
            return
        oid = described.tag
        if not self._place.server:
            name = f"{oid[:2]}/{oid[2:4]}/{oid}"
            with opened_in(self._place.folders, name, offset, described.key) as file:
                yield file
            return
        action = self._action(described)
        headers = dict(action.headers)
        if offset:
            headers["Range"] = f"bytes={offset}-"
        answer = self._ask("GET", action.url, headers, None)
        try:
            if answer.status in (401, 403, 404, 410):
                self._actions.pop(oid, None)  # it may have expired: the next attempt asks anew
                raise RemoteTransient(f"{self.url}: {printable(described.key)}: {answer.status}")
            self._check(answer.status)
            if offset and answer.status != 206:
                raise RemoteError(
                    f"{self.url}: the server sends no part of a file",
                    hint="repeat the command: it reads the file from its beginning",
                )
            yield web_body(answer, self.url)
        finally:
            answer.close()
            answer.release_conn()

    def read_many(self, objects: Iterable[tuple[int, OriginObject]]) -> Iterator[tuple[int, bytes]]:
        """Yield nothing, but ask where many objects are; see `Origin.read_many`."""
        if self._place.server:
            asked = (each for _, each in objects if each.version != "git")
            while asked_now := list(islice(asked, ASKED_AT_ONCE)):
                self._ask_where(asked_now)
        return iter(())

    def content_check(self, described: OriginObject) -> ContentCheck:
        """Return the check of an object's hash."""
        if described.version == "git":
            return GitCheck(described.tag, described.size)
        return HashCheck("sha256", described.tag)

    def planned_requests(self, objects: Iterable[OriginObject]) -> tuple[int, int]:
        """Return how many questions where objects are, and how many GETs, it takes to read them."""
        count = sum(each.version != "git" for each in objects)
        return -(-count // ASKED_AT_ONCE) if self._place.server else 0, count

    def close(self) -> None:
        """Close idle connections."""
        for pool in self._pools.values():
            pool.clear()

    def _action(self, described: OriginObject) -> LfsAction:
        action = self._actions.get(described.tag)
        if action is None:
            self._ask_where([described])
            action = self._actions.get(described.tag)
        if action is None:
            raise ObjectMissing(described.key, self.url)
        return action

    def _ask_where(self, objects: Iterable[OriginObject]) -> None:
        """Ask the server where it has objects; an error of one is raised when that one is read."""
        rows = [{"oid": each.tag, "size": each.size} for each in objects]
        if not rows:
            return
        body = {"operation": "download", "transfers": ["basic"], "objects": rows}
        status, text = self._post(msgspec.json.encode(body))
        if status == 401 and not self._headers:
            known = self._place.credential(self._place.server)
            if known is not None:
                pair = base64.b64encode(":".join(known).encode()).decode()
                self._headers = {"Authorization": f"Basic {pair}"}
                status, text = self._post(msgspec.json.encode(body))
        self._check(status)
        try:
            for row in msgspec.json.decode(text)["objects"]:
                action = row.get("actions", {}).get("download")
                if action is not None:
                    self._actions[row["oid"]] = _action_of(action)
        except (msgspec.MsgspecError, LookupError, TypeError, AttributeError) as error:
            raise RemoteError(
                f"{self.url}: the server's answer is none of git-lfs",
                hint="check the address in lfs.url or .lfsconfig of that repository",
            ) from error

    def _post(self, body: bytes) -> tuple[int, bytes]:
        headers = {**self._headers, "Accept": _JSON, "Content-Type": _JSON}
        url = self._place.server.rstrip("/") + "/objects/batch"
        answer = self._ask("POST", url, headers, body)
        try:
            return answer.status, answer.read(BATCH_ANSWER_MAX_BYTES)
        finally:
            answer.close()
            answer.release_conn()

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Any:
        if not url.startswith(("http://", "https://")):
            raise RemoteError(f"{self.url}: {printable(url)} is no address of a web server")
        if self._place.server.startswith("https:") and not url.startswith("https:"):
            raise RemoteError(f"{self.url}: {printable(url)} is not encrypted")
        with self._lock:
            pool = self._pools.setdefault(url.partition(":")[0], pool_for(url))
        try:
            return pool.request(
                *(method, url),
                headers={**pool.headers, **headers},
                body=body,
                preload_content=False,
                redirect=False,
            )
        except HTTPError as error:
            raise RemoteTransient(f"no answer from {self.url}: {printable(str(error))}") from error

    def _check(self, status: int) -> None:
        if status in (200, 206):
            return
        if status in (401, 403):
            raise RemoteForbidden(
                f"{self.url}: access to its git-lfs data was refused ({status})",
                hint="let git know credentials for that host: git credential, or git lfs pull once",
            )
        kind = RemoteTransient if status in _WORTH_ANOTHER_ATTEMPT else RemoteError
        raise kind(f"{self.url}: its git-lfs server answers {status}")


def _action_of(action: Mapping[str, Any]) -> LfsAction:
    return LfsAction(
        str(action["href"]), {str(k): str(v) for k, v in (action.get("header") or {}).items()}
    )


class _Bytes:
    """Bytes that are here, as a body."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        data, self._data = self._data[:size], self._data[size:]
        return data
