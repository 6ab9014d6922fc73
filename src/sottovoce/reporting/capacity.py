"""The capacity sweep as an SVG: for each stack, what is lost against how many blocks are left out, and the knee."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from sottovoce.analysis.layers import Capacity, LayerAnalysis, Without
from sottovoce.files.atomic import json_text, write_text
from sottovoce.measure.run import check_output
from sottovoce.reporting.axis import Axis, fit_axis
from sottovoce.reporting.frame import Frame
from sottovoce.reporting.style import STYLE

_WIDTH, _HEIGHT = 400, 280
_EDGES = (70, 384, 40, 216)  # left, right, top, bottom
_LEAST_STEPS = 3.0  # of the axis, so that its ticks are whole numbers

Measure = tuple[str, Callable[[Without], float]]


def _wer(step: Without) -> float:
    assert step.words is not None
    return step.words.wer


def write_analysis(analysis: LayerAnalysis, output: Path) -> tuple[Path, Path]:
    """Write layers.json and layers.svg into a folder; those of an older analysis are replaced.

    Raises ValueError if they cannot be written there.
    """
    check_output(output)
    files = output / "layers.json", output / "layers.svg"
    for file, text in zip(files, (json_text(analysis.as_document()), capacity_plot(analysis)), strict=True):
        write_text(file, text)
    return files


def capacity_plot(analysis: LayerAnalysis) -> str:
    """A file of SVG: a column for each stack, a row for the divergence and one for the WER where it was measured."""
    measures: list[Measure] = [("KL in nats a token", lambda step: step.divergence)]
    if analysis.test is not None:
        measures.append(("WER in %", _wer))
    panels = [
        f'<g transform="translate({column * _WIDTH} {row * _HEIGHT})">\n{_panel(capacity, measure, column)}\n</g>'
        for row, measure in enumerate(measures)
        for column, capacity in enumerate(analysis.capacities)
    ]
    width, height = _WIDTH * len(analysis.capacities), _HEIGHT * len(measures)
    what = escape(f"{analysis.target} without blocks, in the order of {analysis.rank_by}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{what}">\n<style>{STYLE}</style>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _panel(capacity: Capacity, measure: Measure, column: int) -> str:
    said, value = measure
    losses = [value(step) for step in capacity.steps]
    across = Axis(0.0, max(_LEAST_STEPS, len(losses) - 1.0), log=False)
    frame = Frame(*_EDGES, across, fit_axis(losses))
    middle_x, middle_y = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
    path = "L".join(f"{frame.x(i):.1f} {frame.y(loss):.1f}" for i, loss in enumerate(losses))
    turned = f'transform="translate(16 {middle_y}) rotate(-90)" text-anchor="middle"'
    return "\n".join(
        [
            *frame.grid(),
            f'<text x="{middle_x}" y="{_HEIGHT - 20}" text-anchor="middle">{capacity.stack} blocks left out</text>',
            f"<text {turned}>{said}</text>",
            f'<path class="curve c{column}" d="M{path}"/>',
            *_points(frame, capacity, losses, said, column),
        ]
    )


def _points(frame: Frame, capacity: Capacity, losses: Sequence[float], said: str, column: int) -> list[str]:
    """A point for each step, filled at the knee, which is written above it."""
    drawn = []
    for i, (step, loss) in enumerate(zip(capacity.steps, losses, strict=True)):
        x, y, at_knee = frame.x(i), frame.y(loss), i == capacity.knee
        title = escape(f"without {', '.join(step.blocks) or 'none'}: {said} {loss:.4g}")
        kind = f"point {'front ' if at_knee else ''}c{column}"
        drawn.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{title}</title></circle>')
        if at_knee:
            aside, anchor = (8, "start") if i == 0 else (0, "middle")  # clear of the axis
            drawn.append(f'<text x="{x + aside:.1f}" y="{y - 12:.1f}" text-anchor="{anchor}">knee</text>')
    return drawn
