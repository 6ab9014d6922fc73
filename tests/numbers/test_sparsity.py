from itertools import combinations

import pytest
import torch

from sottovoce.numbers.sparsity import keep_fraction, keep_n_of_m


def some_scores(rows, columns, seed=0):
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (5, 6)])
def test_the_best_n_of_each_m_are_kept(n, m):
    score = some_scores(5, 24)
    mask = keep_n_of_m(score, n, m)
    for row in range(5):
        for start in range(0, 24, m):
            neighbours = range(start, start + m)
            best = max(combinations(neighbours, n), key=lambda places: sum(score[row, p].item() for p in places))
            assert [p for p in neighbours if mask[row, p]] == list(best)


@pytest.mark.parametrize("sparsity", [0.01, 0.1, 0.3, 0.5, 0.7, 0.99])
@pytest.mark.parametrize("columns", [1, 7, 48])
def test_each_row_loses_its_share_and_nothing_lost_beats_anything_kept(columns, sparsity):
    score = some_scores(4, columns)
    mask = keep_fraction(score, sparsity)
    for kept, scores in zip(mask, score, strict=True):
        assert int((~kept).sum()) == int(columns * sparsity)
        assert all(lost < held for lost in scores[~kept] for held in scores[kept])


def test_a_matrix_as_one_row_lets_all_its_weights_compete():
    score = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    assert keep_fraction(score.reshape(1, -1), 0.5).reshape(2, 4).tolist() == [[False] * 4, [True] * 4]
    assert keep_fraction(score, 0.5).tolist() == [[False, False, True, True]] * 2


def test_ties_drop_the_lower_column():
    score = torch.ones(3, 40)
    assert keep_fraction(score, 0.25).tolist() == [[False] * 10 + [True] * 30] * 3
    assert keep_n_of_m(score, 2, 4).tolist() == [[False, False, True, True] * 10] * 3


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 4), (4, 2), (-1, 4)])
def test_an_impossible_n_of_m_is_refused(n, m):
    with pytest.raises(ValueError, match=f"{n}:{m} keeps {n} of {m} weights; n must be 1 to m - 1"):
        keep_n_of_m(torch.ones(2, 8), n, m)


def test_inputs_that_m_does_not_divide_are_refused():
    with pytest.raises(ValueError, match="2:4 needs a multiple of 4 inputs, found 6"):
        keep_n_of_m(torch.ones(2, 6), 2, 4)
