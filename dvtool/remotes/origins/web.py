"""A file of a web server as an origin."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, SSLError

from dvtool import __version__
from dvtool.errors import ObjectMissing, RemoteError, RemoteForbidden, RemoteTransient, printable
from dvtool.remotes.origins.base import SIZE_UNKNOWN, Body, ChangedAtSource, OriginObject
from dvtool.remotes.transports.retry import Attempts

WEB_CONNECT_TIMEOUT_S = 10.0
WEB_READ_TIMEOUT_S = 30.0
REDIRECTS_MAX = 5
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class WebOrigin:
    """The file at `url`. Its tag is its ETag, else the time of its last change, if it has any.

    A redirection is followed, but not from https to http. `headers` go with each request, and one
    that names the caller (authorization) to no other host; with these it is for one process.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._url = url
        self._headers = dict(headers or {})
        self._attempts = Attempts()
        self._pool: urllib3.PoolManager | None = None

    def __reduce__(self) -> tuple[Callable[[str], WebOrigin], tuple[str]]:
        return WebOrigin, (self._url,)

    @property
    def url(self) -> str:
        """The address, for messages."""
        return printable(self._url)

    def commit(self) -> str:
        """Return "": there are none."""
        return ""

    def batches(self) -> Iterator[list[OriginObject]]:
        """Yield the one file as the server describes it; ObjectMissing if it is not there."""
        yield [self._attempts.run(f"head {self._url}", self._describe)]

    def _describe(self) -> OriginObject:
        answer = self._ask("HEAD", {})
        try:
            if answer.status in (403, 405, 501):
                # Servers that sign or route by method refuse HEAD where they grant GET.
                answer.close()
                answer = self._ask("GET", {})
            self._check(answer.status)
            length = answer.headers.get("content-length", "")
            encoded = answer.headers.get("content-encoding", "identity") != "identity"
            size = int(length) if length.isdigit() and not encoded else SIZE_UNKNOWN
            return OriginObject(name_of(self._url), size, _tag(answer.headers))
        finally:
            answer.close()

    @contextlib.contextmanager
    def open(
        self, described: OriginObject, *, offset: int = 0, size: int | None = None
    ) -> Iterator[Body]:
        """Open the file, or a range of it; see `Origin.open`."""
        headers = {}
        if offset or size is not None:
            headers["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        answer = self._ask("GET", headers)
        try:
            if answer.status == 416:
                raise ChangedAtSource(self.url, described.key)
            self._check(answer.status)
            if described.tag and _tag(answer.headers) != described.tag:
                raise ChangedAtSource(self.url, described.key)
            if offset:
                part = answer.headers.get("content-range", "").startswith(f"bytes {offset}-")
                if answer.status != 206 or not part:
                    _skip(answer, offset)
            yield web_body(answer, self.url)
        finally:
            answer.close()
            answer.release_conn()

    def read_many(self, objects: Iterable[tuple[int, OriginObject]]) -> Iterator[tuple[int, bytes]]:
        """Yield nothing: there is one file; see `Origin.read_many`."""
        return iter(())

    def content_check(self, described: OriginObject) -> None:
        """Return None: an ETag is no hash of the content that is known here."""

    def close(self) -> None:
        """Close idle connections."""
        if self._pool is not None:
            self._pool.clear()

    def _ask(self, method: str, headers: dict[str, str]) -> Any:
        if self._pool is None:
            self._pool = pool_for(self._url)
        url = self._url
        headers = {**self._headers, **headers}
        for _ in range(REDIRECTS_MAX + 1):
            answer = self._send(method, url, {**self._pool.headers, **headers})
            target = answer.get_redirect_location()
            if not target:
                return answer
            answer.close()
            before, url = url, urljoin(url, target)
            if urlsplit(before).netloc != urlsplit(url).netloc:
                headers.pop("authorization", None)
            if before.startswith("https:") and not url.startswith("https:"):
                where = printable(url)
                raise RemoteError(f"{self.url} redirects to {where}, which is not encrypted")
        raise RemoteError(f"{self.url} redirects too often")

    def _send(self, method: str, url: str, headers: dict[str, str]) -> Any:
        assert self._pool is not None
        try:
            return self._pool.request(
                method, url, headers=headers, preload_content=False, redirect=False
            )
        except (SSLError, MaxRetryError, NewConnectionError) as error:
            if isinstance(error, NewConnectionError) and "refused" in str(error):
                raise RemoteTransient(f"{self.url} does not answer: {_said(error)}") from error
            hint = "check the address, your network and the certificates that are trusted here"
            raise RemoteError(f"{self.url} cannot be reached: {_said(error)}", hint=hint) from error
        except HTTPError as error:
            raise RemoteTransient(f"no answer from {self.url}: {_said(error)}") from error

    def _check(self, status: int) -> None:
        if status in (200, 206):
            return
        if status in (404, 410):
            raise ObjectMissing(name_of(self._url), self.url)
        if status in (401, 403):
            raise RemoteForbidden(
                f"{self.url}: access refused ({status})",
                hint="it has to be readable without credentials; a bucket is named s3://BUCKET/KEY",
            )
        kind = RemoteTransient if status in _TRANSIENT else RemoteError
        raise kind(f"{self.url}: the server answers {status}")


def pool_for(url: str) -> urllib3.PoolManager:
    """Return connections to a server, by the proxy that the system or environment names for it."""
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "headers": {"User-Agent": f"dvtool/{__version__}", "Accept-Encoding": "identity"},
        "timeout": urllib3.Timeout(connect=WEB_CONNECT_TIMEOUT_S, read=WEB_READ_TIMEOUT_S),
        "retries": False,
    }
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


def name_of(url: str) -> str:
    """Return the last part of a URL's path, decoded: the name of its file; "" if it has none."""
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _tag(headers: Any) -> str:
    tag: str = headers.get("etag") or headers.get("last-modified") or ""
    return tag


def _said(error: Exception) -> str:
    return printable(str(error).rpartition(": ")[2])


def _skip(answer: Any, size: int) -> None:
    """Read over the beginning of a whole file, where a server sends no part of it."""
    while size > 0:
        data = answer.read(min(size, 1 << 20))
        if not data:
            raise RemoteTransient("the server sent less than before")
        size -= len(data)


def web_body(answer: Any, url: str) -> Body:
    """Return the body of an answer of urllib3; `url` is for messages."""
    return _WebBody(answer, url)


class _WebBody:
    """The body of an answer, whose errors are ours."""

    def __init__(self, answer: Any, url: str) -> None:
        self._answer = answer
        self._url = url

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        try:
            data: bytes = self._answer.read(size)
        except (HTTPError, OSError) as error:
            raise RemoteTransient(f"{self._url}: the answer broke off: {_said(error)}") from error
        return data
