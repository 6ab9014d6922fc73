import pytest
import torch

from sottovoce.methods.magnitude import magnitude
from sottovoce.methods.ria import ria, ria_score
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid
from tests.methods.samples import layer_of, noise, output_error, seen, some_inputs, some_weights
from tests.reference import ria as slow
from tests.reference.wanda import n_of_m

W, X = some_weights(12, 48), some_inputs(60, 48)


def lowest_dropped(score, sparsity):
    """Over the whole of `score`, or row by row if it is given as rows of one."""
    kept = torch.ones(score.shape, dtype=torch.bool)
    kept.view(-1)[score.flatten().argsort()[: int(score.numel() * sparsity)]] = False
    return kept


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77])
def test_the_mask_is_that_of_the_papers_formula(sparsity, power):
    score = slow.ria(W, X, power)
    over_layer = ria(layer_of(W), seen(X), sparsity=sparsity, power=power).mask
    assert torch.equal(over_layer, lowest_dropped(score, sparsity))
    over_row = ria(layer_of(W), seen(X), sparsity=sparsity, power=power, over="row").mask
    assert torch.equal(over_row, torch.cat([lowest_dropped(row[None], sparsity) for row in score]))


@pytest.mark.parametrize("sparsity", ["2:4", "1:4", "3:8"])
def test_n_of_m_keeps_the_best_neighbours(sparsity):
    n, m = map(int, sparsity.split(":"))
    assert torch.equal(ria(layer_of(W), seen(X), sparsity=sparsity).mask, n_of_m(slow.ria(W, X, 0.5), n, m))


def test_no_channel_is_dropped_whole_however_small_it_is():
    w = W.clone()
    w[:, 5] *= 1e-3
    w[3] *= 1e-3
    by_ria, by_size = ria(layer_of(w), seen(X)).mask, magnitude(layer_of(w), seen(X), over="layer").mask
    for channel in (by_size[:, 5], by_size[3]):
        assert not channel.any()
    for channel in (by_ria[:, 5], by_ria[3]):
        assert channel.any()


def test_the_outputs_are_nearer_than_after_magnitude_pruning():
    by_ria, by_size = layer_of(W), layer_of(W)
    by_ria.weight, by_size.weight = ria(by_ria, seen(X)), magnitude(by_size, seen(X))
    assert output_error(by_ria, X) < 0.8 * output_error(by_size, X)


def test_rows_and_columns_of_zeros_count_nothing_and_divide_nothing():
    w = W.clone()
    w[2], w[:, 7] = 0, 0
    score = ria_score(w, torch.ones(48), 0.5)
    assert torch.isfinite(score).all()
    assert (score[2] == 0).all()
    assert (score[:, 7] == 0).all()
    assert torch.isfinite(ria_score(torch.zeros(3, 4), torch.zeros(4), 0.5)).all()


def test_a_rounded_base_is_scored_as_it_stands_and_stays():
    layer = layer_of(noise(6, 16))
    layer.weight = rtn(layer, seen(some_inputs(40, 16)), grid=Grid(3))
    pruned = ria(layer, seen(some_inputs(40, 16)))
    assert pruned.base is layer.weight.base
