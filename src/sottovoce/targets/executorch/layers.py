"""Modules that become XNNPACK's products of integers, and look-ups of integers, with an artifact's codes in them.

Each takes the place of a module of transformers in a model that is about to be exported. Run by torch they compute what
the runtime will: what a product reads is rounded to 8 bits, each vector by itself, between its least and its greatest.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from sottovoce.models.base import SpeechModel
from sottovoce.models.names import TABLE
from sottovoce.numbers.grid import Quantized
from sottovoce.targets.levels import bytes_of, each_row, kept_codes
from sottovoce.targets.placing import FactoredLinear, LowRank, bias_of, float_path, place
from sottovoce.weights.weight import Layer

BLOCK = 32  # a group of XNNPACK's 4-bit products is a multiple of it
SMALL_BITS = 4


class IntegerLinear(nn.Module):
    """A product with integers of 4 or 8 bits around their middle, one scale a row, or a group of a row at 4 bits."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: Layer, base: Quantized, bias: Tensor | None) -> None:
        super().__init__()
        from torchao.quantization import IntxUnpackedToInt8Tensor
        from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import (
            IntxUnpackedToInt8TensorActivationQuantization,
        )

        rows, columns = base.codes.shape
        scales = each_row(base.scales(), rows).contiguous()
        weight = IntxUnpackedToInt8Tensor(
            signed(base, layer.weight.mask),
            scales,
            torch.zeros_like(scales, dtype=torch.int8),
            torch.int4  # type: ignore[attr-defined]
            if base.bits <= SMALL_BITS
            else torch.int8,
            (1, columns // scales.shape[1]),
            torch.float32,
            IntxUnpackedToInt8TensorActivationQuantization.INT8_ASYM_PER_TOKEN,
        )
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("bias", bias)
        self.path = float_path(layer)
        self.low_rank = LowRank(layer) if layer.weight.low_rank else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        x = self.path(x)
        y = linear(x, self.weight, self.bias)
        return y if self.low_rank is None else y + self.low_rank(x)


class IntegerEmbedding(nn.Module):
    """Rows of a table of 4 or 8 bits; for positions too, whose module is asked by `position_ids`.

    Its bytes are those in which XNNPACK keeps the same integers for a product, so that a tied table can be stored once:
    at 4 bits the look-up reads neighbours the other way round, and they are put back in order after it.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None

    def __init__(self, layer: Layer, base: Quantized) -> None:
        super().__init__()
        rows, self._columns = base.codes.shape
        self.num_embeddings, self._small = rows, base.bits <= SMALL_BITS
        codes, zeros = signed(base, layer.weight.mask), base.zeros()
        self.register_buffer("codes", _nibbles(codes) if self._small else codes)
        self.register_buffer("scale", each_row(base.scales(), rows).contiguous())
        zero = None if zeros is None else (each_row(zeros, rows) - base.grid.middle).contiguous()
        self.register_buffer("zero", zero)

    def forward(self, tokens: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """(...) int64 to (..., width)."""
        from executorch.exir.passes import _quant_patterns_and_replacements  # noqa: F401 - makes the operators known

        places, known = tokens if position_ids is None else position_ids, torch.ops.quantized_decomposed
        if not self._small:
            found: Tensor = known.embedding_byte(self.codes, self.scale, self.zero, -128, 127, places)
            return found
        swapped = known.embedding_4bit(self.codes, self.scale, self.zero, -8, 7, places)
        return swapped.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)[..., : self._columns]


def signed(base: Quantized, mask: Tensor | None) -> Tensor:
    """(rows, columns) int8: the levels around the middle one, 0 where `mask` keeps nothing."""
    return (kept_codes(base, mask).short() - base.grid.middle).to(torch.int8).contiguous()


def _nibbles(codes: Tensor) -> Tensor:
    """(rows, columns) int8 in -8 .. 7 to (rows, ceil(columns / 2)) uint8, the first of a pair in the lower half."""
    levels = pad(codes + 8, (0, codes.shape[1] % 2)).to(torch.uint8)
    return (levels[:, 1::2] << 4 | levels[:, ::2]).contiguous()


def parts_of(layer: Layer) -> Iterator[Sequence[bytes]]:
    """The bytes of a program that hold a layer's integers and its scales, which XNNPACK may keep as bfloat16."""
    base = layer.weight.base
    if not isinstance(base, Quantized) or layer.kind == "conv":
        return
    codes = signed(base, layer.weight.mask)
    yield bytes_of(_nibbles(codes) if base.bits <= SMALL_BITS else codes)
    yield bytes_of(each_row(base.scales(), len(codes)).contiguous(), torch.bfloat16)


def put_in_place(model: SpeechModel, layers: Mapping[str, Layer]) -> None:
    """Give a model that holds `layers` these modules where a product or a look-up is coded, or a product in factors."""
    tied, _, _ = model.tied, model.shapes, model.stacks  # found while its modules are still transformers'
    for name, layer in layers.items():
        base, module = layer.weight.base, model.find(name)
        if base is None and layer.kind == "linear":
            place(model, name, FactoredLinear(layer, LowRank(layer), bias_of(module)))
        if not isinstance(base, Quantized) or layer.kind == "conv":
            continue
        if layer.kind == "linear":
            place(model, name, IntegerLinear(layer, base, bias_of(module)))
            continue
        place(model, name, IntegerEmbedding(layer, base))
        if tied and name == TABLE:
            model.head = IntegerLinear(layer, base, None)
