import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.rtn import rtn
from sottovoce.methods.wanda import wanda, wanda_score
from sottovoce.numbers.grid import Grid
from sottovoce.weights.weight import LayerShape
from tests.methods.samples import layer_of, output_error, seen, some_inputs, some_weights
from tests.reference import wanda as slow

W, X = some_weights(12, 48), some_inputs(150, 48)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77])
def test_the_mask_is_that_of_the_papers_loop(sparsity):
    assert torch.equal(wanda(layer_of(W), seen(X), sparsity=sparsity).mask, slow.wanda(W, X, sparsity))


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77])
def test_over_the_layer_all_rows_compete(sparsity):
    metric = W.double().abs() * X.double().square().sum(0).sqrt()
    mask = wanda(layer_of(W), seen(X), sparsity=sparsity, over="layer").mask
    assert torch.equal(mask, slow.magnitude([metric], sparsity)[0])
    assert len(set(mask.sum(1).tolist())) > 1


@pytest.mark.parametrize("sparsity", ["2:4", "1:4", "3:8"])
def test_n_of_m_keeps_the_best_neighbours(sparsity):
    n, m = map(int, sparsity.split(":"))
    metric = W.double().abs() * X.double().square().sum(0).sqrt()
    assert torch.equal(wanda(layer_of(W), seen(X), sparsity=sparsity).mask, slow.n_of_m(metric, n, m))


def test_the_sum_of_squares_alone_is_enough():
    squares = InputStats()
    squares.add(X, {"square"})
    mask = wanda(layer_of(W), squares.finish()).mask
    assert squares.gram is None
    assert torch.equal(mask, slow.wanda(W, X, 0.5))


def test_a_small_weight_on_a_loud_input_outlives_a_large_one_on_a_quiet_input():
    score = wanda_score(torch.tensor([[0.1, -1.0]]), torch.tensor([400.0, 1.0]))
    assert score.tolist() == [[pytest.approx(2.0), 1.0]]


def test_the_outputs_are_nearer_than_after_magnitude_pruning():
    by_wanda, by_size = layer_of(W), layer_of(W)
    by_wanda.weight = wanda(by_wanda, seen(X))
    by_size.weight = find("magnitude").function(by_size, InputStats())
    assert output_error(by_wanda, X) < 0.8 * output_error(by_size, X)


def test_a_rounded_base_is_scored_as_it_stands_and_stays():
    layer = layer_of(W)
    layer.weight = rtn(layer, InputStats(), grid=Grid(3))
    pruned = wanda(layer, seen(X))
    assert pruned.base is layer.weight.base
    assert torch.equal(pruned.mask, slow.wanda(layer.weight.base.dense(), X, 0.5))


@pytest.mark.parametrize("name", ["wanda", "magnitude"])
@pytest.mark.parametrize(("sparsity", "columns", "refused"), [("2:4", 30, True), ("2:4", 32, False), (0.5, 30, False)])
def test_n_of_m_that_does_not_divide_is_refused_before_any_work(name, sparsity, columns, refused):
    why = find(name).refuse(LayerShape("fc1", "linear", 8, columns), {"sparsity": sparsity})
    told = "sparsity 2:4 needs a multiple of 4 inputs, and fc1 has 30; 2:3 and 2:5 would work, or exclude it with where"
    assert why == (told if refused else None)
