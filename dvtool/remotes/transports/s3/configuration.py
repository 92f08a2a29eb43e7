"""The user's AWS configuration: what is wrong with it, and with the services that it names.

botocore reads files, variables and answers of other services (STS, single sign-on) that dvtool
never sees, and what it raises then is anything at all. Nothing here is about the store.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import botocore.session
from botocore import exceptions as aws

from dvtool.errors import DvError, RemoteError, RemoteForbidden, printable
from dvtool.remotes.transports.s3.errors import text_of

HINT_SERVICE = (
    "the credentials come from another service (a role, STS or single sign-on), and the store was"
    " not asked: check that service, its address and your network"
)
HINT_BUNDLE = (
    "correct AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or ca_bundle of your AWS configuration;"
    " or: dv remote set NAME --ca-bundle FILE"
)
HINT_TEST = "correct that, and try it alone: aws sts get-caller-identity"
_SERVICE_FAULTS = (aws.ConnectionError, aws.HTTPClientError, aws.ClientError)
_SSO_FAULTS = (aws.SSOError, aws.TokenRetrievalError, aws.NoAuthTokenError)


@dataclass(frozen=True, slots=True)
class AwsConfiguration:
    """The AWS configuration that is in force for the remote at `url`.

    `profile` is the one that the remote names, None where it names none.
    """

    url: str
    profile: str | None

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn whatever goes wrong in here into an error that says where to mend it."""
        try:
            yield
        except DvError:
            raise
        # Anything: with `s3 = text` in a profile, for one, it is an AttributeError.
        except Exception as error:
            raise self._error(error) from error

    def check_key(self, access_key: str) -> None:
        """RemoteForbidden for an access key that no request can be signed with."""
        if not access_key or not access_key.isascii() or not access_key.isprintable():
            raise RemoteForbidden(
                f"no credentials for {self.url}: the access key of {self._origin()} has characters"
                " that no key has",
                hint=HINT_TEST,
            )

    def _error(self, error: Exception) -> RemoteError:
        said = text_of(error)
        if isinstance(error, aws.ProfileNotFound):
            return RemoteForbidden(
                f"there is no profile {self._profile_name()!r} in your AWS configuration"
                f" ({self._files()})",
                hint=self._profile_hint(),
            )
        if isinstance(error, (aws.ConfigParseError, aws.ConfigNotFound)):
            path = printable(str(error.kwargs.get("path", self._files())))
            return RemoteForbidden(
                f"the AWS configuration file {path} cannot be read: {_reason(error, said)}",
                hint=f"correct {path}: sections look like [default] or [profile NAME],"
                " lines like key = value",
            )
        if isinstance(error, _SSO_FAULTS):
            return RemoteForbidden(
                f"no credentials for {self.url}: {said}",
                hint=f"sign in: aws sso login --profile {self._profile_name()}",
            )
        if isinstance(error, _SERVICE_FAULTS):
            return RemoteForbidden(f"no credentials for {self.url}: {said}", hint=HINT_SERVICE)
        if isinstance(error, OSError) and error.filename:
            path = printable(os.fsdecode(error.filename))
            return RemoteForbidden(
                f"no credentials for {self.url}: {self._origin()} names {path}, which cannot be"
                f" used: {error.strerror}",
                hint=f"correct the path in {self._files()} or the AWS_* variables",
            )
        kind = "" if isinstance(error, aws.BotoCoreError) else f"{type(error).__name__}: "
        return RemoteForbidden(
            f"your AWS configuration cannot be used for {self.url}: {kind}{said}"
            f" ({self._origin()})",
            hint=HINT_TEST,
        )

    def _profile_name(self) -> str:
        return printable(self.profile or _variable("profile") or "default")

    def _origin(self) -> str:
        return f"profile {self._profile_name()!r} of {self._files()}, or AWS_* variables"

    def _files(self) -> str:
        return " and ".join(
            printable(_variable(name) or "") for name in ("config_file", "credentials_file")
        )

    def _profile_hint(self) -> str:
        name = self._profile_name()
        add = f"or add it: aws configure --profile {name}"
        if self.profile is not None:
            return f"name another: dv remote set NAME --profile PROFILE; {add}"
        return f"correct AWS_PROFILE; {add}"


def check_bundle(verify: object) -> None:
    """RemoteError if the certificates that connections are to trust cannot be read.

    `verify` is a path, or what botocore has where there is none.
    """
    if not isinstance(verify, str):
        return
    try:
        folder = os.path.isdir(verify)
        ssl.create_default_context(
            cafile=None if folder else verify, capath=verify if folder else None
        )
    except OSError as error:  # ssl.SSLError is one too
        why = error.strerror or text_of(error)
        if isinstance(error, ssl.SSLError):
            why = "it holds no certificate that can be read"
        raise RemoteError(
            f"the certificates to trust cannot be used: {printable(verify)}: {why}",
            hint=HINT_BUNDLE,
        ) from error


def resolving(configuration: AwsConfiguration, credentials: Any) -> Callable[..., None]:
    """Return a handler for botocore's before-sign that renews credentials which are due.

    Signing would do it too; there, trouble with STS could not be told from trouble of the store.
    """

    def resolve(**_: Any) -> None:
        with configuration.explained():
            frozen = credentials.get_frozen_credentials()
        configuration.check_key(frozen.access_key or "")

    return resolve


def _variable(name: str) -> str | None:
    """Return a setting as botocore finds it, without reading any configuration file."""
    value = botocore.session.get_session().get_config_variable(name, methods=("instance", "env"))
    if value is None and name != "profile":
        value = botocore.session.get_session().get_config_variable(name)
    return None if value is None else str(value)


def _reason(error: Exception, said: str) -> str:
    cause = error.__cause__ or error.__context__
    return text_of(cause) if cause is not None else said
