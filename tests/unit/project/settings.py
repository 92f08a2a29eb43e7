"""Settings from texts, as the tests of this room load them."""

from __future__ import annotations

from dvtool.project.config import Config

Pairs = list[tuple[str, str]]
REMOTE: Pairs = [("remote.o.url", "s3://bucket")]


def load(
    committed: Pairs | None = None,
    local: Pairs | None = None,
    environ: dict[str, str] | None = None,
) -> Config:
    return Config.load(committed or [], local or [], environ or {})
