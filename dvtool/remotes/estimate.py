"""The estimate of a transfer: objects, bytes, requests, and from these time and money."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from dvtool.remotes.transports.declaration import RequestPrices

SAMPLE_SIZE_BYTES = 1 << 20
"""So much of one object tells how fast a link is."""


@dataclass(frozen=True, slots=True)
class Requests:
    """The number of requests of each kind."""

    put: int = 0
    """Objects to write."""
    list: int = 0
    """Pages of listings."""
    get: int = 0
    """Objects, or ranges of objects, to read."""
    head: int = 0
    """Objects to ask about."""

    def __add__(self, other: Requests) -> Requests:
        return Requests(
            self.put + other.put,
            self.list + other.list,
            self.get + other.get,
            self.head + other.head,
        )

    @property
    def total(self) -> int:
        """The number of all requests."""
        return self.put + self.list + self.get + self.head

    def cost_usd(self, prices: RequestPrices | None) -> float:
        """Return their cost; 0 without prices."""
        if prices is None:
            return 0.0
        return (self.put + self.list) * prices.write_usd + (self.get + self.head) * prices.read_usd


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of a transfer. `objects` and `bytes` move; `requests` include the proof.

    `seconds` is None as long as the link was not measured.
    """

    objects: int = 0
    bytes: int = 0
    requests: Requests = field(default_factory=Requests)
    seconds: float | None = None

    def timed(
        self, *, bytes_per_s: float | None, latency_s: float | None, side_by_side: int
    ) -> Estimate:
        """Return the estimate with its `seconds`, if the link was measured.

        Requests go `side_by_side` at a time, and the bytes all through the same link.
        """
        if bytes_per_s is None or latency_s is None:
            return self
        rounds = self.requests.total / side_by_side
        return replace(self, seconds=self.bytes / bytes_per_s + rounds * latency_s)


class LinkSample:
    """Times the beginning of one object, which is written to it, from the moment it is made."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes that came."""
        self._began_s = time.monotonic()
        self._latency_s: float | None = None

    def answered(self) -> None:
        """Note that the answer begins, if it did not before."""
        if self._latency_s is None:
            self._latency_s = time.monotonic() - self._began_s

    def write(self, data: bytes, /) -> None:
        """Take the next bytes."""
        self.answered()
        self.size += len(data)

    def timed(self, estimate: Estimate, *, side_by_side: int) -> Estimate:
        """Return an estimate with the time that the sample, taken until now, speaks for.

        Objects go `side_by_side` at a time at most, each as fast as the sample.
        """
        self.answered()
        taken_s = max(time.monotonic() - self._began_s, 1e-6)
        at_once = min(side_by_side, max(estimate.objects, 1))
        rate = max(self.size, 1) / taken_s * at_once
        return estimate.timed(bytes_per_s=rate, latency_s=self._latency_s, side_by_side=at_once)
