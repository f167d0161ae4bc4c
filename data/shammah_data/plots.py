"""Line charts, columns and bars as SVG text, coloured by the page's style sheet. Knows numbers and labels, no runs.

Every text is escaped. Colours, line styles and markers come from the classes s0, s1 ... so that both colour schemes,
and eyes that see no colours, can tell the series apart.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Point = tuple[float, float]
WIDTH, HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 12, 46
# Above so many points, markers and interval bars hide what they belong to.
_MOST_MARKED = 45
_MOST_POINTS = 240


@dataclass(frozen=True)
class Series:
    """One line, or one set of points. `intervals` and `titles` go with the points, where there are any.

    `hollow`: which points are drawn open. `style` picks colour and marker, from 0 to 3.
    """

    name: str
    points: tuple[Point, ...]
    style: int = 0
    intervals: tuple[Point, ...] = ()
    titles: tuple[str, ...] = ()
    hollow: frozenset[int] = frozenset()
    line: bool = True
    marked: bool = True


@dataclass(frozen=True)
class Axis:
    """What it measures, from where to where, and how its figures are written; without bounds they come from the points."""

    label: str
    low: float | None = None
    high: float | None = None
    write: Literal["number", "percent", "whole"] = "number"


@dataclass(frozen=True)
class Chart:
    """A chart: `title` and `summary` are read out in its place. `rule`: a dashed line between two points, and its name.

    `counts`: bars at the foot, as (from, to, count) along the x axis.
    """

    name: str
    title: str
    summary: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    rule: tuple[Point, Point, str] | None = None
    mark: tuple[float, str] | None = None
    counts: tuple[tuple[float, float, int], ...] = ()


def line_chart(chart: Chart) -> Markup:
    """The chart as one SVG element."""
    xs = [x for series in chart.series for x, _ in series.points]
    ys = [y for series in chart.series for _, y in series.points]
    ys += [end for series in chart.series for pair in series.intervals for end in pair]
    low_x, high_x, ticks_x = _scale(chart.x, xs)
    low_y, high_y, ticks_y = _scale(chart.y, ys)

    def x_at(x: float) -> float:
        return _LEFT + (x - low_x) / (high_x - low_x) * (WIDTH - _LEFT - _RIGHT)

    def y_at(y: float) -> float:
        return HEIGHT - _BOTTOM - (y - low_y) / (high_y - low_y) * (HEIGHT - _TOP - _BOTTOM)

    foot = HEIGHT - _BOTTOM
    parts = [_opening(chart.name, chart.title, chart.summary)]
    for tick in ticks_y:
        y = _px(y_at(tick))
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(_LEFT, y, WIDTH - _RIGHT))
        parts.append(
            Markup('<text class="tick end" x="{}" y="{}">{}</text>').format(
                _LEFT - 7, _px(y_at(tick) + 4), _write(chart.y, tick)
            )
        )
    for tick in ticks_x:
        parts.append(
            Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(_px(x_at(tick)), foot + 17, _write(chart.x, tick))
        )
        parts.append(Markup('<path class="axis" d="M{} {}v4"/>').format(_px(x_at(tick)), foot))
    parts += _counts(chart, x_at, foot)
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(_LEFT, foot, WIDTH - _RIGHT))
    parts += _labels(chart.x.label, chart.y.label)
    if chart.rule:
        (x1, y1), (x2, y2), told = chart.rule
        parts.append(
            Markup('<path class="rule" d="M{} {}L{} {}"><title>{}</title></path>').format(
                _px(x_at(x1)), _px(y_at(y1)), _px(x_at(x2)), _px(y_at(y2)), told
            )
        )
    if chart.mark:
        at, told = chart.mark
        x = x_at(at)
        side, gap = ("end", -6) if x > (_LEFT + WIDTH) / 2 else ("start", 6)
        parts.append(Markup('<path class="mark" d="M{} {}V{}"/>').format(_px(x), _TOP, foot))
        parts.append(Markup('<text class="told {}" x="{}" y="{}">{}</text>').format(side, _px(x + gap), _TOP + 11, told))
    for series in chart.series:
        parts += _series(series, x_at, y_at)
    return Markup("").join([*parts, Markup("</svg>")])


@dataclass(frozen=True)
class Columns:
    """Shares of a whole, one upright bar each; one without a count is left empty.

    `labels`: of the bars, and of their height. `parts`: (name, class) from the foot up. `columns`: (label, count of each part).
    """

    name: str
    title: str
    summary: str
    labels: tuple[str, str]
    parts: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, tuple[int, ...]], ...]


def column_chart(chart: Columns) -> Markup:
    """The shares as one SVG element."""
    foot, wide = HEIGHT - _BOTTOM, (WIDTH - _LEFT - _RIGHT) / max(1, len(chart.columns))
    tall = foot - _TOP
    parts = [_opening(chart.name, chart.title, chart.summary)]
    for percent in (0, 25, 50, 75, 100):
        y = _px(foot - tall * percent / 100)
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(_LEFT, y, WIDTH - _RIGHT))
        parts.append(
            Markup('<text class="tick end" x="{}" y="{}">{}%</text>').format(
                _LEFT - 7, _px(foot - tall * percent / 100 + 4), percent
            )
        )
    every = math.ceil(len(chart.columns) / 6)
    for n, (label, counts) in enumerate(chart.columns):
        left, whole = _LEFT + n * wide, sum(counts)
        # Counted from the end, that the newest one has its name.
        if (len(chart.columns) - 1 - n) % every == 0:
            parts.append(
                Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(_px(left + wide / 2), foot + 17, label)
            )
        if not whole:
            continue
        told = ", ".join(f"{name} {count}" for (name, _), count in zip(chart.parts, counts, strict=True) if count)
        parts.append(Markup('<g class="column"><title>{}: {}</title>').format(label, told))
        below = 0
        for (_, css), count in zip(chart.parts, counts, strict=True):
            if count:
                top = foot - tall * (below + count) / whole
                parts.append(
                    Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                        css, _px(left + wide * 0.1), _px(top), _px(wide * 0.8), _px(tall * count / whole)
                    )
                )
                below += count
        parts.append(Markup("</g>"))
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(_LEFT, foot, WIDTH - _RIGHT))
    parts += _labels(*chart.labels)
    return Markup("").join([*parts, Markup("</svg>")])


def key(series: Series) -> Markup:
    """What a series looks like, for the legend beside its name."""
    line = Markup('<path class="line s{}" d="M1 7H27"/>').format(series.style) if series.line else ""
    marker = _marker(series.style, 14, 7, hollow=False) if series.marked else ""
    return Markup('<svg class="key" viewBox="0 0 28 14" aria-hidden="true">{}{}</svg>').format(line, marker)


def open_key(styles: Sequence[int]) -> Markup:
    """What the open markers of these styles look like, for the legend."""
    drawn = [_marker(style, 14 + 11 * (n - (len(styles) - 1) / 2), 7, hollow=True) for n, style in enumerate(styles)]
    return Markup('<svg class="key" viewBox="0 0 28 14" aria-hidden="true">{}</svg>').format(Markup("").join(drawn))


def bar(parts: Sequence[tuple[float, str]], rest: str = "track") -> Markup:
    """One bar of a table: shares of the whole, from 0 to 1, each with its class; the cells beside it say the same.

    `rest` is the class of what is left of the whole.
    """
    drawn, at = [], 0.0
    for share, name in parts:
        wide = max(0.0, min(share, 1 - at)) * 100
        if wide > 0:
            drawn.append(
                Markup('<rect class="{}" x="{}" y="0" width="{}" height="10"/>').format(name, _px(at * 100), _px(wide))
            )
        at += max(0.0, share)
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="{}" x="0" y="0" width="100" height="10"/>{}</svg>'
    ).format(rest, Markup("").join(drawn))


def thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """At most a few hundred points: the means of neighbours, and the very last one."""
    size = math.ceil(len(points) / _MOST_POINTS)
    if size <= 1:
        return tuple(points)
    pieces = [points[n : n + size] for n in range(0, len(points), size)]
    means = [(sum(x for x, _ in piece) / len(piece), sum(y for _, y in piece) / len(piece)) for piece in pieces]
    return (*means, points[-1])


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round figures that cover a range: steps of 1, 2 or 5 times a power of ten, at most `most` steps."""
    raw = max((high - low) / most, 1e-9)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, round(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def _opening(name: str, title: str, summary: str) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{name}-t {name}-d">'
        '<title id="{name}-t">{}</title><desc id="{name}-d">{}</desc>'
    ).format(WIDTH, HEIGHT, title, summary, name=name)


def _labels(x: str, y: str) -> list[Markup]:
    middle, upright = (_LEFT + WIDTH - _RIGHT) / 2, (_TOP + HEIGHT - _BOTTOM) / 2
    return [
        Markup('<text class="label mid" x="{}" y="{}">{}</text>').format(_px(middle), HEIGHT - 8, x),
        Markup('<text class="label mid" transform="translate(15 {}) rotate(-90)">{}</text>').format(_px(upright), y),
    ]


def _scale(axis: Axis, values: Sequence[float]) -> tuple[float, float, list[float]]:
    low = axis.low if axis.low is not None else min(values, default=0.0)
    high = axis.high if axis.high is not None else max(values, default=1.0)
    if high - low < 1e-9:
        low, high = (max(0.0, low - 1), high + 1) if axis.write == "whole" else (low - 0.5, high + 0.5)
    found = ticks(low, high, 5, whole=axis.write == "whole")
    return found[0], found[-1], found


def _write(axis: Axis, value: float) -> str:
    if axis.write == "percent":
        return f"{value * 100:.0f}%" if abs(value * 100 - round(value * 100)) < 1e-6 else f"{value * 100:.1f}%"
    if axis.write == "whole" or abs(value - round(value)) < 1e-9:
        return f"{value:.0f}" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{value:.3g}"


def _counts(chart: Chart, x_at: Callable[[float], float], foot: float) -> list[Markup]:
    parts = []
    most = max((count for *_, count in chart.counts), default=1)
    for low, high, count in chart.counts:
        tall = 46 * count / most
        left, right = x_at(low) + 1.5, x_at(high) - 1.5
        parts.append(
            Markup('<rect class="count" x="{}" y="{}" width="{}" height="{}"/>').format(
                _px(left), _px(foot - tall), _px(right - left), _px(tall)
            )
        )
        parts.append(
            Markup('<text class="tiny mid" x="{}" y="{}">{}</text>').format(
                _px((left + right) / 2), _px(foot - tall - 4), count
            )
        )
    return parts


def _series(series: Series, x_at: Callable[[float], float], y_at: Callable[[float], float]) -> list[Markup]:
    parts = []
    at = [(x_at(x), y_at(y)) for x, y in series.points]
    many = len(at) > _MOST_MARKED
    if series.intervals and many:
        upper = [(x, y_at(high)) for (x, _), (_, high) in zip(at, series.intervals, strict=True)]
        lower = [(x, y_at(low)) for (x, _), (low, _) in zip(at, series.intervals, strict=True)]
        parts.append(Markup('<path class="band s{}" d="{}Z"/>').format(series.style, _path([*upper, *reversed(lower)])))
    elif series.intervals:
        for (x, _), (low, high) in zip(at, series.intervals, strict=True):
            parts.append(
                Markup('<path class="whisker s{}" d="M{} {}V{}"/>').format(
                    series.style, _px(x), _px(y_at(low)), _px(y_at(high))
                )
            )
    if series.line and len(at) > 1:
        parts.append(Markup('<path class="line s{}" d="{}"/>').format(series.style, _path(at)))
    if series.marked and not (many and series.line):
        for n, (x, y) in enumerate(at):
            told = series.titles[n] if n < len(series.titles) else None
            parts.append(_marker(series.style, x, y, n in series.hollow, told))
    return parts


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{_px(x)} {_px(y)}" for x, y in points)


def _marker(style: int, x: float, y: float, hollow: bool, told: str | None = None) -> Markup:
    shapes = (
        "M{0} {1}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
        "M{0} {1}m-4 -4h8v8h-8z",
        "M{0} {1}m0 -5l5 5l-5 5l-5 -5z",
        "M{0} {1}m0 -5l5 9h-10z",
    )
    path = shapes[style % len(shapes)].format(_px(x), _px(y))
    title = Markup("<title>{}</title>").format(told) if told else ""
    return Markup('<path class="dot s{}{}" d="{}">{}</path>').format(style, " hollow" if hollow else "", path, title)


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
