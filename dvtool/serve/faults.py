"""The errors of S3 that the server answers with, by the codes that clients know."""

from __future__ import annotations

from collections.abc import Mapping

from dvtool.errors import DvError, MissingError, RemoteTransient

STATUSES = {
    "AccessDenied": 403,
    "AuthorizationQueryParametersError": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidObjectState": 403,
    "InvalidPartNumber": 416,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidURI": 400,
    "MethodNotAllowed": 405,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "PreconditionFailed": 412,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
}
"""Code -> HTTP status, as S3 documents them."""


class S3Fault(Exception):
    """A request that is refused: `code` is one of `STATUSES`, the text is for people."""

    def __init__(self, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUSES[self.code]


def fault_of(error: DvError) -> S3Fault:
    """Return a fault that says an error of the library.

    Content that is nowhere is in a state that cannot be read, as S3 says of archives: a key that
    exists is never called missing, and clients do not repeat the request.
    """
    text = f"{error} ({error.hint})" if error.hint else str(error)
    if isinstance(error, MissingError):
        return S3Fault("InvalidObjectState", text)
    if isinstance(error, RemoteTransient):
        return S3Fault("ServiceUnavailable", text)
    return S3Fault("InternalError", text)
