"""A batch through a model: the encoder's output, the logits, what each block made on the way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import with_decoder
from sottovoce.models.structure import Encoded
from sottovoce.models.tapped import tapped
from sottovoce.training.batch import IGNORED, Batch

CPU_POSITIONS = 2048  # what more of them hold leaves a CPU's caches, and is mapped anew in each step


@dataclass(frozen=True)
class Forward:
    """What a model makes of a batch.

    memory  the encoder's output
    logits  (n, length, vocabulary); None if the decoder was not run
    hidden  (positions, d) of each block, encoder first: frames of audio, and tokens that are learned
    """

    memory: Encoded
    logits: Tensor | None
    hidden: tuple[Tensor, ...]


def forward(
    model: SpeechModel, batch: Batch, *, decoder: bool, hidden: bool, positions: Sequence[int] | None = None
) -> Forward:
    """`batch` through the encoder and, if asked, the decoder; the blocks' outputs are kept if asked.

    positions  how many of each clip's first frames are kept of the encoder's blocks; all that are no padding if None
    """
    memory, heard = _encoded(model, batch.features, hidden, positions)
    if not decoder:
        return Forward(memory, None, heard)
    model = with_decoder(model)
    device = model.module.device
    cache = model.cache()
    if cache is not None and model.recomputes:
        raise ValueError(
            "rounded keys and values cannot be computed twice, as checkpoint_activations asks for; put kv_cache after "
            "what trains, or set checkpoint_activations: false"
        )
    with tapped([*model.blocks("decoder").values()] if hidden else ()) as outputs:
        decoded, _ = model.decode(batch.inputs.to(device), memory, cache)
    learned = (batch.labels != IGNORED).to(device)
    said = tuple(states[learned] for [states] in outputs)
    return Forward(memory, model.head(decoded), heard + said)


def _encoded(
    model: SpeechModel, features: Sequence[Tensor], hidden: bool, positions: Sequence[int] | None
) -> tuple[Encoded, tuple[Tensor, ...]]:
    """The encoder's output and, if asked, that of each of its blocks where it is no padding."""
    parts = []
    with tapped([*model.blocks("encoder").values()] if hidden else ()) as outputs:
        for clips in passes(model, features):
            parts.append(model.encode_together(clips))
    counted = [part.valid for part in parts] if positions is None else _first(positions, parts)
    heard = tuple(
        torch.cat([_counted(states, which) for states, which in zip(block, counted, strict=True)]) for block in outputs
    )
    return _joined(parts), heard


def passes(model: SpeechModel, features: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours that pass the encoder together: all clips, or on a CPU as many as its caches hold."""
    group: list[Tensor] = []
    longest = 0
    for clip in features:
        longest = max(longest, model.frames(clip))
        if group and model.module.device.type == "cpu" and longest * (len(group) + 1) > CPU_POSITIONS:
            yield group
            group, longest = [], model.frames(clip)
        group.append(clip)
    yield group


def _first(positions: Sequence[int], parts: Sequence[Encoded]) -> list[Tensor | None]:
    """(n, frames) bool of each part: the first `positions` of each of its clips."""
    found: list[Tensor | None] = []
    ends = torch.tensor(positions).split([part.count for part in parts])
    for part, end in zip(parts, ends, strict=True):
        found.append((torch.arange(part.states.shape[1])[None] < end[:, None]).to(part.states.device))
    return found


def _counted(states: Tensor, which: Tensor | None) -> Tensor:
    """(positions, d) of (n, frames, d); all if none are named."""
    return states.flatten(0, 1) if which is None else states[which]


def _joined(parts: Sequence[Encoded]) -> Encoded:
    if len(parts) == 1:
        return parts[0]
    if len({part.states.shape[1] for part in parts}) == 1 and all(part.valid is None for part in parts):
        return Encoded(torch.cat([part.states for part in parts]))
    valid = [
        torch.ones_like(part.states[..., 0], dtype=torch.bool) if part.valid is None else part.valid for part in parts
    ]
    clips = [states for part in parts for states in part.states]
    return Encoded(
        pad_sequence(clips, batch_first=True),
        pad_sequence([row for rows in valid for row in rows], batch_first=True),
    )
