"""Small charts as SVG and HTML that follow the page's colours and width; all text is the page's own text.

Lengths are per cent of the plot, so a chart fits a phone without its letters shrinking.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from fer_ddp.metrics.calibration import Reliability
from shards.palette import BLUE, FAINT, INK, OF_SPLIT, ORANGE, QUIET, SKY_BLUE

_MAX_POINTS = 120
"""Of a curve: more could not be seen, and would make the page large."""
DEEP_SHARE = 0.78
"""From this share on, a cell of the confusion matrix is so dark that white text is easier to read."""


def palette_css() -> str:
    """The palette as CSS variables: validation is the accent colour, training the second one, as in all figures."""
    light = {"ink": INK, "quiet": QUIET, "line": FAINT, "accent": OF_SPLIT["val"], "second": OF_SPLIT["train"]}
    dark = {"ink": "#e3e6ea", "quiet": "#98a2ad", "line": "#2c323a", "accent": SKY_BLUE, "second": ORANGE}
    cell = " ".join(str(int(BLUE[place : place + 2], 16)) for place in (1, 3, 5))
    on_white, on_black = (
        f":root {{ {' '.join(f'--{name}: {colour};' for name, colour in colours.items())} --cell: {cell}; }}"
        for colours in (light, dark)
    )
    return f"{on_white}\n@media screen and (prefers-color-scheme: dark) {{ {on_black} }}\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """An axis."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """0 at ``low``, 100 at ``high``."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def text(self, value: float) -> str:
        """A tick's number, with as many digits as tell it from its neighbours."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else 1
        return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def scale_over(values: Sequence[float], *, ticks: int = 5, whole: bool = False) -> Scale:
    """An axis that holds ``values``, with about so many round ticks; ``whole``: at whole numbers only."""
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return Scale(
        low=low, high=high, ticks=tuple(step * place for place in range(first, math.floor(high / step + 1e-9) + 1))
    )


def padded(scale: Scale, share: float = 0.04) -> Scale:
    """``scale`` with some room at both ends."""
    room = share * (scale.high - scale.low)
    return Scale(low=scale.low - room, high=scale.high + room, ticks=scale.ticks)


def dots(scale: Scale, mean: float, reach: tuple[float, float], seeds: Sequence[float], described: str) -> Markup:
    """A line of a dot-and-interval chart: the mean as a dot, its interval as a bar, several seeds as ticks."""
    grid = "".join(
        f'<line class="grid{" zero" if tick == 0 else ""}" x1="{x}%" x2="{x}%" y2="32"/>'
        for tick, x in zip(scale.ticks, map(scale.place, scale.ticks), strict=True)
    )
    places = map(scale.place, seeds if len(seeds) > 1 else [])
    ticks = "".join(f'<line class="seed" x1="{x}%" x2="{x}%" y1="8" y2="24"/>' for x in places)
    low, high = map(scale.place, reach)
    return Markup(
        f'<svg class="dots" height="32" role="img" aria-label="{escape(described)}">{grid}'
        f'<line class="interval" x1="{low}%" x2="{high}%" y1="16" y2="16"/>{ticks}'
        f'<circle class="mean" cx="{scale.place(mean)}%" cy="16" r="5.5"/></svg>'
    )


def axis(scale: Scale) -> Markup:
    """The numbers under `dots`."""
    numbers = "".join(f'<span style="left:{scale.place(tick)}%">{scale.text(tick)}</span>' for tick in scale.ticks)
    return Markup(f'<div class="axis" aria-hidden="true">{numbers}</div>')


def bar(spread: tuple[float, float, float], described: str) -> Markup:
    """A bar of (mean, minimum, maximum), each 0 to 100, with a whisker where the last two differ."""
    mean, low, high = (round(value, 1) for value in spread)
    whisker = f'<line class="whisker" x1="{low}%" x2="{high}%" y1="7" y2="7"/>' if high > low else ""
    return Markup(
        f'<svg class="bar" height="14" role="img" aria-label="{escape(described)}">'
        f'<rect class="track" width="100%" height="14"/><rect class="fill" width="{mean}%" height="14"/>{whisker}</svg>'
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """One measure by epoch, over seeds."""

    kind: str
    """``val`` or ``train``; the line's style."""
    seeds: tuple[tuple[tuple[float, float], ...], ...]
    """(epoch, value) points, a curve each seed."""


def curves_plot(
    measures: Sequence[Curves], x: Scale, y: Scale, described: str, y_text: Callable[[float], str] | None = None
) -> Markup:
    """The mean over seeds as a line, the range over seeds as a band.

    Where seeds end at different epochs, mean and band end with the first of them, and the others continue as thin
    lines.
    """
    shapes = []
    for curves in measures:
        seeds = [dict(curve) for curve in curves.seeds if curve]
        if not seeds:
            continue
        common = sorted(set.intersection(*(set(curve) for curve in seeds)))
        epochs = _thinned(common)
        values = np.array([[curve[epoch] for epoch in epochs] for curve in seeds])
        if len(seeds) > 1 and epochs:
            around = list(zip(epochs, values.max(axis=0), strict=True))
            around += list(zip(epochs, values.min(axis=0), strict=True))[::-1]
            shapes.append(f'<path class="band {curves.kind}" d="{_path(around, x, y)}z"/>')
        for curve in seeds:
            rest = [point for point in sorted(curve.items()) if not common or point[0] >= common[-1]]
            if len(rest) > 1:
                shapes.append(f'<path class="alone {curves.kind}" d="{_path(rest, x, y)}"/>')
        if epochs:
            mean = list(zip(epochs, values.mean(axis=0), strict=True))
            # A lone epoch is a point: with round ends a line of no length shows as one.
            shapes.append(f'<path class="line {curves.kind}" d="{_path(mean * (2 if len(mean) == 1 else 1), x, y)}"/>')
    return _plot("".join(shapes), x, y, described, y_text or y.text)


def reliability_plot(figures: Reliability, described: str) -> Markup:
    """The accuracy of each bin of confidence as a bar, with the diagonal of perfect calibration."""
    unit = Scale(low=0, high=1, ticks=(0, 0.5, 1))
    width = 100 / len(figures.counts) - 0.8
    bars = []
    for start, count, accuracy in zip(figures.edges[:-1], figures.counts, figures.accuracy, strict=True):
        if count:
            # A bin of few samples is pale, since its height is mostly chance.
            opacity = round(0.25 + 0.75 * min(1.0, count / (0.1 * figures.counts.max())), 2)
            height = unit.place(accuracy)
            place = f'x="{unit.place(start) + 0.4:.2f}" width="{width:.2f}" y="{100 - height:.2f}" height="{height}"'
            bars.append(f'<rect {place} opacity="{opacity}"/>')
    shapes = f'<g class="bins">{"".join(bars)}</g><path class="diagonal" d="M0 100L100 0"/>'
    return _plot(shapes, unit, unit, described, lambda value: f"{100 * value:.0f}", square=True)


def _thinned(epochs: Sequence[float]) -> list[float]:
    if len(epochs) <= _MAX_POINTS:
        return list(epochs)
    return [epochs[place] for place in np.unique(np.linspace(0, len(epochs) - 1, _MAX_POINTS).round().astype(int))]


def _path(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    return "M" + "L".join(f"{x.place(at):g} {100 - y.place(value):.4g}" for at, value in points)


def _plot(
    shapes: str, x: Scale, y: Scale, described: str, y_text: Callable[[float], str], square: bool = False
) -> Markup:
    grid = "".join(f'<path class="grid" d="M0 {100 - y.place(tick):g}H100"/>' for tick in y.ticks)
    numbers = "".join(f'<span class="y" style="bottom:{y.place(tick)}%">{y_text(tick)}</span>' for tick in y.ticks)
    numbers += "".join(
        f'<span class="x" style="left:{x.place(tick)}%">{x.text(tick) if not square else y_text(tick)}</span>'
        for tick in x.ticks
    )
    return Markup(
        f'<div class="plot{" square" if square else ""}" role="img" aria-label="{escape(described)}">'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{grid}{shapes}</svg>{numbers}</div>'
    )
