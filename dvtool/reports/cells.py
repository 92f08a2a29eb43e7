"""The values of cells, so that those of two tables can be compared, stored and shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from dvtool.errors import cut_alike
from dvtool.format.digest import digest_of

CELL_LENGTH_MAX = 200
"""So many characters of a value are shown."""
_SHOWN_BYTES_MAX = 32
_EXACT_FLOAT_MAX = 1 << 53
_JSON_INTEGER_MAX = 1 << 63

_encoder = msgspec.json.Encoder(order="deterministic")
_cell_decoder = msgspec.json.Decoder()


def encode_cells(values: Sequence[Any]) -> bytes:
    """Return values as JSON, in which equal values have equal bytes.

    Whole floats are as integers, so that a column which became one of floats is unchanged; keys
    of objects are sorted. ValueError for text that is no UTF-8.
    """
    try:
        return _encoder.encode([plain(value) for value in values])
    except RecursionError as error:
        raise ValueError("a value is nested too deeply") from error


def decode_cells(data: bytes) -> list[Any]:
    """Return the values that `encode_cells` wrote."""
    values: list[Any] = _cell_decoder.decode(data)
    return values


def plain(value: Any) -> Any:
    """Return a value of a table as one that JSON has."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if abs(value) < _JSON_INTEGER_MAX else str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() and abs(value) < _EXACT_FLOAT_MAX else value
    if isinstance(value, bytes):
        if len(value) <= _SHOWN_BYTES_MAX:
            return f"0x{value.hex()}"
        return f"{len(value):,} bytes, blake3 {digest_of(value).hex()}"
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return str(value)  # dates, times, decimals


def cell_text(value: Any) -> str | None:
    """Return a value as it is shown, cut where it is long; None for no value."""
    return cell_texts(value, None)[0]


def cell_texts(old: Any, new: Any) -> tuple[str | None, str | None]:
    """Return two values as they are shown; long ones are cut so that their difference is seen."""
    texts = [None if value is None else _uncut_text(value) for value in (old, new)]
    before, after = texts
    shown = cut_alike(before or "", after or "", CELL_LENGTH_MAX)
    return before and shown[0], after and shown[1]


def _uncut_text(value: Any) -> str:
    return value if isinstance(value, str) else _encoder.encode(value).decode()
