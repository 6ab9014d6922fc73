import pytest
import torch

from sottovoce.measure.divergence import divergence, next_tokens
from sottovoce.recognition.target import find_target


@pytest.fixture(params=["whisper", "moonshine"])
def pair(request, toy, clips):
    """A toy twice, and clips."""
    return find_target(toy(request.param)).open()[0], find_target(toy(request.param)).open()[0], clips(request.param)


def test_a_model_does_not_diverge_from_itself(pair):
    model, reference, clips = pair
    assert divergence(model, reference, clips) == 0


def test_it_is_the_mean_of_each_tokens_kl(pair):
    model, reference, clips = pair
    with torch.no_grad():
        model.find("decoder.layers.0.encoder_attn.v_proj").weight.mul_(3)
    first = len(reference.rules().prompt) - 1
    found = []
    for clip in clips:
        wanted, made = next_tokens(reference, clip), next_tokens(model, clip)
        for p, q in list(zip(wanted, made, strict=True))[first:]:
            found.append(sum(float(a.exp()) * float(a - b) for a, b in zip(p, q, strict=True)))
    assert divergence(model, reference, clips) == pytest.approx(sum(found) / len(found), rel=1e-9)
    assert sum(found) > 0


def test_no_clips_are_refused(pair):
    with pytest.raises(ValueError, match="at least one clip"):
        divergence(pair[0], pair[1], [])
