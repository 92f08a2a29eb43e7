"""Sounds for a report: the loudness of a WAV file over its time."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from typing import IO

SOUND_SUFFIXES = (".wav",)
BUCKETS = 240
"""A waveform has so many columns."""
_FRAMES_READ_MAX = 2_000
"""Of the frames behind a column at most so many are read."""
_CHANNELS_MAX = 64


@dataclass(frozen=True, slots=True)
class Sound:
    """The facts of a sound, and its loudness: the peak of each column, from 0 to 1."""

    seconds: float
    rate_hz: int
    channels: int
    bits: int
    peaks: tuple[float, ...]
    sampled: bool
    """Whether peaks were read from a part of the frames."""


def read_sound(file: IO[bytes], size: int) -> Sound:
    """Return the waveform of a WAV file (PCM); ValueError, with the reason, if it has none."""
    try:
        with wave.open(file, "rb") as sound:
            width, channels, rate = (
                sound.getsampwidth(),
                sound.getnchannels(),
                sound.getframerate(),
            )
            if not (0 < channels <= _CHANNELS_MAX and rate > 0 and width in (1, 2, 3, 4)):
                raise ValueError("its header makes no sense")
            frames = min(sound.getnframes(), size // (width * channels))
            peaks = [_peak(sound, frames, column) for column in range(min(BUCKETS, frames))]
    except (wave.Error, EOFError, OSError) as error:
        reason = str(error) or "it ends too early"
        raise ValueError(f"its waveform cannot be read: {reason}") from error
    sampled = frames > BUCKETS * _FRAMES_READ_MAX
    return Sound(frames / rate, rate, channels, 8 * width, tuple(peaks), sampled)


def _peak(sound: wave.Wave_read, frames: int, column: int) -> float:
    columns = min(BUCKETS, frames)
    first, end = frames * column // columns, frames * (column + 1) // columns
    sound.setpos(first)
    data = sound.readframes(min(end - first, _FRAMES_READ_MAX))
    width = sound.getsampwidth()
    if width == 1:  # the one width whose samples have no sign
        return float(max((abs(sample - 128) for sample in data), default=0) / 128)
    samples = [
        int.from_bytes(data[at : at + width], "little", signed=True)
        for at in range(0, len(data) - width + 1, width)
    ]
    return min(1.0, float(max(map(abs, samples), default=0)) / (1 << (8 * width - 1)))
