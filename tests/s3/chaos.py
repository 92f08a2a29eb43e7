"""Faults for the proxy: a name for each, and their mix, drawn from a seed."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from dvtool.remotes.objects import MARK
from dvtool.remotes.transfers import READS_MAX
from tests.s3.proxy import Fault, Request

FAULTS_PER_KEY_MAX = 3
"""Fewer than an operation has attempts: with patience every operation succeeds."""
DAMAGES_PER_KEY_MAX = READS_MAX - 1

_ANY = Fault("")
SINGLE = {
    "delay": replace(_ANY, delay_s=0.02),
    "500": replace(_ANY, status=500),
    "503": replace(_ANY, status=503, code="SlowDown"),
    "503, retry after": replace(_ANY, status=503, code="SlowDown", retry_after_s=0),
    "429": replace(_ANY, status=429, code="TooManyRequests"),
    "429, retry after": replace(_ANY, status=429, code="TooManyRequests", retry_after_s=0),
    "503, body unread": replace(_ANY, status=503, code="SlowDown", unread=True),
    "bad digest": replace(_ANY, status=400, code="BadDigest"),
    "lost": replace(_ANY, lost=True),
    "lost by reset": replace(_ANY, lost=True, reset=True),
    "replay": replace(_ANY, replay=True),
    "answer cut": replace(_ANY, cut_after=0.5),
    "answer reset": replace(_ANY, cut_after=0.5, reset=True),
    "answer cut to nothing": replace(_ANY, cut_after=0),
    "answer cut, its length lies": replace(_ANY, cut_after=0.5, lies=True),
    "answer damaged": replace(_ANY, flip_at=0.5),
    "request cut": replace(_ANY, cut_sent_after=0.5),
    "request reset": replace(_ANY, cut_sent_after=0.5, reset=True),
    "request damaged": replace(_ANY, flip_sent_at=0.5),
}
"""Every kind of fault by name; `kind` is left open."""

_OF_ANSWERS = {name for name in SINGLE if name.startswith("answer")}
_OF_REQUESTS = {name for name in SINGLE if name.startswith("request")} | {"bad digest"}
_FOUND_BY_HASH = {"answer damaged", "answer cut, its length lies"}


def applies(name: str, kind: str, key: str) -> bool:
    """Whether a fault can happen to a request of this kind, and be noticed where it matters.

    Headers, listings and dv.json have no hash: there, a changed bit cannot be noticed.
    """
    if name in _OF_REQUESTS:
        return kind == "PUT"
    if name == "answer damaged":
        return kind == "GET" and not key.endswith(MARK)
    return name not in _OF_ANSWERS or kind in ("GET", "LIST")


@dataclass
class Chaos:
    """Chooses faults at random, the same ones for the same seed.

    The choice depends on what is asked for and how often it was before, not on the order in which
    threads ask. `only` names the faults to choose from.
    """

    seed: int
    rate: float
    only: tuple[str, ...] = tuple(SINGLE)

    def __post_init__(self) -> None:
        self._asked: Counter[tuple[str, str]] = Counter()
        self._failed: Counter[str] = Counter()
        self._damaged: Counter[str] = Counter()
        self._lock = threading.Lock()

    def choose(self, request: Request) -> Fault | None:
        """Return the fault for a request, None for most."""
        key = request.path.partition("/")[2].partition("/")[2]  # without the bucket, which is new
        with self._lock:
            ordinal = self._asked[request.kind, key]
            self._asked[request.kind, key] += 1
            if self._failed[key] >= FAULTS_PER_KEY_MAX:
                return None
            draw = random.Random(f"{self.seed} {request.kind} {key} {ordinal}")
            names = [name for name in self.only if applies(name, request.kind, key)]
            if not names or draw.random() >= self.rate:
                return None
            name = draw.choice(names)
            if name in _FOUND_BY_HASH:
                if self._damaged[key] >= DAMAGES_PER_KEY_MAX:
                    return None
                self._damaged[key] += 1
            self._failed[key] += 1
            return _placed(replace(SINGLE[name], kind=request.kind), draw)


def _placed(fault: Fault, draw: random.Random) -> Fault:
    """Return the fault with its place in the body drawn, where it has one."""
    for name in ("cut_after", "cut_sent_after", "flip_at", "flip_sent_at"):
        if isinstance(getattr(fault, name), float):
            place: Any = {name: draw.random()}
            fault = replace(fault, **place)
    return fault
