"""A bucket, or the keys below a prefix of one, as an origin."""

from __future__ import annotations

import contextlib
import datetime
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from dvtool.errors import (
    ObjectMissing,
    RemoteError,
    RemoteForbidden,
    RemoteTransient,
    printable,
)
from dvtool.remotes.origins.base import SIZE_UNKNOWN, Body, ChangedAtSource, OriginObject
from dvtool.remotes.transports.retry import Attempts
from dvtool.remotes.transports.s3.client import ClientSource
from dvtool.remotes.transports.s3.errors import (
    HINT_ENDPOINT,
    AlreadyThere,
    Denied,
    RangeBeyondEnd,
    Translation,
)
from dvtool.remotes.transports.s3.options import S3Options
from dvtool.remotes.transports.s3.quick_get import QuickGet, QuickRequest

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

EMPTY_PAGES_MAX = 100
"""Pages without an object, one after the other, before a listing is given up."""
PAGES_UNTIL_AHEAD = 2
"""From this page on, the next one is asked for before this one was worked on."""
SETTLED_S = 2
"""So long ago an object must have been written for its time to tell later states from it."""


class S3Origin:
    """The objects of `bucket` whose keys begin with `prefix`, or (`exact`) the one of that key.

    Without `ahead`, no page of the listing is asked for before the one before it was worked on.
    Keys are whole, from the top of the bucket. The tag of an object is its ETag, without quotes. Of
    a bucket with versions the newest are listed.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        options: S3Options,
        *,
        exact: bool = False,
        ahead: bool = True,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._options = options
        self._exact = exact
        self._pages_until_ahead = PAGES_UNTIL_AHEAD if ahead else math.inf
        self._source = ClientSource(options, url=self.url, times=False)
        self._errors = Translation(self.url, bucket, options.endpoint_url, self._source.renew)
        self._attempts = Attempts()
        self._quick = QuickGet(bucket)
        self._payer: dict[str, Any] = (
            {"RequestPayer": "requester"} if options.requester_pays else {}
        )

    def __reduce__(self) -> tuple[Callable[..., S3Origin], tuple[object, ...]]:
        return _origin_of, (self._bucket, self._prefix, self._options, self._exact)

    def __eq__(self, other: object) -> bool:
        """Whether another one names the same place, so that either can be asked."""
        return isinstance(other, S3Origin) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.__reduce__())

    @property
    def url(self) -> str:
        """The bucket and prefix, for messages."""
        return f"s3://{self._bucket}/{printable(self._prefix)}"

    def commit(self) -> str:
        """Return "": there are none."""
        return ""

    def batches(self) -> Iterator[list[OriginObject]]:
        """Yield the objects, a page at a time; RemoteError for a listing without an end."""
        if self._exact:
            described = self.head()
            yield [] if described is None else [described]
            return
        with contextlib.closing(self._pages()) as pages:
            for page in pages:
                yield [self._row(row) for row in page.get("Contents", ())]

    def _pages(self) -> Generator[ListObjectsV2OutputTypeDef, None, None]:
        """Yield the pages of the listing; from the second on, the next is asked for meanwhile."""
        pool = ThreadPoolExecutor(1, "dv-listing")
        token, idle, number = None, 0, 0
        page = self._page(None)
        try:
            while True:
                number += 1
                idle = 0 if page.get("Contents") else idle + 1
                before, token = token, page.get("NextContinuationToken")
                is_last = not page["IsTruncated"]
                endless = not is_last and (not token or token == before or idle >= EMPTY_PAGES_MAX)
                ahead = not is_last and not endless and number >= self._pages_until_ahead
                following = pool.submit(self._page, token) if ahead else None
                yield page
                if is_last:
                    return
                if endless:
                    raise RemoteError(
                        f"{self.url}: the store's listing does not end", hint=HINT_ENDPOINT
                    )
                page = self._page(token) if following is None else following.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def head(self) -> OriginObject | None:
        """Return the object whose key is the prefix itself, None if there is none."""
        return self.describe(self._prefix)

    def describe(self, key: str) -> OriginObject | None:
        """Return the object of a key, None if there is none."""

        return self.look(OriginObject(key, 0, ""))

    def look(self, described: OriginObject) -> OriginObject | None:
        """Return what is at a key now, or as the version described; None if nothing is."""
        key = described.key

        def ask() -> OriginObject | None:
            try:
                with self._errors.about(key):
                    answer = self._source.client().head_object(
                        Bucket=self._bucket, Key=key, **self._payer, **_named(described)
                    )
            except ObjectMissing:
                return None
            listed = self._described(key, answer.get("ContentLength"), answer.get("ETag"))
            return listed._replace(
                version=_version(answer.get("VersionId")),
                modified=_stated_s(answer["ResponseMetadata"]["HTTPHeaders"]),
            )

        return self._attempts.run(f"head {key}", ask)

    @contextlib.contextmanager
    def open(
        self, described: OriginObject, *, offset: int = 0, size: int | None = None
    ) -> Iterator[Body]:
        """Open an object, or a range of it; see `Origin.open`."""
        key, tag = described.key, described.tag
        span = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        whole = not offset and size is None
        try:
            with self._errors.about(key):
                body, headers = self._get(described, None if whole else span)
        except (AlreadyThere, ObjectMissing, RangeBeyondEnd) as error:
            if not tag and isinstance(error, ObjectMissing):
                raise  # nobody said that it is there
            raise ChangedAtSource(f"s3://{self._bucket}", key) from error
        with contextlib.closing(body):
            # A store may pass over If-Match; its answer says what it sends all the same.
            if tag and _bare(headers.get("etag", tag)) != tag:
                raise ChangedAtSource(f"s3://{self._bucket}", key)
            if offset and not headers.get("content-range", "").startswith(f"bytes {offset}-"):
                raise RemoteError(
                    f"{self.url}: the store does not answer a request for a range of"
                    f" {printable(key)} with that range",
                    hint=HINT_ENDPOINT,
                )
            total = headers.get("content-range", "").rpartition("/")[2]
            if total.isdigit() and described.size not in (SIZE_UNKNOWN, int(total)):
                raise ChangedAtSource(f"s3://{self._bucket}", key)
            yield _S3Body(body, self._errors, key, headers)

    def read_many(self, objects: Iterable[tuple[int, OriginObject]]) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of small objects by number, as they come; see `Origin.read_many`."""
        if not self._quick.knows(self._source.client()):
            return
        tags: dict[int, tuple[str, int]] = {}

        def requests() -> Iterator[QuickRequest]:
            for number, described in objects:
                tags[number] = described.tag, described.size
                headers = {"if-match": f'"{described.tag}"'} if described.tag else {}
                headers |= {"x-amz-request-payer": "requester"} if self._payer else {}
                yield QuickRequest(number, described.key, headers)

        for number, answer in self._quick.send_many(requests()):
            tag, size = tags.pop(number)
            right_tag = not tag or _bare(answer.headers.get("etag", tag)) == tag
            if right_tag and size in (len(answer.body), SIZE_UNKNOWN):
                yield number, answer.body

    def _get(self, described: OriginObject, span: str | None) -> tuple[Any, Mapping[str, str]]:
        """Return the body and the headers of the answer to a GET; quickly where that works."""
        client = self._source.client()
        key, tag = described.key, described.tag
        if described.version:
            pass  # a version is part of the query, which the quick way does not sign
        elif self._quick.knows(client):
            headers = {"if-match": f'"{tag}"'} if tag else {}
            headers |= {} if span is None else {"range": span}
            headers |= {"x-amz-request-payer": "requester"} if self._payer else {}
            quick = self._quick.send(key, headers)
            if quick is not None:
                return quick.raw, quick.headers
        else:
            self._quick.learn(client)
        extra = self._payer | ({} if span is None else {"Range": span}) | _named(described)
        extra |= {"IfMatch": f'"{tag}"'} if tag else {}
        answer = client.get_object(Bucket=self._bucket, Key=key, **extra)
        return answer["Body"], answer["ResponseMetadata"]["HTTPHeaders"]

    def content_check(self, described: OriginObject) -> None:
        """Return None: an ETag is no hash of the content that is known here."""

    def close(self) -> None:
        """Close idle connections."""
        self._source.close()

    def _page(self, token: str | None) -> ListObjectsV2OutputTypeDef:
        extra = dict(self._payer)
        if token is not None:
            extra["ContinuationToken"] = token

        def ask() -> ListObjectsV2OutputTypeDef:
            with self._errors.about(""):
                page = self._source.client().list_objects_v2(
                    Bucket=self._bucket, Prefix=self._prefix, **extra
                )
            if "IsTruncated" not in page:
                # An empty body would read like an empty listing.
                raise RemoteTransient(f"{self.url}: the store answered with no listing")
            return page

        try:
            return self._attempts.run(f"list {self._prefix}", ask)
        except (Denied, ObjectMissing) as error:
            raise RemoteForbidden(
                f"{self.url} cannot be listed: {error}",
                hint="check bucket, credentials and endpoint; reading needs s3:ListBucket and "
                "s3:GetObject there (--profile, --region, --endpoint-url, --anonymous true)",
            ) from error

    def _row(self, row: Mapping[str, Any]) -> OriginObject:
        key = row.get("Key")
        if key is None or not key.startswith(self._prefix):
            raise RemoteError(
                f"{self.url}: the store lists {printable(key or 'an object')!r}, which was not "
                "asked for",
                hint=HINT_ENDPOINT,
            )
        listed = self._described(key, row.get("Size"), row.get("ETag"))
        return listed._replace(modified=_listed_s(row))

    def _described(self, key: str, size: int | None, tag: str | None) -> OriginObject:
        if size is None or size < 0 or not tag:
            raise RemoteError(
                f"{self.url}: the store describes {printable(key)!r} without size or ETag",
                hint=HINT_ENDPOINT,
            )
        return OriginObject(key, size, _bare(tag))


def _named(described: OriginObject) -> dict[str, Any]:
    return {"VersionId": described.version} if described.version else {}


def _version(said: str | None) -> str:
    """Return the version that an answer names; a bucket without versions names none."""
    return said if said and said != "null" else ""


def _listed_s(row: Mapping[str, Any]) -> int:
    """Return the time that a listing has of an object, in whole seconds; 0 for none."""
    with contextlib.suppress(ValueError):
        return _modified_s(datetime.datetime.fromisoformat(row.get("LastModified", "")))
    return 0


def _stated_s(headers: Mapping[str, str]) -> int:
    """Return the time that an answer has of an object; 0 for none."""
    with contextlib.suppress(ValueError):
        return _modified_s(parsedate_to_datetime(headers.get("last-modified", "")))
    return 0


def _modified_s(time: datetime.datetime) -> int:
    return max(int(time.timestamp()), 0)


def _settled_s(headers: Mapping[str, str]) -> int:
    """Return when the object of an answer was written; 0 if it may be written again unnoticed.

    Times have whole seconds, so that of an object that is just being written tells nothing.
    """
    written_s = _stated_s(headers)
    with contextlib.suppress(ValueError):
        if _modified_s(parsedate_to_datetime(headers.get("date", ""))) - written_s >= SETTLED_S:
            return written_s
    return 0


def _bare(tag: str) -> str:
    """Return an ETag without its quotes, which some stores leave out of listings."""
    return tag.strip('"')


def _origin_of(bucket: str, prefix: str, options: S3Options, exact: bool) -> S3Origin:
    return S3Origin(bucket, prefix, options, exact=exact)


class _S3Body:
    """The body of an answer, whose errors are ours."""

    def __init__(
        self, body: Any, errors: Translation, key: str, headers: Mapping[str, str]
    ) -> None:
        self.version = _version(headers.get("x-amz-version-id"))
        self.settled_s = _settled_s(headers)
        self._body = body
        self._errors = errors
        self._key = key

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        with self._errors.about(self._key):
            data: bytes = self._body.read(size)
            return data
