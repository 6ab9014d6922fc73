"""Alignment: the cheapest path, the heads that follow, the times of tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.recognition.align import SMOOTH, median, token_times
from sottovoce.recognition.dtw import warp
from tests.reference import dtw as slow

tables = st.integers(1, 7).flatmap(
    lambda columns: st.lists(
        st.lists(st.integers(-9, 9).map(float), min_size=columns, max_size=columns), min_size=1, max_size=7
    )
)


@given(tables)
@settings(max_examples=80, deadline=None)
def test_the_path_is_whole_and_no_other_is_cheaper(cost):
    rows, columns = warp(np.array(cost))
    assert (rows[0], columns[0]) == (0, 0)
    assert (rows[-1], columns[-1]) == (len(cost) - 1, len(cost[0]) - 1)
    steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
    assert steps <= {(1, 1), (1, 0), (0, 1)}
    assert sum(cost[i][j] for i, j in zip(rows, columns, strict=True)) == slow.cheapest(cost)


@given(st.lists(st.integers(-9, 9).map(float), min_size=SMOOTH // 2 + 1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_the_median_is_that_of_the_neighbours_mirrored_at_the_ends(values):
    assert median(np.array(values), SMOOTH).tolist() == slow.median(values, SMOOTH)


def test_too_few_frames_for_a_median_stay():
    assert median(np.array([3.0, 1.0, 2.0]), SMOOTH).tolist() == [3.0, 1.0, 2.0]


def follows(tokens, frames, rows):
    """A head that looks at the frames of each token in turn; a row before the first token's, too."""
    head = np.full((rows, frames), 1e-3)
    for row in range(rows):
        first = row * frames // tokens
        head[row, first : first + frames // tokens] = 1
    return head / head.sum(-1, keepdims=True)


@pytest.mark.parametrize("named", [((1, 0),), ()], ids=["named", "found"])
def test_tokens_are_said_where_a_head_that_follows_the_speech_looks(named):
    generator = np.random.default_rng(0)
    tokens, frames = 5, 100
    right = follows(tokens, frames, tokens + 1)
    wrong = generator.dirichlet(np.ones(frames), (2, tokens + 1))
    still = np.zeros((1, tokens + 1, frames))
    still[..., 3] = 1
    attention = [wrong, np.concatenate([right[None], still])]
    times = token_times(attention, named, 0, frames, 0.02)
    assert len(times) == tokens
    for place, (start, end) in enumerate(times):
        assert start == pytest.approx(place * 0.4, abs=0.1 if named else 0.2)
        assert end >= start


def test_padding_behind_a_clip_is_not_looked_at():
    tokens, frames = 4, 80
    attention = [np.concatenate([follows(tokens, frames, tokens + 1), np.ones((tokens + 1, 400))], 1)[None]]
    times = token_times(attention, ((0, 0),), 0, frames, 0.02)
    assert times[-1][1] <= frames * 0.02
