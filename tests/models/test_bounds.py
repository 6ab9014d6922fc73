import pytest

from sottovoce.models.bounds import Bounds


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(480_001 / 16_000, "30.0001"), (480_080 / 16_000, "30.005"), (30.01, "30.01"), (45.304, "45.30"), (31, "31.00")],
)
def test_a_length_that_is_too_long_is_told_with_the_decimals_that_show_it(seconds, told):
    bounds = Bounds(0, 30.0)
    assert not bounds.hold(seconds)
    assert bounds.beyond(seconds) == told
    assert float(told) > 30


@pytest.mark.parametrize("seconds", [30.0, 480_000 / 16_000, 29.99])
def test_the_window_itself_holds(seconds):
    assert Bounds(0, 30.0).hold(seconds)
