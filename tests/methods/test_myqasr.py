"""myQASR: medians as transformers' own forward has them, and the bits that the paper's algorithm leaves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sottovoce
from sottovoce.calibration.medians import output_medians
from sottovoce.methods.myqasr import allocate
from sottovoce.models.structure import Clip
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from tests.conftest import TOYS
from tests.reference import myqasr as slow


@pytest.mark.parametrize("name", TOYS)
def test_medians_are_those_of_transformers_own_forward(name, toy, clips):
    model, _ = find_target(toy(name)).open()
    given = clips(name)
    linear = [layer for layer, shape in model.shapes.items() if shape.kind == "linear"]
    found = output_medians(model, given, linear)
    wanted = dict.fromkeys(linear, 0.0)
    for clip in given:
        alone = Clip(clip.features, clip.samples, clip.tokens)
        valid = model.valid_positions(clip.samples)["frames"]
        for layer, output in slow.medians(model, alone, linear).items():
            over_frames = layer.startswith("encoder") or (
                "encoder_attn" in layer and layer[-6:] in ("k_proj", "v_proj")
            )
            kept = output[:valid] if over_frames or "decoder" not in model.depth else output
            wanted[layer] += float(kept.abs().median()) / len(given)
    assert found == pytest.approx(wanted, rel=1e-4)


def test_padding_does_not_count(toy, clips):
    model, _ = find_target(toy("whisper")).open()
    [clip, *_] = clips("whisper")
    frames = model.valid_positions(clip.samples)["frames"]
    fc1 = "encoder.layers.0.fc1"
    output = slow.medians(model, clip, [fc1])[fc1]
    assert len(output) > frames
    found = output_medians(model, [clip], [fc1])[fc1]
    assert found == pytest.approx(float(output[:frames].abs().median()), rel=1e-5)
    assert found != pytest.approx(float(output.abs().median()), rel=1e-3)


def test_a_table_that_is_looked_up_counts_by_its_entries_and_a_tied_head_by_its_scores(toy, clips):
    model, layers = find_target(toy("whisper")).open()
    [clip, *_] = clips("whisper")
    found = output_medians(model, [clip], list(layers))
    table = layers["decoder.embed_positions"].target
    assert found["decoder.embed_positions"] == float(table.abs().median())
    with torch.no_grad():
        scores = model.module(clip.features, decoder_input_ids=clip.tokens).logits
    assert found["decoder.embed_tokens"] == pytest.approx(float(scores.abs().median()), rel=1e-4)


def test_no_clips_is_refused(toy):
    model, _ = find_target(toy("whisper")).open()
    with pytest.raises(ValueError, match="at least one clip"):
        output_medians(model, [], ["encoder.layers.0.fc1"])


@given(
    st.lists(
        st.tuples(st.floats(0, 10), st.integers(1, 1000)), min_size=1, max_size=8, unique_by=lambda layer: layer[0]
    ),
    st.floats(2, 8),
)
def test_bits_are_those_of_the_papers_algorithm(drawn, mean_bits):
    medians = {str(i): median for i, (median, _) in enumerate(drawn)}
    sizes = {str(i): size for i, (_, size) in enumerate(drawn)}
    found = allocate(medians, sizes, mean_bits)
    assert found == slow.bits(medians, sizes, mean_bits)
    assert max(found.values()) - min(found.values()) <= 1
    assert sum(found[name] * sizes[name] for name in sizes) <= mean_bits * sum(sizes.values())


def test_the_loudest_layers_have_the_fewest_bits_in_the_artifact(toy, speech, tmp_path):
    steps = [{"rtn": {"where": "frontend", "bits": 8}}, {"myqasr": {"mean_bits": 4.5, "group_size": 8}}]
    made = sottovoce.compress(toy("moonshine"), recipe={"steps": steps}, output=tmp_path / "out", data=speech, limit=2)
    chosen = {e.name: e.bits for e in made.entries if any("myqasr" in step for step in e.steps)}
    assert set(chosen.values()) == {4, 5}
    weights = {e.name: e.rows * e.columns for e in made.entries}
    mean = sum(chosen[name] * weights[name] for name in chosen) / sum(weights[name] for name in chosen)
    assert 4 < mean <= 4.5
    assert made.bytes == made.predicted_bytes()


def test_a_group_that_does_not_divide_is_refused_before_any_weight_is_read(toy):
    layout = find_target(toy("moonshine")).layout()
    with pytest.raises(ValueError, match=r"encoder\.layers\.0\.self_attn\.q_proj"):
        select(read_recipe({"steps": [{"myqasr": {"group_size": 7}}]}), layout)
