"""Bytes, memory traffic and bit operations, from a table of layers and a workload. Pure functions.

Definitions. A multiply-accumulate (MAC) of a b-bit weight with an a-bit activation is b * a bit
operations; attention multiplies two activations. A masked weight is skipped where its format lets a
kernel skip it (2:4), and not otherwise. Memory traffic counts a weight, with its scales, zero points,
mask, outliers and factors, once in each pass that uses it, and activations in and out of every product:
keys and values are written once, by the products that make them, and read by each pass that attends to
them. Attention counts as fused: its scores never leave the core.

An activation has the workload's bits, but for what a layer reads if its input is rounded, and for keys
and values if the cache holds them rounded; scales that are found at run time are not counted, nor are the
few values that stay floats under a threshold. A turn of an input multiplies every vector by each of its
factors, before the rounding, for every layer that has it: by signs of 1 bit where it is a Hadamard matrix.

An input that is 0 leaves a column of its weight unread, in a pass of a single vector and by a kernel that skips such
columns. No runtime here does, so their bytes are told apart (`skippable_bytes`) and not taken from the traffic, nor
their products from the MACs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One utterance: seconds of audio, tokens chosen (the end included), beams, bits of an activation."""

    seconds: float = 10.0
    tokens: int = 32
    beam: int = 1
    activation_bits: int = 32

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.tokens < 1 or self.beam < 1 or self.activation_bits < 1:
            raise ValueError(f"a workload needs seconds > 0 and tokens, beam, activation_bits >= 1, found {self}")


@dataclass(frozen=True)
class Product:
    """One multiplication in the course of an utterance.

    layer     whose weight is multiplied; None where two activations are
    vectors   input vectors multiplied by the weight
    passes    how often the weight is streamed from memory; 0 for a look-up
    lookups   rows looked up in a table
    macs      multiply-accumulates of two activations
    moved     activation values read and written, keys and values read included
    read      those of them that are the layer's input
    held      those of them that are in the decoder's cache, by the layer that puts them there
    single    passes of a single vector
    """

    name: str
    layer: str | None
    vectors: int = 0
    passes: int = 0
    lookups: int = 0
    macs: int = 0
    moved: int = 0
    read: int = 0
    held: tuple[tuple[str, int], ...] = ()
    single: int = 0


@dataclass(frozen=True)
class LayerCost:
    """What cost needs to know of one stored layer, from the artifact's table.

    bits is the width of a base weight (0 without a base); rank the low-rank term's; kept the share of
    weights that a kernel must multiply (1/2 for 2:4); part_bytes what one pass reads; outliers are
    multiplied beside the base, whose own product runs over their places too. input_bits is the width of a
    rounded input, held_bits of an output in the cache; None where they are floats. turn has the order and the
    bits of each factor that its input is multiplied by. zeros is the share of its input that is 0. factor_kept is
    to the right factor what kept is to the base. The base's input and output are multiplied by blocks of wrapper_size
    rows and columns.
    """

    rows: int
    columns: int
    bits: int
    kept: float
    rank: int
    factor_bits: int
    part_bytes: int
    outliers: int = 0
    outlier_bits: int = 0
    input_bits: int | None = None
    held_bits: int | None = None
    turn: tuple[tuple[int, int], ...] = ()
    zeros: float = 0.0
    factor_kept: float = 1.0
    wrapper_size: int = 0
    wrapper_bits: int = 0

    @property
    def weights(self) -> int:
        """The number of weights before any mask."""
        return self.rows * self.columns

    @property
    def column_bytes(self) -> int:
        """What one pass reads column by column of its input: all but a low-rank term's left factor.

        Behind wrappers no input of the base is 0, and only what multiplies the input itself is read by its columns.
        """
        if self.wrapper_size:
            right = round(self.rank * self.columns * self.factor_kept * self.factor_bits)
            return (self.columns * self.wrapper_size * self.wrapper_bits + right) // 8
        return self.part_bytes - self.rank * self.rows * self.factor_bits // 8


@dataclass(frozen=True)
class Cost:
    """The cost of one utterance; skippable_bytes, part of memory_bytes, are of columns whose input is 0."""

    macs: int
    bit_operations: int
    memory_bytes: int
    skippable_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.macs + other.macs,
            self.bit_operations + other.bit_operations,
            self.memory_bytes + other.memory_bytes,
            self.skippable_bytes + other.skippable_bytes,
        )


def cost(products: Iterable[Product], layers: Mapping[str, LayerCost], workload: Workload) -> Cost:
    """The cost of one utterance: the sum over its products."""
    return sum((_cost(product, layers, workload) for product in products), Cost(0, 0, 0))


def _cost(product: Product, layers: Mapping[str, LayerCost], workload: Workload) -> Cost:
    a = workload.activation_bits
    held = [(values, layers[name].held_bits or a) for name, values in product.held]
    narrow = sum(values * bits for values, bits in held)
    others = product.moved - product.read - sum(values for values, _ in held)
    if product.layer is None:
        kept = narrow / sum(values for values, _ in held) if held else a  # bits of a key or value, on average
        return Cost(product.macs, round(product.macs * a * kept), (others * a + narrow) // 8)
    layer = layers[product.layer]
    b = layer.input_bits or a
    moved = (others * a + product.read * b + narrow) // 8
    if product.lookups:
        return Cost(0, 0, moved + -(-layer.part_bytes * product.lookups // layer.rows))
    base = round(product.vectors * layer.weights * layer.kept) if layer.bits else 0
    factors = round(product.vectors * layer.rank * (layer.rows + layer.columns * layer.factor_kept))
    wrappers = product.vectors * layer.wrapper_size * (layer.rows + layer.columns)
    outliers = product.vectors * layer.outliers
    turned = product.read * sum(order for order, _ in layer.turn)
    within = a if layer.wrapper_size else b  # what the base reads
    operations = within * base * layer.bits + b * (factors * layer.factor_bits + outliers * layer.outlier_bits)
    inner = product.vectors * layer.wrapper_size * layer.columns
    operations += (b * inner + a * (wrappers - inner)) * layer.wrapper_bits
    operations += a * product.read * sum(order * bits for order, bits in layer.turn)
    skippable = round(layer.zeros * layer.column_bytes * product.single)
    return Cost(
        base + factors + wrappers + outliers + turned, operations, moved + layer.part_bytes * product.passes, skippable
    )


def bits_per_weight(layers: Iterable[LayerCost]) -> float:
    """The average bits that a weight takes on disk, with scales, zero points, masks, outliers and factors."""
    listed = list(layers)
    return 8 * sum(layer.part_bytes for layer in listed) / sum(layer.weights for layer in listed)


def attention(name: str, queries: int, keys: int, width: int, cached: int, held: Sequence[str] = ()) -> Product:
    """Fused attention: queries x keys score and value products of `width`; `cached` values of cache traffic.

    held  the layers that put them into the cache, each as many: of keys and of values
    """
    return Product(
        name,
        None,
        macs=2 * queries * keys * width,
        moved=2 * queries * width + cached,
        held=tuple((layer, cached // len(held)) for layer in held),
    )
