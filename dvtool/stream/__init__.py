"""Samples of any commit, in an order that is the same everywhere and can be taken up anywhere."""

from __future__ import annotations

from dvtool.stream.reading import OnDamage
from dvtool.stream.samples import Sample
from dvtool.stream.share import Tail
from dvtool.stream.stream import Batch, Epoch, SampleKind, Stream

__all__ = ["Batch", "Epoch", "OnDamage", "Sample", "SampleKind", "Stream", "Tail"]
