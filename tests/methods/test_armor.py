from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import sottovoce
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.armor import Fit, Problem, armor
from sottovoce.methods.low_rank import low_rank
from sottovoce.methods.ria import ria
from sottovoce.methods.rtn import rtn
from sottovoce.methods.sparsegpt import sparsegpt
from sottovoce.methods.wanda import wanda
from sottovoce.numbers.grid import Grid
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.targets.placing import LowRank, WrappedLinear
from sottovoce.training.latent import MergedLatent, PartsLatent
from sottovoce.weights.cost import Product, Workload, cost
from sottovoce.weights.packed import entry_of, pack_layer, unpack_layer
from sottovoce.weights.weight import LayerShape, Weight
from sottovoce.weights.wrappers import Wrappers
from tests.methods.samples import layer_of, noise, output_error, seen, some_inputs, some_weights
from tests.reference import armor as slow

ROWS, COLUMNS, SIZE = 32, 48, 16
W, X = some_weights(ROWS, COLUMNS), some_inputs(300, COLUMNS)
SQUARE = X.square().sum(0)


def fitted(iterations=0, n=2, m=4, size=SIZE, seed=0):
    fit = Fit.start(Problem.of(W, SQUARE), n, m, size)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(iterations):
        fit.fit_outer()
        fit.fit_inner()
        fit.descend(2)
        fit.choose_groups(generator)
    return fit


def compressed(w=W, x=X, **options):
    layer = layer_of(w)
    layer.weight = armor(layer, seen(x), **{"block_size": SIZE, **options})
    return layer


def loss(approximation, w=W, square=SQUARE):
    return slow.loss(w.double().numpy(), approximation.double().numpy(), square.double().numpy())


def of(blocks):
    return blocks.double().numpy()


# --- the fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_it_begins_as_nowags_pruner(n, m):
    fit = fitted(n=n, m=m)
    expected = slow.pruned(W.double().numpy(), SQUARE.double().numpy(), n, m)
    core, wrappers = replace(fit).stored(torch.float32)
    assert np.array_equal(fit.mask.numpy(), expected != 0)
    assert fit.loss() == pytest.approx(loss(torch.from_numpy(expected)), rel=1e-4)
    assert torch.allclose(
        fit.core * fit.problem.columns * fit.problem.rows[:, None], torch.from_numpy(expected).float()
    )
    assert core.shape == W.shape
    assert wrappers.size == SIZE


def test_a_side_is_the_answer_of_its_least_squares_problem():
    fit = fitted(2)
    target, energy = fit.problem.target.double().numpy(), fit.problem.energy.double().numpy()
    fit.fit_outer()
    right = of(fit.core) @ slow.product([np.eye(COLUMNS)], np.eye(COLUMNS), of(fit.inner))
    for block in range(ROWS // SIZE):
        rows = slice(block * SIZE, (block + 1) * SIZE)
        expected = np.linalg.lstsq((right[rows] * np.sqrt(energy)).T, (target[rows] * np.sqrt(energy)).T, rcond=None)[
            0
        ].T
        reached = expected @ right[rows], of(fit.outer[block]) @ right[rows]
        costs = [float(((target[rows] - each) ** 2 * energy).sum()) for each in reached]
        assert costs[1] == pytest.approx(costs[0], rel=1e-3)
    fit.fit_inner()
    left = slow.product(of(fit.outer), of(fit.core), [np.eye(COLUMNS)])
    for block in range(COLUMNS // SIZE):
        columns = slice(block * SIZE, (block + 1) * SIZE)
        expected = np.linalg.lstsq(left[:, columns], target[:, columns], rcond=None)[0]
        reached = left[:, columns] @ expected, left[:, columns] @ of(fit.inner[block])
        costs = [float(((target[:, columns] - each) ** 2).sum()) for each in reached]
        assert costs[1] == pytest.approx(costs[0], rel=1e-3)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (3, 4)])
def test_a_group_gets_the_best_of_all_masks_and_values(n, m, monkeypatch):
    fit = fitted(1, n, m)
    before = replace(fit)
    monkeypatch.setattr("sottovoce.methods.armor._drawn", lambda weights, _: torch.full_like(weights[..., 0], 2).long())
    fit.choose_groups(torch.Generator())
    core, energy = of(before.core), of(before.problem.energy)
    outer, inner, target = of(before.outer), of(before.inner), of(before.problem.target)
    for row in range(SIZE):
        for down in range(ROWS // SIZE):
            for across in range(COLUMNS // SIZE):
                at, first = down * SIZE + row, across * SIZE + 2 * m
                _, core[at, first : first + m] = slow.best_group(target, energy, outer, core, inner, at, first, n, m)
    np.testing.assert_allclose(fit.core.numpy(), core, rtol=1e-2, atol=1e-4)
    assert np.array_equal(fit.mask.numpy()[core != 0], np.ones((core != 0).sum(), bool))


def test_no_step_raises_the_loss():
    fit, generator = fitted(), torch.Generator().manual_seed(0)
    losses = [fit.loss()]
    for _ in range(5):
        for step in (fit.fit_outer, fit.fit_inner, lambda: fit.descend(1), lambda: fit.choose_groups(generator)):
            step()
            losses.append(fit.loss())
            assert fit.loss() == pytest.approx(fit.problem.loss(fit.problem.target - fit.product()), rel=1e-3)
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in pairwise(losses))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sparsity", ["2:4", "1:4", "4:8"])
def test_its_loss_is_below_that_of_the_pruners_it_could_start_from(sparsity, seed):
    w, x = some_weights(ROWS, COLUMNS, seed), some_inputs(300, COLUMNS, seed)
    square = x.square().sum(0)
    found = compressed(w, x, sparsity=sparsity, iterations=5)
    nowag = torch.from_numpy(slow.pruned(w.double().numpy(), square.double().numpy(), *map(int, sparsity.split(":"))))
    masked = layer_of(w)
    masked.weight = wanda(masked, seen(x), sparsity=sparsity)
    rivals = [loss(each, w, square) for each in (nowag, masked.weight.dense())]
    assert loss(found.weight.dense(), w, square) < 0.75 * min(rivals)
    assert output_error(found, x) < 0.75 * output_error(masked, x)


def test_one_iteration_is_enough_to_be_below_and_more_go_further():
    losses = [loss(compressed(iterations=iterations).weight.dense()) for iterations in (1, 5, 20)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < loss(torch.from_numpy(slow.pruned(W.double().numpy(), SQUARE.double().numpy(), 2, 4)))


def test_masks_leave_those_that_it_began_with():
    layer = compressed(iterations=5)
    assert 0.01 < (layer.weight.mask != Problem.of(W, SQUARE).keep(2, 4)).float().mean() < 0.5


def test_a_seed_gives_the_same_and_another_seed_another():
    one, same, other = (compressed(iterations=2, seed=seed).weight for seed in (0, 0, 1))
    assert torch.equal(one.dense(), same.dense())
    assert not torch.equal(one.mask, other.mask)


@pytest.mark.parametrize("sparsity", ["2:4", "4:8"])
def test_the_core_keeps_n_of_m_and_the_rest_are_blocks(sparsity):
    weight = compressed(sparsity=sparsity, iterations=2).weight
    n, m = map(int, sparsity.split(":"))
    assert (weight.mask.reshape(-1, m).sum(1) == n).all()
    assert not weight.base[~weight.mask].any()
    assert weight.wrappers.outer.shape == (ROWS // SIZE, SIZE, SIZE)
    assert weight.wrappers.inner.shape == (COLUMNS // SIZE, SIZE, SIZE)
    whole = slow.product(of(weight.wrappers.outer), of(weight.masked_base()), of(weight.wrappers.inner))
    np.testing.assert_allclose(weight.dense().numpy(), whole, rtol=1e-3, atol=1e-4)


def test_dead_inputs_and_weights_of_zero_give_no_nan():
    x, w = X.clone(), W.clone()
    x[:, :20] = 0
    w[3:9] = 0
    w[:, 30] = 0
    assert torch.isfinite(compressed(w, x, iterations=3).weight.dense()).all()
    assert not compressed(torch.zeros(ROWS, COLUMNS), x, iterations=2).weight.dense().any()
    assert torch.isfinite(compressed(w, torch.zeros(3, COLUMNS), iterations=2).weight.dense()).all()


def test_blocks_that_float16_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="dtype: bfloat16 would work"):
        compressed(1e7 * W, iterations=1)
    assert torch.isfinite(compressed(1e7 * W, iterations=1, dtype="bfloat16").weight.dense()).all()


# --- stored, counted, followed --------------------------------------------------------------------


def test_its_bytes_and_its_products_are_those_of_core_and_blocks():
    layer = compressed(iterations=1)
    entry = entry_of(layer, "w", (ROWS, COLUMNS))
    back = unpack_layer(entry, pack_layer(layer, entry))
    assert torch.equal(back.weight.dense(), layer.weight.dense())
    assert entry.bytes == ROWS * COLUMNS * 4 // 2 + ROWS * 5 + (ROWS + COLUMNS) * SIZE * 2  # 12 x 3 bits a row of mask
    assert entry.words == "float32 + 2:4 + between blocks of 16 float16"
    counted = cost([Product("p", "w", vectors=10, passes=1, read=10 * COLUMNS, moved=10 * (ROWS + COLUMNS))],
                   {"w": entry.as_cost()}, Workload())  # fmt: skip
    assert counted.macs == 10 * (ROWS * COLUMNS // 2 + (ROWS + COLUMNS) * SIZE)
    assert counted.bit_operations == 10 * 32 * (ROWS * COLUMNS // 2 * 32 + (ROWS + COLUMNS) * SIZE * 16)
    assert counted.memory_bytes == entry.bytes + 10 * (ROWS + COLUMNS) * 4


def test_behind_an_input_of_zeros_only_the_inner_blocks_need_not_be_read():
    entry = entry_of(compressed(iterations=1), "w", (ROWS, COLUMNS)).as_cost()
    assert entry.column_bytes == COLUMNS * SIZE * 2


def test_a_core_is_rounded_and_factors_correct_what_is_left():
    layer = compressed(iterations=5)
    before = output_error(layer, X)
    wrappers, core = layer.weight.wrappers, layer.weight.masked_base()
    layer.weight = rtn(layer, InputStats(), grid=Grid(8))
    assert layer.weight.wrappers is wrappers
    torch.testing.assert_close(layer.weight.masked_base(), core, rtol=0, atol=0.01 * float(core.abs().max()))
    rounded = output_error(layer, X)
    assert rounded < 1.1 * before
    layer.weight = low_rank(layer, seen(X), rank=4)
    assert output_error(layer, X) < 0.8 * rounded


def test_gradients_are_those_of_autograd():
    core, g = noise(ROWS, COLUMNS, seed=1), noise(ROWS, COLUMNS, seed=2)
    outer, inner = noise(ROWS // 8, 8, 8, seed=3), noise(COLUMNS // 8, 8, 8, seed=4)
    wanted = [part.clone().requires_grad_() for part in (outer, core, inner)]
    Wrappers(wanted[0], wanted[2]).around(wanted[1]).backward(g)
    wrappers = Wrappers(outer, inner)
    found = wrappers.to_blocks(g, core)
    for ours, theirs in ((found[0], wanted[0]), (wrappers.to_core(g), wanted[1]), (found[1], wanted[2])):
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-4, atol=1e-4)


def test_training_moves_all_three_and_keeps_the_zeros():
    layer = compressed(iterations=1)
    latent = PartsLatent(layer)
    optimizer = torch.optim.Adam(latent.parameters.values(), lr=0.01)
    for step in range(2):
        latent.pull(noise(ROWS, COLUMNS, seed=step))
        optimizer.step()
    moved = latent.weight()
    assert not moved.masked_base()[~layer.weight.mask].any()
    assert moved.wrappers.outer.dtype == torch.float16
    for part in ("outer", "inner"):
        assert not torch.equal(getattr(moved.wrappers, part), getattr(layer.weight.wrappers, part))
    assert not torch.equal(moved.base, layer.weight.base)
    merged = MergedLatent(layer, 2, torch.Generator().manual_seed(0))
    merged.pull(noise(ROWS, COLUMNS))
    expected = merged.parameters["right"].detach()
    core = layer.weight.wrappers.to_core(noise(ROWS, COLUMNS)).masked_fill(~layer.weight.mask, 0)
    torch.testing.assert_close(merged.parameters["left"].grad, core @ expected.T)


def test_an_artifact_of_cores_is_rounded_later(toy, speech, tmp_path):
    steps = [{"armor": {"where": "*.fc2", "block_size": 8, "iterations": 1}}]
    first = sottovoce.compress(toy("whisper"), recipe={"steps": steps}, data=speech, output=tmp_path / "a")
    second = sottovoce.compress(
        tmp_path / "a", recipe={"steps": [{"rtn": {"where": "*.fc2", "bits": 4}}]}, output=tmp_path / "b"
    )
    assert second.bytes == second.predicted_bytes() < first.bytes
    assert all(entry.wrapper_size == 8 and entry.bits == 4 for entry in second.entries if entry.name.endswith("fc2"))
    with pytest.raises(ValueError, match="would overwrite what an earlier compression wrote"):
        sottovoce.compress(tmp_path / "a", recipe={"steps": steps}, data=speech, output=tmp_path / "c")


@pytest.mark.parametrize("correction", [False, True])
def test_a_runtime_multiplies_three_times_and_adds_what_stands_beside(correction):
    layer, bias, x = compressed(iterations=1), noise(ROWS), noise(2, 5, COLUMNS)
    if correction:
        layer.weight = low_rank(layer, seen(X), rank=4)
    module = WrappedLinear(layer, LowRank(layer) if correction else None, bias)
    expected = torch.nn.functional.linear(x, layer.weight.dense(), bias)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


# --- beside others --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_with_correlated_inputs_it_has_less_error_than_pruners_that_only_drop_or_update(seed):
    w, x = some_weights(64, 96, seed), some_inputs(500, 96, seed)
    errors = {}
    for name, prune in (("wanda", wanda), ("ria", ria), ("sparsegpt", sparsegpt)):
        layer = layer_of(w)
        layer.weight = prune(layer, seen(x), sparsity="2:4")
        errors[name] = output_error(layer, x)
    errors["armor"] = output_error(compressed(w, x, block_size=32), x)
    assert errors["armor"] < 0.5 * min(errors["wanda"], errors["ria"])


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (("linear", 288, 416), {"block_size": 64}, "does not divide fc1 (288 x 416); 16 or 32 would work"),
        (("linear", 288, 416), {"block_size": 20}, "does not divide fc1 (288 x 416); 8 or 16 would work"),
        (("linear", 7, 416), {"block_size": 32}, "no multiple of 4 does; exclude it with where"),
        (("linear", 288, 416), {"block_size": 6}, "block_size 6 of armor cuts groups of 4; a multiple of 4 would work"),
        (("linear", 288, 416), {"sparsity": "8:16"}, "all ways to keep 8 of 16 weights, and there are 12,870; 100 at"),
        (("linear", 32, 50), {}, "needs a multiple of 4 inputs, and fc1 has 50"),
        (("conv", 288, 384), {}, "armor stands around linear layers, and fc1 is of kind conv"),
        (("embedding", 288, 384), {}, "and fc1 is of kind embedding; exclude it with where"),
    ],
)
def test_what_cannot_be_in_blocks_is_refused(shape, options, message):
    told = find("armor").refuse(LayerShape("fc1", *shape), {"sparsity": "2:4", "block_size": 32, **options})
    assert message in told


ARMOR = {"armor": {"block_size": 8}}
BLOCKS = "*.layers.*"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([ARMOR, {"gptq": {"where": BLOCKS}}], "gptq looks at what encoder.layers.0.self_attn.k_proj reads"),
        ([ARMOR, {"autoround": {"where": BLOCKS}}], "autoround looks at what"),
        ([ARMOR, {"wanda": {"where": BLOCKS}}], "wanda would overwrite what armor wrote"),
        ([ARMOR, "smoothquant"], "that armor has already fixed"),
        (
            [{"rtn": {"where": BLOCKS}}, ARMOR],
            r"armor would drop weights of .* that rtn has already rounded; prune first",
        ),
        ([{"wanda": {"where": BLOCKS}}, ARMOR], "armor would overwrite what wanda wrote"),
        ([ARMOR, {"low_rank": {"replace": True, "where": BLOCKS, "rank": 2}}], "would overwrite what armor wrote"),
        (
            [{"armor": {"block_size": 5, "where": "proj_out"}}, {"trim_vocabulary": {"calibration": True}}],
            "block_size 5 of armor cuts groups of 4",
        ),
    ],
)
def test_an_order_that_cannot_work_is_refused(steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), find_target(toy("whisper untied")).layout())


def test_rows_of_what_is_in_blocks_cannot_be_cut():
    weight = Weight(W, None, wrappers=Wrappers(torch.eye(16).repeat(2, 1, 1), torch.eye(16).repeat(3, 1, 1)))
    with pytest.raises(AssertionError):
        weight.take_rows(torch.arange(3))
