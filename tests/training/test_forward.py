"""A batch through a model: the same whatever passes together."""

from types import SimpleNamespace

import pytest
import torch

from sottovoce.training import forward as room
from sottovoce.training.batch import IGNORED
from sottovoce.training.forward import forward, passes, tapped
from sottovoce.training.losses import blocks
from tests.float32 import apart_by_sums

FAMILIES = ["whisper", "moonshine"]


@pytest.mark.parametrize("name", FAMILIES)
def test_clips_together_are_encoded_as_each_alone(name, teacher, lessons_of):
    model, batch = teacher(name), lessons_of(name).of([0, 3, 5, 1])
    with torch.no_grad():
        apart, together = model.encode(batch.features), model.encode_together(batch.features)
    if name == "whisper":
        assert together.valid is None
        assert apart_by_sums(together.states, apart.states, model)
        return
    assert torch.equal(together.valid, apart.valid)
    assert not bool(apart.valid.all()), "the clips should differ in length"
    assert apart_by_sums(together.states[apart.valid], apart.states[apart.valid], model)
    assert [model.frames(clip) for clip in batch.features] == apart.valid.sum(1).tolist()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("positions", [1, 150, 10**6])
def test_a_batch_comes_out_the_same_however_it_is_cut(name, positions, teacher, lessons_of, monkeypatch):
    model, batch = teacher(name), lessons_of(name).of([0, 3, 5, 1])
    with torch.no_grad():
        whole = forward(model, batch, decoder=True, hidden=True)
        monkeypatch.setattr(room, "CPU_POSITIONS", positions)
        cut = forward(model, batch, decoder=True, hidden=True)
    assert (cut.memory.valid is None) == (whole.memory.valid is None)
    if whole.memory.valid is not None:
        assert torch.equal(cut.memory.valid, whole.memory.valid)
    heard = slice(None) if whole.memory.valid is None else whole.memory.valid
    assert apart_by_sums(cut.memory.states[heard], whole.memory.states[heard], model)
    assert apart_by_sums(cut.logits, whole.logits, model)
    assert len(cut.hidden) == len(whole.hidden) == len(blocks(model))
    for found, wanted in zip(cut.hidden, whole.hidden, strict=True):
        assert apart_by_sums(found, wanted, model)
    assert len(whole.hidden[-1]) == int((batch.labels != IGNORED).sum())


def model_of(frames, device="cpu"):
    """A model whose clips are their own numbers of frames."""
    return SimpleNamespace(frames=int, module=SimpleNamespace(device=torch.device(device)))


@pytest.mark.parametrize(
    ("clips", "groups"),
    [
        ([1000, 1000, 1000], [[1000, 1000], [1000]]),
        ([1500, 1500], [[1500], [1500]]),
        ([3000], [[3000]]),
        ([100, 200, 1900, 100], [[100, 200], [1900], [100]]),
    ],
)
def test_as_many_neighbours_pass_as_fit_with_their_padding(clips, groups):
    assert list(passes(model_of(clips), clips)) == groups
    assert list(passes(model_of(clips, "cuda"), clips)) == [clips]


def test_without_the_decoder_nothing_of_it_runs(teacher, lessons_of):
    model, batch = teacher("whisper"), lessons_of("whisper").of([0, 3])
    with torch.no_grad(), tapped(blocks(model)) as outputs:
        made = forward(model, batch, decoder=False, hidden=True)
    layers = len(model.module.model.encoder.layers)
    assert made.logits is None
    assert len(made.hidden) == layers
    assert [len(block) for block in outputs] == [1] * layers + [0] * (len(blocks(model)) - layers)
