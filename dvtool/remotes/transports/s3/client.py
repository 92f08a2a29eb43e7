"""boto3's client for one store: how it is set up, whose credentials it signs with, and renewing it.

The only module that makes boto3's clients. Credentials come from the AWS chain (environment,
configuration files, instance role).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, cast

import boto3
import botocore
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.loaders import Loader, create_loader

from dvtool import __version__
from dvtool.errors import DvError, RemoteError
from dvtool.remotes.transports.s3.configuration import AwsConfiguration, check_bundle, resolving
from dvtool.remotes.transports.s3.connections import expect_only_for_large, watch
from dvtool.remotes.transports.s3.guard import GuardedSession
from dvtool.remotes.transports.s3.listing_rows import parse_rows_apart
from dvtool.remotes.transports.s3.options import S3Options
from dvtool.system.collecting import collector_put_off

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECTIONS_MAX = 64
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""A connection without progress for so long, in either direction, is closed."""

_loaders: dict[str | None, Loader] = {}


class ClientSource:
    """Makes the client for one store when it is first asked for, and anew with new credentials.

    `url` names the remote in messages. Without `times` those in answers are left as text: to parse
    them is half of the work of a long listing. Methods may be called from several threads.
    """

    def __init__(
        self,
        options: S3Options,
        *,
        url: str = "the remote",
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        times: bool = True,
    ) -> None:
        self._options = options
        self._times = times
        self._configuration = AwsConfiguration(url, options.profile)
        self._read_timeout_s = read_timeout_s
        self._config = _config(options, connect_timeout_s, read_timeout_s)
        self._lock = threading.Lock()
        self._made: S3Client | None = None
        self._signed_as: object = None
        self._retired: list[S3Client | None] = []
        self._of_thread = threading.local()

    def client(self) -> S3Client:
        """Return the client to use now; RemoteError if the AWS configuration does not give one."""
        # Using a client from several threads is safe, making one is not.
        with self._lock:
            if self._made is None:
                self._made, self._signed_as = self._make()
            self._of_thread.client = self._made
            return self._made

    def _make(self) -> tuple[S3Client, object]:
        """Return a new client, and whose credentials it signs with."""
        with self._configuration.explained(), collector_put_off():
            session = self._session()
            made = session.client(
                "s3",
                endpoint_url=self._options.endpoint_url,
                config=self._config,
                verify=self._options.ca_bundle,
            )
            _harden(made, self._read_timeout_s)
            if not self._times:
                parse_rows_apart(made)
            credentials = None if self._options.anonymous else session.get_credentials()
            if credentials is not None:
                made.meta.events.register_first(
                    "before-sign.s3", resolving(self._configuration, credentials)
                )
            return made, self._identity(session)

    def _session(self) -> boto3.session.Session:
        own = botocore.session.get_session()
        if self._options.profile is not None:
            own.set_config_variable("profile", self._options.profile)
        _share_loader(own)
        session = boto3.session.Session(botocore_session=own, region_name=self._options.region)
        if not self._times:
            factory = own.get_component("response_parser_factory")
            factory.set_parser_defaults(timestamp_parser=str)
        return session

    def _identity(self, session: boto3.session.Session) -> object:
        """Return a value that tells credentials apart; None for those that renew themselves."""
        credentials = None if self._options.anonymous else session.get_credentials()
        if credentials is None or isinstance(credentials, RefreshableCredentials):
            return None
        return credentials.access_key, credentials.secret_key, credentials.token

    def renew(self) -> bool:
        """Read credentials anew; tell whether they are others than this thread was refused with.

        botocore renews those of roles and of single sign-on by itself. It reads those in files and
        in the environment once, while other tools may replace them at any time.
        """
        with self._lock:
            if self._made is None or self._made is not self._of_thread.client:
                return True  # another thread was here first
            try:
                with self._configuration.explained():
                    identity = self._identity(self._session())
            except DvError:
                return False
            if identity is None or identity == self._signed_as:
                return False
            # Not closed: other threads may be in the middle of an answer.
            self._retired.append(self._made)
            self._made = None
            return True

    def close(self) -> None:
        """Close idle connections; the next operation opens new ones."""
        with self._lock:
            clients = [*self._retired, self._made]
            self._made, self._retired = None, []
        for client in clients:
            if client is not None:
                client.close()


class _FolderLoader(Loader):
    """Takes each folder of descriptions for a service; botocore itself lists all 400 first.

    Of a service that has no description of a type, botocore says so when it is loaded.
    """

    def list_available_services(self, type_name: str) -> list[str]:
        folders = [path for path in self.search_paths if os.path.isdir(path)]
        return sorted({name for path in folders for name in os.listdir(path)})


def _share_loader(session: botocore.session.Session) -> None:
    """Let a session read botocore's descriptions of services once a process: that takes 60 ms."""
    path: str | None = session.get_config_variable("data_path")
    # Without a lock, which a process that is forked meanwhile would find held for ever.
    loader = _loaders.get(path)
    if loader is None:
        made = _FolderLoader()
        made.search_paths[:] = create_loader(path).search_paths
        loader = _loaders.setdefault(path, made)
    # Each session of boto3 adds its folder.
    loader.search_paths[:] = dict.fromkeys(loader.search_paths)
    session.register_component("data_loader", loader)


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
        if client.meta.endpoint_url.startswith("https:"):
            check_bundle(wire.http_session._verify)
        wire.http_session = GuardedSession(wire.http_session, client.meta.endpoint_url)
    except AttributeError as error:
        raise RemoteError(
            f"this botocore ({botocore.__version__}) is built otherwise than dvtool knows: {error}",
            hint="install a newer dvtool, or an older botocore",
        ) from error
