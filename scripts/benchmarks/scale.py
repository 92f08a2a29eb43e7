"""How large the workloads are: quick, default and full."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Scale:
    """The sizes of one kind of run."""

    name: str
    rounds: int
    lesser_rounds: int
    """Rounds of workloads that are beside the main ones."""
    s_files: int
    """Files of 8 KiB in S."""
    few_files: int
    """Files of 8 KiB where every tool takes part."""
    b_bytes: int
    labels: int
    text_bytes: int
    checkpoint_bytes: int
    parquet_rows: int
    many_files: int
    """Files of 300 bytes for the status beside git's."""
    request_files: int
    """Files of 8 KiB for DVC's requests, which grow with them."""
    stream_files: int
    """Files of 20 KB that are streamed for training."""
    stream_rounds: int
    growth_files: tuple[int, ...]
    growth_bytes: tuple[int, ...]
    growth_versions: tuple[int, ...]


QUICK = Scale(
    name="quick",
    rounds=3,
    lesser_rounds=2,
    s_files=2_000,
    few_files=200,
    b_bytes=32 * MIB,
    labels=1_000,
    text_bytes=2 * MIB,
    checkpoint_bytes=16 * MIB,
    parquet_rows=50_000,
    many_files=5_000,
    request_files=50,
    stream_files=2_000,
    stream_rounds=2,
    growth_files=(100, 1_000, 4_000),
    growth_bytes=(1 * MIB, 8 * MIB, 32 * MIB),
    growth_versions=(5, 20),
)
DEFAULT = Scale(
    name="default",
    rounds=5,
    lesser_rounds=3,
    s_files=20_000,
    few_files=1_000,
    b_bytes=256 * MIB,
    labels=20_000,
    text_bytes=24 * MIB,
    checkpoint_bytes=200 * MIB,
    parquet_rows=1_000_000,
    many_files=200_000,
    request_files=1_000,
    stream_files=20_000,
    stream_rounds=3,
    growth_files=(1_000, 10_000, 50_000, 200_000),
    growth_bytes=(1 * MIB, 16 * MIB, 128 * MIB, 1 * GIB),
    growth_versions=(10, 50, 200),
)
FULL = Scale(
    name="full",
    rounds=5,
    lesser_rounds=3,
    s_files=20_000,
    few_files=1_000,
    b_bytes=256 * MIB,
    labels=20_000,
    text_bytes=24 * MIB,
    checkpoint_bytes=200 * MIB,
    parquet_rows=1_000_000,
    many_files=200_000,
    request_files=1_000,
    stream_files=100_000,
    stream_rounds=2,
    growth_files=(1_000, 10_000, 100_000, 200_000, 1_000_000),
    growth_bytes=(1 * MIB, 16 * MIB, 128 * MIB, 1 * GIB, 10 * GIB),
    growth_versions=(10, 100, 300, 1_000),
)
SCALES = {scale.name: scale for scale in (QUICK, DEFAULT, FULL)}
