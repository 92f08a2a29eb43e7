"""Trying again: how often, how late, and what is never done twice."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest

from dvtool.errors import (
    ObjectMissing,
    RemoteBusy,
    RemoteError,
    RemoteForbidden,
    RemoteTransient,
)
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.remotes.transports.pace import Pace
from dvtool.remotes.transports.retry import Retry
from tests.contract import BODY, OPERATIONS, RANDOM, keys, no_sleep, read
from tests.faulty import Faulty


@pytest.mark.parametrize("operation", OPERATIONS)
def test_gives_up_with_a_count(local: LocalBackend, operation: str) -> None:
    faulty = Faulty(local, on=operation, times=None)
    backend = Retry(faulty, attempts=4, sleep=no_sleep)
    attempts: dict[str, Callable[[], object]] = {
        "read_into": lambda: read(backend, "k"),
        "get": lambda: backend.get("k", size_max=1),
        "put": lambda: backend.put("k", b""),
        "put_if_absent": lambda: backend.put_if_absent("k", b""),
        "head": lambda: backend.head("k"),
        "list": lambda: keys(backend),
        "delete": lambda: backend.delete("k"),
    }
    with pytest.raises(RemoteError, match=r"injected \(gave up after 4 attempts\)") as caught:
        attempts[operation]()
    assert not isinstance(caught.value, RemoteTransient)
    assert caught.value.hint
    assert faulty.calls[operation] == 4


@pytest.mark.parametrize(
    "error",
    [ObjectMissing("k", "here"), RemoteForbidden("no"), RemoteError("broken"), OSError("disk")],
)
def test_other_errors_pass_at_once(local: LocalBackend, error: Exception) -> None:
    faulty = Faulty(local, on="get", times=None, error=lambda: error)
    with pytest.raises(type(error)) as caught:
        Retry(faulty, sleep=no_sleep).get("k", size_max=1)
    assert caught.value is error
    assert faulty.calls["get"] == 1


def test_pauses_grow_and_have_full_jitter(local: LocalBackend) -> None:
    ranges: list[tuple[float, float]] = []
    pauses: list[float] = []

    def middle(low: float, high: float) -> float:
        ranges.append((low, high))
        return (low + high) / 2

    backend = Retry(
        Faulty(local, on="head", times=None), attempts=9, sleep=pauses.append, rng=middle
    )
    with pytest.raises(RemoteError):
        backend.head("k")
    assert all(low == 0 for low, _ in ranges)
    assert [high for _, high in ranges][:8] == [0.5, 1, 2, 4, 8, 16, 20, 20]
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 10, 10]


def test_no_attempt_after_the_deadline(local: LocalBackend) -> None:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    faulty = Faulty(local, on="head", times=None)
    backend = Retry(
        faulty,
        attempts=50,
        deadline_s=10,
        sleep=sleep,
        rng=lambda low, high: high,
        pace=Pace(clock=lambda: now),
    )
    with pytest.raises(RemoteError, match="gave up after 5 attempts"):
        backend.head("k")
    assert now == 107.5  # 0.5 + 1 + 2 + 4; another 8 would be too late


@pytest.mark.parametrize(("offset", "size"), [(0, None), (0, 10240), (7, 9000), (7, None)])
def test_read_goes_on_where_it_broke_off(
    local: LocalBackend, offset: int, size: int | None
) -> None:
    local.put("k", BODY)
    faulty = Faulty(local, on="read_into", times=3, cut_at=1000)
    end = None if size is None else offset + size
    sink = Once()
    wanted = BODY[offset:end]
    written = Retry(faulty, sleep=no_sleep).read_into("k", sink, offset=offset, size=size)
    assert b"".join(sink.blocks) == wanted
    assert written == len(wanted)
    assert [len(block) for block in sink.blocks] == [1000, 1000, 1000, len(wanted) - 3000]


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_read_that_failed_after_its_last_byte(local: LocalBackend, size: int | None) -> None:
    local.put("k", BODY)
    faulty = Faulty(local, on="read_into", after=True)
    assert read(Retry(faulty, sleep=no_sleep), "k", size=size) == BODY


def test_put_rewinds_for_each_attempt(local: LocalBackend) -> None:
    faulty = Faulty(local, on="put", times=2, after=True)
    body = io.BytesIO(BODY)
    body.seek(50)
    Retry(faulty, sleep=no_sleep).put("k", body)
    assert faulty.calls["put"] == 3
    assert local.get("k", size_max=len(BODY)) == BODY


def test_put_if_absent_recognises_its_own_object(local: LocalBackend) -> None:
    faulty = Faulty(local, on="put_if_absent", after=True)
    assert Retry(faulty, sleep=no_sleep).put_if_absent("k", b"mine") is True
    assert faulty.calls["put_if_absent"] == 2


def test_put_if_absent_without_failure_claims_nothing(local: LocalBackend) -> None:
    local.put("k", b"same")
    assert Retry(local, sleep=no_sleep).put_if_absent("k", b"same") is False


def test_put_if_absent_when_the_check_fails_too(local: LocalBackend) -> None:
    faulty = Faulty(Faulty(local, on="put_if_absent", after=True), on="get")
    assert Retry(faulty, sleep=no_sleep).put_if_absent("k", b"mine") is True


@pytest.mark.parametrize("theirs", [b"them", b"other size"])
@pytest.mark.parametrize("after", [True, False])
def test_put_if_absent_does_not_claim_others(
    local: LocalBackend, theirs: bytes, after: bool
) -> None:
    local.put("k", theirs)
    faulty = Faulty(local, on="put_if_absent", after=after)
    assert Retry(faulty, sleep=no_sleep).put_if_absent("k", b"mine") is False
    assert local.get("k", size_max=100) == theirs


def test_listing_goes_on_where_it_broke_off(local: LocalBackend) -> None:
    names = [f"k{number:02}" for number in range(20)]
    for name in names:
        local.put(name, b"")
    faulty = Faulty(Faulty(local, on="list", times=3, cut_at=7), on="list", skip=1, cut_at=12)
    assert keys(Retry(faulty, attempts=5, sleep=no_sleep)) == names


def test_progress_renews_the_attempts(local: LocalBackend) -> None:
    """A link that breaks every 100 kB still brings 3 MiB, in 32 attempts of five in a row."""
    local.put("k", RANDOM)
    faulty = Faulty(local, on="read_into", times=31, cut_at=100_000)
    assert read(Retry(faulty, sleep=no_sleep), "k", size=len(RANDOM)) == RANDOM
    assert faulty.calls["read_into"] == 32


def test_next_to_no_progress_does_not(local: LocalBackend) -> None:
    local.put("k", RANDOM)
    faulty = Faulty(local, on="read_into", times=None, cut_at=10)
    with pytest.raises(RemoteError, match="gave up after 5 attempts"):
        read(Retry(faulty, sleep=no_sleep), "k", size=len(RANDOM))


def test_progress_puts_off_the_deadline_by_what_it_is_worth(local: LocalBackend) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += 40.0

    local.put("k", RANDOM)
    for cut_at, attempts in ((100_000, 32), (70_000, 6)):
        # 100 kB are worth 48.8 seconds, 70 kB 34.2: only the first keep up with 40 a time.
        faulty = Faulty(local, on="read_into", times=31, cut_at=cut_at)
        backend = Retry(faulty, deadline_s=45.0, pace=Pace(clock=lambda: now), sleep=sleep)
        if attempts == 32:
            assert read(backend, "k", size=len(RANDOM)) == RANDOM
        else:
            with pytest.raises(RemoteError, match="gave up"):
                read(backend, "k", size=len(RANDOM))
        assert faulty.calls["read_into"] >= attempts


def test_a_busy_remote_gets_more_attempts(local: LocalBackend) -> None:
    local.put("k", BODY)
    pauses: list[float] = []
    faulty = Faulty(
        local, on="get", times=20, error=lambda: RemoteBusy("slow down", retry_after_s=0.01)
    )
    backend = Retry(faulty, attempts=3, sleep=pauses.append)
    assert backend.get("k", size_max=len(BODY)) == BODY
    assert len(pauses) == 20
    assert min(pauses) >= 0.01
    assert backend.pace.limit == 2  # one, and one more for the success


def test_a_remote_that_stays_busy_is_given_up(local: LocalBackend) -> None:
    faulty = Faulty(
        local, on="head", times=None, error=lambda: RemoteBusy("slow down", retry_after_s=0.0)
    )
    with pytest.raises(RemoteError, match=r"slow down \(gave up after 30 attempts\)"):
        Retry(faulty, sleep=no_sleep).head("k")


def test_busy_answers_do_not_use_up_the_attempts(local: LocalBackend) -> None:
    busy = lambda: RemoteBusy("slow down", retry_after_s=0.0)  # noqa: E731
    faulty = Faulty(Faulty(local, on="head", times=2), on="head", times=6, error=busy)
    assert Retry(faulty, attempts=3, sleep=no_sleep).head("k") is None
    assert faulty.calls["head"] == 9


def test_attempts_must_be_possible(local: LocalBackend) -> None:
    with pytest.raises(ValueError, match="attempts"):
        Retry(local, attempts=0)


class Once:
    """A sink that keeps the blocks as they came."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self.blocks.append(bytes(data))


def test_a_log_tells_of_waits_and_of_giving_up(
    local: LocalBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "dvtool")
    backend = Retry(Faulty(local, on="head", times=1), sleep=no_sleep, rng=lambda low, high: high)
    backend.head("k")
    backend = Retry(Faulty(local, on="head", times=None), attempts=2, sleep=no_sleep)
    with pytest.raises(RemoteError):
        backend.head("k")
    waits, done, _, ends = caplog.messages
    assert waits == "head k: waits 0.5 s and tries again, since injected"
    assert re.fullmatch(r"head k: done in [\d,]+ ms", done)
    assert ends == "head k: given up after 2 attempts: injected"
