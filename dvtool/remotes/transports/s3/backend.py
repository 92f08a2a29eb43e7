"""A remote in S3, or in anything that speaks its plain subset: GET, PUT, LIST v2, HEAD, DELETE.

`errors` translates all that boto3, botocore and the network can raise into the errors of
`dvtool.errors`; none of their errors leaves this folder.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore import exceptions

from dvtool.errors import (
    ObjectMissing,
    RemoteError,
    RemoteForbidden,
    RemoteTransient,
    printable,
)
from dvtool.remotes.transports.base import Features, ObjectInfo, Sink, StoreFacts, has_room
from dvtool.remotes.transports.s3.answers import (
    AnswerReader,
    is_encrypted,
    is_whole,
    md5_and_size,
    md5_of_etag,
)
from dvtool.remotes.transports.s3.client import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ClientSource
from dvtool.remotes.transports.s3.errors import (
    HINT_ENDPOINT,
    HINT_LISTING,
    HINT_PAGE,
    AlreadyThere,
    Denied,
    NoListing,
    NotAllowed,
    RangeBeyondEnd,
    Translation,
    Unexplained,
    Unsupported,
    WriteConflict,
    clock_ahead_s,
    text_of,
)
from dvtool.remotes.transports.s3.options import PLAIN_S3, STORAGE_CLASS_MIN_BYTES, S3Options
from dvtool.remotes.transports.s3.quick_get import QuickGet

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
        PutObjectOutputTypeDef,
    )

IDLE_PAGES_MAX = 100
"""Pages of a listing without an object of ours, one after the other, before it is given up."""

_NO_LOCK_CODES = frozenset(
    {"ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound"}
)


class S3Backend:
    """Objects in `bucket`, under `prefix` (neither leading nor trailing slash; may be empty).

    With an endpoint of its own, buckets are addressed in the path unless the options say
    otherwise. The client is made at the first operation. One attempt is made for each: wrap in
    `Retry`. `features` is what is remembered of the store.

    Without s3:ListBucket, S3 answers 403 in place of 404. So a refusal to read one object is
    looked into with a listing of just its key: if that does not name the key, or is refused too,
    the object counts as missing. Credentials that are invalid, and refusals that name another
    permission (s3:GetObject, kms), stay errors.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        options: S3Options = PLAIN_S3,
        *,
        features: Features | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options
        self._payer: dict[str, Any] = (
            {"RequestPayer": "requester"} if options.requester_pays else {}
        )
        self._source = ClientSource(
            options,
            url=self.url,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
        )
        self._client = self._source.client
        self._quick = QuickGet(bucket)
        self._errors = Translation(self.url, bucket, options.endpoint_url, self._source.renew)
        self._answers = AnswerReader(self.url, self._prefix, self._errors)
        self._lock = threading.Lock()
        self._features = features or Features()
        self._list_refused = False
        self._heads_answered: bool | None = None
        """Whether HEAD is granted (True), or GET has to stand in for it (False)."""

    @property
    def url(self) -> str:
        """The remote as a URL, for messages."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def features(self) -> Features:
        """The features of the store: those remembered, and those that answers have shown since."""
        return self._features

    # --- reading --------------------------------------------------------------------------

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        """Write an object, or a range of it, to `sink`; a `size` of 0 asks for nothing.

        A store that answers a range with the whole object is read up to the end of the range.
        """
        if size == 0:
            return 0
        try:
            answer = self._get(key, offset, size, quickly=has_room(sink))
        except RangeBeyondEnd:
            info = self.head(key)
            if info is not None and info.size == offset and size is None:
                return 0
            raise
        with contextlib.closing(answer["Body"]):
            self._answers.check_encoding(key, answer)
            if has_room(sink):
                sink.stated(None if is_encrypted(answer) else md5_of_etag(answer.get("ETag")))
            if (offset or size is not None) and is_whole(answer):
                self._learn(ranged_get=False)
                return self._answers.copy_part(key, answer, sink, offset, size)
            expected = self._answers.check_range(key, answer, offset, size)
            if (offset or size is not None) and self._features.ranged_get is None:
                self._learn(ranged_get=True)
            return self._answers.copy(key, answer, sink, expected)

    def get(self, key: str, *, size_max: int) -> bytes:
        """Return a whole small object."""
        answer = self._get(key, 0, None)
        with contextlib.closing(answer["Body"]):
            self._answers.check_encoding(key, answer)
            size = self._answers.announced(key, answer)
            if size > size_max:
                raise RemoteError(
                    f"{self.url}: object {printable(key)} has {size:,} bytes,"
                    f" at most {size_max:,} make sense"
                )
            sink = io.BytesIO()
            self._answers.copy(key, answer, sink, size)
        body = sink.getvalue()
        if body and self._features.md5_etag is None and not is_encrypted(answer):
            self._learn(md5_etag=md5_of_etag(answer.get("ETag")) == md5_and_size(body)[0])
        return body

    def head(self, key: str) -> ObjectInfo | None:
        """Return the size of one object, None if it is not there (or the bucket is not).

        Where HEAD is not known or refused, the first byte of the object is asked for in its place.
        """
        if self._heads_answered is False:
            return self._peek(key)
        try:
            with self._errors.about(key):
                answer = self._client().head_object(
                    Bucket=self._bucket, Key=self._prefix + key, **self._payer
                )
        except ObjectMissing:
            return None
        except (NotAllowed, Unsupported):
            info = self._peek(key)
            self._heads_answered = False
            return info
        except Denied as error:
            return self._behind_refusal(key, error)
        except Unexplained:
            self._is_absent(key)  # its answer has a body, which says what is wrong
            raise
        self._heads_answered = True
        return _info(key, self._answers.announced(key, answer), answer)

    def _behind_refusal(self, key: str, refusal: Denied) -> ObjectInfo | None:
        """Return what HEAD would have said of a key; the refusal if that cannot be found out."""
        absent = self._is_absent(key)
        # Without the right to list, what is not there is refused too; then HEAD may be granted.
        if self._heads_answered is None and (self._list_refused or not absent):
            info = self._peek(key)
            if info is not None:
                self._heads_answered = False
                return info
        if not absent:
            raise refusal
        return None

    def _peek(self, key: str) -> ObjectInfo | None:
        """Return what a GET of its first byte says of an object, None if it is not there."""
        try:
            answer = self._get(key, 0, 1)
        except ObjectMissing:
            return None
        except RangeBeyondEnd:
            return ObjectInfo(key, 0)
        with contextlib.closing(answer["Body"]):
            total = re.search(r"/(\d+)$", answer.get("ContentRange", ""))
            size = int(total[1]) if total else self._answers.announced(key, answer)
        return _info(key, size, answer)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with `prefix`, a request for each thousand.

        RemoteError for a listing that does not go forward, and for keys that nobody should use.
        """
        last, token, idle = "", None, 0
        while True:
            page = self._page(prefix, token)
            infos = sorted(self._answers.objects_of(page, prefix), key=lambda info: info.key)
            for info in infos:
                if info.key <= last:
                    raise RemoteError(
                        f"{self.url}: the store lists {printable(info.key)} twice or out of order",
                        hint=HINT_ENDPOINT,
                    )
                last = info.key
                yield info
            if not page["IsTruncated"]:
                return
            idle = 0 if infos else idle + 1
            before, token = token, page.get("NextContinuationToken")
            if not token or token == before or idle >= IDLE_PAGES_MAX:
                raise RemoteError(
                    f"{self.url}: the store's listing of {printable(prefix)!r} does not end",
                    hint=HINT_ENDPOINT,
                )

    def facts(self) -> StoreFacts:
        """Ask the store for its name, its clock and the settings of the bucket."""
        client = self._client()
        headers, seen_s = self._headers(), time.time()
        with self._errors.about(""):
            versioning = _asked(lambda: client.get_bucket_versioning(Bucket=self._bucket))
            lock = _asked(lambda: client.get_object_lock_configuration(Bucket=self._bucket))
        locked: bool | None = None
        if isinstance(lock, str):
            locked = False if lock in _NO_LOCK_CODES else None
        else:
            locked = lock.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
        server = headers.get("server")
        return StoreFacts(
            server=text_of(server) if server else None,
            clock_ahead_s=clock_ahead_s(headers, seen_s),
            versioning=None
            if isinstance(versioning, str)
            else versioning.get("Status") == "Enabled",
            object_lock=locked,
        )

    def _headers(self) -> Mapping[str, str]:
        """Return the headers of an answer, whether it grants or refuses."""
        with self._errors.about(""):
            try:
                answer: Any = self._client().head_bucket(Bucket=self._bucket)
            except exceptions.ClientError as error:
                answer = error.response
        headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
        return headers

    # --- writing --------------------------------------------------------------------------

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        """Store a whole object; S3 shows it only when complete.

        Its Content-MD5 goes along unless the store refuses that.
        """
        md5, size = md5_and_size(body)
        try:
            answer = self._put(key, body, md5, size)
        except Unsupported:
            if self._features.content_md5 is not None:
                raise
            self._put(key, body, None, size)
            self._learn(content_md5=False)
            return ObjectInfo(key, size)
        etag_md5 = None if is_encrypted(answer) else md5_of_etag(answer.get("ETag"))
        stated = etag_md5 == md5
        if self._features.content_md5 is None:
            self._learn(content_md5=True)
        if etag_md5 is not None and not stated and self._features.md5_etag:
            raise RemoteTransient(
                f"{self._errors.what(key)}: the store took other bytes than were sent, by its ETag",
                hint="if the store makes its ETags otherwise since lately: dv doctor --remote",
            )
        if size:
            self._learn(md5_etag=stated)
        # Where it was never seen to be the MD5, an ETag says nothing: stores make it in many ways.
        return ObjectInfo(key, size, md5 if stated else None)

    def put_if_absent(self, key: str, body: bytes) -> bool:
        """Store a small object unless the key exists.

        HEAD comes first even where PUT could decide alone: some stores accept ``If-None-Match``
        and pay no heed to it, and would overwrite. Where that is not known of a store, a second
        conditional PUT of the same bytes tells.
        """
        if self.head(key) is not None:
            return False
        if self._features.conditional_put is False:
            self.put(key, body)
            return True
        md5, size = md5_and_size(body)
        try:
            self._put(key, body, md5, size, IfNoneMatch="*")
        except AlreadyThere:
            self._learn(conditional_put=True)
            return False
        except (NotAllowed, Unsupported):
            self.put(key, body)
            self._learn(conditional_put=False)
            return True
        except WriteConflict:
            # Another write or a delete was under way. If it was a write, the object is there now.
            if self.head(key) is None:
                raise
            return False
        if self._features.conditional_put is None:
            self._learn(conditional_put=self._heeds_conditions(key, body, md5))
        return True

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""
        try:
            with contextlib.suppress(ObjectMissing), self._errors.about(key):
                self._client().delete_object(
                    Bucket=self._bucket, Key=self._prefix + key, **self._payer
                )
        except Denied:
            self._learn(delete_allowed=False)
            raise
        except (NotAllowed, Unsupported) as error:
            self._learn(delete_allowed=False)
            raise RemoteForbidden(
                f"{self.url}: {self._errors.place()} does not remove objects ({error})",
                hint="dv push and dv pull work without that; only dv gc --remote needs it",
            ) from error
        self._learn(delete_allowed=True)

    def close(self) -> None:
        """Close idle connections; the next operation opens new ones."""
        self._quick.close()
        self._source.close()

    def _put(
        self, key: str, body: bytes | BinaryIO, md5: bytes | None, size: int, **condition: Any
    ) -> PutObjectOutputTypeDef:
        if not isinstance(body, bytes):
            body.seek(0)
        extra = {**self._payer, **_at_rest(self._options, size), **condition}
        if md5 is not None and self._features.content_md5 is not False:
            extra["ContentMD5"] = base64.b64encode(md5).decode("ascii")
        try:
            with self._errors.about(key):
                return self._client().put_object(
                    Bucket=self._bucket, Key=self._prefix + key, Body=body, **extra
                )
        except ObjectMissing as error:
            raise RemoteError(
                f"{self._errors.what(key)}: {self._errors.place()} answers 404 to an upload, as no"
                " store does",
                hint=HINT_PAGE,
            ) from error

    def _heeds_conditions(self, key: str, body: bytes, md5: bytes) -> bool | None:
        """PUT the same object again, on condition that it is absent; harmless if it is done."""
        try:
            self._put(key, body, md5, len(body), IfNoneMatch="*")
        except AlreadyThere:
            return True
        except RemoteError:
            return None
        return False

    def _learn(self, **changes: bool | None) -> None:
        with self._lock:
            self._features = replace(self._features, **changes)

    # --- answers --------------------------------------------------------------------------

    def _get(
        self, key: str, offset: int, size: int | None, *, quickly: bool = False
    ) -> GetObjectOutputTypeDef:
        client, name = self._client(), self._prefix + key
        extra = dict(self._payer)
        if offset or size is not None:
            extra["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        try:
            with self._errors.about(key):
                answer = self._quick.get_object(client, name, extra) if quickly else None
                if answer is not None:
                    return answer
                return client.get_object(Bucket=self._bucket, Key=name, **extra)
        except Denied as error:
            if self._is_absent(key):
                raise ObjectMissing(key, self.url) from error
            raise

    def _is_absent(self, key: str) -> bool:
        """Tell whether a key that may not be read is just not there, as far as can be known."""
        if self._list_refused:
            return True
        try:
            page = self._page(key, keys_max=1)
        except Denied:
            return True
        return all(info.key != key for info in self._answers.objects_of(page, key))

    def _page(
        self, prefix: str, token: str | None = None, *, keys_max: int | None = None
    ) -> ListObjectsV2OutputTypeDef:
        extra = dict(self._payer)
        if token is not None:
            extra["ContinuationToken"] = token
        if keys_max is not None:
            extra["MaxKeys"] = keys_max
        try:
            with self._errors.about(prefix):
                page = self._client().list_objects_v2(
                    Bucket=self._bucket, Prefix=self._prefix + prefix, **extra
                )
        except Denied:
            self._list_refused = True
            self._learn(list_allowed=False)
            raise
        except (NotAllowed, ObjectMissing, Unsupported) as error:
            self._list_refused = True
            self._learn(list_allowed=False)
            raise NoListing(
                f"{self.url}: {self._errors.place()} does not list objects as S3's LIST v2 does"
                f" ({error})",
                hint=HINT_LISTING,
            ) from error
        if "IsTruncated" not in page:
            # An empty body would read like an empty listing.
            raise RemoteTransient(
                f"{self._errors.place()} answered with no listing", hint=HINT_ENDPOINT
            )
        if not self._features.list_allowed:
            self._learn(list_allowed=True)
        return page


def _info(key: str, size: int, answer: Mapping[str, Any]) -> ObjectInfo:
    """Return what an answer says of an object; an MD5 where its ETag can be one."""
    return ObjectInfo(key, size, None if is_encrypted(answer) else md5_of_etag(answer.get("ETag")))


def _at_rest(options: S3Options, size: int) -> dict[str, Any]:
    """Return the arguments of a PUT that say how the store is to keep the object."""
    headers: dict[str, Any] = {}
    if options.storage_class and size >= STORAGE_CLASS_MIN_BYTES:
        headers["StorageClass"] = options.storage_class
    if options.sse:
        headers["ServerSideEncryption"] = options.sse
    if options.sse_kms_key_id:
        headers["SSEKMSKeyId"] = options.sse_kms_key_id
    return headers


def _asked(ask: Callable[[], Any]) -> Any:
    """Return the answer, or the code of a refusal."""
    try:
        return ask()
    except exceptions.ClientError as error:
        return str(error.response.get("Error", {}).get("Code", ""))
