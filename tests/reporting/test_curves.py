"""Training curves are drawn as they were: a panel for each training, its steps, its checks, nothing else."""

import math
import re

from sottovoce.reporting.curves import curves
from sottovoce.reporting.html import html
from sottovoce.reporting.table import make_table, model_names
from sottovoce.sweeping.row import CURVE_POINTS, thinned

from .sample import make_row


def line(step, loss, held_out=None, training=0):
    found = {"training": training, "step": step, "loss": loss, "learning_rate": 1e-4}
    return found if held_out is None else {**found, "held_out": held_out}


def trained(*lines, **fields):
    return make_row(recovery="finetune 1 ep", curve=tuple(lines), **fields)


def test_a_page_without_training_has_no_curves():
    rows = [make_row()]
    assert curves(rows, model_names(rows)) == ""
    assert "Recovery" not in html(make_table(rows), rows)


def test_every_training_has_a_panel_with_a_point_for_each_check():
    rows = [
        make_row(),
        trained(line(1, 2.0), line(2, 1.5, 1.4), line(1, 1.0, training=1), line(2, 0.9, 0.8, training=1)),
    ]
    drawn = curves(rows, model_names(rows))
    assert drawn.count("<svg") == 2
    assert re.findall(r"step (\d+): held-out loss ([\d.]+)", drawn) == [("2", "1.4"), ("2", "0.8")]
    assert "finetune 1 ep" in drawn
    assert drawn in html(make_table(rows), rows)


def test_losses_lie_in_their_frame_and_in_their_order():
    drawn = curves([row := trained(*(line(i + 1, 3.0 - 0.2 * i) for i in range(10)))], model_names([row]))
    [path] = re.findall(r'class="curve[^"]*" d="M([^"]*)"', drawn)
    points = [tuple(map(float, point.split())) for point in path.split("L")]
    assert points == sorted(points)
    assert [y for _, y in points] == sorted(y for _, y in points)  # down the page as the loss falls
    assert all(52 <= x <= 348 and 12 <= y <= 178 for x, y in points)


def test_a_loss_that_is_not_finite_or_absent_is_not_drawn():
    rows = [trained(line(1, math.nan), line(2, math.inf, math.nan), {"training": 0, "step": 0, "held_out": None})]
    assert "svg" not in curves(rows, model_names(rows))


def test_a_long_curve_is_thinned_and_keeps_every_check():
    curve = [line(i, 1.0, 0.5 if i % 500 == 0 else None) for i in range(1, 2001)]
    kept = thinned(curve)
    assert CURVE_POINTS <= len(kept) <= CURVE_POINTS + 4
    assert [point["step"] for point in kept if "held_out" in point] == [500, 1000, 1500, 2000]
    assert all(set(point) <= {"training", "step", "loss", "held_out"} for point in kept)
    assert thinned([]) == ()
