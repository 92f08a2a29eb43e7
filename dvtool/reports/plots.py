"""Small plots of a report, drawn as SVG in the page's own colours."""

from __future__ import annotations

from collections.abc import Sequence

from dvtool.reports.distributions import Distribution
from dvtool.reports.markup import text
from dvtool.reports.sounds import Sound

_WIDTH, _HEIGHT = 260, 92
_ROW_HEIGHT = 26
_LABEL_LENGTH_MAX = 34


def distribution_plot(plot: Distribution) -> str:
    """Return one column's distribution on both sides, as a figure."""
    drawn = _histogram(plot) if plot.numeric else _bars(plot)
    missing = ""
    if plot.old_missing or plot.new_missing:
        missing = f" · empty {plot.old_missing:,} → {plot.new_missing:,}"
    name = text(plot.column)
    return (
        f"<figure><figcaption><b>{name}</b>{missing}</figcaption>{drawn}"
        f"{_span(plot) if plot.numeric else ''}</figure>"
    )


def _span(plot: Distribution) -> str:
    low, high = map(text, plot.labels)
    return f"<figcaption>{low} … {high}</figcaption>"


def _histogram(plot: Distribution) -> str:
    top = max(*plot.old, *plot.new, 1)
    step = _WIDTH / len(plot.old)
    bars = []
    for at, (old, new) in enumerate(zip(plot.old, plot.new, strict=True)):
        for offset, count, side in ((0.08, old, "old"), (0.5, new, "new")):
            height = (_HEIGHT - 4) * count / top
            if count:
                bars.append(
                    f'<rect class="{side}" x="{(at + offset) * step:.1f}" '
                    f'y="{_HEIGHT - height:.1f}" width="{step * 0.42:.1f}" height="{height:.1f}"/>'
                )
    axis = f'<path class="axis" d="M0 {_HEIGHT}H{_WIDTH}"/>'
    return _svg(f"histogram of {plot.column}", _HEIGHT + 1, "".join(bars) + axis)


def _bars(plot: Distribution) -> str:
    top = max(*plot.old, *plot.new, 1)
    rows = []
    for at, (label, old, new) in enumerate(zip(plot.labels, plot.old, plot.new, strict=True)):
        y = at * _ROW_HEIGHT
        shown = label if len(label) <= _LABEL_LENGTH_MAX else label[: _LABEL_LENGTH_MAX - 1] + "…"
        rows.append(
            f'<text x="0" y="{y + 10}">{text(shown)}</text>'
            f'<text x="{_WIDTH}" y="{y + 10}" text-anchor="end">{old:,} → {new:,}</text>'
            f'<rect class="old" x="0" y="{y + 13}" width="{_WIDTH * old / top:.1f}" height="4"/>'
            f'<rect class="new" x="0" y="{y + 18}" width="{_WIDTH * new / top:.1f}" height="4"/>'
        )
    height = max(1, len(plot.labels)) * _ROW_HEIGHT
    return _svg(f"most frequent values of {plot.column}", height, "".join(rows))


def waveform(sound: Sound, side: str) -> str:
    """Return the loudness of a sound over its time; `side` is old or new."""
    middle, width = 30, 600
    step = width / max(1, len(sound.peaks))
    path = "".join(
        f"M{at * step:.1f} {middle - max(0.5, peak * 28):.1f}h{step * 0.8:.1f}"
        f"v{2 * max(0.5, peak * 28):.1f}h-{step * 0.8:.1f}z"
        for at, peak in enumerate(sound.peaks)
    )
    drawn = f'<path class="{side}" d="{path}"/>'
    return _svg(f"waveform of {sound.seconds:.1f} seconds", 60, drawn, width=width)


def _svg(label: str, height: float, drawn: str, *, width: int = _WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(label)}">{drawn}</svg>'
    )


def legend(names: Sequence[str]) -> str:
    """Return which colour is which side."""
    old, new = map(text, names)
    return (
        f'<p class="soft"><span class="key-old">{old}</span> <span class="key-new">{new}</span></p>'
    )
