"""Training curves as SVG: a small panel for each row that was trained, its loss and its held-out loss."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sottovoce.reporting.axis import Axis, fit_axis
from sottovoce.reporting.frame import Frame
from sottovoce.reporting.plot import colour_of
from sottovoce.reporting.table import NOTHING
from sottovoce.sweeping.row import Row

_WIDTH, _HEIGHT = 360, 220
_EDGES = (52, 348, 12, 178)  # left, right, top, bottom


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
    columns = (row.sparsity, row.quantization, row.low_rank, row.structure, row.recovery)
    said = [words for words in columns if words != NOTHING]
    title = f"{names[row.model]}: {' + '.join(said)}"
    points = [*steps, *checks]
    if not points:
        return ""
    across = Axis(0.0, max(step for step, _ in points) or 1.0, log=False)
    frame = Frame(*_EDGES, across, fit_axis([loss for _, loss in points]))
    colour = colour_of(names, row.model)
    middle = (frame.left + frame.right) / 2
    drawn = [*frame.grid(), f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">step</text>']
    if steps:
        path = "L".join(f"{frame.x(step):.1f} {frame.y(loss):.1f}" for step, loss in steps)
        drawn.append(f'<path class="curve {colour}" d="M{path}"/>')
    drawn += [
        f'<circle class="point front {colour}" cx="{frame.x(step):.1f}" cy="{frame.y(loss):.1f}" r="3.5">'
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
