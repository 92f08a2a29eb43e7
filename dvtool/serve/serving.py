"""`serve`: the data of commits over S3's protocol, until Ctrl-C."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable, Mapping

from dvtool.errors import SetupError, UsageError, printable
from dvtool.project.parts import Project
from dvtool.serve.bucket import Bucket
from dvtool.serve.options import BUCKET, REGION, ServeOptions, Serving
from dvtool.serve.revisions import ServedRevisions
from dvtool.serve.signature import Keys
from dvtool.snapshots.reading import snapshot_of
from dvtool.system.extras import import_extra


def serve(
    project: Project,
    environ: Mapping[str, str],
    options: ServeOptions,
    announce: Callable[[Serving], None],
    report: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C or SIGTERM; the main thread of a process alone gets these.

    `announce` is called once connections are taken; `report` gets, from any thread, a line for each
    thing that could not be sent. UsageError for an unknown revision, a host that is none, keys that
    cannot be ones; SetupError if the port is in use, or uvicorn is not installed.
    """
    import_extra("uvicorn", extra="serve", user="servers")
    from dvtool.serve import server

    keys = _keys_given(options)
    revisions = ServedRevisions(
        project.git, lambda commit: snapshot_of(project, commit, environ=environ), options.revs
    )
    bucket = Bucket(revisions, keys, report)
    with _listen(options.host, options.port) as listener:
        announce(
            Serving(
                endpoint_url=_url_of(listener),
                bucket=BUCKET,
                region=REGION,
                access_key=keys.access_key,
                secret_key=keys.secret_key,
                revs=list(options.revs),
            )
        )
        server.run_server(listener, bucket.answer, report)


def _keys_given(options: ServeOptions) -> Keys:
    access_key = options.access_key
    if access_key is None:
        access_key = f"DV{secrets.token_hex(9).upper()}"
    secret_key = options.secret_key
    if secret_key is None:
        secret_key = secrets.token_hex(20)
    for name, key in (("access", access_key), ("secret", secret_key)):
        if not key or not all("!" <= character <= "~" for character in key):
            raise UsageError(
                f"the {name} key is empty, or has a character that no key has",
                hint="use letters and digits, or leave it out for a random one",
            )
    if set(access_key) & set(",/"):
        raise UsageError("an access key has no comma or slash", hint="use letters and digits")
    return Keys(access_key, secret_key)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens."""
    where = f"{printable(host)}:{port}"
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"{printable(host)} is no address of this machine",
            hint="leave out --host to listen at 127.0.0.1",
        ) from error
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise SetupError(
            f"cannot listen at {where}: {error.strerror or error}",
            hint="choose another port, or leave out --port for one that is free",
        ) from error


def _url_of(listener: socket.socket) -> str:
    """Return the URL by which a client on this machine reaches a socket."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address}:{port}" if address.version == 4 else f"http://[{address}]:{port}"
