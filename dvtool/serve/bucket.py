"""The S3 protocol over revisions: which request is answered how. No socket, nothing is written."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

from dvtool.errors import DvError
from dvtool.serve import answers
from dvtool.serve.faults import S3Fault, fault_of
from dvtool.serve.listing import (
    PAGE_MAX,
    FirstFrom,
    Page,
    Question,
    first_of,
    first_of_groups,
    list_page,
)
from dvtool.serve.messages import Request, Response
from dvtool.serve.objects import etag_of, find_object, object_response
from dvtool.serve.options import BUCKET, REGION
from dvtool.serve.revisions import ServedCommit, ServedRevisions
from dvtool.serve.signature import Keys, require_signature

WRITES = ("PUT", "POST", "DELETE", "PATCH")
KEY_BYTES_MAX = 8192
_TOKEN_MAC_BYTES = 16
_ANSWERED = ("list-type", "prefix", "delimiter", "marker", "start-after", "continuation-token")
_OF_BUCKET = {
    *_ANSWERED,
    *("max-keys", "encoding-type", "fetch-owner", "allow-unordered", "location", "versioning"),
}
_OF_OBJECT = {"partNumber", "versionId"}


class Bucket:
    """The bucket of a server. `answer` may be called by several threads."""

    def __init__(
        self, revisions: ServedRevisions, keys: Keys, report: Callable[[str], None]
    ) -> None:
        self._revisions = revisions
        self._keys = keys
        self._report = report
        self._began = int(datetime.now(UTC).timestamp())

    def answer(self, request: Request) -> Response:
        """Return the response to a request; `report` gets what could not be read."""
        request_id = secrets.token_hex(8).upper()
        try:
            require_signature(request, self._keys, datetime.now(UTC))
            response = self._route(request)
        except S3Fault as fault:
            response = _fault_response(fault, request, request_id)
        except DvError as error:
            self._report(f"{request.method} {request.path}: {error}")
            response = _fault_response(fault_of(error), request, request_id)
        return response._replace(
            headers={"x-amz-request-id": request_id, "Server": "dvtool", **response.headers}
        )

    # --- which request it is ------------------------------------------------------------------

    def _route(self, request: Request) -> Response:
        if request.method in WRITES:
            raise S3Fault(
                "AccessDenied", "dv serve only reads: change files, then dv add and git commit."
            )
        if request.method not in ("GET", "HEAD"):
            raise S3Fault("MethodNotAllowed", "The method is not allowed here.")
        path = request.key_path
        if not path.startswith("/") or len(path) > KEY_BYTES_MAX:
            raise S3Fault("InvalidURI", "The path is none of a bucket or key.")
        bucket, _, key = path[1:].partition("/")
        if not bucket:
            return self._buckets(request)
        if bucket != BUCKET:
            raise S3Fault("NoSuchBucket", f"There is one bucket: {BUCKET}.")
        return self._object(request, key) if key else self._of_bucket(request)

    def _buckets(self, request: Request) -> Response:
        _require_known(request, {"max-buckets", "continuation-token", "prefix", "bucket-region"})
        return _xml(answers.buckets_document(self._began))

    def _object(self, request: Request, key: str) -> Response:
        _require_known(request, _OF_OBJECT)
        parameters = request.parameters
        if parameters.get("partNumber", "1") != "1":
            raise S3Fault("InvalidPartNumber", "Every object has one part.")
        if parameters.get("versionId", "null") != "null":
            raise S3Fault("InvalidArgument", "Versions are commits: name one in the key.")
        name, _, path = key.partition("/")
        commit = self._commit(name)
        stored = find_object(commit, path) if commit is not None else None
        if stored is None:
            raise S3Fault("NoSuchKey", "The specified key does not exist.")
        return object_response(stored, request.headers, body=request.method == "GET")

    def _of_bucket(self, request: Request) -> Response:
        _require_known(request, _OF_BUCKET)
        if request.method == "HEAD":
            return Response(200, {"x-amz-bucket-region": REGION, "Content-Length": "0"})
        parameters = request.parameters
        if "location" in parameters:
            return _xml(answers.location_document())
        if "versioning" in parameters:
            return _xml(answers.versioning_document())
        return _xml(self._listing(parameters))

    # --- listings -----------------------------------------------------------------------------

    def _listing(self, parameters: dict[str, str]) -> bytes:
        version = parameters.get("list-type", "1")
        if version not in ("1", "2") or parameters.get("encoding-type", "url") != "url":
            raise S3Fault("InvalidArgument", "This kind of listing is not known.")
        prefix = self._revisions.plain_prefix(parameters.get("prefix", ""))
        token = parameters.get("continuation-token")
        pinned, after = "", parameters.get("start-after" if version == "2" else "marker", "")
        if token is not None:
            pinned, after = self._read_token(token, prefix)
        question = Question(
            prefix, parameters.get("delimiter", ""), after, _limit(parameters.get("max-keys"))
        )
        commits: dict[str, ServedCommit] = {}
        page, commit = self._page(question, pinned, commits)
        rows = [self._row(key, commits) for key in page.keys]
        following = self._token(commit, page.last, prefix) if page.truncated else None
        encode = answers.encoder(url_encoded="encoding-type" in parameters)
        return answers.page_document(
            answers.ListedPage(
                rows,
                page.prefixes,
                _page_elements(parameters, question, page, following, encode),
                "encoding-type" in parameters,
                version == "1" or parameters.get("fetch-owner") == "true",
            )
        )

    def _page(
        self, question: Question, pinned: str, commits: dict[str, ServedCommit]
    ) -> tuple[Page, str]:
        """Return a page, and the commit that it is of if it is of a single one.

        `commits` gets the commits of the revisions whose keys were read, by name.
        """
        name, slash, _ = question.prefix.partition("/")
        if slash:
            commit = pinned or self._revisions.commit(name)
            if commit is None:
                return list_page(first_of(()), question), ""
            commits[name] = self._revisions.at(commit)
            return list_page(self._keys_of([name], commits), question), commit
        names = [each for each in self._revisions.names() if each.startswith(name)]
        if name and name not in names and self._revisions.commit(name) is not None:
            names = sorted([*names, name], key=lambda each: each + "/")
        if question.delimiter == "/":
            return list_page(first_of([each + "/" for each in names]), question), ""
        return list_page(self._keys_of(names, commits), question), ""

    def _keys_of(self, names: list[str], commits: dict[str, ServedCommit]) -> FirstFrom:
        def paths(head: str) -> list[str]:
            name = head[:-1]
            if name not in commits:
                commit = self._commit(name)
                if commit is None:
                    return []
                commits[name] = commit
            return commits[name].paths

        return first_of_groups([name + "/" for name in names], paths)

    def _commit(self, name: str) -> ServedCommit | None:
        commit = self._revisions.commit(name)
        return None if commit is None else self._revisions.at(commit)

    def _row(self, key: str, commits: dict[str, ServedCommit]) -> answers.ListedObject:
        name, _, path = key.partition("/")
        commit = commits[name]
        listed = commit.snapshot.info(path)
        return answers.ListedObject(key, etag_of(listed), listed.size or 0, commit.modified)

    # --- tokens -------------------------------------------------------------------------------

    def _token(self, commit: str, last: str, prefix: str) -> str:
        """Return the token of the next page: its commit, so that a branch that moves mixes nothing.

        It is sealed, lest somebody names a commit in it that is not served.
        """
        text = f"{commit}\n{last}".encode("utf-8", "surrogateescape")
        return base64.urlsafe_b64encode(self._seal(text, prefix) + text).decode("ascii")

    def _read_token(self, token: str, prefix: str) -> tuple[str, str]:
        try:
            data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            data = b""
        seal, text = data[:_TOKEN_MAC_BYTES], data[_TOKEN_MAC_BYTES:]
        if not hmac.compare_digest(seal, self._seal(text, prefix)):
            raise S3Fault("InvalidArgument", "The continuation token is not one of this listing.")
        commit, _, last = text.decode("utf-8", "surrogateescape").partition("\n")
        return commit, last

    def _seal(self, text: bytes, prefix: str) -> bytes:
        key = self._keys.secret_key.encode("utf-8", "surrogateescape")
        message = prefix.encode("utf-8", "surrogateescape") + b"\0" + text
        return hmac.digest(key, message, "sha256")[:_TOKEN_MAC_BYTES]


def _page_elements(
    parameters: dict[str, str],
    question: Question,
    page: Page,
    following: str | None,
    encode: answers.Encode,
) -> list[tuple[str, str]]:
    """Return what a listing says of itself: what was asked, and how it goes on."""
    second = parameters.get("list-type") == "2"
    elements = [("Name", BUCKET), ("Prefix", encode(question.prefix))]
    if question.delimiter:
        elements.append(("Delimiter", encode(question.delimiter)))
    elements.append(("MaxKeys", str(question.limit)))
    elements.append(("IsTruncated", "true" if page.truncated else "false"))
    if "encoding-type" in parameters:
        elements.append(("EncodingType", "url"))
    if not second:
        elements.append(("Marker", encode(parameters.get("marker", ""))))
        if page.truncated:
            elements.append(("NextMarker", encode(page.last)))
        return elements
    elements.append(("KeyCount", str(len(page.keys) + len(page.prefixes))))
    if "start-after" in parameters:
        elements.append(("StartAfter", encode(parameters["start-after"])))
    if "continuation-token" in parameters:
        elements.append(("ContinuationToken", parameters["continuation-token"]))
    if following is not None:
        elements.append(("NextContinuationToken", following))
    return elements


def _limit(given: str | None) -> int:
    if given is None:
        return PAGE_MAX
    if not given.isascii() or not given.isdigit() or len(given) > 10:
        raise S3Fault("InvalidArgument", "max-keys is a number of at least 0.")
    return min(int(given), PAGE_MAX)


def _require_known(request: Request, names: set[str]) -> None:
    """Refuse requests that are others than they look: a sub-resource, such as ``?acl``."""
    for name in request.parameters:
        if name not in names and name != "x-id" and not name.lower().startswith("x-amz-"):
            raise S3Fault("NotImplemented", "dv serve does not answer this kind of request.")


def _xml(document: bytes) -> Response:
    headers = {"Content-Type": answers.XML_TYPE, "Content-Length": str(len(document))}
    return Response(200, headers, document)


def _fault_response(fault: S3Fault, request: Request, request_id: str) -> Response:
    if fault.status == HTTPStatus.NOT_MODIFIED:
        return Response(fault.status, fault.headers)
    response = _xml(answers.fault_document(fault, request.key_path, request_id))
    return response._replace(status=fault.status, headers={**response.headers, **fault.headers})
