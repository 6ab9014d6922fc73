"""What is put into a program before it is lowered, held against the weight that the parts give."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.recognition.target import find_target
from sottovoce.targets.executorch.attention import attend_many, attend_one
from sottovoce.targets.executorch.layers import IntegerEmbedding, IntegerLinear
from sottovoce.targets.executorch.lower import check_products
from sottovoce.targets.pieces import token_bytes
from sottovoce.targets.placing import FactoredLinear, LowRank
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.weight import Layer, Weight

ROWS, COLUMNS = 24, 64


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer_of(grid, *, kind="linear", mask=None, low_rank=None, divisor=None):
    weight = Weight(round_to_grid(random(ROWS, COLUMNS), grid), mask, low_rank)
    return Layer("layer", kind, weight, weight.dense(), input=InputPath(divisor=divisor))


def whole_numbers(*shape):
    """Inputs that 8 bits hold exactly: 255 steps from the least to the greatest of each vector."""
    x = torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(3)).float()
    x[..., 0], x[..., 1] = -128, 127
    return x


GRIDS = [Grid(8), Grid(6), Grid(4), Grid(8, "tensor"), Grid(4, 32, scale_dtype=torch.bfloat16), Grid(3, 64)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_integers_stand_for_the_dense_weight_bit_for_bit(grid):
    layer = layer_of(grid, mask=random(ROWS, COLUMNS, seed=9) > 0)
    assert torch.equal(IntegerLinear(layer, layer.weight.base, None).weight.dequantize(), layer.weight.dense())


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_product_is_that_of_the_dense_weight(grid):
    factors = (random(ROWS, 3, seed=1), random(3, COLUMNS, seed=2))
    layer = layer_of(grid, low_rank=factors, divisor=torch.full((COLUMNS,), 2.0))
    module = IntegerLinear(layer, layer.weight.base, random(ROWS, seed=5))
    x = 2 * whole_numbers(1, 5, COLUMNS)
    wanted = (x / 2) @ layer.weight.dense().T + module.bias
    torch.testing.assert_close(module(x), wanted, rtol=1e-4, atol=1e-3)


def test_factors_alone_are_multiplied_one_after_the_other():
    weight = Weight(None, None, (random(ROWS, 3, seed=1), random(3, COLUMNS, seed=2)))
    layer = Layer("layer", "linear", weight, weight.dense())
    module, x = FactoredLinear(layer, LowRank(layer), random(ROWS, seed=5)), random(1, 5, COLUMNS)
    torch.testing.assert_close(module(x), x @ layer.target.T + module.bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "group"), [(8, "channel"), (4, 32), (3, "channel"), (6, 16)])
def test_a_table_is_looked_up_exactly(bits, group, symmetric):
    layer = layer_of(Grid(bits, group, symmetric), kind="embedding")
    places = torch.tensor([[0, ROWS - 1, 5]])
    module = IntegerEmbedding(layer, layer.weight.base)
    assert torch.equal(module(places), layer.weight.dense()[places])
    assert torch.equal(module(places, position_ids=torch.tensor([[7]])), layer.weight.dense()[torch.tensor([[7]])])


@pytest.mark.parametrize("shared", [1, 2])
def test_attention_is_that_of_torch(shared):
    query, mask = random(1, 4, 7, 8), random(7, 7, seed=4)
    key, value = random(1, 4 // shared, 7, 8, seed=1), random(1, 4 // shared, 7, 8, seed=2)
    wanted = scaled_dot_product_attention(query, key, value, mask, scale=0.3, enable_gqa=True).transpose(1, 2)
    found, _ = attend_many(None, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(found, wanted)
    one, _ = attend_one(None, query[:, :, 3:4], key[0], value[0].transpose(1, 2), mask[3], scaling=0.3)
    torch.testing.assert_close(one, wanted[:, 3:4])


def test_a_product_that_xnnpack_does_not_take_is_refused_unless_it_is_allowed_by_name():
    left = {"encoder": {"native_layer_norm": 9}, "text_decoder": {"bmm": 2, "native_layer_norm": 7}}
    with pytest.raises(ValueError, match=r"2 bmm of the text_decoder .* --portable bmm allows it"):
        check_products(left, [])
    check_products(left, ["bmm"])


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_the_bytes_of_tokens_are_their_text(name, toy):
    model = find_target(toy(name)).layout()
    pieces = token_bytes(model.processor.tokenizer, model.module.config.vocab_size)
    assert len(pieces) == model.module.config.vocab_size
    for text in ("the old man had ten", "ça, naïve ☂ 42"):
        tokens = model.frontend.text_tokens(text)
        assert b"".join(pieces[token] for token in tokens).decode().strip() == model.text(tokens)
    assert not any(pieces[token] for token in model.frontend.end_tokens())
