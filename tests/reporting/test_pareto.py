import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.reporting.pareto import front, on_front
from tests.reporting.sample import make_row, make_score

numbers = st.one_of(st.integers(0, 6), st.sampled_from([None, math.nan, math.inf, -math.inf]), st.floats(0, 3))


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(st.lists(st.tuples(numbers, numbers), max_size=20))
def test_the_front_is_what_no_measured_point_dominates(points):
    measured = [p for p in points if all(x is not None and math.isfinite(x) for x in p)]
    assert front(points) == [p in measured and not any(dominates(q, p) for q in measured) for p in points]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        ([(1, 1)], [True]),
        ([(1, 1), (1, 1)], [True, True]),
        ([(1, 2), (2, 1), (2, 2)], [True, True, False]),
        ([(1, 2), (1, 1)], [False, True]),
        ([(1, 1), (2, 1)], [True, False]),
        ([(1, math.nan), (2, 5), (None, 0)], [False, True, False]),
    ],
)
def test_these_points_are_on_the_front(points, expected):
    assert front(points) == expected


def test_each_model_has_its_own_front():
    rows = [make_row(model=model, megabytes=size, scores=[make_score(wer=wer)])
            for model, size, wer in [("a", 10, 9), ("b", 20, 10), ("a", 20, 9.5), ("b", 30, 5)]]  # fmt: skip
    assert on_front(rows) == [True, True, False, True]


def test_a_row_that_heard_fewer_sets_or_failed_is_not_on_the_front():
    both = [make_score("one", 8.0), make_score("two", 20.0)]
    rows = [
        make_row("full", megabytes=10, scores=both),
        make_row("part", megabytes=5, scores=both[:1]),
        make_row("fail", megabytes=5, scores=both, error="stopped"),
        make_row("size", megabytes=5),
    ]
    assert on_front(rows) == [True, False, False, False]
