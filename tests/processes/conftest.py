"""The repository that the tests of snapshots in processes read."""

from __future__ import annotations

from tests.unit.snapshots.conftest import data, dataset

__all__ = ["data", "dataset"]
