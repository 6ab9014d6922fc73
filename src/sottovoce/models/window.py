"""Fewer positions for a Whisper's encoder: in a shorter window, in none but the clip's own length, or pooled inside.

A shorter window is the first rows of the table of positions, and a feature extractor that pads to them.

The encoder's cost falls with the window's length, its attention's with the square. The model was trained on the whole
window and may be less accurate in a shorter one: what comes out has to be measured.
"""

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor, nn

from sottovoce.models.base import SpeechModel
from sottovoce.models.pooling import Pooling
from sottovoce.models.whisper_frontend import MARGIN, POOLING, WhisperFrontend, check_margin, window_of
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.weight import Layer, Weight

POSITIONS = "encoder.embed_positions"


def shorten(model: SpeechModel, layers: Mapping[str, Layer], seconds: float) -> None:
    """Let a model that holds `layers` take `seconds` at most, and pad each clip to no more.

    Raises ValueError for a model without a window, and for seconds that it does not have.
    """
    frames = window_frames(model, seconds)
    table = model.find(POSITIONS)
    assert isinstance(table, nn.Embedding)
    layer = layers[POSITIONS]
    layer.weight = _first_rows(layer.weight, torch.arange(frames, device=layer.target.device))
    layer.target = layer.weight.dense()
    table.weight = nn.Parameter(table.weight[:frames].clone(), requires_grad=False)
    table.num_embeddings = model.module.config.max_source_positions = frames
    model.module.model.encoder.max_source_positions = frames
    frontend = frontend_of(model)
    frontend.shorten(frames)
    model.settings |= {
        **window_of(frontend.sampling_rate, frontend.log_mel.hop, frames),
        "max_source_positions": frames,
    }
    vars(model).pop("shapes", None)  # found before, of the longer table


def window_frames(model: SpeechModel, seconds: float) -> int:
    """The frames of a window of `seconds`. Raises ValueError as `shorten` does."""
    if model.most_seconds is None:
        raise ValueError(f"{model.checkpoint.name} has no window: its cost follows the clip; leave seconds out")
    positions = model.module.config.max_source_positions
    frames = 0 if not isfinite(seconds) else round(positions * seconds / model.most_seconds)
    if not 1 <= frames <= positions:
        raise ValueError(
            f"seconds={seconds:g}: the window of {model.checkpoint.name} is {model.most_seconds:g} s; "
            "more than 0 and at most that would work"
        )
    return frames


def leave_out_window(model: SpeechModel, margin_seconds: float) -> None:
    """Let a model encode each clip at its own length, and so much silence behind it, where its window has room.

    Longer clips than the window are refused as before. Raises ValueError for a model without a window, or a margin that
    is no time.
    """
    if reason := without_window(model):
        raise ValueError(reason)
    check_margin(margin_seconds, model.checkpoint.name)
    frontend_of(model).own[MARGIN] = margin_seconds


def without_window(model: SpeechModel) -> str | None:
    """Why there is no window that a model could leave out."""
    if not model.frontend.any_length:
        return None
    already = " already" if model.frontend.short_context else ", and has no window"
    return f"{model.checkpoint.name} encodes each clip at its own length{already}; leave shorten_context out"


def pool_frames(model: SpeechModel, pooling: Pooling) -> None:
    """Let frames be pooled inside a model's encoder. Raises ValueError where that cannot be."""
    if reason := can_pool(model):
        raise ValueError(reason)
    model.frontend.own[POOLING] = pooling.as_document()
    vars(model).pop("stacks", None)  # made before, without


def can_pool(model: SpeechModel) -> str | None:
    """Why frames cannot be pooled inside a model's encoder."""
    if POOLING not in model.frontend.own_settings:
        return f"{model.checkpoint.name} cannot pool the frames inside its encoder; a Whisper can"
    if POOLING in model.frontend.own:
        return f"{model.checkpoint.name} pools its frames already; one pool_time with a larger factor would work"
    return None


def frontend_of(model: SpeechModel) -> WhisperFrontend:
    """The frontend of a model that has a window."""
    assert isinstance(model.frontend, WhisperFrontend), "window_frames has refused the others"
    return model.frontend


def _first_rows(weight: Weight, rows: Tensor) -> Weight:
    """The weight of those rows; one with rounded factors, which know no rows apart, becomes floats."""
    return Weight(weight.dense()[rows]) if isinstance(weight.low_rank, CodedFactors) else weight.take_rows(rows)
