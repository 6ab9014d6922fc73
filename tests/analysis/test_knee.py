import pytest

from sottovoce.analysis.knee import knee
from tests.methods.samples import noise
from tests.reference import knee as slow


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_point_farthest_below_the_line_from_end_to_end(seed):
    losses = noise(9, seed=seed).abs().cumsum(0).tolist()
    assert knee(losses) == slow.knee(losses)


@pytest.mark.parametrize(
    ("losses", "place"),
    [
        ([0, 0.01, 0.04, 0.17, 3.1, 5.0], 3),  # a cliff behind the third
        ([0, 2.0, 3.0, 3.5], 0),  # steep from the first on
        ([0, 1.0, 2.0], 0),
        ([5.0], 0),
        ([0, 0, 0], 0),
    ],
)
def test_it_is_the_last_before_the_cliff_and_none_where_there_is_no_bend(losses, place):
    assert knee(losses) == place


def test_no_losses_are_refused():
    with pytest.raises(ValueError, match="at least one loss"):
        knee([])
