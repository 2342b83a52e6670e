"""Small plots as inline SVG: no library, no script, no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 8, 10, 36

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axes:
    """Ranges and names of a plot.

    Attributes:
        x_name: under the horizontal axis, which begins at 0.
        y_name: beside the vertical one.
        x_most: its end.
        y_most: its end.
        y_least: where the vertical one begins.
    """

    x_name: str
    y_name: str
    x_most: float
    y_most: float
    y_least: float = 0.0

    def x(self, value: float) -> float:
        """Place of a value, in pixels."""
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / (self.x_most or 1.0)

    def y(self, value: float) -> float:
        """Place of a value, in pixels; what lies outside is drawn at the edge."""
        span = (self.y_most - self.y_least) or 1.0
        part = min(max((value - self.y_least) / span, 0.0), 1.0)
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1.0 - part)


def stacked(axes: Axes, width: float, series: Mapping[str, Sequence[float]], colours: Mapping[str, str]) -> str:
    """Bars of one width, the series on top of each other."""
    parts, below = [], [0.0] * max((len(each) for each in series.values()), default=0)
    for name, values in series.items():
        for place, value in enumerate(values):
            if not value:
                continue
            top, bottom = axes.y(below[place] + value), axes.y(below[place])
            left, right = axes.x(place * width), axes.x(min((place + 1) * width, axes.x_most))
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left - 0.5, 0.5):.1f}" '
                f'height="{bottom - top:.1f}" fill="{colours[name]}"/>'
            )
            below[place] += value
    return _plot(axes, parts, {name: colours[name] for name in series})


def lines(axes: Axes, series: Mapping[str, Points], colours: Mapping[str, str]) -> str:
    """A line per series, through points with ascending x."""
    parts = []
    for name, points in series.items():
        places = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colours[name]}" stroke-width="1.5"/>')
    return _plot(axes, parts, {name: colours[name] for name in series})


def ticks(least: float, most: float, wanted: int = 5) -> list[float]:
    """Round numbers from `least` to `most`, about `wanted` of them."""
    span = most - least
    if not (span > 0 and math.isfinite(span)):
        return [least]
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(least / step - 1e-9)
    count = math.floor(most / step + 1e-9) - first + 1
    return [(first + place) * step for place in range(count)]


def _plot(axes: Axes, parts: Sequence[str], legend: Mapping[str, str]) -> str:
    bottom = HEIGHT - _BOTTOM
    grid = [
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{axes.y(value):.1f}" y2="{axes.y(value):.1f}" class="grid"/>'
        f'<text x="{_LEFT - 5}" y="{axes.y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value in ticks(axes.y_least, axes.y_most)
    ]
    below = [
        f'<text x="{axes.x(value):.1f}" y="{bottom + 14}" text-anchor="middle">{value:g}</text>'
        for value in ticks(0.0, axes.x_most, 8)
    ]
    names = (
        f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(axes.x_name)}</text>'
        f'<text transform="translate(12 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(axes.y_name)}</text>"
    )
    keys = " ".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in legend.items()
    )
    drawing = "".join([*grid, *below, *parts, names])
    label = escape(f"{axes.y_name} over {axes.x_name}", quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{drawing}</svg><p class="keys">{keys}</p>'
    )
