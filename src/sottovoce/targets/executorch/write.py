"""Writing model.pte: the graphs with attention as plain products and a cache inside, lowered to XNNPACK."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from sottovoce.files.atomic import json_text, write_text
from sottovoce.models.base import SpeechModel
from sottovoce.models.bounds import Bounds
from sottovoce.models.encoder_decoder import EncoderDecoder, with_decoder
from sottovoce.models.graphs import EncoderGraph, StaticDecoderGraph
from sottovoce.progress import Track, silent
from sottovoce.targets.executorch.attention import MANY, ONE, set_attention
from sottovoce.targets.executorch.layers import put_in_place
from sottovoce.targets.executorch.lower import Report, lower
from sottovoce.targets.executorch.once import store_once
from sottovoce.targets.executorch.run import DECODER, ENCODER, PROGRAM
from sottovoce.targets.executorch.runner import write_runner
from sottovoce.weights.weight import Layer

DELEGATION = "delegation.json"
LEAST_FRAMES = 4  # below, torch.export cannot tell a frame from a missing dimension
_EXAMPLE_SECONDS = 2


def write(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    folder: Path,
    bounds: Bounds,
    portable: Sequence[str] = (),
    track: Track = silent,
) -> Report:
    """The program of a model that holds `layers`, with memory for clips within `bounds`; the model is used up."""
    seconds = bounds.most_seconds
    assert seconds is not None
    write_runner(model, bounds, folder)
    put_in_place(model, layers)
    programs = {}
    with torch.no_grad():
        for name, graph in track(((ENCODER, _encoder), (DECODER, _decoder)), 2, "graphs"):
            programs[name] = graph(with_decoder(model), seconds)
        [(made, report)] = track((lower(programs, portable) for _ in range(1)), 1, "lowering to XNNPACK")
    (folder / PROGRAM).write_bytes(store_once(made))
    write_text(folder / DELEGATION, json_text(report))
    return report


def places(model: SpeechModel) -> int:
    """Tokens that a cache must hold: the prompt and the longest output."""
    rules = model.rules()
    return len(rules.prompt) + rules.most_tokens


def least_samples(model: SpeechModel) -> int:
    """The shortest clip that the program takes."""
    if model.most_seconds is not None:
        return model.least_samples
    samples = model.least_samples
    while model.frames(torch.zeros(1, samples)) < LEAST_FRAMES:
        samples += 64
    return samples


def _encoder(model: EncoderDecoder, seconds: float) -> ExportedProgram:
    example = _features(model)
    set_attention(model, MANY)
    shapes: Any = None
    if model.most_seconds is None:
        most = round(seconds * model.sampling_rate)
        shapes = ({1: Dim("samples", min=least_samples(model), max=most)},)
    return _exported(EncoderGraph(model, for_static=True), (example,), shapes)


def _decoder(model: EncoderDecoder, seconds: float) -> ExportedProgram:
    features = _features(model)
    graph = StaticDecoderGraph(model, places(model))
    cross = [each.contiguous() for each in EncoderGraph(model, for_static=True).eval()(features)]
    set_attention(model, ONE)
    shapes: Any = None
    if model.most_seconds is None:
        most = model.frames(torch.zeros(1, round(seconds * model.sampling_rate)))
        frames = Dim("frames", min=LEAST_FRAMES, max=most)
        shapes = ({}, {}, [{1: frames}, {2: frames}] * (len(cross) // 2))
    return _exported(graph, (torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), cross), shapes)


def _exported(graph: nn.Module, example: tuple[Any, ...], shapes: Any) -> ExportedProgram:
    return export(
        graph.eval(),
        example,
        dynamic_shapes=shapes,
        strict=False,
        prefer_deferred_runtime_asserts_over_guards=True,  # a guard on lengths that always holds is none it can prove
    )


def _features(model: SpeechModel) -> torch.Tensor:
    """What the graphs are traced with."""
    return model.features(np.zeros(_EXAMPLE_SECONDS * model.sampling_rate, np.float32))
