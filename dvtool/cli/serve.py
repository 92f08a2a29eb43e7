"""``dv serve``: the data of commits for programs that speak S3."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, shell_word
from dvtool.serve.options import ServeOptions

if TYPE_CHECKING:
    from dvtool.serve.options import Serving

LOOPBACK = ("http://127.", "http://[::1]")


@command(
    "serve",
    examples=(
        "dv serve                      # all revisions, at a free port",
        "dv serve --port 9000 v1.0     # s3://dv/v1.0/ alone",
        "dv serve --json > serve.json & # the address and the keys, for a script",
        "aws s3 ls s3://dv/main/data/  # in a shell with the variables it prints",
    ),
    answers_json=True,
)
@click.argument("revs", metavar="[REV]...", nargs=-1)
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=0,
    help="The port; 0, or none given, is one that is free.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    help="The address to listen at instead of 127.0.0.1.",
)
@click.option("--access-key", metavar="KEY", help="The access key instead of a random one.")
@click.option("--secret-key", metavar="KEY", help="The secret key instead of a random one.")
def serve(
    frame: Frame,
    revs: Sequence[str],
    port: int,
    host: str,
    access_key: str | None,
    secret_key: str | None,
    as_json: bool,
) -> None:
    """Serve the data of commits, read-only, as an S3 bucket on this machine.

    The bucket is dv, and a key is REV/PATH: s3://dv/main/data/a.csv,
    s3://dv/HEAD~1/data/a.csv, s3://dv/3f2c1ab/data/a.csv. All that git resolves is served, or,
    if REVs are named, these alone. A / in a branch's name is written as two dots:
    s3://dv/feature..x/ is the branch feature/x. Each request reads the branch as it is then.

    The lines to type for clients, with address and keys, are printed; with --json it is one
    line. Ctrl-C, or SIGTERM, ends the server at once, with exit code 0.
    """
    screen = frame.screen

    def announce(serving: Serving) -> None:
        if as_json:
            screen.json(serving, one_line=True)
        else:
            _announce(screen, serving)
        sys.stdout.flush()

    options = ServeOptions(
        revs=revs, host=host, port=port, access_key=access_key, secret_key=secret_key
    )
    with frame.repo() as repo:
        repo.serve(options, announce, screen.warn)


def _announce(screen: Screen, serving: Serving) -> None:
    screen.note(f"serving s3://{serving.bucket}/ at {serving.endpoint_url}; Ctrl-C ends it")
    if not serving.endpoint_url.startswith(LOOPBACK):
        screen.warn("other machines can reach this address, and the connection is not encrypted")
    variables = {
        "AWS_ENDPOINT_URL": serving.endpoint_url,
        "AWS_ACCESS_KEY_ID": serving.access_key,
        "AWS_SECRET_ACCESS_KEY": serving.secret_key,
        "AWS_DEFAULT_REGION": serving.region,
        "AWS_REGION": serving.region,
    }
    for name, value in variables.items():
        screen.line(f"export {name}={shell_word(value)}")
