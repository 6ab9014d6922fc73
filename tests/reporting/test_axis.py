import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.reporting.axis import LOG_FROM, fit_axis


@given(st.lists(st.just(0.0) | st.floats(1e-3, 1e6), min_size=1, max_size=10))
def test_every_value_is_within_its_axis_and_in_order(values):
    axis = fit_axis(values)
    places = [axis.place(value) for value in sorted(values)]
    assert places == pytest.approx(sorted(places))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)


@given(st.floats(1e-3, 1e6), st.floats(1, 1e4))
def test_every_axis_has_at_least_two_ticks_within_it(low, ratio):
    axis = fit_axis([low, low * ratio])
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 16
    assert ticks == sorted(ticks)
    assert all(-1e-9 <= axis.place(tick) <= 1 + 1e-9 for tick in ticks)


@pytest.mark.parametrize(
    ("values", "log"),
    [([5.0], False), ([1, LOG_FROM], False), ([1, LOG_FROM + 1], True), ([0, 100], False), ([0], False)],
)
def test_an_axis_is_logarithmic_beyond_a_ratio(values, log):
    assert fit_axis(values).log is log


def test_ticks_are_round():
    assert fit_axis([0.0, 9.0]).ticks() == [0, 2, 4, 6, 8]
    assert fit_axis([3.0, 300.0]).ticks() == [5, 10, 20, 50, 100, 200]


@pytest.mark.parametrize("low", [1.0, 10.0, 2.84])
def test_values_that_differ_in_their_last_bit_have_an_axis_like_one_value(low):
    axis = fit_axis([low, math.nextafter(low, math.inf)])
    assert len(axis.ticks()) >= 2
    assert all(-1e-9 <= axis.place(tick) <= 1 + 1e-9 for tick in axis.ticks())
