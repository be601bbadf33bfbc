"""Charts as inline SVG. The lines stretch with the page; text, dots and line widths keep their size, so a chart can be
read at 400 pixels as well as at 1,200. It holds no style attribute, which the page's policy would forbid."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from fitting.report.numbers import si

SIDE = 1000  # of the drawing's own square of coordinates
_MULTIPLES = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))


@dataclass(frozen=True)
class Axis:
    """low < high; both positive where log."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """0 at low, 1 at high; values outside are moved to the end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """At most about `most` round numbers."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for multiples in reversed(_MULTIPLES):
                ticks = [m * 10.0**k for k in decades for m in multiples if self.low <= m * 10.0**k <= self.high]
                if 3 <= len(ticks) <= most:
                    return ticks
            if self.high / self.low > 1e3:
                every = math.ceil(len(decades) / most)
                return [10.0**k for k in decades[::every] if self.low <= 10.0**k <= self.high]
        step = _round_up((self.high - self.low) / (most - 1))
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_up(step: float) -> float:
    """To 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


def around(values: Sequence[float], log: bool = False, margin: float = 0.04) -> Axis:
    """An axis that holds these values, with a margin."""
    low, high = min(values), max(values)
    if log:
        room = max(math.log(high / low) * margin, 0.005)
        return Axis(low * math.exp(-room), high * math.exp(room), True)
    room = max((high - low) * margin, abs(high) * 1e-3, 1e-9)
    return Axis(low - room, high + room)


def line(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    """The d of a <path> through these points."""
    places, drawn = [(round(SIDE * x.at(a)), round(SIDE * (1 - y.at(b)))) for a, b in points], []
    for i, (across, down) in enumerate(places):
        if i == 0:
            drawn.append(f"M{across} {down}")
        elif places[i - 1] != (across, down):
            before = places[i - 1]
            drawn.append(f"{'l' if len(drawn) == 1 else ' '}{across - before[0]} {down - before[1]}")
    return "".join(drawn)


def dots(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    """The d of a <path> with a dot at each point: lines without length, whose round ends stay circles."""
    return "".join(f"M{round(SIDE * x.at(a))} {round(SIDE * (1 - y.at(b)))}h0" for a, b in points)


def path(d: str, classes: str, title: str = "") -> str:
    """title: what a browser shows where the mouse rests on it."""
    inside = f"><title>{escape(title)}</title></path>" if title else "/>"
    return f'<path class="{classes}" d="{d}"{inside}'


def chart(
    x: Axis, y: Axis, paths: Sequence[str], x_label: str, y_label: str, says: str, x_format: Callable = si
) -> str:
    """A figure with grid, ticks and labels. says: the chart in a sentence, for those who cannot see it."""
    x_ticks, y_ticks = x.ticks(), y.ticks()
    grid = "".join(f"M{round(SIDE * x.at(t))} 0v{SIDE}" for t in x_ticks)
    grid += "".join(f"M0 {round(SIDE * (1 - y.at(t)))}h{SIDE}" for t in y_ticks)
    y_text = "".join(f'<text x="100%" y="{100 * (1 - y.at(t)):.2f}%" dy=".35em">{t:.4g}</text>' for t in y_ticks)
    x_text = "".join(
        f'<text class="{_anchor(x.at(t))}" x="{100 * x.at(t):.2f}%" y="1em">{escape(x_format(t))}</text>'
        for t in x_ticks
    )
    return (
        f'<figure class="chart" role="img" aria-label="{escape(says)}"><figcaption>{escape(y_label)}</figcaption>'
        f'<div class="plot"><svg class="y">{y_text}</svg>'
        f'<svg class="area" viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none">{path(grid, "grid")}'
        f'{"".join(paths)}</svg><svg class="x">{x_text}</svg></div><p class="axis">{escape(x_label)}</p></figure>'
    )


def _anchor(share: float) -> str:
    return "first" if share < 0.04 else "last" if share > 0.96 else "middle"


def bar(parts: Sequence[tuple[str, float]], width: int = SIDE) -> str:
    """A stacked bar. parts: (class, amount) of each. width: the number of steps that an end is rounded to."""
    total, drawn, left = sum(amount for _, amount in parts), [], 0.0
    for classes, amount in parts:
        begin, end = (round(width * at / total) if total else 0 for at in (left, left + amount))
        left += amount
        if end > begin:
            drawn.append(path(f"M{begin} 0H{end}V1H{begin}", classes))
    return f'<svg class="bar" viewBox="0 0 {width} 1" preserveAspectRatio="none">{"".join(drawn)}</svg>'
