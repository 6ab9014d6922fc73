import pytest
import torch

from sottovoce.measure.divergence import divergence, divergence_without, next_tokens
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


@pytest.mark.parametrize("name", ["whisper", "moonshine", "wav2vec2", "wav2vec2 stable"])
def test_without_blocks_it_is_that_of_the_model_from_which_they_were_dropped(name, toy, clips):
    folder, given = toy(name), clips(name)
    model, _ = find_target(folder).open()
    choices = [[block] for stack in model.depth for block in model.blocks(stack)]
    choices += [[], [choices[0][0], choices[-1][0]]] if len(model.depth) > 1 else [[]]
    before = [next_tokens(model, clip) for clip in given]
    found = divergence_without(model, choices, given)
    for chosen, value in zip(choices, found, strict=True):
        dropped, _ = find_target(folder).open()
        dropped.drop_blocks(chosen)
        assert value == pytest.approx(divergence(dropped, model, given), rel=1e-6, abs=1e-12), chosen
        assert (value > 0) == bool(chosen)
    assert all(torch.equal(one, next_tokens(model, clip)) for one, clip in zip(before, given, strict=True))


def test_a_block_that_is_not_there_is_refused_by_name(pair):
    model, _, clips = pair
    with pytest.raises(ValueError, match=r"has no block encoder\.layers\.7; there are encoder\.layers\.0, "):
        divergence_without(model, [["encoder.layers.7"]], clips)
    with pytest.raises(ValueError, match="at least one clip"):
        divergence_without(model, [["encoder.layers.0"]], [])
