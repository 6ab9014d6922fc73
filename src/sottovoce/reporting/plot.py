"""WER against size as an SVG: a colour and a shape for each model, its Pareto front as a staircase."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from sottovoce.reporting.axis import Axis, fit_axis
from sottovoce.reporting.frame import Frame
from sottovoce.reporting.pareto import on_front
from sottovoce.reporting.sets import average_wer, data_sets, rate_on
from sottovoce.reporting.table import MEGA, NOTHING
from sottovoce.sweeping.row import Row

COLOURS = 6  # classes c0 to c5, which the page gives their colours
SHAPES = (
    "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0z",  # circle
    "M-5-5H5V5H-5z",  # square
    "M0-7L7 0L0 7L-7 0z",  # diamond
    "M0-7L6.5 5H-6.5z",  # triangle
)

_WIDTH, _HEIGHT = 720, 420
_EDGES = (84, 704, 16, 348)  # left, right, top, bottom of the frame of the points


@dataclass(frozen=True)
class _Point:
    """A row that can be drawn, in pixels."""

    model: str
    x: float
    y: float
    front: bool
    title: str


def plot(rows: Sequence[Row], names: Mapping[str, str]) -> str:
    """The SVG, or "" if no row has both a size and an error rate on all data sets.

    A row tells its words on hover. The classes c0 to c5 colour the models in the order of `names`.
    """
    sets = data_sets(rows)
    rate = rate_on(rows, sets)
    measured = [
        (row, row.bytes / MEGA, wer, front)
        for row, wer, front in zip(rows, (average_wer(row, sets) for row in rows), on_front(rows), strict=True)
        if row.bytes is not None and wer is not None and math.isfinite(wer)
    ]
    if not measured:
        return ""
    sizes, rates = [size for _, size, _, _ in measured], [wer for _, _, wer, _ in measured]
    frame = Frame(*_EDGES, fit_axis(sizes), fit_axis(rates))
    points = [
        _Point(
            row.model, frame.x(size), frame.y(wer), front, _title(row, names[row.model], size, f"{rate} {wer:.2f} %")
        )
        for row, size, wer, front in measured
    ]
    drawn = [
        *frame.grid(),
        *_titles(frame, rate if len(sets) == 1 else f"{rate} avg"),
        *(_line([p for p in points if p.model == model and p.front], colour_of(names, model)) for model in names),
        *(_marker(p, names) for p in sorted(points, key=lambda p: p.front)),  # the front on top
    ]
    what = f"{rate} against size of {len(points)} rows"
    body = "\n".join(part for part in drawn if part)
    return f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{what}">\n{body}\n</svg>'


def marker(names: Mapping[str, str], model: str) -> str:
    """The shape of a model alone, for a legend."""
    shape = SHAPES[list(names).index(model) % len(SHAPES)]
    drawn = f'<path class="point front {colour_of(names, model)}" d="{shape}"/>'
    return f'<svg class="key" viewBox="-8 -8 16 16" aria-hidden="true">{drawn}</svg>'


def colour_of(names: Mapping[str, str], model: str) -> str:
    """The class that colours a model."""
    return f"c{list(names).index(model) % COLOURS}"


def _title(row: Row, name: str, size: float, rate: str) -> str:
    columns = (row.quantization, row.sparsity, row.low_rank, row.structure, row.recovery)
    said = [words for words in columns if words != NOTHING]
    return f"{name}, {' + '.join(said) or row.recipe}: {size:,.2f} MB, {rate}"


def _titles(frame: Frame, rate: str) -> list[str]:
    """What the axes show."""
    middle_x, middle_y = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
    turned = f'transform="translate(24 {middle_y}) rotate(-90)" text-anchor="middle"'
    return [
        f'<text x="{middle_x}" y="{_HEIGHT - 12}" text-anchor="middle">size in MB{_scale(frame.across)}</text>',
        f"<text {turned}>{rate} in %{_scale(frame.up)}</text>",
    ]


def _scale(axis: Axis) -> str:
    return ", log scale" if axis.log else ""


def _line(points: Sequence[_Point], colour: str) -> str:
    """The staircase below which nothing was found."""
    if len(points) < 2:
        return ""
    first, *rest = sorted(points, key=lambda p: p.x)
    steps = "".join(f"H{p.x:.1f}V{p.y:.1f}" for p in rest)
    return f'<path class="stairs {colour}" d="M{first.x:.1f} {first.y:.1f}{steps}"/>'


def _marker(point: _Point, names: Mapping[str, str]) -> str:
    shape = SHAPES[list(names).index(point.model) % len(SHAPES)]
    kind = f"point {'front ' if point.front else ''}{colour_of(names, point.model)}"
    place = f'transform="translate({point.x:.1f} {point.y:.1f})"'
    return f'<path class="{kind}" {place} d="{shape}"><title>{escape(point.title)}</title></path>'
