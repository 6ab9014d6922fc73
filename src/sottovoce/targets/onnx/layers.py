"""Layers that put ONNX Runtime's own operators into a graph, with an artifact's integers as their weights.

Each takes the place of a module of transformers in a model that is about to be exported. Run by torch they give
tensors of the right shape and no values: `torch.onnx.ops.symbolic` stands for an operator that torch does not have.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d
from torch.onnx.ops import symbolic

from sottovoce.models.base import SpeechModel
from sottovoce.models.names import TABLE, once_a_clip
from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.rounding import Rounding
from sottovoce.targets.levels import bytes_of, each_row, fractional, kept_codes
from sottovoce.targets.onnx.blocks import Blocks, block_size, to_blocks
from sottovoce.targets.placing import LowRank, bias_of, float_path, place
from sottovoce.targets.rounded import InBlocks
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


class CodedLinear(nn.Module):
    """The table's product, with what else the layer is made of."""

    bias: Tensor | None

    def __init__(self, table: Table, layer: Layer, bias: Tensor | None) -> None:
        super().__init__()
        self.table, self.path = table, float_path(layer)
        self.register_buffer("bias", bias)
        self.low_rank = LowRank(layer) if layer.weight.low_rank else None

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
        self.low_rank = LowRank(layer) if layer.weight.low_rank else None

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
    """Rows of a table; for positions too, whose module is asked by `position_ids`."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table
        self.num_embeddings = len(table.blob)

    def forward(self, tokens: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """(...) int64 to (..., width)."""
        return self.table.rows(tokens if position_ids is None else position_ids)


class CodedConv(nn.Module):
    """A convolution whose weight is kept as integers; the runtime makes floats of them as it loads."""

    def __init__(self, table: Table, layer: Layer, module: nn.Conv1d) -> None:
        super().__init__()
        self.table, self.path, self.bias = table, float_path(layer), module.bias
        self.low_rank = LowRank(layer) if layer.weight.low_rank else None
        self.kernel, self.stride, self.padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
        self.groups = module.groups

    def forward(self, x: Tensor) -> Tensor:
        """(1, channels, positions) to (1, out, positions)."""
        x = self.path(x.transpose(1, 2)).transpose(1, 2) if self.path else x
        weight = self.table.rows(torch.arange(len(self.table.blob)))
        if self.low_rank is not None:
            weight = weight + self.low_rank.left @ self.low_rank.right
        shaped = weight.unflatten(1, (-1, self.kernel))
        return conv1d(x, shaped, self.bias, self.stride, self.padding, groups=self.groups)


def put_in_place(model: SpeechModel, layers: Mapping[str, Layer]) -> None:
    """Give a model that holds `layers` these modules where a layer is coded; float layers stay as they are."""
    tied, _, _ = model.tied, model.shapes, model.stacks  # found while its modules are still transformers'
    for name, layer in layers.items():
        base = layer.weight.base
        if not isinstance(base, Quantized):
            continue
        module = model.find(name)
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
            place(model, name, CodedEmbedding(table))
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
    """The bytes that a file holds of a layer of integers; floats that float16 holds exactly are kept as that."""
    base = layer.weight.base
    if not isinstance(base, Quantized):
        return
    if in_rows(layer):
        rows = Int8Linear(layer, base, None)
        found = (rows.codes, rows.scale, rows.zero)
    else:
        blocks = to_blocks(base, layer.weight.mask)
        found = (blocks.blob, blocks.scale, *(() if blocks.zero is None else (blocks.zero,)))
    for tensor in found:
        yield bytes_of(tensor, *((torch.float16,) if tensor.is_floating_point() else ()))


def in_rows(layer: Layer) -> bool:
    """Whether a layer becomes an Int8Linear."""
    base = layer.weight.base
    return isinstance(base, Quantized) and layer.kind == "linear" and once_a_clip(layer.name) and whole_rows(base)


def whole_rows(base: Quantized) -> bool:
    """Whether a row has one scale and a zero at a level, as Int8Linear needs."""
    return not isinstance(base.grid.group_size, int) and not fractional(base)
