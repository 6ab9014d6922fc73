"""Training curves as SVG: a small panel for each row that was trained, its loss and its held-out loss."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sottovoce.measure.row import Row
from sottovoce.reporting.axis import Axis, fit_axis
from sottovoce.reporting.plot import colour_of
from sottovoce.reporting.table import NOTHING

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 348, 12, 178


def curves(rows: Sequence[Row], names: Mapping[str, str]) -> str:
    """The section of the page, or "" if no row was trained."""
    panels = [
        _panel(row, [line for line in row.curve if line["training"] == training], names)
        for row in rows
        for training in dict.fromkeys(line["training"] for line in row.curve)
    ]
    if not panels:
        return ""
    caption = "A line: the loss of each step; points: the loss on held-out utterances, whose lowest is kept."
    return f'<h3>Recovery</h3>\n<div class="panels">{"".join(panels)}</div>\n<p class="notes">{caption}</p>'


def _panel(row: Row, lines: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    steps = [(float(line["step"]), line["loss"]) for line in lines if _finite(line, "loss")]
    checks = [(float(line["step"]), line["held_out"]) for line in lines if _finite(line, "held_out")]
    said = [words for words in (row.sparsity, row.quantization, row.low_rank, row.recovery) if words != NOTHING]
    title = f"{names[row.model]}: {' + '.join(said)}"
    points = [*steps, *checks]
    if not points:
        return ""
    across = Axis(0.0, max(step for step, _ in points) or 1.0, log=False)
    up = fit_axis([loss for _, loss in points])
    colour = colour_of(names, row.model)
    drawn = [*_frame(across, up)]
    if steps:
        drawn.append(f'<path class="curve {colour}" d="{_path(across, up, steps)}"/>')
    drawn += [
        f'<circle class="point front {colour}" cx="{_x(across, step):.1f}" cy="{_y(up, loss):.1f}" r="3.5">'
        f"<title>step {step:.0f}: held-out loss {loss:.4g}</title></circle>"
        for step, loss in checks
    ]
    svg = "\n".join(drawn)
    words = escape(title)
    return (
        f'<figure><svg class="plot panel" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{words}">\n{svg}\n'
        f"</svg><figcaption>{words}</figcaption></figure>"
    )


def _finite(line: Mapping[str, Any], name: str) -> bool:
    return isinstance(line.get(name), (int, float)) and math.isfinite(line[name])


def _frame(across: Axis, up: Axis) -> list[str]:
    parts = []
    for tick in up.ticks():
        y = _y(up, tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y:.1f}" dy=".35em" text-anchor="end">{tick:.6g}</text>')
    for tick in across.ticks():
        x = _x(across, tick)
        parts.append(f'<text x="{x:.1f}" y="{_BOTTOM + 20}" text-anchor="middle">{tick:.6g}</text>')
    parts.append(f'<path class="frame" d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}"/>')
    parts.append(f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">step</text>')
    return parts


def _path(across: Axis, up: Axis, points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_x(across, x):.1f} {_y(up, y):.1f}" for x, y in points)


def _x(axis: Axis, value: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * axis.place(value)


def _y(axis: Axis, value: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * axis.place(value)
