"""The estimate of a transfer: objects, bytes, requests, and from these time and money."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dvtool.remotes.transports.declaration import RequestPrices


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
