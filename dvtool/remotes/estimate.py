"""What a transfer will take: objects, bytes, requests, and from those time and money."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

PRICE_WRITE_USD = 0.005 / 1000
"""What Amazon asks for a PUT or LIST to S3 Standard, us-east-1; see aws.amazon.com/s3/pricing."""
PRICE_READ_USD = 0.0004 / 1000
"""What it asks for a GET or HEAD. Traffic out of the region costs besides, by the byte."""


@dataclass(frozen=True, slots=True)
class Requests:
    """How many requests of each kind."""

    put: int = 0
    list: int = 0
    get: int = 0
    head: int = 0

    def __add__(self, other: Requests) -> Requests:
        return Requests(
            self.put + other.put,
            self.list + other.list,
            self.get + other.get,
            self.head + other.head,
        )

    @property
    def total(self) -> int:
        """All of them."""
        return self.put + self.list + self.get + self.head

    @property
    def cost_usd(self) -> float:
        """What they cost at Amazon's list price."""
        return (self.put + self.list) * PRICE_WRITE_USD + (self.get + self.head) * PRICE_READ_USD


@dataclass(frozen=True, slots=True)
class Estimate:
    """About what a transfer will take. `objects` and `bytes` move; `requests` include the proof.

    `seconds` is None as long as the link was not measured.
    """

    objects: int = 0
    bytes: int = 0
    requests: Requests = field(default_factory=Requests)
    seconds: float | None = None

    def timed(
        self, *, bytes_per_s: float | None, latency_s: float | None, side_by_side: int
    ) -> Estimate:
        """Return it with about how long it takes, if the link was measured.

        Requests go `side_by_side` at a time, and the bytes all through the same link.
        """
        if bytes_per_s is None or latency_s is None:
            return self
        rounds = self.requests.total / side_by_side
        return replace(self, seconds=self.bytes / bytes_per_s + rounds * latency_s)
