from dataclasses import replace
from itertools import product

import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.gptq import gptq
from sottovoce.methods.low_rank import low_rank
from sottovoce.methods.rtn import rtn
from sottovoce.methods.sparsegpt import prune_by_columns, sparsegpt, sparsegpt_joint
from sottovoce.numbers.grid import Grid
from sottovoce.weights.weight import LayerShape
from tests.methods.samples import layer_of, noise, output_error, seen, some_inputs, some_weights
from tests.reference import sparsegpt as slow

ROWS, COLUMNS = 6, 24
W, X = some_weights(ROWS, COLUMNS), some_inputs(200, COLUMNS)
SPARSITIES = [0.3, 0.5, 0.8, "2:4", "1:4", "4:8", "5:12"]
GRIDS = [Grid(bits, size, symmetric) for bits, size, symmetric in product([3, 4], [4, 8, "channel", "tensor"], [1, 0])]


def asked(sparsity):
    return {"n_of_m": tuple(map(int, sparsity.split(":")))} if isinstance(sparsity, str) else {"share": sparsity}


def in_double(w, gram, sparsity, grid=None, **options):
    """prune_by_columns in float64, where no tie is near, with a factor from the explicit inverse."""
    factor = torch.linalg.cholesky(torch.linalg.inv(slow.damped(gram, 0.01)), upper=True)
    return prune_by_columns(w.double(), factor, sparsity, grid, **options)


@pytest.mark.parametrize("over", ["layer", "row"])
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_the_weights_are_those_of_solving_for_the_rest_after_each_drop(sparsity, over):
    expected, mask = slow.sparsegpt(W, slow.damped(X.T @ X, 0.01), **asked(sparsity), over=over, block=8)
    values, found = in_double(W, X.T @ X, sparsity, over=over, block_size=8)
    assert torch.equal(found, mask)
    torch.testing.assert_close(values, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("sparsity", [0.5, "2:4", "5:12"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_joint_sweep_is_that_of_the_slow_way(grid, sparsity):
    parts = (grid.bits, grid.group_size, grid.symmetric, grid.scale_dtype)
    expected, mask = slow.sparsegpt(W, slow.damped(X.T @ X, 0.01), **asked(sparsity), block=8, grid=parts)
    base, found = in_double(W, X.T @ X, sparsity, grid, block_size=8)
    assert torch.equal(found, mask)
    torch.testing.assert_close((base.dense() * found).double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("grid", [None, Grid(4, 8)], ids=str)
@pytest.mark.parametrize("sparsity", ["2:4", "4:8", "5:12"])
def test_for_n_of_m_the_block_size_changes_nothing(sparsity, grid):
    whole = in_double(W, X.T @ X, sparsity, grid, block_size=COLUMNS)
    for size in (1, 5, 8):
        base, mask = in_double(W, X.T @ X, sparsity, grid, block_size=size)
        assert torch.equal(mask, whole[1])
        dense = (base, whole[0]) if grid is None else (base.dense(), whole[0].dense())
        torch.testing.assert_close(*dense)


def official(w, x, sparsity, n, m, block):
    """The steps of `fasterprune` in the authors' repository, one number after the other; (weights, mask)."""
    rows, columns = w.shape
    w, h = w.double().clone(), 2 * (x.double().T @ x.double()) / len(x)
    h += 0.01 * h.diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    u = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)
    mask = torch.zeros(rows, columns, dtype=torch.bool)  # True = dropped, as there
    for start in range(0, columns, block):
        stop = min(start + block, columns)
        if not m:
            worth = (w[:, start:stop] / u.diagonal()[start:stop]) ** 2
            threshold = worth.flatten().sort().values[int(worth.numel() * sparsity)]
            mask[:, start:stop] = worth <= threshold
        for c in range(start, stop):
            if m and c % m == 0:
                worth = (w[:, c : c + m] / u.diagonal()[c : c + m]) ** 2
                for r in range(rows):
                    mask[r, c + worth[r].argsort()[: m - n]] = True
            new = w[:, c].masked_fill(mask[:, c], 0)
            error = (w[:, c] - new) / u[c, c]
            w[:, c + 1 :] -= torch.outer(error, u[c, c + 1 :])
            w[:, c] = new
    return w, ~mask


@pytest.mark.parametrize(("sparsity", "n", "m"), [(0.5, 0, 0), (0.7, 0, 0), ("2:4", 2, 4), ("1:4", 1, 4)])
def test_a_layer_is_pruned_as_the_authors_code_does(sparsity, n, m):
    w, x = some_weights(32, 96), some_inputs(400, 96)
    values, mask = official(w, x, sparsity, n, m, block=48)
    one_more = 1.001 / (32 * 48)  # in each block: what lies at the threshold
    pruned = sparsegpt(layer_of(w), seen(x), sparsity=sparsity if m else sparsity + one_more, block_size=48)
    assert torch.equal(pruned.mask, mask)
    torch.testing.assert_close(pruned.dense().double(), values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("over", ["row", "layer"])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77])
def test_the_share_of_each_block_is_dropped(sparsity, over):
    w, x = some_weights(8, 40), some_inputs(200, 40)
    mask = sparsegpt(layer_of(w), seen(x), sparsity=sparsity, over=over, block_size=16).mask
    for block in mask.split(16, dim=1):
        size = block.shape[1]
        if over == "row":
            assert (~block).sum(1).tolist() == [int(size * sparsity)] * 8
        else:
            assert int((~block).sum()) == int(8 * size * sparsity)


def errors(names, sparsity):
    """The output error that each pruner leaves, summed over five layers with correlated inputs."""
    found = dict.fromkeys(names, 0.0)
    for seed, name in product(range(5), names):
        x = some_inputs(400, 96, seed)[:, torch.randperm(96, generator=torch.Generator().manual_seed(seed))]
        layer = layer_of(some_weights(32, 96, seed))
        layer.weight = find(name).function(layer, seen(x), sparsity=sparsity)
        found[name] += output_error(layer, x)
    return found


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7, "2:4", "4:8", "1:4"])
def test_with_correlated_inputs_the_error_is_below_wandas_and_that_below_magnitudes(sparsity):
    found = errors(["sparsegpt", "wanda", "ria", "magnitude"], sparsity)
    assert found["sparsegpt"] < 0.7 * found["wanda"]
    assert found["sparsegpt"] < 0.7 * found["ria"]
    assert found["wanda"] < 0.8 * found["magnitude"]
    assert found["ria"] < 0.8 * found["magnitude"]


def test_with_independent_inputs_nothing_can_make_up_for_anything():
    layer, stats = layer_of(W), InputStats(1, sums={"gram": torch.eye(COLUMNS), "square": torch.ones(COLUMNS)})
    pruned = sparsegpt(layer, stats)
    assert torch.equal(pruned.dense(), W.masked_fill(~pruned.mask, 0))
    assert torch.equal(pruned.mask, find("magnitude").function(layer, stats, over="layer").mask)


def joint_and_apart(bits, sparsity, group_size="channel"):
    grid, found = Grid(bits, group_size, symmetric=False), {"joint": 0.0, "sparsegpt, gptq": 0.0, "wanda, rtn": 0.0}
    for seed in range(5):
        x = some_inputs(400, 96, seed)
        layers = {name: layer_of(some_weights(32, 96, seed)) for name in found}
        stats = seen(x)
        layers["joint"].weight = sparsegpt_joint(layers["joint"], stats, sparsity=sparsity, grid=grid)
        for name, (prune, rounding) in {"sparsegpt, gptq": (sparsegpt, gptq), "wanda, rtn": (None, rtn)}.items():
            layer, prune = layers[name], prune or find("wanda").function
            layer.weight = prune(layer, stats, sparsity=sparsity)
            layer.weight = rounding(layer, stats, grid=grid)
        for name, layer in layers.items():
            found[name] += output_error(layer, x)
    return found


@pytest.mark.parametrize("group_size", ["channel", 16])
@pytest.mark.parametrize("sparsity", [0.5, "2:4"])
@pytest.mark.parametrize("bits", [3, 4])
def test_one_sweep_for_both_is_as_good_as_one_after_the_other_and_better_than_neither(bits, sparsity, group_size):
    found = joint_and_apart(bits, sparsity, group_size)
    assert found["joint"] == pytest.approx(found["sparsegpt, gptq"], rel=0.06)
    assert found["joint"] < 0.75 * found["wanda, rtn"]


# --- what follows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.5, "2:4"])
@pytest.mark.parametrize("name", ["rtn", "gptq", "hqq", "slim_quant"])
def test_a_later_rounding_takes_the_weights_as_they_were_updated_and_not_the_target(name, sparsity):
    layer, stats, grid = layer_of(W), seen(X), Grid(8, "tensor" if name == "slim_quant" else "channel", name != "hqq")
    layer.weight = sparsegpt(layer, stats, sparsity=sparsity)
    updated = layer.weight.dense()
    assert (updated - W)[layer.weight.mask].abs().max() > 0.1 * W.abs().max()  # else the test could not fail
    layer.weight = find(name).function(layer, stats, grid=grid)
    assert torch.allclose(layer.weight.dense(), updated, atol=float(updated.abs().max()) / 60)
    assert not layer.weight.updated


def test_a_rounding_after_the_update_keeps_what_the_update_won():
    grid, errors = Grid(6), {}
    for name in ("sparsegpt", "wanda"):
        layer = layer_of(W)
        layer.weight = find(name).function(layer, seen(X), sparsity="2:4")
        before = output_error(layer, X)
        layer.weight = rtn(layer, InputStats(), grid=grid)
        errors[name] = output_error(layer, X)
        assert errors[name] < 1.2 * before
    assert errors["sparsegpt"] < 0.7 * errors["wanda"]


def test_a_low_rank_term_corrects_what_pruning_and_update_left_of_the_target():
    layer = layer_of(W)
    layer.weight = sparsegpt(layer, seen(X))
    pruned = output_error(layer, X)
    layer.weight = low_rank(layer, seen(X), rank=4)
    corrected = output_error(layer, X)
    assert corrected < 0.7 * pruned
    layer.weight = rtn(layer, InputStats(), grid=Grid(8, 4))
    assert output_error(layer, X) < 1.2 * corrected  # a rounding takes the updated weights behind the term, too


def test_what_a_segment_ends_with_is_the_next_target():
    layer = layer_of(W)
    layer.weight = sparsegpt(layer, seen(X))
    layer.settle()
    assert torch.equal(layer.target, layer.weight.dense())
    assert not layer.weight.updated


def test_the_target_and_the_checkpoints_dtype_stay():
    layer = layer_of(W.bfloat16().float())
    layer.weight = replace(layer.weight, base=W.bfloat16())
    target = layer.target.clone()
    layer.weight = sparsegpt(layer, seen(X))
    assert layer.weight.base.dtype == torch.bfloat16
    assert torch.equal(layer.target, target)


# --- what is odd ----------------------------------------------------------------------------------


def test_weights_of_inputs_that_are_never_seen_go_first_and_hurt_nobody():
    x = X.clone()
    x[:, [3, 7, 8]] = 0
    layer = layer_of(W)
    layer.weight = sparsegpt(layer, seen(x), sparsity=0.5)
    assert not layer.weight.mask[:, [3, 7, 8]].any()
    assert torch.isfinite(layer.weight.dense()).all()


@pytest.mark.parametrize("w", [torch.zeros(4, 16), torch.ones(4, 16), noise(4, 16)[:, :1].expand(4, 16)], ids=str)
@pytest.mark.parametrize("sparsity", [0.5, "2:4"])
def test_zeros_and_constants_are_pruned_to_finite_weights(w, sparsity):
    for x in (some_inputs(50, 16), torch.zeros(50, 16)):
        layer = layer_of(w.contiguous())
        assert torch.isfinite(sparsegpt(layer, seen(x), sparsity=sparsity).dense()).all()
        joint = sparsegpt_joint(layer, seen(x), sparsity=sparsity, grid=Grid(4))
        assert torch.isfinite(joint.dense()).all()
        assert (joint.dense()[~joint.mask] == 0).all()


def test_a_tied_embedding_is_damped_more():
    apart = [sparsegpt(layer_of(W, kind=kind), seen(X)).dense() - W for kind in ("linear", "embedding")]
    kept = [sparsegpt(layer_of(W, kind=kind), seen(X)).mask for kind in ("linear", "embedding")]
    assert apart[1][kept[1]].norm() < apart[0][kept[0]].norm()


@pytest.mark.parametrize("name", ["sparsegpt", "sparsegpt_joint", "ria"])
@pytest.mark.parametrize(("sparsity", "columns", "refused"), [("2:4", 30, True), ("2:4", 32, False), (0.5, 30, False)])
def test_n_of_m_that_does_not_divide_is_refused_before_any_work(name, sparsity, columns, refused):
    why = find(name).refuse(LayerShape("fc1", "linear", 8, columns), {"sparsity": sparsity})
    told = "sparsity 2:4 needs a multiple of 4 inputs, and fc1 has 30; 2:3 and 2:5 would work, or exclude it with where"
    assert why == (told if refused else None)
