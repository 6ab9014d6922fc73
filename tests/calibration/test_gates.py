"""The gradient of a gate is what the loss changes by as a head or neuron is closed a little."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from sottovoce.calibration.gates import gate_gradients
from sottovoce.measure.divergence import next_tokens
from sottovoce.models.structure import Clip
from sottovoce.recognition.target import find_target
from tests.reference import prune_width as slow


def loss(model, clip):
    """The mean negative log probability of what the model wrote, or of what each frame scores highest."""
    said = next_tokens(model, clip)
    if model.rules().by_frames:
        return -said[torch.arange(len(said)), loss.best].mean()
    prompt = len(model.rules().prompt)
    tokens = clip.tokens[0]
    return cross_entropy(said[prompt - 1 : -1], tokens[prompt:])


@pytest.mark.parametrize("name", ["whisper", "moonshine", "wav2vec2"])
def test_a_gates_gradient_is_a_difference_of_losses(name, toy, clips):
    model, _ = find_target(toy(name)).open()
    clip = clips(name)[1]
    loss.best = next_tokens(model, clip).argmax(-1) if name == "wav2vec2" else None
    found = gate_gradients(model, [clip], model.inner)
    assert set(found) == {inner.name for inner in model.inner}
    for inner in model.inner:
        for index in (0, 1):
            reader = model.find(inner.reader)
            wanted = slow.gate_gradient(model, clip, loss, reader, inner.channels, index)
            assert float(found[inner.name][index]) == pytest.approx(wanted, rel=0.05, abs=1e-3), inner.name
    assert all(parameter.requires_grad for parameter in model.module.parameters() if parameter.is_floating_point())


def test_clips_are_averaged_and_one_without_tokens_tells_nothing(toy, clips):
    model, _ = find_target(toy("whisper")).open()
    one, two, _ = clips("whisper")
    silent = Clip(one.features, one.samples, one.tokens[:, : len(model.rules().prompt)])
    apart = [gate_gradients(model, [clip], model.inner) for clip in (one, two)]
    together = gate_gradients(model, [one, silent, two], model.inner)
    for name, found in together.items():
        torch.testing.assert_close(found, (apart[0][name] + apart[1][name]) / 2)
    with pytest.raises(ValueError, match="a clip in which the model writes something"):
        gate_gradients(model, [silent], model.inner)
