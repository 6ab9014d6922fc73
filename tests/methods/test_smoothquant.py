import pytest
import torch
from torch import nn

from sottovoce.blocks.basis import Block
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import divergence
from sottovoce.methods.smoothquant import smoothquant
from sottovoce.models.structure import Site
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from tests.conftest import WRITING
from tests.methods.samples import layer_of, noise, seen

WIDTH, HIDDEN = 12, 16


class Norm(nn.Module):
    """A norm's scale, with a bias or without, on activations of unequal channels."""

    def __init__(self, bias):
        super().__init__()
        self.weight = nn.Parameter(1 + 0.3 * noise(WIDTH, seed=1))
        self.bias = nn.Parameter(noise(WIDTH, seed=2)) if bias else None

    def forward(self, x):
        y = nn.functional.layer_norm(x, (WIDTH,)) * self.weight
        return y if self.bias is None else y + self.bias


class Toy(nn.Module):
    """A norm read by two linears; their product, gated as Moonshine does it, read by a third."""

    def __init__(self, bias=True):
        super().__init__()
        self.norm = Norm(bias)
        self.q = nn.Linear(WIDTH, WIDTH, bias=bias)
        self.fc1 = nn.Linear(WIDTH, 2 * HIDDEN, bias=bias)
        self.fc2 = nn.Linear(HIDDEN, WIDTH, bias=False)
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.add_(0.5 * noise(*p.shape, seed=10 + i))
        self.inner = None

    def forward(self, x):
        self.read = self.norm(x)
        value, gate = self.fc1(self.read).chunk(2, -1)
        self.inner = value * torch.sigmoid(gate)
        return torch.cat([self.q(self.read), self.fc2(self.inner)], -1)


X = noise(60, WIDTH, seed=3) * torch.logspace(-1, 1, WIDTH)
AFTER_NORM = Site("mlp_in", ("q", "fc1"), "norm", component="mlp")
AFTER_VALUE = Site("fc2_in", ("fc2",), "fc1", slice(0, HIDDEN), component="mlp")


@torch.no_grad()
def block_of(model, *sites, x=X):
    layers = {name: layer_of(getattr(model, name).weight.clone(), name=name) for name in ("q", "fc1", "fc2")}
    model(x)
    stats = {"mlp_in": seen(model.read), "fc2_in": seen(model.inner)}
    return Block(list(sites), layers, stats, model.get_submodule)


@torch.no_grad()
def assign(model, block):
    for name, layer in block.layers.items():
        getattr(model, name).weight.copy_(layer.weight.dense())


def same_statistics(one, other):
    for name in ("gram", "square", "absmax", "absolute"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
@torch.no_grad()
def test_the_scale_is_that_of_equation_four(alpha, bias):
    model = Toy(bias)
    block, before = block_of(model, AFTER_NORM), model.norm.weight.clone()
    expected = []
    for j in range(WIDTH):
        largest = max(model.q.weight[:, j].abs().max().item(), model.fc1.weight[:, j].abs().max().item())
        expected.append(model.read[:, j].abs().max().item() ** alpha / largest ** (1 - alpha))
    smoothquant(block, alpha=alpha)
    assert (before / model.norm.weight).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_the_float_output_is_unchanged_and_the_statistics_are_those_of_a_new_pass(bias):
    model = Toy(bias)
    block, before, read = block_of(model, AFTER_NORM), model(X), model.read
    smoothquant(block)
    assign(model, block)
    torch.testing.assert_close(model(X), before, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model.read, read, atol=0.1)
    same_statistics(block.stats["mlp_in"], seen(model.read))


@torch.no_grad()
def test_at_one_half_weights_and_activations_share_the_range_of_each_channel():
    model = Toy()
    block = block_of(model, AFTER_NORM)
    smoothquant(block, alpha=0.5)
    weights = torch.cat([block.layers[name].target for name in ("q", "fc1")]).abs().amax(0)
    torch.testing.assert_close(weights, block.stats["mlp_in"].absmax)


@torch.no_grad()
def test_a_dead_channel_keeps_its_scale():
    model = Toy()
    model.norm.weight[4] = model.norm.bias[4] = 0  # never fires
    model.q.weight[:, 7] = 0
    model.fc1.weight[:, 7] = 0  # is never read
    block, before = block_of(model, AFTER_NORM), {name: p.clone() for name, p in model.named_parameters()}
    smoothquant(block)
    assert torch.equal(model.norm.weight[[4, 7]], before["norm.weight"][[4, 7]])
    assert torch.equal(model.norm.bias[[4, 7]], before["norm.bias"][[4, 7]])
    assert torch.equal(block.layers["q"].target[:, [4, 7]], before["q.weight"][:, [4, 7]])
    assert (model.norm.weight != before["norm.weight"]).sum() == WIDTH - 2
    assert torch.isfinite(model.norm.weight).all()


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_rescaling_after_a_norm_or_after_half_a_layer_changes_no_output(bias):
    model = Toy(bias)
    block, before = block_of(model, AFTER_NORM, AFTER_VALUE), model(X)
    gate = model.fc1.weight[HIDDEN:].clone()
    into_norm, into_value = torch.logspace(-0.5, 0.5, WIDTH), torch.logspace(0.5, -0.5, HIDDEN)
    block.rescale(AFTER_VALUE, into_value)
    assert torch.equal(block.layers["fc1"].target[HIDDEN:], gate)
    block.rescale(AFTER_NORM, into_norm)
    assign(model, block)
    torch.testing.assert_close(model(X), before, atol=1e-5, rtol=1e-5)
    same_statistics(block.stats["mlp_in"], seen(model.read))
    same_statistics(block.stats["fc2_in"], seen(model.inner))


@torch.no_grad()
def test_rescaling_after_a_whole_layer_divides_all_its_rows_and_its_bias():
    first, second = nn.Linear(6, 8), nn.Linear(8, 5)
    layers = {"first": layer_of(first.weight.clone()), "second": layer_of(second.weight.clone())}
    model = nn.ModuleDict({"first": first, "second": second})
    x = noise(20, 6)
    before, inner = second(first(x)), first(x)
    block = Block([], layers, {"between": seen(inner)}, model.get_submodule)
    s = torch.logspace(-0.5, 0.5, 8)
    block.rescale(Site("between", ("second",), "first", component="mlp"), s)
    for name, layer in layers.items():
        model[name].weight.copy_(layer.weight.dense())
    torch.testing.assert_close(first(x), inner / s)
    torch.testing.assert_close(second(first(x)), before)


@pytest.mark.parametrize("name", WRITING)
def test_what_leaves_the_encoder_is_smoothed_once_for_all_decoder_blocks(name, toy, clips):
    target = find_target(toy(name))
    model, layers = target.open()
    reference, _ = target.open()
    where = ["*.encoder_attn.k_proj", "*.encoder_attn.v_proj"]
    selection = select(read_recipe({"steps": [{"smoothquant": {"where": where}}]}), target.layout())
    changed = []
    compress_layers(
        model, layers, selection, Material(clips(name)), after=lambda step, layers: changed.append(sorted(layers))
    )
    assert changed == [sorted(name for name in layers if name.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj")))]
    ratios = [layers[name].target / reference.layers()[name].target for name in changed[0]]
    s = ratios[0].median(0).values
    for ratio in ratios:
        torch.testing.assert_close(ratio, s.expand_as(ratio), rtol=1e-3, atol=1e-4)
    before, after = (m.find("encoder.layer_norm").weight for m in (reference, model))
    torch.testing.assert_close(before / after, s, rtol=1e-3, atol=1e-4)
    assert divergence(model, reference, clips(name)) < 1e-9


def test_readers_of_what_leaves_the_encoder_are_taken_all_or_none(toy):
    with pytest.raises(ValueError, match="share one input, so where must match all or none of them"):
        select(
            read_recipe({"steps": [{"smoothquant": {"where": "decoder.layers.0.*"}}]}),
            find_target(toy("whisper")).layout(),
        )
