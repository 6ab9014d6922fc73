import pytest
import torch
from torch import nn

import sottovoce.methods.liteasr
from sottovoce.blocks.basis import Block
from sottovoce.calibration.statistics import InputStats
from sottovoce.compressing.loop import compress_layers
from sottovoce.methods.liteasr import Components, liteasr, output_covariance, projected
from sottovoce.models.structure import Site
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from tests.methods.samples import layer_of, noise, some_inputs, some_weights
from tests.reference import liteasr as slow
from tests.test_invariants import logits

ROWS, COLUMNS = 24, 40
W, B = some_weights(ROWS, COLUMNS), noise(ROWS, seed=8)
X = some_inputs(300, COLUMNS)


def stats_of(x):
    stats = InputStats()
    stats.add(x, {"gram", "total", "padding"})
    return stats.finish()


def block_with(w=W, bias=B, x=X, component="mlp", indifferent=False):
    """A block of one layer, and its module, which holds the bias."""
    module = nn.Linear(w.shape[1], len(w), bias=bias is not None)
    module.requires_grad_(False)
    if bias is not None:
        module.bias.copy_(bias)
    layer = layer_of(w)
    site = Site("encoder.layers.0.in", (layer.name,), component=component)
    unseen = frozenset({layer.name} if indifferent else ())
    block = Block(
        [site],
        {layer.name: layer},
        {site.name: stats_of(x)},
        lambda name: module,
        unseen,
        (layer.name,),
        reads={layer.name: site},
    )
    return block, layer, module


def given(layer, module, x=X):
    """(vectors, out) float64: what the layer puts out with its factors and its bias."""
    return slow.outputs(layer.weight.dense(), module.bias, x)


EASY = {"attention": 0.9, "mlp": 0.9, "multiple": 1, "dtype": "float32"}


# --- the analysis ---------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [True, False])
def test_the_covariance_from_the_inputs_gram_matrix_is_that_of_real_outputs(centred):
    stats = stats_of(X)
    found = output_covariance(W, stats.gram / stats.count, stats.total / stats.count if centred else None)
    y = slow.outputs(W, None, X)
    y = y - y.mean(0) if centred else y
    expected = y.T @ y / len(X)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("multiple", [1, 4, 16])
@pytest.mark.parametrize("energy", [0.3, 0.9, 0.99, 0.99999])
@pytest.mark.parametrize("centred", [True, False])
def test_the_rank_is_that_of_the_singular_values_of_real_outputs(centred, energy, multiple):
    stats = stats_of(X)
    mean = stats.total / stats.count if centred else None
    y = slow.outputs(W, B if centred else None, X)
    y = y - y.mean(0) if centred else y
    components = Components.of(output_covariance(W, stats.gram / stats.count, mean))
    whole = float(components.variances.sum())
    assert components.rank((1 - energy) * whole, multiple) == slow.rank(y, energy, multiple)


def test_without_centring_no_more_is_lost_of_what_varies():
    # a large mean takes most of the energy of the outputs, and would hide how much of the rest is lost
    x = X + 30 * noise(COLUMNS, seed=9)
    y = slow.outputs(W, None, x)
    block, layer, module = block_with(bias=None, x=x)
    liteasr(block, **EASY)
    lost = (given(layer, module, x) - y).square().sum()
    assert lost < 0.1 * (y - y.mean(0)).square().sum() < 0.01 * y.square().sum()


@pytest.mark.parametrize(("bias", "indifferent"), [(B, False), (None, False)], ids=["centred", "not centred"])
def test_the_layer_puts_out_what_the_principal_components_of_its_outputs_give(bias, indifferent):
    block, layer, module = block_with(bias=bias, indifferent=indifferent)
    liteasr(block, **EASY)
    rank = layer.weight.low_rank[0].shape[1]
    assert 0 < rank < ROWS * COLUMNS / (ROWS + COLUMNS)
    expected = slow.approximated(W, bias, X, rank, centred=bias is not None)
    torch.testing.assert_close(given(layer, module), expected, rtol=0, atol=2e-4 * float(expected.abs().max()))


def test_the_bias_is_that_of_the_paper():
    block, layer, module = block_with()
    liteasr(block, **EASY)
    v = layer.weight.low_rank[0].double()
    m = slow.outputs(W, B, X).mean(0)
    torch.testing.assert_close(module.bias.double(), m + v @ v.T @ (B.double() - m), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_mean_output_stays_where_it_was_though_factors_are_rounded(dtype):
    block, layer, module = block_with()
    liteasr(block, **{**EASY, "dtype": dtype})
    assert layer.weight.low_rank[0].dtype == getattr(torch, dtype)
    before, after = (slow.outputs(w, b, X).mean(0) for w, b in ((W, B), (layer.weight.dense(), module.bias)))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_keys_whose_constant_cancels_are_centred_and_lose_it():
    block, layer, _ = block_with(bias=None, indifferent=True)
    liteasr(block, **EASY)
    y = slow.outputs(W, None, X)
    found = slow.outputs(layer.weight.dense(), None, X)
    rank = layer.weight.low_rank[0].shape[1]
    expected = slow.approximated(W, None, X, rank, centred=True)
    lost = (expected - found).mean(0)  # the same for every vector
    torch.testing.assert_close(found + lost, expected, rtol=0, atol=2e-4 * float(y.abs().max()))
    assert lost.norm() > 0.01 * y.norm() / len(X) ** 0.5


@pytest.mark.parametrize("bias", [B, None], ids=["bias", "no bias"])
def test_at_full_rank_it_is_the_layer_that_it_was(bias):
    stats = stats_of(X)
    mean = None if bias is None else stats.total / stats.count
    components = Components.of(output_covariance(W, stats.gram / stats.count, mean))
    left, right = projected(W, components, ROWS, torch.float32)
    torch.testing.assert_close(left @ right, W, rtol=0, atol=1e-5)


def test_no_directions_have_less_error_than_the_principal_ones():
    block, layer, module = block_with()
    liteasr(block, **EASY)
    y = slow.outputs(W, B, X)
    ours = (given(layer, module) - y).square().sum()
    for seed in range(5):
        v, _ = torch.linalg.qr(noise(ROWS, layer.weight.low_rank[0].shape[1], seed=seed).double())
        assert ours < ((y - y.mean(0)) @ (torch.eye(ROWS, dtype=torch.float64) - v @ v.T)).square().sum()


def test_what_lies_in_a_window_after_the_clip_keeps_its_directions():
    # speech in some channels and silence in others: without the latter the projection takes silence away
    speech, silence = X.clone(), noise(100, COLUMNS, seed=12)
    speech[:, ::2], silence[:, 1::2] = 0, 0
    block, layer, module = block_with()
    stats = InputStats()
    stats.add(speech, {"gram", "total", "padding"}, padding=silence)
    block.stats["encoder.layers.0.in"] = stats.finish()
    liteasr(block, **EASY)
    both = torch.cat([speech, silence])
    expected = slow.approximated(W, B, both, layer.weight.low_rank[0].shape[1], centred=True)
    found = given(layer, module, both)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "window"), [("whisper", True), ("moonshine", False), ("wav2vec2", False)])
def test_the_whole_window_is_counted_where_there_is_one(name, window, toy, clips, monkeypatch):
    counts, seen_inputs = [], sottovoce.methods.liteasr.seen_inputs

    def watched(stats):
        counts.append((stats.count, int(stats.sums["padding_count"])))
        return seen_inputs(stats)

    monkeypatch.setattr("sottovoce.methods.liteasr.seen_inputs", watched)
    model, _ = opened(toy(name), ["liteasr"], clips(name))
    for count, padding in counts:
        assert (padding > 0) == window
        assert count + padding == sum(model.frames(clip.features) for clip in clips(name))


@pytest.mark.parametrize("change", ["scaled", "shifted"])
def test_the_sums_of_what_lies_after_the_clip_follow_a_change_of_basis(change):
    by = 0.5 + noise(COLUMNS, seed=3).abs()
    x, padding = X[:200], X[200:] + 1
    moved = (x / by, padding / by) if change == "scaled" else (x - by, padding - by)
    stats, expected = InputStats(), InputStats()
    for found, (valid, after) in ((stats, (x, padding)), (expected, moved)):
        found.add(valid, {"gram", "total", "padding"}, padding=after)
        found.finish()
    for name, value in getattr(stats, change)(by).sums.items():
        torch.testing.assert_close(value, expected.sums[name], rtol=1e-4, atol=1e-2, msg=name)


# --- where it saves -------------------------------------------------------------------------------


def test_a_layer_whose_factors_would_be_no_smaller_stays_as_it_is():
    block, layer, module = block_with()
    weight = layer.weight
    liteasr(block, **{**EASY, "mlp": 0.9999999})
    assert layer.weight is weight
    assert torch.equal(module.bias, B)


@pytest.mark.parametrize(("rows", "columns", "fewest"), [(32, 32, 16), (128, 32, 26)])
def test_the_limit_is_where_factors_hold_as_many_numbers_as_the_weight(rows, columns, fewest):
    # 0.5 d of a square, 0.8 d of an MLP of 4 d: what the official code has as two constants
    for multiple, saves in ((fewest - 1, True), (fewest, False)):
        w, x = noise(rows, columns), noise(500, columns, seed=3)
        block, layer, _ = block_with(w, noise(rows, seed=4), x)
        liteasr(block, **{**EASY, "mlp": 0.01, "multiple": multiple})
        assert (layer.weight.base is None) == saves


def test_attention_and_mlp_have_thresholds_of_their_own():
    ranks = {}
    for component in ("mlp", "self_attention", "cross_attention"):
        block, layer, _ = block_with(component=component)
        liteasr(block, **{**EASY, "mlp": 0.5})
        ranks[component] = layer.weight.low_rank[0].shape[1]
    assert ranks["mlp"] < ranks["self_attention"] == ranks["cross_attention"]


@pytest.mark.parametrize("x", [torch.zeros(5, COLUMNS), torch.ones(1, COLUMNS)])
def test_outputs_that_never_vary_leave_the_layer_as_it_is(x):
    block, layer, module = block_with(x=x)
    weight = layer.weight
    liteasr(block, **EASY)
    assert layer.weight is weight or torch.isfinite(layer.weight.dense()).all()
    assert torch.isfinite(module.bias).all()


# --- in a model -----------------------------------------------------------------------------------


def opened(folder, steps, clips):
    target = find_target(folder)
    model, layers = target.open()
    selection = select(read_recipe({"steps": steps}), target.layout())
    compress_layers(model, layers, selection, Material(clips))
    return model, layers


@pytest.mark.parametrize("name", ["whisper", "moonshine", "wav2vec2", "wav2vec2 stable"])
def test_a_model_whose_layers_keep_all_their_variance_computes_what_it_did(name, toy, clips, monkeypatch):
    # at full rank nothing is saved, so the limit is moved: every layer is factored, and every bias with it
    monkeypatch.setattr("sottovoce.methods.liteasr.saves", lambda rank, w: True)
    where = "blocks"
    before, _ = find_target(toy(name)).open()
    step = {"liteasr": {"where": where, "attention": 0.999999999999, "mlp": 0.999999999999, "dtype": "float32"}}
    model, layers = opened(toy(name), [step], clips(name))
    chosen = [layer for layer in layers.values() if layer.steps]
    assert len(chosen) == sum("blocks" in names for names in model.components.values())
    assert all(layer.weight.base is None for layer in chosen)
    for clip in clips(name):
        expected, found = logits(before, clip), logits(model, clip)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.abs().max()))


def test_the_layers_of_an_encoders_blocks_are_chosen_where_a_recipe_names_none(toy, clips):
    _, layers = opened(toy("whisper"), [{"liteasr": {"attention": 0.5, "mlp": 0.5, "multiple": 2}}], clips("whisper"))
    changed = [name for name, layer in layers.items() if layer.weight.base is None]
    assert changed
    assert all(name.startswith("encoder.layers.") for name in changed)
    assert all(
        layer.steps == (["liteasr(attention=0.5, mlp=0.5, multiple=2)"] if name in changed else [])
        for name, layer in layers.items()
    )


@pytest.mark.parametrize("where", ["encoder.conv1", "proj_out", "decoder.embed_tokens", "encoder.embed_positions"])
def test_what_is_in_no_block_is_refused_before_weights_are_read(where, toy):
    with pytest.raises(ValueError, match=f"and {where} is neither; exclude it with where"):
        select(read_recipe({"steps": [{"liteasr": {"where": where}}]}), find_target(toy("whisper untied")).layout())


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["rtn", "liteasr"], "liteasr would overwrite what rtn wrote"),
        (["liteasr", {"gptq": {"where": "encoder.blocks"}}], "gptq would overwrite what liteasr wrote"),
        (["liteasr", "wanda"], "wanda would overwrite what liteasr wrote"),
        (["liteasr", "smoothquant"], "put smoothquant first"),
    ],
)
def test_what_cannot_follow_it_or_come_before_is_refused(steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), find_target(toy("whisper")).layout())
