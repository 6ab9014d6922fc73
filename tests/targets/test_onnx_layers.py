"""The operators, in ONNX Runtime itself, held against the weight that the parts give."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sottovoce.numbers.grid import Grid, Quantized, round_to_grid
from sottovoce.numbers.hadamard import random_hadamard
from sottovoce.targets.onnx.blocks import to_blocks
from sottovoce.targets.onnx.graph import INT8, UINT8
from sottovoce.targets.onnx.layers import (
    CodedConv,
    CodedEmbedding,
    CodedLinear,
    Int8Linear,
    Table,
    factors_of,
)
from sottovoce.targets.onnx.signed import exact_here, turned, weights
from sottovoce.targets.onnx.write import exported, save
from sottovoce.targets.placing import FactoredLinear
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.input_path import InputPath, Turn
from sottovoce.weights.weight import Layer, Weight
from tests.tiers import one_fast, slow_ones

ROWS, COLUMNS = 24, 64


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer_of(grid, *, kind="linear", columns=COLUMNS, mask=None, low_rank=None, path=None, kernel=1):
    base = round_to_grid(random(ROWS, columns), grid)
    weight = Weight(base, mask, low_rank)
    return Layer("layer", kind, weight, weight.dense(), input=path or InputPath(), kernel=kernel)


def embedding(base):
    return Layer("layer", "embedding", Weight(base), base.dense())


def whole_numbers(*shape):
    """Inputs that int8 holds exactly whatever the block: 127 is in each row's every 16 neighbours."""
    x = torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(3)).float()
    x[..., ::16] = 127
    return x


def told(module, x, tmp_path):
    save(exported(module, (x,), {"x": {}}, ["x"], ["y"]), tmp_path / "graph.onnx")
    return computed((tmp_path / "graph.onnx").read_bytes(), x)


def computed(graph, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    [y] = session.run(None, {"x": x.numpy()})
    return torch.from_numpy(np.asarray(y))


class Whole(nn.Module):
    """`exported` names the argument of a graph."""

    def __init__(self, module):
        super().__init__()
        self.inner = module

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("bits", "group", "symmetric"),
    [
        (4, 32, True),
        *(
            pytest.param(*grid, marks=pytest.mark.slow)
            for grid in [(2, 16, False), (3, 32, True), (4, 32, False), (6, 64, True)]
        ),
        (4, "channel", False),
        (8, 16, True),
    ],
)
def test_the_product_is_that_of_the_dense_weight(bits, group, symmetric, tmp_path):
    layer, bias = layer_of(Grid(bits, group, symmetric)), random(ROWS, seed=5)
    x = whole_numbers(1, 3, COLUMNS)
    module = CodedLinear(Table(to_blocks(layer.weight.base)), layer, bias)
    wanted = x @ layer.weight.dense().T + bias
    torch.testing.assert_close(told(Whole(module), x, tmp_path), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_int8_product_is_that_of_the_dense_weight(symmetric, tmp_path):
    mask = random(ROWS, COLUMNS, seed=9) > 0
    low_rank = (random(ROWS, 3, seed=1), random(3, COLUMNS, seed=2))
    layer = layer_of(Grid(8, "channel", symmetric), mask=mask, low_rank=low_rank)
    x = whole_numbers(1, 5, COLUMNS)
    x[0, 0, 1] = -128  # 0 to 255 lie on whole levels
    module = Int8Linear(layer, layer.weight.base, random(ROWS, seed=5))
    wanted = x @ layer.weight.dense().T + module.bias
    torch.testing.assert_close(told(Whole(module), x, tmp_path), wanted, rtol=1e-4, atol=1e-2)


def factored(rank=5, base=None, grid=None, kind="linear"):
    """A layer with a low-rank term, on a grid if there is one."""
    factors = (random(ROWS, rank, seed=1), random(rank, COLUMNS, seed=2))
    weight = Weight(base, None, CodedFactors.nearest(*factors, grid) if grid else factors)
    return Layer("layer", kind, weight, weight.dense())


@pytest.mark.parametrize("grid", [None, *slow_ones(Grid(4), Grid(3), Grid(2, symmetric=False), Grid(8))], ids=str)
def test_factors_alone_are_multiplied_one_after_the_other(grid, tmp_path):
    layer, x = factored(grid=grid), random(1, 3, COLUMNS, seed=3)
    module = FactoredLinear(layer, factors_of(layer), random(ROWS, seed=5))
    wanted = x @ layer.weight.dense().T + module.bias
    torch.testing.assert_close(told(Whole(module), x, tmp_path), wanted, rtol=1e-4, atol=1e-3)
    graph = onnx.load(tmp_path / "graph.onnx").graph
    assert all(np.prod(tensor.dims) != ROWS * COLUMNS for tensor in graph.initializer)  # no product of the factors


@pytest.mark.parametrize(("coded", "grid"), one_fast([True, False], [Grid(4), None]), ids=str)
def test_rows_of_a_table_have_their_low_rank_part(coded, grid, tmp_path):
    base = round_to_grid(random(ROWS, COLUMNS), Grid(4)) if coded else None
    layer = factored(base=base, grid=grid, kind="embedding")
    places = torch.tensor([[0, ROWS - 1, 5]])
    module = CodedEmbedding(layer, Table(to_blocks(base)) if coded else None, factors_of(layer))
    wanted = layer.weight.dense()[places]
    torch.testing.assert_close(told(Whole(module), places, tmp_path), wanted, rtol=1e-5, atol=1e-5)


def ends(grid):
    """A layer whose codes are the ends of its grid, where sums of 16 bits would saturate first."""
    low, high = grid.lowest, grid.levels - 1
    codes = torch.where(random(ROWS, COLUMNS, seed=7) > 0, low, high)
    codes[0], codes[1] = low, high
    groups = COLUMNS // grid.group_size if isinstance(grid.group_size, int) else 1
    zero = (torch.arange(ROWS * groups) % grid.levels).view(ROWS, groups).to(torch.uint8)
    scale = torch.full((ROWS, groups), 0.5, dtype=grid.scale_dtype)
    weight = Weight(Quantized(codes.to(torch.uint8), scale, None if grid.symmetric else zero, grid))
    return Layer("layer", "linear", weight, weight.dense())


class Together(nn.Module):
    """Layers of one input, their outputs side by side."""

    def __init__(self, modules):
        super().__init__()
        self.inner = nn.ModuleList(modules)

    def forward(self, x):
        return torch.cat([module(x) for module in self.inner], -1)


def test_the_int8_product_is_exact_at_the_ends_of_all_ranges_however_its_bytes_are_kept(tmp_path):
    layers = [ends(grid) for grid in (Grid(8), Grid(8, symmetric=False), Grid(5), Grid(4, symmetric=False))]
    x = torch.where(random(1, 6, COLUMNS, seed=3) > 0, 255.0, 0.0)
    x[0, 0], x[0, 1] = 255, 0
    wanted = torch.cat([x @ layer.weight.dense().T for layer in layers], -1)
    module = Together([Int8Linear(layer, layer.weight.base, None) for layer in layers])
    assert torch.equal(told(module, x, tmp_path), wanted)
    written = (tmp_path / "graph.onnx").read_bytes()
    signed = turned(written, INT8)
    assert {written[kind.start] for kind, _ in weights(written)} == {UINT8}
    assert {signed[kind.start] for kind, _ in weights(signed)} == {INT8}
    assert torch.equal(computed(signed, x), wanted) or not exact_here()
    assert turned(signed, UINT8) == written


def test_only_weights_of_that_product_are_turned_and_what_is_no_graph_is_told(tmp_path):
    import onnx

    layer = layer_of(Grid(8, 16))
    told(Whole(CodedLinear(Table(to_blocks(layer.weight.base)), layer, None)), whole_numbers(1, 3, COLUMNS), tmp_path)
    written = (tmp_path / "graph.onnx").read_bytes()
    assert turned(written, INT8) == written
    layer = layer_of(Grid(8))
    told(Whole(Int8Linear(layer, layer.weight.base, None)), whole_numbers(1, 3, COLUMNS), tmp_path)
    written = (tmp_path / "graph.onnx").read_bytes()
    before, after = (onnx.load_model_from_string(graph).graph for graph in (written, turned(written, INT8)))
    differing = [a for a, b in zip(before.initializer, after.initializer, strict=True) if a != b]
    assert [each.data_type for each in differing] == [onnx.TensorProto.UINT8] * 2
    assert list(before.node) == list(after.node)
    with pytest.raises(ValueError, match="no ONNX graph"):
        turned(bytes(range(256)), INT8)


def test_what_a_layer_reads_is_turned_and_divided_first(tmp_path):
    turn = Turn((random_hadamard(4, 0), random_hadamard(16, 1)))
    path = InputPath(turn, random(COLUMNS, seed=4).abs() + 0.5)
    layer = layer_of(Grid(8, 32), path=path, low_rank=(random(ROWS, 2), random(2, COLUMNS)))
    x = random(1, 2, COLUMNS, seed=8)
    found = told(Whole(CodedLinear(Table(to_blocks(layer.weight.base)), layer, None)), x, tmp_path)
    wanted = path(x) @ layer.weight.dense().T
    assert (found - wanted).norm() < 0.02 * wanted.norm()  # what is read is rounded to int8


@pytest.mark.parametrize(
    ("bits", "symmetric"),
    [
        (2, False),
        pytest.param(3, True, marks=pytest.mark.slow),
        pytest.param(4, False, marks=pytest.mark.slow),
        (8, True),
    ],
)
def test_a_table_is_looked_up_exactly(bits, symmetric, tmp_path):
    base = round_to_grid(random(ROWS, COLUMNS), Grid(bits, 32, symmetric))
    places = torch.tensor([[0, ROWS - 1, 5]])
    found = told(Whole(CodedEmbedding(embedding(base), Table(to_blocks(base)), None)), places, tmp_path)
    assert torch.equal(found, base.dense()[places])


def test_a_table_with_zeros_between_levels_is_looked_up_exactly(tmp_path):
    grid = Grid(4, 32, symmetric=False)
    base = round_to_grid(random(ROWS, COLUMNS), grid)
    between = Quantized(base.codes, base.scale, base.zero_point.to(torch.float16) + 0.25, grid)
    module = CodedEmbedding(embedding(between), Table(to_blocks(between)), None)
    found = told(Whole(module), torch.arange(ROWS)[None], tmp_path)
    assert torch.equal(found[0], between.dense())


def test_a_convolution_is_that_of_the_dense_weight(tmp_path):
    module = nn.Conv1d(16, ROWS, 3, stride=2, padding=1)
    layer = layer_of(Grid(8), kind="conv", columns=48, kernel=3, path=InputPath(divisor=random(16).abs() + 0.5))
    x = random(1, 16, 20, seed=6)
    with torch.no_grad():
        module.weight.copy_(layer.weight.dense().view(ROWS, 16, 3))
        wanted = module(x / layer.input.divisor[:, None])
        found = told(Whole(CodedConv(Table(to_blocks(layer.weight.base)), layer, module)), x, tmp_path)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_constants_that_are_equal_are_stored_once_and_exact_halves_as_halves(tmp_path):
    import onnx

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("first", "second"):
                self.register_buffer(name, random(64, 64).half().float())
            self.register_buffer("third", random(64, 64))

        def forward(self, x):
            return x @ self.first + (x + 1) @ self.second + (x + 2) @ self.third

    module, x = Two(), random(1, 64)
    found = told(module, x, tmp_path)
    torch.testing.assert_close(found, module(x), rtol=1e-4, atol=1e-4)
    constants = onnx.load(tmp_path / "graph.onnx").graph.initializer
    large = sorted((c.data_type for c in constants if np.prod(c.dims) == 64 * 64), reverse=True)
    assert large == [onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT]
