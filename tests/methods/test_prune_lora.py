from dataclasses import replace

import pytest
import torch

import sottovoce
from sottovoce.artifact.folder import load_layers
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.gptq import gptq
from sottovoce.methods.low_rank import low_rank
from sottovoce.methods.prune_lora import fit_under_mask, prune_lora
from sottovoce.methods.quantize_lora import quantize_lora
from sottovoce.methods.wanda import wanda
from sottovoce.numbers.grid import Grid
from sottovoce.numbers.sparsity import keep_n_of_m
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.latent import PartsLatent
from sottovoce.weights.cost import Product, Workload, cost
from sottovoce.weights.packed import entry_of, pack_layer, unpack_layer
from sottovoce.weights.weight import LayerShape
from tests.methods.samples import layer_of, noise, output_error, seen, some_inputs, some_weights
from tests.reference import prune_lora as slow

ROWS, COLUMNS = 32, 48


def corrected(seed=0, rank=8, metric="gram", bits=None, rows=ROWS, columns=COLUMNS):
    """A layer of 2:4 with factors, and the inputs that it was made for."""
    x, layer = some_inputs(300, columns, seed), layer_of(some_weights(rows, columns, seed))
    layer.weight = wanda(layer, seen(x), sparsity="2:4")
    if bits:
        layer.weight = gptq(layer, seen(x), grid=Grid(bits))
    layer.weight = low_rank(layer, seen(x), rank=rank, metric=metric, dtype="float32")
    return layer, x


@pytest.mark.parametrize("sweeps", [1, 2])
def test_each_piece_is_the_answer_of_its_least_squares_problem(sweeps):
    x, error, right = some_inputs(100, 12).double(), some_weights(5, 12), noise(3, 12, seed=7)
    kept = keep_n_of_m(right.abs(), 2, 4)
    found = fit_under_mask(error, right, kept, x.T @ x, sweeps)
    expected = slow.fitted(error.double().numpy(), right.double().numpy(), kept.numpy(), x.numpy(), sweeps)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), torch.from_numpy(theirs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weighing", [None, "diagonal"])
def test_inputs_that_count_one_by_one_are_a_gram_matrix_without_the_rest(weighing):
    error, right = some_weights(5, 12), noise(3, 12, seed=7)
    kept, energy = keep_n_of_m(right.abs(), 2, 4), torch.ones(12) if weighing is None else torch.rand(12) + 0.1
    found = fit_under_mask(error, right, kept, None if weighing is None else energy, 3)
    whole = fit_under_mask(error, right, kept, torch.diag(energy), 3)
    for ours, theirs in zip(found, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", ["gram", "diagonal", "plain"])
@pytest.mark.parametrize("sparsity", ["2:4", "1:4", "4:8"])
def test_the_pattern_holds_in_every_group_of_inputs(sparsity, metric):
    layer, x = corrected()
    n, m = map(int, sparsity.split(":"))
    layer.weight = prune_lora(layer, seen(x), sparsity=sparsity, metric=metric)
    left, right = layer.weight.factors()
    assert ((right.reshape(-1, m) != 0).sum(1) == n).all()
    assert layer.weight.factor_mask.equal(right != 0)
    assert (left != 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_fitting_wins_back_most_of_what_the_zeros_cost(seed):
    layer, x = corrected(seed)
    whole, stats = layer.weight, seen(x)
    before = output_error(layer, x)
    layer.weight = prune_lora(layer, stats)
    fitted, mask = output_error(layer, x), layer.weight.factor_mask
    layer.weight = replace(whole, factor_mask=mask)
    assert fitted - before < 0.2 * (output_error(layer, x) - before)
    # the same bytes as fewer directions without zeros, and less error
    fewer, _ = corrected(seed, rank=5)
    layer.weight = replace(whole, low_rank=tuple(factor.half() for factor in whole.low_rank), factor_mask=mask)
    fewer.weight = replace(fewer.weight, low_rank=tuple(factor.half() for factor in fewer.weight.low_rank))
    sizes = [entry_of(each, "w", (ROWS, COLUMNS)).bytes for each in (layer, fewer)]
    assert sizes[0] < 1.1 * sizes[1]
    assert fitted < output_error(fewer, x)


def test_no_sweep_is_worse_than_the_one_before():
    errors = []
    for sweeps in (1, 2, 3, 10):
        layer, x = corrected()
        layer.weight = prune_lora(layer, seen(x), sweeps=sweeps)
        errors.append(output_error(layer, x))
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 1.02 * errors[3]


def test_a_layer_without_factors_stays_as_it_is():
    layer = layer_of(noise(ROWS, COLUMNS))
    assert prune_lora(layer, seen(some_inputs(50, COLUMNS))) is layer.weight


@pytest.mark.parametrize("metric", ["gram", "diagonal"])
def test_dead_inputs_and_factors_of_zeros_give_no_nan(metric):
    layer, x = corrected()
    x[:, 5:11] = 0
    layer.weight = prune_lora(layer, seen(x), metric=metric)
    assert torch.isfinite(layer.weight.dense()).all()
    layer.weight = replace(layer.weight, low_rank=(torch.zeros(ROWS, 3), torch.zeros(3, COLUMNS)), factor_mask=None)
    layer.weight = prune_lora(layer, seen(torch.zeros(4, COLUMNS)), metric=metric)
    assert torch.isfinite(layer.weight.dense()).all()


# --- stored ---------------------------------------------------------------------------------------


def stored(layer, shape):
    entry = entry_of(layer, "w", shape)
    back = unpack_layer(entry, pack_layer(layer, entry))
    assert torch.equal(back.weight.dense(), layer.weight.dense())
    assert torch.equal(back.weight.factor_mask, layer.weight.factor_mask)
    assert entry.bytes == sum(tensor.nbytes for tensor in pack_layer(layer, entry).values())
    return entry


def test_half_of_the_right_factor_is_stored_and_three_bits_for_each_four():
    layer, x = corrected(rank=8, rows=64, columns=256)
    floats = entry_of(layer, "w", (64, 256))
    layer.weight = prune_lora(layer, seen(x))
    pruned = stored(layer, (64, 256))
    assert floats.bytes - pruned.bytes == 8 * 256 * 4 // 2 - 8 * 256 // 4 * 3 // 8
    assert (pruned.factor_mask, pruned.words) == ("2:4", "float32 + 2:4 + rank 8 float32 + right factor 2:4")
    layer.weight = quantize_lora(layer, InputStats(), grid=Grid(4))
    rounded = stored(layer, (64, 256))
    of_factors = rounded.bytes - 64 * 256 * 2 - 64 * 256 * 3 // 32  # less the base's floats and mask
    assert of_factors == 8 * (64 + 256 // 2) // 2 + 8 * 256 // 4 * 3 // 8 + 2 * 2 * 8


def test_a_kernel_multiplies_half_of_the_right_factor():
    layer, x = corrected(rank=8)
    whole = entry_of(layer, "w", (ROWS, COLUMNS)).as_cost()
    layer.weight = prune_lora(layer, seen(x))
    pruned = entry_of(layer, "w", (ROWS, COLUMNS)).as_cost()
    product = Product("p", "w", vectors=10, passes=1)
    costs = [cost([product], {"w": each}, Workload()).macs for each in (whole, pruned)]
    assert costs[0] - costs[1] == 10 * 8 * COLUMNS // 2


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("size", ["channel", 16])
def test_zeros_stay_zeros_when_the_factors_are_rounded(size, symmetric):
    layer, x = corrected()
    layer.weight = prune_lora(layer, seen(x))
    mask = layer.weight.factor_mask
    layer.weight = quantize_lora(layer, InputStats(), grid=Grid(3, size, symmetric))
    assert not layer.weight.factors()[1][~mask].any()
    assert stored(layer, (ROWS, COLUMNS)).factor_bits == 3


@pytest.mark.parametrize("bits", [None, 4])
def test_zeros_stay_zeros_in_training(bits):
    layer, x = corrected()
    layer.weight = prune_lora(layer, seen(x))
    if bits:
        layer.weight = quantize_lora(layer, InputStats(), grid=Grid(bits))
    latent, mask = PartsLatent(layer), layer.weight.factor_mask
    optimizer = torch.optim.Adam(latent.parameters.values(), lr=0.1)
    for step in range(3):
        latent.pull(noise(ROWS, COLUMNS, seed=step))
        optimizer.step()
    moved = latent.weight()
    assert not moved.factors()[1][~mask].any()
    assert not torch.equal(moved.dense(), layer.weight.dense())


def test_an_artifact_is_compressed_further_with_its_zeros(toy, speech, tmp_path):
    steps = [{"wanda": {"where": "*.fc2", "sparsity": "2:4"}}, {"low_rank": {"where": "*.fc2", "rank": 4}}]
    steps += [{"prune_lora": {"where": "*.fc2"}}]
    first = sottovoce.compress(toy("whisper"), recipe={"steps": steps}, data=speech, output=tmp_path / "a")
    again = {"quantize_lora": {"where": "*.fc2"}}
    second = sottovoce.compress(tmp_path / "a", recipe={"steps": [again]}, output=tmp_path / "b")
    assert second.bytes == second.predicted_bytes() < first.bytes
    before, after = (load_layers(artifact)[1] for artifact in (first, second))
    for name in (entry.name for entry in second.entries if entry.factor_mask):
        mask = before[name].weight.factor_mask
        assert torch.equal(after[name].weight.factor_mask, mask)
        assert not after[name].weight.factors()[1][~mask].any()
    with pytest.raises(ValueError, match="would overwrite what an earlier compression wrote"):
        sottovoce.compress(tmp_path / "a", recipe={"steps": steps[2:]}, data=speech, output=tmp_path / "c")


# --- refused --------------------------------------------------------------------------------------


def test_inputs_that_are_no_multiple_of_the_group_are_refused():
    told = find("prune_lora").refuse(LayerShape("conv1", "conv", 32, 127), {"sparsity": "2:4"})
    assert told.startswith("sparsity 2:4 needs a multiple of 4 inputs, and conv1 has 127; a share, as 0.5, would work")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["rtn", "prune_lora"], "works on the factors of a low-rank term, and no step before it gives encoder.conv1"),
        (["rtn", "low_rank", "prune_lora", "prune_lora"], "would overwrite what prune_lora wrote"),
        (["rtn", "low_rank", "quantize_lora", "prune_lora"], "that quantize_lora has rounded in .*; put prune_lora fi"),
        (["rtn", "low_rank", "prune_lora", {"lora": {"rank": 2}}], "float columns to factors that prune_lora has prun"),
        (["rtn", "low_rank", {"prune_lora": {"sparsity": 0.5}}], "must be n:m"),
    ],
)
def test_an_order_that_cannot_work_is_refused(steps, message, toy):
    ranked = [{"low_rank": {"rank": 3}} if step == "low_rank" else step for step in steps]
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": ranked}), find_target(toy("whisper")).layout())
