"""Writing encoder.onnx and decoder.onnx, or model.onnx of a CTC model: torch's exporter, then what shrinks them."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.graphs import DecoderGraph, EncoderGraph, FrameGraph, cache_shapes
from sottovoce.models.window import frontend_of
from sottovoce.progress import Track, silent
from sottovoce.targets.onnx.layers import put_in_place
from sottovoce.targets.onnx.run import DECODER, ENCODER, MODEL
from sottovoce.weights.weight import Layer

OPSET = 23  # the first with Attention, which ONNX Runtime computes without keeping the scores
_SMALL = 256  # values below which a tensor is not worth a cast
_EXAMPLE_SECONDS = 2
_MOST_BYTES = 2**31 - 1


def write(model: SpeechModel, layers: Mapping[str, Layer], folder: Path, track: Track = silent) -> None:
    """The graphs of a model that holds `layers`; the model is used up.

    Its encoder is fixed in length or not as the family's is, its decoder takes a token and a cache that grows.
    """
    put_in_place(model, layers)
    if not isinstance(model, EncoderDecoder):
        for part in track((_write_frames,), 1, "graphs"):
            part(model, folder)
        return
    for each in track((_write_encoder, _write_decoder), 2, "graphs"):
        each(model, folder)


def _write_frames(model: SpeechModel, folder: Path) -> None:
    example, shapes = _entry(model)
    graph = Telling(FrameGraph(model), model.blocks("encoder"))
    save(exported(graph, (example,), shapes, ["features"], ["logits", *graph.blocks]), folder / MODEL, 1)


def _entry(model: SpeechModel) -> tuple[Tensor, dict[str, Any]]:
    """What the encoder's graph is traced with, and which of its lengths may be another."""
    example = _features(model)
    return example, {"given": ({} if (length := _length(model)) is None else {example.ndim - 1: length},)}


def _length(model: SpeechModel) -> Any:
    """What the last axis of features may be; None where it is a whole window."""
    if model.frontend.short_context:
        frontend = frontend_of(model)
        left = frontend.pooling.factor if frontend.pooling else 1
        # two frames are left at least, as torch.export takes one for no length at all; the graph runs with one
        return torch.export.Dim("mel", min=2 * left + 1, max=2 * frontend.window)
    return torch.export.Dim("samples", min=model.least_samples) if model.frontend.any_length else None


def _write_encoder(model: EncoderDecoder, folder: Path) -> None:
    example, shapes = _entry(model)
    names, graph = _names("cross", model), Telling(EncoderGraph(model), model.blocks("encoder"))
    made = exported(graph, (example,), shapes, ["features"], [*names, *graph.blocks])
    save(made, folder / ENCODER, len(names))


def _write_decoder(model: EncoderDecoder, folder: Path) -> None:
    frames = model.frames(_features(model))
    past = [torch.zeros(1, heads, 3, width) for heads, width in cache_shapes(model, across=False)]
    cross = [torch.zeros(1, heads, frames, width) for heads, width in cache_shapes(model, across=True)]
    count = len(past)
    any_frames = {2: torch.export.Dim("frames")} if model.frontend.any_length else {}
    shapes: dict[str, Any] = {"given": ({}, [{2: torch.export.Dim("tokens")}] * count, [any_frames] * count)}
    inputs = ["token", *_names("past", model), *_names("cross", model)]
    outputs, graph = ["logits", *_names("kept", model)], Telling(DecoderGraph(model), model.blocks("decoder"))
    token = torch.zeros(1, 1, dtype=torch.int64)
    made = exported(graph, (token, past, cross), shapes, inputs, [*outputs, *graph.blocks])
    save(made, folder / DECODER, len(outputs))


class Telling(nn.Module):
    """A graph that puts out, after its own outputs, what each of some blocks inside does."""

    def __init__(self, graph: nn.Module, blocks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.inner, self.blocks = graph, tuple(blocks)
        self._told: list[Tensor] = []
        for block in blocks.values():
            block.register_forward_hook(self._tell)

    def forward(self, *given: Any) -> tuple[Tensor, ...]:
        """The graph's own, then the blocks'."""
        self._told.clear()
        made = self.inner(*given)
        return (*((made,) if isinstance(made, Tensor) else made), *self._told)

    def _tell(self, block: nn.Module, inputs: Any, output: Any) -> None:
        self._told.append(output if isinstance(output, Tensor) else output[0])


def _features(model: SpeechModel) -> Tensor:
    """What the graphs are traced with."""
    return model.features(np.zeros(_EXAMPLE_SECONDS * model.sampling_rate, np.float32))


def _names(stem: str, model: SpeechModel) -> list[str]:
    blocks = len(model.blocks("decoder"))
    return [f"{stem}.{i}.{part}" for i in range(blocks) for part in ("key", "value")]


def exported(
    graph: nn.Module, example: tuple[Any, ...], shapes: dict[str, Any], inputs: list[str], outputs: list[str]
) -> Any:
    """The onnx.ModelProto of a graph, as torch's exporter makes it of one example."""
    from onnxscript.optimizer import optimize_ir

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=shapes,
            input_names=inputs,
            output_names=outputs,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        optimize_ir(program.model, should_fold=_may_fold)
    return program.model_proto


def _may_fold(node: Any) -> bool | None:
    """Not what integers become in a table of which every row is read: floats in their place would be larger."""
    kinds = [value.dtype for value in node.inputs if value is not None]
    return False if any(kind is not None and kind.name == "UINT8" for kind in kinds) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter tells its own developers a great deal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def save(proto: Any, path: Path, outputs: int | None = None) -> None:
    """Write a graph without what a runtime does not need. Raises ValueError if it is too large for one file.

    outputs  how many it puts out; what follows them keeps its name inside, so that it can be asked for
    """
    import onnx

    if outputs is not None:
        del proto.graph.output[outputs:]
    _forget_origin(proto.graph)
    _drop_unread(proto.graph)
    _share_equal(proto.graph)
    _halve_exact(proto.graph)
    if proto.ByteSize() > _MOST_BYTES:
        raise ValueError(
            f"{path.name} would take {proto.ByteSize() / 1e9:.1f} GB, and an ONNX file holds 2; fewer bits would work"
        )
    onnx.save(proto, path)


def _forget_origin(graph: Any) -> None:
    """Of which line of Python a node came is longer than a small model."""
    for node in graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    graph.ClearField("value_info")


def _drop_unread(graph: Any) -> None:
    """Cross-attention's keys and values are made by the encoder's graph; their weights come along with the decoder."""
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _share_equal(graph: Any) -> None:
    """Keep one of the constants that are equal: a tied table is stored once."""
    first: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    kept = []
    for tensor in graph.initializer:
        mark = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
        if tensor.raw_data and mark in first:
            same[tensor.name] = first[mark]
        else:
            first[mark] = tensor.name
            kept.append(tensor)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _halve_exact(graph: Any) -> None:
    """Keep as float16 what float16 holds exactly, cast as the runtime loads: scales, and a checkpoint's own values."""
    import onnx
    from onnx import numpy_helper

    casts = []
    for place, tensor in enumerate(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _SMALL:
            continue
        values = numpy_helper.to_array(tensor)
        half = _half(values)
        if half is None:
            continue
        name = tensor.name
        graph.initializer[place].CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _half(values: np.ndarray) -> np.ndarray | None:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else None
