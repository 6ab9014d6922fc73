"""Where a transcript that loops is cut."""

import pytest

from sottovoce.training.loops import LONGEST, before_loop


@pytest.mark.parametrize(
    ("tokens", "left"),
    [
        ([5, 6, 7, 7, 7, 7], [5, 6, 7]),
        ([5, 6, 7, 7, 7], [5, 6, 7, 7, 7]),
        ([1, 2, 3, 2, 3, 2, 3, 2, 3], [1, 2, 3]),
        ([1, 2, 3, 2, 3, 2, 3, 2, 3, 2], [1, 2, 3]),
        ([9, *range(LONGEST), *range(LONGEST), *range(LONGEST), *range(LONGEST)], [9, *range(LONGEST)]),
        ([4, 4, 4, 4, 4, 5], [4, 4, 4, 4, 4, 5]),
        ([], []),
    ],
)
def test_a_loop_at_the_end_is_cut_to_its_first_round(tokens, left):
    assert before_loop(tokens) == left
