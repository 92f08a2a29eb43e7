"""The options by which a command works on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dvtool.errors import UsageError

if TYPE_CHECKING:
    from dvtool.jobs.cluster import ClusterEngine

ENGINES = ("dask", "ray")
F = TypeVar("F", bound=Callable[..., Any])


def engine_options(function: F) -> F:
    """Give a command --engine and --engine-address, as `engine` and `engine_address`."""
    address = click.option(
        "--engine-address",
        metavar="ADDRESS",
        help="The cluster's scheduler; without it one begins on this machine.",
    )
    engine = click.option(
        "--engine", type=click.Choice(ENGINES), help="Work by the workers of a Dask or Ray cluster."
    )
    return engine(address(function))


@contextlib.contextmanager
def opened_engine(name: str | None, address: str | None) -> Iterator[ClusterEngine | None]:
    """Yield the engine that was asked for; None for this machine's own workers."""
    if name is None:
        if address is not None:
            raise UsageError(
                "the address of which engine?", hint="name it: --engine dask, or --engine ray"
            )
        yield None
        return
    from dvtool import open_engine

    with open_engine(name, address) as engine:
        yield engine
