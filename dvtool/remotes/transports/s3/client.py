"""A remote in S3, or in anything that speaks its plain subset: GET, PUT, LIST v2, HEAD, DELETE.

The only module that makes boto3's clients. What boto3, botocore and the network can raise is
translated by `s3errors` into the errors of `dvtool.errors`; nothing of theirs leaves this module.
Credentials come from the AWS chain (environment, configuration files, instance role).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import boto3
import botocore
from botocore import UNSIGNED
from botocore import exceptions as aws
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from dvtool import __version__
from dvtool.errors import ObjectMissing, RemoteError, RemoteTransient, printable
from dvtool.remotes.transports.base import (
    PLAIN_S3,
    STORAGE_CLASS_MIN_BYTES,
    Features,
    ObjectInfo,
    S3Options,
    Sink,
    StoreFacts,
)
from dvtool.remotes.transports.s3.connections import expect_only_for_large, watch
from dvtool.remotes.transports.s3.errors import (
    HINT_ENDPOINT,
    AlreadyThere,
    Conflict,
    Denied,
    RangeBeyondEnd,
    Translation,
    Unexplained,
    Unsupported,
    clock_ahead_s,
    text_of,
)
from dvtool.remotes.transports.s3.guard import GuardedSession

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
        PutObjectOutputTypeDef,
    )

BLOCK_SIZE_BYTES = 1 << 20
CONNECTIONS_MAX = 64
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""Without progress for so long, in either direction, a connection is given up."""
KEY_SIZE_MAX_BYTES = 1024
"""The longest key that S3 allows."""
IDLE_PAGES_MAX = 100
"""Pages of a listing without an object of ours, one after the other, before it is given up."""

_NO_LOCK_CODES = frozenset(
    {"ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound"}
)
_RANGE = re.compile(r"bytes (\d+)-")
_ODD_KEY = re.compile(r"[\x00-\x1f\x7f]|(?:^|/)\.\.?(?:/|$)|^/")
# Some stores keep "aws-chunked", which says how an upload was sent, as a property of the object.
_ENCODINGS = frozenset({"", "identity", "aws-chunked"})
_MD5_ETAG = re.compile(r'"?([0-9a-fA-F]{32})"?')


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
        self._endpoint_url = options.endpoint_url
        self._read_timeout_s = read_timeout_s
        self._payer: dict[str, Any] = (
            {"RequestPayer": "requester"} if options.requester_pays else {}
        )
        self._config = _config(options, connect_timeout_s, read_timeout_s)
        self._errors = Translation(self.url, bucket, options.endpoint_url, self._renew)
        self._lock = threading.Lock()
        self._made: S3Client | None = None
        self._signed_as: object = None
        self._retired: list[S3Client | None] = []
        self._of_thread = threading.local()
        self._features = features or Features()
        self._list_refused = False

    @property
    def url(self) -> str:
        """The remote as a URL, for messages."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def features(self) -> Features:
        """What was remembered of the store, and what its answers have shown since."""
        return self._features

    # --- reading --------------------------------------------------------------------------

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        """Write an object, or a range of it, to `sink`; a `size` of 0 asks for nothing.

        A store that answers a range with the whole object is read up to the end of the range.
        """
        if size == 0:
            return 0
        try:
            answer = self._get(key, offset, size)
        except RangeBeyondEnd:
            found = self.head(key)
            if found is not None and found.size == offset and size is None:
                return 0
            raise
        with contextlib.closing(answer["Body"]):
            self._check_encoding(key, answer)
            if (offset or size is not None) and _is_whole(answer):
                self._learn(ranged_get=False)
                return self._copy_part(key, answer, sink, offset, size)
            expected = self._check_range(key, answer, offset, size)
            return self._copy(key, answer, sink, expected)

    def get(self, key: str, *, size_max: int) -> bytes:
        """Return a whole small object."""
        answer = self._get(key, 0, None)
        with contextlib.closing(answer["Body"]):
            self._check_encoding(key, answer)
            size = self._announced(key, answer)
            if size > size_max:
                raise RemoteError(
                    f"{self.url}: object {printable(key)} has {size:,} bytes,"
                    f" at most {size_max:,} make sense"
                )
            sink = io.BytesIO()
            self._copy(key, answer, sink, size)
        body = sink.getvalue()
        if body and self._features.md5_etag is None and not _encrypted(answer):
            self._learn(md5_etag=_md5_of_etag(answer.get("ETag")) == _md5_and_size(body)[0])
        return body

    def head(self, key: str) -> ObjectInfo | None:
        """Return the size of one object, None if it is not there (or the bucket is not)."""
        try:
            with self._errors.about(key):
                answer = self._client().head_object(
                    Bucket=self._bucket, Key=self._prefix + key, **self._payer
                )
        except ObjectMissing:
            return None
        except (Denied, Unexplained) as error:
            if self._is_absent(key) and isinstance(error, Denied):
                return None
            raise
        if _encrypted(answer):
            return ObjectInfo(key, self._announced(key, answer))
        return ObjectInfo(key, self._announced(key, answer), _md5_of_etag(answer.get("ETag")))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with `prefix`, a request for each thousand.

        RemoteError for a listing that does not go forward, and for keys that nobody should use.
        """
        last, token, idle = "", None, 0
        while True:
            page = self._page(prefix, token)
            found = sorted(self._objects_of(page, prefix), key=lambda info: info.key)
            for info in found:
                if info.key <= last:
                    raise RemoteError(
                        f"{self.url}: the store lists {printable(info.key)} twice or out of order",
                        hint=HINT_ENDPOINT,
                    )
                last = info.key
                yield info
            if not page["IsTruncated"]:
                return
            idle = 0 if found else idle + 1
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
            except aws.ClientError as error:
                answer = error.response
        headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
        return headers

    # --- writing --------------------------------------------------------------------------

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        """Store a whole object; S3 shows it only when complete.

        Its Content-MD5 goes along unless the store refuses that.
        """
        md5, size = _md5_and_size(body)
        try:
            answer = self._put(key, body, md5, size)
        except Unsupported:
            if self._features.content_md5 is not None:
                raise
            self._put(key, body, None, size)
            self._learn(content_md5=False)
            return ObjectInfo(key, size)
        found = None if _encrypted(answer) else _md5_of_etag(answer.get("ETag"))
        stated = found == md5
        if self._features.content_md5 is None:
            self._learn(content_md5=True)
        if found is not None and not stated and self._features.md5_etag:
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
        md5, size = _md5_and_size(body)
        try:
            self._put(key, body, md5, size, IfNoneMatch="*")
        except AlreadyThere:
            self._learn(conditional_put=True)
            return False
        except Unsupported:
            self.put(key, body)
            self._learn(conditional_put=False)
            return True
        except Conflict:
            # Another write or a delete was under way. If it was a write, it has won.
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
        self._learn(delete_allowed=True)

    def close(self) -> None:
        """Close idle connections; the next operation opens new ones."""
        with self._lock:
            clients = [*self._retired, self._made]
            self._made, self._retired = None, []
        for client in clients:
            if client is not None:
                client.close()

    def _put(
        self, key: str, body: bytes | BinaryIO, md5: bytes | None, size: int, **condition: Any
    ) -> PutObjectOutputTypeDef:
        if not isinstance(body, bytes):
            body.seek(0)
        extra = {**self._payer, **_at_rest(self._options, size), **condition}
        if md5 is not None and self._features.content_md5 is not False:
            extra["ContentMD5"] = base64.b64encode(md5).decode("ascii")
        with self._errors.about(key):
            return self._client().put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=body, **extra
            )

    def _heeds_conditions(self, key: str, body: bytes, md5: bytes) -> bool | None:
        """PUT what is there once more, on condition that nothing is there; harmless if done."""
        try:
            self._put(key, body, md5, len(body), IfNoneMatch="*")
        except AlreadyThere:
            return True
        except RemoteError:
            return None
        return False

    # --- the client -----------------------------------------------------------------------

    def _client(self) -> S3Client:
        # Using a client from several threads is safe, making one is not.
        with self._lock:
            if self._made is None:
                session = self._session()
                made = session.client(
                    "s3",
                    endpoint_url=self._endpoint_url,
                    config=self._config,
                    verify=self._options.ca_bundle,
                )
                _harden(made, self._read_timeout_s)
                self._made, self._signed_as = made, self._identity(session)
            self._of_thread.client = self._made
            return self._made

    def _session(self) -> boto3.session.Session:
        return boto3.session.Session(
            profile_name=self._options.profile, region_name=self._options.region
        )

    def _identity(self, session: boto3.session.Session) -> object:
        """Return what tells credentials apart; None for those that renew themselves."""
        found = None if self._options.anonymous else session.get_credentials()
        if found is None or isinstance(found, RefreshableCredentials):
            return None
        return found.access_key, found.secret_key, found.token

    def _renew(self) -> bool:
        """Read credentials anew; tell whether they are others than this thread was refused with.

        botocore renews those of roles and of single sign-on by itself. Those in files and in the
        environment it reads once, while other tools may replace them at any time.
        """
        with self._lock:
            if self._made is None or self._made is not self._of_thread.client:
                return True  # another thread was here first
            try:
                identity = self._identity(self._session())
            except (aws.BotoCoreError, ValueError):
                return False
            if identity is None or identity == self._signed_as:
                return False
            # Not closed: other threads may be in the middle of an answer.
            self._retired.append(self._made)
            self._made = None
            return True

    def _learn(self, **changes: bool | None) -> None:
        with self._lock:
            self._features = replace(self._features, **changes)

    # --- answers --------------------------------------------------------------------------

    def _get(self, key: str, offset: int, size: int | None) -> GetObjectOutputTypeDef:
        client, name = self._client(), self._prefix + key
        extra = dict(self._payer)
        if offset or size is not None:
            extra["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        try:
            with self._errors.about(key):
                return client.get_object(Bucket=self._bucket, Key=name, **extra)
        except Denied as error:
            if self._is_absent(key):
                raise ObjectMissing(key, self.url) from error
            raise

    def _is_absent(self, key: str) -> bool:
        """Tell whether a key that may not be read is just not there, as far as one can know."""
        if self._list_refused:
            return True
        try:
            page = self._page(key, keys_max=1)
        except Denied:
            return True
        return all(found.key != key for found in self._objects_of(page, key))

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
        if "IsTruncated" not in page:
            # A body that was cut to nothing reads like an empty listing; it is none.
            raise RemoteTransient(
                f"{self._errors.place()} answered with no listing", hint=HINT_ENDPOINT
            )
        if not self._features.list_allowed:
            self._learn(list_allowed=True)
        return page

    def _objects_of(self, page: ListObjectsV2OutputTypeDef, prefix: str) -> Iterator[ObjectInfo]:
        for found in page.get("Contents", ()):
            name, size = found.get("Key"), found.get("Size", -1)
            if name is None or size < 0:
                raise RemoteError(
                    f"{self.url}: the store lists {printable(name or 'an object')!r} without"
                    f" {'a size' if name else 'a key'}",
                    hint=HINT_ENDPOINT,
                )
            if _ODD_KEY.search(name) or len(name.encode("utf-8", "replace")) > KEY_SIZE_MAX_BYTES:
                raise RemoteError(
                    f"{self.url}: the store lists an object called {text_of(name)!r}",
                    hint="remove it, or use a prefix of its own for dvtool",
                )
            key = name.removeprefix(self._prefix)
            # A store that is loose about prefixes, or a folder marker: not an object of ours.
            if name.startswith(self._prefix + prefix) and key and not key.endswith("/"):
                written = found.get("LastModified")
                written_s = None if written is None else written.timestamp()
                yield ObjectInfo(key, size, _md5_of_etag(found.get("ETag")), modified_s=written_s)

    def _check_encoding(self, key: str, answer: GetObjectOutputTypeDef) -> None:
        encoding = answer.get("ContentEncoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            # Unpacking could make any amount of bytes of a few. Objects of ours have no encoding.
            raise RemoteError(
                f"{self.url}: the store sends {printable(key)} encoded as {text_of(encoding)!r},"
                " which was not asked for",
                hint=HINT_ENDPOINT,
            )

    def _check_range(
        self, key: str, answer: GetObjectOutputTypeDef, offset: int, size: int | None
    ) -> int:
        """Return the length of the body that follows, having checked that it is what we asked."""
        announced = self._announced(key, answer)
        if offset or size is not None:
            match = _RANGE.match(answer.get("ContentRange", ""))
            if match is None or int(match[1]) != offset:
                raise RemoteError(
                    f"{self.url}: the store does not answer a request for a range of"
                    f" {printable(key)} with that range",
                    hint=HINT_ENDPOINT,
                )
            if self._features.ranged_get is None:
                self._learn(ranged_get=True)
        if size is not None and announced != size:
            raise RemoteTransient(
                f"{self.url}: asked for {size:,} bytes of {printable(key)} from {offset:,},"
                f" the store announces {announced:,}"
            )
        return announced

    def _announced(self, key: str, answer: GetObjectOutputTypeDef | HeadObjectOutputTypeDef) -> int:
        # Without a length, a body that breaks off could not be told from a whole one.
        size = answer.get("ContentLength")
        if size is None or size < 0:
            raise RemoteTransient(f"{self.url}: the store announces no size for {printable(key)}")
        return size

    def _copy_part(
        self,
        key: str,
        answer: GetObjectOutputTypeDef,
        sink: Sink,
        offset: int,
        size: int | None,
    ) -> int:
        """Write a range of an object of which the whole is coming; return how many bytes."""
        announced = self._announced(key, answer)
        wanted = announced - offset if size is None else size
        if wanted < 0 or offset + wanted > announced:
            raise RangeBeyondEnd(
                f"{self.url}: {printable(key)} has {announced:,} bytes and ends before the range"
                " that was asked for"
            )
        window = _Window(sink, offset, wanted)
        with contextlib.suppress(_Enough):
            self._copy(key, answer, window, announced)
        return wanted

    def _copy(self, key: str, answer: GetObjectOutputTypeDef, sink: Sink, expected: int) -> int:
        body = answer["Body"]
        written = 0
        while True:
            # The sink is written outside: its errors are the local disk's, not the remote's.
            with self._errors.about(key):
                data = body.read(BLOCK_SIZE_BYTES)
            if not data:
                break
            if written + len(data) > expected:
                raise RemoteTransient(
                    f"{self.url}: more than the {expected:,} bytes announced for {printable(key)}"
                )
            sink.write(data)
            written += len(data)
        if written != expected:
            raise RemoteTransient(
                f"{self.url}: {printable(key)} broke off after {written:,} of {expected:,} bytes"
            )
        return written


class _Enough(Exception):
    """A window is full."""


class _Window:
    """Of what is written, passes `size` bytes from `offset` on to `sink`, then raises _Enough."""

    def __init__(self, sink: Sink, offset: int, size: int) -> None:
        self._sink = sink
        self._skip = offset
        self._left = size

    def write(self, data: bytes, /) -> None:
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        part = data[skipped : skipped + self._left]
        if part:
            self._sink.write(part)
            self._left -= len(part)
        if not self._left:
            raise _Enough


def _config(options: S3Options, connect_s: float, read_s: float) -> Config:
    addressing = options.addressing
    if addressing == "auto":
        # Unset for AWS itself, so that the user's own AWS configuration decides.
        addressing = "path" if options.endpoint_url else None  # type: ignore[assignment]
    proxy = options.proxy
    return Config(
        # Newer defaults add checksums to every request and check them on every answer; many
        # stores refuse the first, and answer ranged reads with the checksum of the whole object.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": addressing} if addressing else None,
        proxies={"http": proxy, "https": proxy} if proxy else None,
        signature_version=UNSIGNED if options.anonymous else None,
        # `Retry` tries again, and knows how to go on in the middle of a body.
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=connect_s,
        read_timeout=read_s,
        max_pool_connections=CONNECTIONS_MAX,
        tcp_keepalive=True,
        user_agent_extra=f"dvtool/{__version__}",
    )


def _harden(client: S3Client, stall_s: float) -> None:
    """Let a client notice stalls, ask other hosts for nothing and read no endless answer."""
    client.meta.events.register_last("before-call.s3", expect_only_for_large)
    try:
        # botocore has no public place for these; tests/s3 hold that this one is right.
        wire = cast(Any, client)._endpoint
        watch(wire.http_session._pool_classes_by_scheme, stall_s)
        wire.http_session = GuardedSession(wire.http_session, client.meta.endpoint_url)
    except AttributeError as error:
        raise RemoteError(
            f"this botocore ({botocore.__version__}) is built otherwise than dvtool knows: {error}",
            hint="install a newer dvtool, or an older botocore",
        ) from error


def _at_rest(options: S3Options, size: int) -> dict[str, Any]:
    """Return the arguments of a PUT that say how the store is to keep the object."""
    found: dict[str, Any] = {}
    if options.storage_class and size >= STORAGE_CLASS_MIN_BYTES:
        found["StorageClass"] = options.storage_class
    if options.sse:
        found["ServerSideEncryption"] = options.sse
    if options.sse_kms_key_id:
        found["SSEKMSKeyId"] = options.sse_kms_key_id
    return found


def _asked(ask: Callable[[], Any]) -> Any:
    """Return the answer, or the code of a refusal."""
    try:
        return ask()
    except aws.ClientError as error:
        return str(error.response.get("Error", {}).get("Code", ""))


def _is_whole(answer: GetObjectOutputTypeDef) -> bool:
    """Tell whether a request for a range was answered with the whole object."""
    return (
        answer["ResponseMetadata"]["HTTPStatusCode"] == 200 and answer.get("ContentRange") is None
    )


def _md5_and_size(body: bytes | BinaryIO) -> tuple[bytes, int]:
    # A transfer checksum that every store knows; content is named and proven by BLAKE3.
    md5 = hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes):
        md5.update(body)
        return md5.digest(), len(body)
    size = 0
    body.seek(0)
    while block := body.read(BLOCK_SIZE_BYTES):
        md5.update(block)
        size += len(block)
    return md5.digest(), size


def _encrypted(answer: Mapping[str, Any]) -> bool:
    """Whether the store encrypts with keys of its own: ETags then look like an MD5 and are none."""
    return (
        answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    )


def _md5_of_etag(etag: str | None) -> bytes | None:
    """Return the MD5 that an ETag states; None for one of another form (as of a multipart)."""
    match = _MD5_ETAG.fullmatch(etag or "")
    return bytes.fromhex(match[1]) if match else None
