"""A guard between botocore and the wire: no request to a foreign host, no endless answer.

botocore reads an answer that is XML into memory, however long it is, and parses it. A store is
foreign, and so is whoever can answer in its place: answers are bounded before botocore sees them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit
from xml.sax.saxutils import escape

from botocore import exceptions
from botocore.awsrequest import AWSResponse
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from dvtool.system.logs import Log, Watch

_LOG = Log("remotes.s3")

ANSWER_SIZE_MAX_BYTES = 4 << 20
"""A page of a listing, the longest answer there is: 1,000 keys of up to 1,024 bytes, escaped."""
TAGS_MAX = 100_000
"""A parsed element takes a hundred times the bytes of ``<a/>``; such a page has 25,000 tags."""
ERROR_SIZE_MAX_BYTES = 64 << 10
ANSWER_TIME_MAX_S = 120.0
ANSWER_BLOCK_BYTES = 64 << 10
PAGE_CODE = "NotAnAnswerOfS3"
"""The code that an error gets whose body is a page of some web server, or plain text."""
PAGE_WORDS_MAX = 100
AWS_SUFFIXES = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")

_S3_ERROR = re.compile(rb"\s*(?:\xef\xbb\xbf)?(?:<\?xml[^>]*>\s*)?<(?:\w+:)?Error(?:Response)?\b")
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class Refused(Exception):
    """A request that must not be sent, or an answer that is not read on; the text says why."""


class Session(Protocol):
    """The interface through which botocore sends requests."""

    def send(self, request: Any) -> AWSResponse:
        """Send a request; return its answer. A body that is streamed is not read yet."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class GuardedSession:
    """`session`, bound to the host of `endpoint_url`, with answers of bounded size."""

    def __init__(self, session: Session, endpoint_url: str) -> None:
        self._session = session
        self._home = _origin(endpoint_url)

    def send(self, request: Any) -> AWSResponse:
        """Send a request unless it would go elsewhere; a redirection elsewhere is refused."""
        if not self._is_home(request.url):
            raise Refused(f"a request to {_host(request.url)} was held back")
        streamed = request.stream_output
        request.stream_output = True  # so that `send` leaves the body to us
        watch = Watch()
        try:
            raw = self._session.send(request)
        except Exception as error:
            _LOG.note("%s %s: %s after %s", request.method, request.url, error, watch)
            raise
        size = raw.headers.get("content-length", "?")
        status = raw.status_code
        _LOG.note("%s %s: %s in %s, %s bytes", request.method, request.url, status, watch, size)
        target = raw.headers.get("location")
        if 300 <= raw.status_code < 400 and target:
            try:
                self._check_redirection(request.url, target)
            except Refused:
                raw.raw.close()
                raise
        headers: Any = raw.headers
        answer = _Answer(raw.url, raw.status_code, headers, raw.raw)
        if not streamed:
            _ = answer.content
        return answer

    def connection(self, url: str) -> Any:
        """Return a connection to the host of a URL, open and the caller's own to close.

        It is made as those of requests are: checked certificates, the same limits of time. None
        where a proxy is between, or TLS is refused. Where no connection comes about, it fails as
        a request does: another attempt at once would only take the same time again.
        """
        session: Any = self._session
        if not self._is_home(url) or session._proxy_config.proxy_url_for(url):
            return None
        pool = session._manager.connection_from_url(url)
        session._setup_ssl_cert(pool, url, session._verify)
        made = pool._new_conn()
        made.timeout = pool.timeout.connect_timeout
        try:
            made.connect()
        except (ConnectTimeoutError, TimeoutError) as error:
            made.close()
            raise exceptions.ConnectTimeoutError(endpoint_url=url, error=error) from error
        except NewConnectionError as error:
            made.close()
            raise exceptions.EndpointConnectionError(endpoint_url=url, error=error) from error
        except (HTTPError, OSError):
            made.close()
            return None
        return made

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def _check_redirection(self, url: str, target: str) -> None:
        try:
            where = urljoin(url, target)
            allowed = self._is_home(where)
        except ValueError:
            allowed, where = False, f"//{target}"
        if not allowed:
            raise Refused(f"{_host(url)} redirects to {_host(where)}, which is not followed")

    def _is_home(self, url: str) -> bool:
        scheme, host = _origin(url)
        home_scheme, home = self._home
        if home_scheme == "https" and scheme != "https":
            return False
        if host == home or host.endswith("." + home):
            return True
        # AWS itself has a host for each region, and buckets are in one of them.
        return any(host.endswith(suffix) and home.endswith(suffix) for suffix in AWS_SUFFIXES)


class _Answer(AWSResponse):
    """An answer of which no more is read into memory than an answer of S3 can have."""

    _content: bytes | None

    @property
    def content(self) -> bytes:
        if self._content is None:
            failed = self.status_code >= 300
            text = _read(self.raw, ERROR_SIZE_MAX_BYTES if failed else ANSWER_SIZE_MAX_BYTES)
            fault = _fault(text)
            if fault is not None and not failed:
                raise Refused(fault)
            # Of an error the status then has to say it all.
            whole = b"" if fault is not None or text is None else text
            self._content = as_s3_error(whole) if failed else whole
        return self._content


def as_s3_error(text: bytes) -> bytes:
    """Return the body of an error as S3 would write it; what S3 writes itself is left as it is.

    botocore makes nothing of a page of HTML or of plain text, or calls it "str".
    """
    if not text.strip() or _S3_ERROR.match(text):
        return text
    title = _TITLE.search(text)
    words = title[1] if title else re.sub(rb"<[^>]*>", b" ", text)
    said = " ".join(words.decode("utf-8", "replace").split())[:PAGE_WORDS_MAX]
    said = "".join(letter for letter in said if letter.isprintable())
    return f"<Error><Code>{PAGE_CODE}</Code><Message>{escape(said)}</Message></Error>".encode()


def _read(raw: Any, size_max: int) -> bytes | None:
    """Return the whole body, None if it is longer than `size_max`."""
    # Takes what has come, not as much as was asked for: so a trickle is noticed.
    read: Callable[[int], bytes] = getattr(raw, "read1", None) or raw.read
    latest_s = time.monotonic() + ANSWER_TIME_MAX_S
    blocks: list[bytes] = []
    size = 0
    while block := read(ANSWER_BLOCK_BYTES):
        blocks.append(block)
        size += len(block)
        if size > size_max:
            raw.close()
            return None
        if time.monotonic() > latest_s:
            raw.close()
            raise Refused(f"an answer did not end within {ANSWER_TIME_MAX_S:.0f} s")
    return b"".join(blocks)


def _fault(text: bytes | None) -> str | None:
    """Say why an answer is not to be parsed; None if nothing is wrong with it."""
    if text is None:
        return f"the answer is longer than {ANSWER_SIZE_MAX_BYTES:,} bytes"
    if text.count(b"<") > TAGS_MAX:
        return f"the answer has more than {TAGS_MAX:,} tags"
    # In another encoding than UTF-8 one could not see what there is.
    if b"<!ENTITY" in text or b"\0" in text[:4] or text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "the answer is XML with definitions of its own, which S3 never sends"
    return None


def _origin(url: str) -> tuple[str, str]:
    """Return scheme and host with its port, in lower case."""
    parts = urlsplit(url)
    return parts.scheme.lower(), _host(url).lower()


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return url.strip("/")
