"""Layers that put ONNX Runtime's own operators into a graph, with an artifact's integers as their weights.

Each takes the place of a module of transformers in a model that is about to be exported. Run by torch they give
tensors of the right shape and no values: `torch.onnx.ops.symbolic` stands for an operator that torch does not have.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, linear
from torch.onnx.ops import symbolic

from sottovoce.models.base import SpeechModel
from sottovoce.models.names import TABLE, once_a_clip
from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.rounding import Rounding
from sottovoce.targets.levels import bytes_of, each_row, fractional, kept_codes
from sottovoce.targets.onnx.blocks import Blocks, block_size, to_blocks
from sottovoce.targets.placing import FactoredLinear, LowRank, WrappedLinear, bias_of, float_path, place
from sottovoce.targets.rounded import InBlocks
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.weight import Layer

INT8_PRODUCTS = 4  # accuracy_level of MatMulNBits: inputs rounded to int8, block by block


class Table(nn.Module):
    """A coded weight; a tied embedding and head hold one between them."""

    blob: Tensor
    scale: Tensor
    zero: Tensor | None

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.columns, self.bits, self.size = blocks.columns, blocks.bits, blocks.size
        self.register_buffer("blob", blocks.blob)
        self.register_buffer("scale", blocks.scale)
        self.register_buffer("zero", blocks.zero)

    def product(self, x: Tensor) -> Tensor:
        """(..., columns) to (..., rows)."""
        rows = len(self.blob)
        return symbolic(
            "com.microsoft::MatMulNBits",
            (x, self.blob, self.scale, *(() if self.zero is None else (self.zero,))),
            attrs={
                "K": self.columns,
                "N": rows,
                "bits": self.bits,
                "block_size": self.size,
                "accuracy_level": INT8_PRODUCTS,
            },
            dtype=torch.float32,
            shape=(*x.shape[:-1], rows),
            version=1,
        )

    def rows(self, places: Tensor) -> Tensor:
        """(...) int64 to (..., columns) float32."""
        levels = self._unpacked(self.blob[places])  # (..., blocks, size)
        if self.zero is None:
            zero: Tensor | float = 2.0 ** (self.bits - 1)
        else:
            packed = self.zero[places]
            zeros = self._unpacked(packed)[..., : self.scale.shape[1]] if packed.dtype == torch.uint8 else packed
            zero = zeros[..., None]
        return ((levels - zero) * self.scale[places][..., None]).flatten(-2)[..., : self.columns]

    def _unpacked(self, packed: Tensor) -> Tensor:
        """(..., bytes) uint8 to (..., codes) float32."""
        rest, codes = packed.float(), []
        for _ in range(8 // self.bits):  # in float, exactly: torch's exporter has no shift of bytes
            higher = torch.floor(rest / 2**self.bits)
            codes.append(rest - higher * 2**self.bits)
            rest = higher
        return torch.stack(codes, -1).flatten(-2)


class CodedLowRank(nn.Module):
    """left @ (right @ x) in float, of factors kept as integers; the runtime makes floats of them as it loads."""

    def __init__(self, factors: CodedFactors, mask: Tensor | None) -> None:
        super().__init__()
        self.left, self.right = Table(to_blocks(factors.left)), Table(to_blocks(factors.right, mask))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return linear(x, _all_rows(self.right)) @ _all_rows(self.left)

    def product(self) -> Tensor:
        """(out, in)."""
        return _all_rows(self.left).T @ _all_rows(self.right)

    def rows(self, places: Tensor) -> Tensor:
        """(...) int64 to (..., in): those rows of the product."""
        return _all_rows(self.left).T[places] @ _all_rows(self.right)


def _all_rows(table: Table) -> Tensor:
    return table.rows(torch.arange(len(table.blob)))


def factors_of(layer: Layer) -> LowRank | CodedLowRank | None:
    """A layer's low-rank term, if it has one."""
    factors = layer.weight.low_rank
    if isinstance(factors, CodedFactors):
        return CodedLowRank(factors, layer.weight.factor_mask)
    return None if factors is None else LowRank(layer)


class CodedLinear(nn.Module):
    """The table's product, with what else the layer is made of."""

    bias: Tensor | None

    def __init__(self, table: Table, layer: Layer, bias: Tensor | None) -> None:
        super().__init__()
        self.table, self.path = table, float_path(layer)
        self.register_buffer("bias", bias)
        self.low_rank = factors_of(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        x = self.path(x)
        y = self.table.product(x)
        if self.bias is not None:
            y = y + self.bias
        return y if self.low_rank is None else y + self.low_rank(x)


class Int8Linear(nn.Module):
    """uint8 levels with one scale for each output, inputs rounded to uint8 by one scale for all of them.

    The fastest product of many vectors that ONNX Runtime has, for which blocks are no faster than floats. Levels, and
    not signed integers, because only products of unsigned bytes are exact on every CPU: see signed.py.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor | None

    def __init__(self, layer: Layer, base: Quantized, bias: Tensor | None) -> None:
        super().__init__()
        self.path = float_path(layer)
        rows, zeros = len(base.codes), base.zeros()
        zero = torch.tensor(base.grid.middle) if zeros is None else each_row(zeros, rows)[:, 0]
        self.register_buffer("codes", kept_codes(base, layer.weight.mask).T.contiguous())
        self.register_buffer("scale", each_row(base.scales(), rows)[:, 0].clone())
        self.register_buffer("zero", zero.to(torch.uint8))
        self.register_buffer("bias", bias)
        self.low_rank = factors_of(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        x = self.path(x)
        y = symbolic(
            "com.microsoft::DynamicQuantizeMatMul",
            (x, self.codes, self.scale, self.zero, self.bias),
            dtype=torch.float32,
            shape=(*x.shape[:-1], self.codes.shape[1]),
            version=1,
        )
        return y if self.low_rank is None else y + self.low_rank(x)


class CodedEmbedding(nn.Module):
    """Rows of a table, of factors or of both; for positions too, whose module is asked by `position_ids`."""

    def __init__(self, layer: Layer, table: Table | None, factors: LowRank | CodedLowRank | None) -> None:
        super().__init__()
        self.table, self.factors = table, factors
        self.num_embeddings = len(layer.target)

    def forward(self, tokens: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """(...) int64 to (..., width)."""
        places = tokens if position_ids is None else position_ids
        terms = [term.rows(places) for term in (self.table, self.factors) if term is not None]
        return sum(terms[1:], terms[0])


class CodedConv(nn.Module):
    """A convolution whose weight is kept as integers; the runtime makes floats of them as it loads."""

    def __init__(self, table: Table, layer: Layer, module: nn.Conv1d) -> None:
        super().__init__()
        self.table, self.path, self.bias = table, float_path(layer), module.bias
        self.low_rank = factors_of(layer)
        self.kernel, self.stride, self.padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
        self.groups = module.groups

    def forward(self, x: Tensor) -> Tensor:
        """(1, channels, positions) to (1, out, positions)."""
        x = self.path(x.transpose(1, 2)).transpose(1, 2) if self.path else x
        weight = _all_rows(self.table)
        if self.low_rank is not None:
            weight = weight + self.low_rank.product()
        shaped = weight.unflatten(1, (-1, self.kernel))
        return conv1d(x, shaped, self.bias, self.stride, self.padding, groups=self.groups)


def put_in_place(model: SpeechModel, layers: Mapping[str, Layer]) -> None:
    """Give a model that holds `layers` these modules where a layer is coded or factored; floats stay as they are."""
    tied, _, _ = model.tied, model.shapes, model.stacks  # found while its modules are still transformers'
    for name, layer in layers.items():
        base, module, factors = layer.weight.base, model.find(name), factors_of(layer)
        if layer.weight.wrappers is not None:
            place(model, name, WrappedLinear(layer, factors, bias_of(module)))
            continue
        if base is None and factors is not None and layer.kind != "conv":
            if layer.kind == "linear":
                place(model, name, FactoredLinear(layer, factors, bias_of(module)))
                continue
            place(model, name, CodedEmbedding(layer, None, factors))
            if tied and name == TABLE:
                model.head = FactoredLinear(layer, factors, None)
        if not isinstance(base, Quantized):
            continue
        if in_rows(layer):
            place(model, name, Int8Linear(layer, base, bias_of(module)))
            continue
        table = Table(to_blocks(base, layer.weight.mask))
        if layer.kind == "linear":
            place(model, name, CodedLinear(table, layer, bias_of(module)))
        elif layer.kind == "conv":
            assert isinstance(module, nn.Conv1d)
            place(model, name, CodedConv(table, layer, module))
        else:
            place(model, name, CodedEmbedding(layer, table, factors))
            if tied and name == TABLE:
                model.head = CodedLinear(table, layer, None)


def rule_of(layer: Layer) -> Callable[[Tensor], Tensor] | None:
    """How ONNX Runtime rounds what a layer multiplies; None where it multiplies in float."""
    base = layer.weight.base
    if not isinstance(base, Quantized) or layer.kind == "conv" or fractional(base):
        return None
    if in_rows(layer):
        return Rounding(8, "clip", symmetric=False)
    size = block_size(base.grid, base.codes.shape[1])
    assert size is not None, "refused before"
    return InBlocks(size)


def parts_of(layer: Layer) -> Iterator[Sequence[bytes]]:
    """The bytes that a file holds of a layer's integers; floats that float16 holds exactly are kept as that."""
    for tensor in _stored(layer):
        yield bytes_of(tensor, *((torch.float16,) if tensor.is_floating_point() else ()))


def _stored(layer: Layer) -> Iterator[Tensor]:
    base, factors = layer.weight.base, layer.weight.low_rank
    if in_rows(layer):
        assert isinstance(base, Quantized)
        rows = Int8Linear(layer, base, None)
        yield from (rows.codes, rows.scale, rows.zero)
    elif isinstance(base, Quantized):
        yield from _tensors(to_blocks(base, layer.weight.mask))
    if isinstance(factors, CodedFactors) and _multiplied_apart(layer):
        yield from _tensors(to_blocks(factors.left))
        yield from _tensors(to_blocks(factors.right, layer.weight.factor_mask))


def _tensors(blocks: Blocks) -> Iterator[Tensor]:
    yield from (blocks.blob, blocks.scale, *(() if blocks.zero is None else (blocks.zero,)))


def _multiplied_apart(layer: Layer) -> bool:
    """Whether the file holds a layer's factors, and not what they add to a float weight."""
    base = layer.weight.base
    return isinstance(base, Quantized) or (base is None and layer.kind != "conv")


def in_rows(layer: Layer) -> bool:
    """Whether a layer becomes an Int8Linear."""
    base = layer.weight.base
    return isinstance(base, Quantized) and layer.kind == "linear" and once_a_clip(layer.name) and whole_rows(base)


def whole_rows(base: Quantized) -> bool:
    """Whether a row has one scale and a zero at a level, as Int8Linear needs."""
    return not isinstance(base.grid.group_size, int) and not fractional(base)
