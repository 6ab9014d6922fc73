from dataclasses import replace

import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.low_rank import low_rank, resolved_rank
from sottovoce.methods.magnitude import magnitude
from sottovoce.methods.rtn import rtn
from sottovoce.numbers.grid import Grid
from sottovoce.weights.weight import LayerShape
from tests.methods.samples import layer_of, output_error, seen, some_inputs, some_weights
from tests.reference import low_rank as slow

W, X = some_weights(20, 30), some_inputs(400, 30)


def rounded(bits=2):
    layer = layer_of(W)
    layer.weight = rtn(layer, InputStats(), grid=Grid(bits, 10))
    return layer


def with_factors(layer, x=X, **options):
    found = layer_of(layer.target)
    found.weight = low_rank(layer, seen(x), **{"dtype": "float32", **options})
    return found


@pytest.mark.parametrize("metric", ["gram", "diagonal", "plain"])
def test_the_more_rank_the_less_error(metric):
    weighing = {"gram": X, "diagonal": torch.diag(X.square().mean(0).sqrt()), "plain": torch.eye(30)}[metric]
    errors = [output_error(rounded(), weighing)]
    errors += [output_error(with_factors(rounded(), rank=rank, metric=metric), weighing) for rank in (1, 2, 5, 10, 19)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_more_the_metric_knows_of_the_inputs_the_nearer_the_outputs(rank):
    error = {m: output_error(with_factors(rounded(), rank=rank, metric=m), X) for m in ("gram", "diagonal", "plain")}
    assert error["gram"] < 0.98 * error["diagonal"] < 0.98 * error["plain"]


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_diagonal_metric_is_slim(rank):
    layer = rounded()
    product = with_factors(layer, rank=rank, metric="diagonal").weight.low_rank_product()
    expected = slow.slim(W - layer.weight.base.dense(), X, rank)
    torch.testing.assert_close(product.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("metric", ["gram", "diagonal", "plain"])
def test_the_factors_do_not_depend_on_how_many_vectors_were_seen(metric):
    once, thrice = (with_factors(rounded(), x, rank=3, metric=metric).weight.low_rank for x in (X, X.repeat(3, 1)))
    torch.testing.assert_close(once[0] @ once[1], thrice[0] @ thrice[1], atol=1e-3, rtol=0)
    torch.testing.assert_close(once[0].norm(), thrice[0].norm(), rtol=1e-3, atol=0)


def test_the_factors_correct_the_mask_and_the_rounding_together_and_touch_neither():
    layer = layer_of(W)
    layer.weight = magnitude(layer, InputStats(), sparsity=0.5)
    layer.weight = rtn(layer, InputStats(), grid=Grid(3))
    found = low_rank(layer, seen(X), rank=4, metric="plain", dtype="float32")
    assert found.base is layer.weight.base
    assert found.mask is layer.weight.mask
    u, s, vt = torch.linalg.svd(W - layer.weight.dense())
    torch.testing.assert_close(found.low_rank_product(), u[:, :4] * s[:4] @ vt[:4], atol=1e-5, rtol=0)


def test_a_second_fit_starts_again_from_what_the_base_leaves_over():
    layer = rounded()
    once = low_rank(layer, seen(X), rank=3)
    layer.weight = once
    again = low_rank(layer, seen(X), rank=3)
    assert torch.equal(once.low_rank_product(), again.low_rank_product())


@pytest.mark.parametrize("metric", ["gram", "plain"])
def test_with_replace_the_factors_are_the_weight(metric):
    layer = rounded()
    layer.weight = replace(layer.weight, mask=torch.rand(20, 30) > 0.5)
    found = low_rank(layer, seen(X), rank=19, metric=metric, replace=True, dtype="float32")
    assert found.base is None
    assert found.mask is None
    assert (found.dense() - W).norm() < 0.1 * W.norm()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_factors_are_stored_in_their_dtype_and_used_as_stored(dtype):
    found = low_rank(rounded(), seen(X), rank=3, dtype=dtype)
    left, right = found.low_rank
    assert left.dtype == right.dtype == getattr(torch, dtype)
    assert left.shape == (20, 3)
    assert right.shape == (3, 30)
    assert torch.equal(found.low_rank_product(), left.float() @ right.float())


@pytest.mark.parametrize("x", [torch.zeros(5, 30), torch.ones(5, 30), X * 1e-6, X * (torch.arange(30) % 3 > 0)])
@pytest.mark.parametrize("metric", ["gram", "diagonal"])
def test_degenerate_inputs_give_finite_factors_that_help(metric, x):
    found = with_factors(rounded(), x, rank=5, metric=metric, dtype="float16")
    assert torch.isfinite(found.weight.dense()).all()
    assert output_error(found, x) <= output_error(rounded(), x)


@pytest.mark.parametrize(("metric", "needs"), [("gram", {"gram"}), ("diagonal", {"square"}), ("plain", set())])
def test_it_asks_for_no_more_than_its_metric_needs(metric, needs):
    assert find("low_rank").needs({"metric": metric}) == needs


@pytest.mark.parametrize(("rank", "expected"), [(3, 3), (3.0, 3), (0.1, 2), (0.5, 10), (0.99, 19), (0.01, 0), (1, 1)])
def test_a_rank_below_one_is_a_share_of_the_smaller_side(rank, expected):
    assert resolved_rank(rank, 20, 30) == resolved_rank(rank, 30, 20) == expected


@pytest.mark.parametrize(("rank", "refused"), [(0.01, True), (20, True), (25, True), (19, False), (0.1, False)])
def test_a_rank_that_saves_nothing_is_refused_with_those_that_would_work(rank, refused):
    why = find("low_rank").refuse(LayerShape("fc1", "linear", 20, 30), {"rank": rank})
    assert bool(why) == refused
    assert not refused or "1 to 19 would work" in why


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        (16, "rank=16 is 16 for fc1 (16 x 48); 1 to 15 would work"),
        (0.01, "rank=0.01 is 0 for fc1 (16 x 48); 1 to 15 would work"),
        (2.5, "rank=2.5 is neither a whole number nor a share below 1; 2 would work"),
        (15, None),
        (0.5, None),
    ],
)
def test_a_rank_that_is_none_is_refused_and_not_rounded(rank, message):
    told = find("low_rank").refuse(LayerShape("fc1", "linear", 16, 48), {"rank": rank})
    assert told == (f"low_rank: {message}" if message else None)
