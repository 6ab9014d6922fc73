"""The multiplications of one utterance in a transformer, from its layers' names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sottovoce.models.names import BLOCK
from sottovoce.models.pooling import Pooling
from sottovoce.weights.cost import Product, Workload, attention
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.weight import LayerShape


@dataclass(frozen=True)
class Convolution:
    """A convolution of the stem: its layer, input channels, positions in and out."""

    layer: str
    channels: int
    positions_in: int
    positions_out: int


@dataclass(frozen=True)
class Sizes:
    """What the products depend on beside the layers: counts, and the prompt's length."""

    encoder_blocks: int
    decoder_blocks: int
    prompt: int
    head: str


def transformer_products(
    shapes: Mapping[str, LayerShape],
    stem: Sequence[Convolution],
    sizes: Sizes,
    workload: Workload,
    pooling: Pooling | None = None,
) -> list[Product]:
    """All products of one utterance; with `pooling` fewer frames behind the encoder's first blocks.

    The prompt and the first token take one decoder pass, every later token one more; beams part after
    the first. Cross-attention keys and values are made once and read by all beams of a step together.
    """
    stem_frames = stem[-1].positions_out
    frames = pooling.frames(stem_frames) if pooling else stem_frames  # that leave the encoder
    in_blocks = [stem_frames if pooling and i < pooling.after else frames for i in range(sizes.encoder_blocks)]
    positions = sizes.prompt + (workload.tokens - 1) * workload.beam
    later = workload.tokens - 1 if workload.beam == 1 else 0  # passes of a single vector after the first
    convolutions = {conv.layer: conv for conv in stem}
    products = []
    for name, shape in shapes.items():
        if name in convolutions:
            products.append(_convolution(shape, convolutions[name]))
        elif shape.kind == "embedding":
            lookups = stem_frames if name.startswith("encoder.") else positions
            products.append(Product(name, name, lookups=lookups, moved=lookups * shape.columns))
        elif found := BLOCK.match(name) if name.startswith("encoder.") else None:
            products.append(_linear(shape, in_blocks[int(found[0].rpartition(".")[2])], 1))
        elif name.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj")):
            products.append(_linear(shape, frames, 1))
        elif name != sizes.head:
            products.append(_linear(shape, positions, workload.tokens, single=later + (sizes.prompt == 1)))
    head = shapes[sizes.head]
    scored = 1 + (workload.tokens - 1) * workload.beam
    products.append(_linear(head, scored, workload.tokens, name="head", single=later + 1))

    products += _encoder_attention(shapes, in_blocks, "self_attn")
    lengths = [sizes.prompt + step for step in range(workload.tokens)]  # keys in the cache at each pass
    self_keys = sum(range(1, sizes.prompt + 1)) + sum(lengths[1:]) * workload.beam
    places = lengths[0] + sum(lengths[1:]) * workload.beam  # read; the cache's writes are k_proj's and v_proj's
    for i in range(sizes.decoder_blocks):
        block = f"decoder.layers.{i}"
        width = shapes[f"{block}.self_attn.q_proj"].rows
        cache = 2 * width * places
        products.append(
            Product(
                f"{block}.attention",
                None,
                macs=2 * self_keys * width,
                moved=2 * positions * width + cache,
                held=tuple((f"{block}.self_attn.{part}_proj", cache // 2) for part in "kv"),
            )
        )
        makers = [f"{block}.encoder_attn.{part}_proj" for part in "kv"]
        width = shapes[f"{block}.encoder_attn.q_proj"].rows
        cached = 2 * frames * width * workload.tokens
        products.append(attention(f"{block}.cross_attention", positions, frames, width, cached, makers))
    return products


def encoder_products(
    shapes: Mapping[str, LayerShape], convolutions: Sequence[Convolution], frames: int, blocks: int
) -> list[Product]:
    """All products of one utterance in an encoder alone: every layer that is no convolution once for each frame."""
    by_layer = {conv.layer: conv for conv in convolutions}
    layers = [
        _convolution(shape, by_layer[name]) if name in by_layer else _linear(shape, frames, 1)
        for name, shape in shapes.items()
    ]
    return [*layers, *_encoder_attention(shapes, [frames] * blocks, "attention")]


def _encoder_attention(shapes: Mapping[str, LayerShape], frames: Sequence[int], part: str) -> list[Product]:
    """Of blocks with so many frames each, each as wide as its queries are."""
    names = [f"encoder.layers.{i}" for i in range(len(frames))]
    widths = [shapes[f"{name}.{part}.q_proj"].rows for name in names]
    return [
        attention(f"{name}.attention", count, count, width, 2 * count * width)
        for name, count, width in zip(names, frames, widths, strict=True)
    ]


def turn_products(products: Sequence[Product], turns: Sequence[TurnEntry]) -> list[Product]:
    """The products of turns at the entry of blocks and norms, each under its module's name: once for every position."""
    by_name = {product.name: product for product in products}
    found = []
    for turn in turns:
        stack = turn.name.partition(".")[0]
        alike = by_name[f"{stack}.layers.0.self_attn.q_proj"]
        read = alike.vectors * turn.width
        found.append(Product(turn.name, turn.name, alike.vectors, alike.passes, moved=2 * read, read=read))
    return found


def _convolution(shape: LayerShape, conv: Convolution) -> Product:
    read = conv.channels * conv.positions_in
    moved = read + shape.rows * conv.positions_out
    return Product(shape.name, shape.name, conv.positions_out, 1, moved=moved, read=read)


def _linear(shape: LayerShape, vectors: int, passes: int, name: str | None = None, single: int = 0) -> Product:
    read, written = vectors * shape.columns, vectors * shape.rows
    held = ((shape.name, written),) if shape.cached else ()
    moved = read + written
    return Product(name or shape.name, shape.name, vectors, passes, moved=moved, read=read, held=held, single=single)
