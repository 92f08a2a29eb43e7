"""Trying again over S3, where answers are lost and bodies break off."""

from __future__ import annotations

import io

from dvtool.remotes.transports.retry import Retry
from dvtool.remotes.transports.s3.backend import S3Backend
from tests.contract import RANDOM, no_sleep, read
from tests.s3.proxy import CountingProxy, Fault


def test_get_starts_afresh_so_that_versions_are_never_mixed(
    proxied: S3Backend, proxy: CountingProxy
) -> None:
    old, new = RANDOM, RANDOM[::-1]
    proxied.put("shard", old)
    proxy.inject(Fault("GET", cut_after=2_000_000))
    backend = Retry(proxied, sleep=lambda _: proxied.put("shard", new))
    assert backend.get("shard", size_max=len(new)) == new


def test_a_large_body_that_arrived_is_not_sent_twice(
    proxied: S3Backend, proxy: CountingProxy
) -> None:
    for body in (RANDOM, io.BytesIO(RANDOM)):
        proxied.delete("k")
        proxy.reset()
        proxy.inject(Fault("PUT", lost=True))
        stored = Retry(proxied, sleep=no_sleep).put("k", body)
        assert proxy.counts == {"PUT": 1, "HEAD": 1}
        assert stored == proxied.head("k")


def test_other_bytes_under_the_key_do_not_pass_for_the_body(
    proxied: S3Backend, proxy: CountingProxy
) -> None:
    proxied.put("k", RANDOM[::-1])
    proxy.reset()
    proxy.inject(Fault("PUT", status=500))
    Retry(proxied, sleep=no_sleep).put("k", RANDOM)
    assert proxy.counts == {"PUT": 2, "HEAD": 1}
    assert proxied.get("k", size_max=len(RANDOM)) == RANDOM


def test_resumed_read_asks_for_the_rest_only(proxied: S3Backend, proxy: CountingProxy) -> None:
    proxied.put("k", RANDOM)
    proxy.reset()
    proxy.inject(Fault("GET", cut_after=2_000_000), Fault("GET", cut_after=500_000))
    assert read(Retry(proxied, sleep=no_sleep), "k") == RANDOM
    assert proxy.counts == {"GET": 3}
    assert proxy.received < len(RANDOM) + (1 << 20)  # at most what was in flight comes twice
    assert [request.range is None for request in proxy.requests] == [True, False, False]


def test_put_if_absent_after_a_lost_answer(proxied: S3Backend, proxy: CountingProxy) -> None:
    proxy.inject(Fault("PUT", lost=True))
    assert Retry(proxied, sleep=no_sleep).put_if_absent("k", b"mine") is True
    assert proxied.get("k", size_max=10) == b"mine"
