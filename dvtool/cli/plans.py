"""The output of ``--plan``: the cost of a transfer, when nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dvtool.cli.output import Screen, count_text, documents
from dvtool.errors import printable, size_text
from dvtool.remotes.transports.registry import prices_of

if TYPE_CHECKING:
    from dvtool.cli.documents import TransferPlan
    from dvtool.remotes.estimate import Estimate
    from dvtool.remotes.evidence import ReadBack

CENT_USD = 0.01

plan_option = click.option(
    "-n",
    "--dry-run",
    "--plan",
    "plan_only",
    is_flag=True,
    help="Say what would be done, and what that takes; change nothing.",
)
"""One option of one meaning, whatever it is called, in every command that changes much."""


def show_plan(screen: Screen, sentence: str, remote: str, estimate: Estimate) -> None:
    """Print an estimate under a sentence that says what would be done."""
    if not estimate.requests.total:
        screen.line(f"nothing to transfer: {sentence}")
        return
    requests = estimate.requests
    kinds = {"PUT": requests.put, "LIST": requests.list, "GET": requests.get, "HEAD": requests.head}
    each = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    screen.line(sentence)
    screen.line(f"  objects   {estimate.objects:,}, about {size_text(estimate.bytes)}")
    screen.line(f"  requests  about {requests.total:,}: {each}")
    screen.line(f"  time      {_time_text(estimate.seconds)}")
    prices = prices_of(remote)
    if prices is not None:
        screen.line(f"  cost      {_cost_text(requests.cost_usd(prices), prices.basis)}")
    screen.note("nothing was transferred")


def _time_text(seconds: float | None) -> str:
    if seconds is None:
        return "unknown: the link was not measured yet (dv doctor --remote does)"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {minutes / 60:.1f} h"


def _cost_text(usd: float, basis: str) -> str:
    amount = f"{usd:.2f}" if usd >= CENT_USD else "less than 0.01"
    return f"{amount} USD for the requests, at {basis}; traffic is extra"


def plan_document(remote: str, files: int, estimate: Estimate) -> TransferPlan:
    """Return an estimate as JSON shows it."""
    return documents.TransferPlan(
        remote=remote,
        files=files,
        objects=estimate.objects,
        bytes=estimate.bytes,
        requests=estimate.requests,
        request_cost_usd=round(estimate.requests.cost_usd(prices_of(remote)), 6),
        seconds=None if estimate.seconds is None else round(estimate.seconds, 1),
    )


def files_sentence(verb: str, remote: str, files: int, size: int | None = None) -> str:
    """Return the sentence over a plan: ``a pull from s3://… would bring 12 files, 3.1 MiB``."""
    sized = f", {size_text(size)}" if size is not None else ""
    return f"{verb.replace('URL', printable(remote))} {count_text(files, 'file')}{sized}"


def say_reading(screen: Screen, read: ReadBack) -> None:
    """Say, before it begins, how much is read back from a remote."""
    screen.note(
        f"reading {size_text(read.bytes)} back from {printable(read.remote)}, which does not state "
        "what it holds"
    )


def reading_text(read: ReadBack) -> str:
    """Return what has to be read back from a remote before anything may be freed."""
    if not read.requests:
        return f"nothing has to be read back: {printable(read.remote)} states what it holds"
    return (
        f"{size_text(read.bytes)} would be read back from {printable(read.remote)} first, in about "
        f"{count_text(read.requests, 'request')}"
    )
