"""Heads and neurons left out: the shapes are smaller, and what had no say is not missed."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSpeechSeq2Seq

import sottovoce
from sottovoce.calibration.statistics import InputStats
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import next_tokens
from sottovoce.methods.prune_width import group_score, leave_out, leaving
from sottovoce.models import open_model
from sottovoce.models.widths import count_of
from sottovoce.numbers.leaving_out import Moments
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.speech.audio import read as read_audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.targets.dense import narrow_state
from sottovoce.training.data import Material
from sottovoce.weights.cost import Workload
from tests import toys
from tests.conftest import FRAMES, TOYS, WRITING
from tests.methods.samples import noise, seen, some_inputs
from tests.reference import prune_width as slow
from tests.reference.cost import count, count_frames
from tests.tiers import in_turn, slow_ones

every_toy = pytest.mark.parametrize("name", TOYS)
UNEVEN = [
    {"prune_width": {"heads": 1, "neurons": 32, "where": "encoder.layers.0.*"}},
    {"prune_width": {"neurons": 16, "multiple_of": 16, "where": "encoder.layers.1.*", "importance": "wanda"}},
]
CROSS = {"prune_width": {"heads": 1, "where": "decoder.cross_attention", "importance": "taylor"}}


def steps_of(name):
    return UNEVEN if name in FRAMES else [*UNEVEN, CROSS]


@pytest.fixture(scope="module")
def audio(speech):
    return [read_audio(row.audio, 16_000) for row in read_corpus(speech, need_text=False).utterances]


def pruned(folder, clips, *steps):
    target = find_target(folder)
    model, layers = target.open()
    compress_layers(model, layers, select(read_recipe({"steps": list(steps)}), target.layout()), Material(clips))
    return model, layers


def without_say(model, layers, inner, places):
    """Let nothing read some heads or neurons."""
    target = layers[inner.reader].target.clone()
    target[:, inner.columns(torch.tensor(places))] = 0
    layers[inner.reader].change_target(target)
    model.assign(layers[inner.reader])


# --- what is computed -----------------------------------------------------------------------------


@every_toy
@pytest.mark.parametrize("compensate", [True, False])
def test_heads_and_neurons_that_nobody_reads_are_not_missed(name, compensate, toy, clips):
    target = find_target(toy(name))
    model, layers = target.open()
    for inner in model.inner:
        without_say(model, layers, inner, [1] if inner.kind == "heads" else [5, 20, 33, 63])
    wanted = [next_tokens(model, clip) for clip in clips(name)]
    options = {"heads": 1, "neurons": 4, "multiple_of": 4, "importance": "activation", "compensate": compensate}
    recipe = read_recipe({"steps": [{"prune_width": options}]})
    compress_layers(model, layers, select(recipe, target.layout()), Material(clips(name)))
    assert {count_of(model, inner) for inner in model.inner} == {1, 60}
    for clip, expected in zip(clips(name), wanted, strict=True):
        torch.testing.assert_close(next_tokens(model, clip), expected, atol=1e-4, rtol=1e-4)


@every_toy
def test_what_stays_computes_as_if_the_rest_were_zero(name, toy, clips):
    model, layers = find_target(toy(name)).open()
    masked, other = find_target(toy(name)).open()
    for inner in model.inner:
        kept = torch.tensor([1]) if inner.kind == "heads" else torch.arange(0, 64, 3)
        gone = [place for place in range(count_of(model, inner)) if place not in kept]
        without_say(masked, other, inner, gone)
        leave_out(model, layers, inner, kept, None, 0.01)
    for clip in clips(name):
        torch.testing.assert_close(next_tokens(model, clip), next_tokens(masked, clip), atol=1e-4, rtol=1e-4)


@every_toy
def test_with_all_kept_nothing_changes(name, toy, clips):
    model, layers = find_target(toy(name)).open()
    clip = clips(name)[0]
    wanted = next_tokens(model, clip)
    for inner in model.inner:
        width = layers[inner.reader].columns
        x = some_inputs(200, width)
        moments = Moments.of(seen(x).gram, x.sum(0), len(x), about_mean=True)
        leave_out(model, layers, inner, torch.arange(count_of(model, inner)), moments, 0.01)
    torch.testing.assert_close(next_tokens(model, clip), wanted, atol=1e-5, rtol=1e-5)
    assert not model.settings


@pytest.mark.parametrize(
    ("importance", "name"), in_turn(["activation", "wanda", "taylor", "obs"], ["whisper", "moonshine"])
)
def test_what_takes_over_brings_the_blocks_output_nearer(name, importance, toy, clips):
    def error(compensate):
        asked = importance if compensate or importance != "obs" else "activation"
        options = {"neurons": 0.5, "importance": asked, "compensate": compensate, "where": "encoder.layers.0.*"}
        model, _ = pruned(toy(name), clips(name), {"prune_width": options})
        return sum(float((heard(model, clip) - heard(whole, clip)).square().mean()) for clip in clips(name))

    def heard(model, clip):
        seen = []
        handle = model.find("encoder.layers.0").register_forward_hook(
            lambda module, given, made: seen.append(made if isinstance(made, torch.Tensor) else made[0])
        )
        model.encode([clip.features])
        handle.remove()
        return seen[0][0, : model.valid_positions(clip.samples)["frames"]]

    whole, _ = find_target(toy(name)).open()
    with torch.no_grad():
        assert error(True) < 0.8 * error(False)


def test_a_group_is_scored_by_its_rows_and_its_columns(toy):
    model, layers = find_target(toy("moonshine")).open()
    [gated] = [inner for inner in model.inner if inner.name == "decoder.layers.0.mlp.fc1"]
    heads = model.inner[0]
    for inner, index in ((gated, 7), (heads, 1)):
        inputs = {name: noise(20, layers[name].columns, seed=i) for i, name in enumerate(inner.layers)}
        stats = {name: InputStats() for name in inputs}
        for name, x in inputs.items():
            stats[name].add(x, {"square"})
        weights = {name: layers[name].target for name in inner.layers}
        found = group_score(inner, weights, stats)
        one = torch.tensor([index])
        rows = {name: set(inner.rows(one, len(found)).tolist()) for name in inner.writers}
        columns = {inner.reader: set(inner.columns(one).tolist())}
        assert float(found[index]) == pytest.approx(slow.sizes(weights, inputs, rows, columns), rel=1e-5)
    assert gated.rows(torch.tensor([7]), 64).tolist() == [7, 71]
    assert heads.columns(torch.tensor([1])).tolist() == list(range(16, 32))


def test_blocks_of_a_stack_share_what_goes(toy, clips):
    target = find_target(toy("whisper"))
    model, layers = target.open()
    [weak] = [inner for inner in model.inner if inner.name == "encoder.layers.1.fc1"]
    without_say(model, layers, weak, list(range(8, 56)))
    options = {"neurons": 0.25, "multiple_of": 16, "over": "stack", "importance": "activation", "where": "encoder"}
    recipe = read_recipe({"steps": [{"prune_width": options}]})
    compress_layers(model, layers, select(recipe, target.layout()), Material(clips("whisper")))
    assert [count_of(model, inner) for inner in model.inner if inner.kind == "neurons"] == [64, 32, 64, 64]


# --- shapes, and what tells of them ---------------------------------------------------------------


@every_toy
def test_widths_differ_and_the_artifact_says_so(name, toy, speech, audio, tmp_path):
    made = sottovoce.compress(toy(name), recipe={"steps": steps_of(name)}, output=tmp_path / "a", data=speech, limit=3)
    assert made.bytes == made.predicted_bytes() < find_target(toy(name)).bytes
    widths = json.loads((made.folder / "config.json").read_text())["sottovoce"]["widths"]
    attention = "self_attn" if name in WRITING else "attention"
    first = {"whisper": "fc1", "moonshine": "mlp.fc1"}.get(name.split()[0], "feed_forward.intermediate_dense")
    expected = {
        f"encoder.layers.0.{attention}": 1,
        f"encoder.layers.0.{first}": 32,
        f"encoder.layers.1.{first}": 48,
    }
    if name in WRITING:
        expected |= {f"decoder.layers.{i}.encoder_attn": 1 for i in (0, 1)}
    assert widths == expected
    layout = find_target(made.folder).layout()
    assert {each.name: count_of(layout, each) for each in layout.inner if each.name in widths} == expected
    steps = {entry.name: entry.steps for entry in made.entries}
    assert steps[f"encoder.layers.1.{first}"] == ("prune_width(neurons=16, importance=wanda, multiple_of=16)",)
    assert steps[f"encoder.layers.1.{attention}.q_proj"] == ()
    assert len(sottovoce.load(made.folder).transcribe_clips(audio)) == len(audio)


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_a_checkpoint_of_such_widths_is_opened_as_any_other(name, toy, clips, tmp_path):
    model, _ = pruned(toy(name), clips(name), *steps_of(name))
    tmp_path.joinpath("m").mkdir()
    model.write_companions(tmp_path / "m")
    save_file(narrow_state(model), tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    opened = open_model(tmp_path / "m")
    assert opened.inner == model.inner
    for clip in clips(name):
        torch.testing.assert_close(next_tokens(opened, clip), next_tokens(model, clip), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "where", "key"),
    [("whisper", "encoder", "encoder_ffn_dim"), ("moonshine", "blocks", "intermediate_size")],
)
def test_neurons_that_are_as_many_everywhere_are_said_as_transformers_does(name, where, key, toy, speech, tmp_path):
    recipe = {"steps": [{"prune_width": {"neurons": 0.5, "where": where}}]}
    made = sottovoce.compress(toy(name), recipe=recipe, output=tmp_path / "a", data=speech, limit=3)
    config = json.loads((made.folder / "config.json").read_text())
    assert config[key] == 32
    assert "sottovoce" not in config
    exported = sottovoce.export(made.folder, to="safetensors", output=tmp_path / "dense", threads=1)
    assert exported.tested.passed
    module = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "dense", local_files_only=True)
    assert module.model.encoder.layers[0].state_dict().keys() == (
        open_model(toy(name)).module.model.encoder.layers[0].state_dict().keys()
    )


@pytest.mark.parametrize("to", ["safetensors", "compressed-tensors", "ggml"])
def test_what_knows_one_width_for_all_refuses_others(to, toy, speech, tmp_path):
    recipe = {"steps": [*UNEVEN, {"rtn": {"bits": 4, "group_size": 16, "where": "blocks"}}]}
    made = sottovoce.compress(toy("whisper"), recipe=recipe, output=tmp_path / "a", data=speech, limit=3)
    with pytest.raises(ValueError, match=r"encoder\.layers\.0\.self_attn.*(width of its own, 1|16 rows of 32)"):
        sottovoce.export(made.folder, to=to, output=tmp_path / "out")


def test_a_recipe_for_such_a_runtime_is_refused_before_the_work(toy, speech, tmp_path):
    recipe = {"target": "safetensors", "steps": UNEVEN}
    with pytest.raises(ValueError, match="plain safetensors as its target, which could not hold 3"):
        sottovoce.compress(toy("whisper"), recipe=recipe, output=tmp_path / "a", data=speech)
    uniform = {"target": "safetensors", "steps": [{"prune_width": {"neurons": 0.5}}]}
    assert sottovoce.compress(toy("whisper"), recipe=uniform, output=tmp_path / "a", data=speech).bytes


@pytest.mark.parametrize("name", ["whisper", *slow_ones("moonshine untied", "wav2vec2 stable")])
@pytest.mark.slow
def test_uneven_widths_are_exported_to_onnx(name, toy, speech, audio, tmp_path):
    rounded = [{"gptq": {"bits": 8, "group_size": 16, "where": "blocks"}}] if name == "whisper" else []
    recipe = {"steps": [*steps_of(name), *rounded]}
    made = sottovoce.compress(toy(name), recipe=recipe, output=tmp_path / "a", data=speech, limit=3)
    exported = sottovoce.export(made.folder, to="onnx", output=tmp_path / "onnx", threads=1)
    assert exported.tested.passed
    if rounded:
        return  # inputs are rounded too
    assert sottovoce.load(tmp_path / "onnx").transcribe_clips(audio) == sottovoce.load(made.folder).transcribe_clips(
        audio
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_uneven_widths_are_exported_to_executorch(name, toy, speech, audio, tmp_path):
    recipe = {"steps": [*steps_of(name), {"rtn": {"bits": 8, "where": "blocks"}}]}
    made = sottovoce.compress(toy(name), recipe=recipe, output=tmp_path / "a", data=speech, limit=3)
    seconds = 2.0 if name == "moonshine" else None
    exported = sottovoce.export(made.folder, to="executorch", output=tmp_path / "et", seconds=seconds, threads=1)
    assert exported.tested.passed


@pytest.mark.parametrize("name", ["whisper", "moonshine", "wav2vec2"])
def test_the_cost_is_counted_at_the_width_of_each_block(name, toy, clips, audio):
    model, _ = pruned(toy(name), clips(name), *steps_of(name))
    samples = audio[0]
    frames_alone = name in FRAMES
    counted = count_frames(model, samples) if frames_alone else count(model, samples, 5)
    products = model.products(Workload(seconds=len(samples) / 16_000, tokens=5))
    assert sum(product.macs for product in products) == counted.attention_macs


def test_alignment_heads_are_those_that_are_left(tmp_path, speech):
    folder = toys.write_whisper(tmp_path / "w", decoder_layers=3)
    assert json.loads((folder / "generation_config.json").read_text())["alignment_heads"] == [[2, 0], [2, 1]]
    model, layers = find_target(folder).open()
    [across] = [inner for inner in model.inner if inner.name == "decoder.layers.2.encoder_attn"]
    leave_out(model, layers, across, torch.tensor([1]), None, 0.01)
    assert model.settings["alignment_heads"] == [[2, 0]]
    [other] = [inner for inner in model.inner if inner.name == "decoder.layers.1.encoder_attn"]
    leave_out(model, layers, other, torch.tensor([0]), None, 0.01)
    assert model.settings["alignment_heads"] == [[2, 0]]


# --- with other steps -----------------------------------------------------------------------------


def test_blocks_are_dropped_before_and_after(tmp_path, speech):
    folder = toys.write_whisper(tmp_path / "w", encoder_layers=4)
    narrow = {"prune_width": {"neurons": 0.5, "where": "encoder.layers.3.*"}}
    after = {"prune_width": {"neurons": 0.5, "where": "encoder.layers.2.*"}}
    drop = {"drop_layers": {"encoder": [1]}}
    made = [
        sottovoce.compress(folder, recipe={"steps": steps}, output=tmp_path / f"{i}", data=speech, limit=3)
        for i, steps in enumerate(([narrow, drop], [drop, after]))
    ]
    for each in made:
        assert json.loads((each.folder / "config.json").read_text())["sottovoce"] == {
            "widths": {"encoder.layers.2.fc1": 32}
        }
    again = {"steps": [{"drop_layers": {"encoder": [2]}}]}
    even = sottovoce.compress(made[0].folder, recipe=again, output=tmp_path / "even")
    assert "sottovoce" not in json.loads((even.folder / "config.json").read_text())
    assert even.bytes == even.predicted_bytes()


def test_the_groups_of_later_steps_are_held_against_the_new_widths(toy):
    layout = find_target(toy("whisper")).layout()

    def check(group, **options):
        steps = [{"prune_width": {"neurons": 0.25, "multiple_of": 16, **options}}]
        select(read_recipe({"steps": [*steps, {"rtn": {"where": "*.fc2", "group_size": group}}]}), layout)

    check(16)
    check(48)
    with pytest.raises(ValueError, match=r"group_size 64 does not divide the 48 inputs of encoder\.layers\.0\.fc2"):
        check(64)
    check(16, over="stack")
    with pytest.raises(ValueError, match="group_size 32 does not divide the 48 inputs"):
        check(32, over="stack")
    assert layout.shapes["encoder.layers.0.fc2"].columns == 64  # the target's own is as it was


@pytest.mark.parametrize(
    ("width", "amount", "multiple", "goes"),
    [(1536, 0.25, 32, 384), (1152, 0.125, 32, 128), (6, 0.25, 1, 1), (6, 0.1, 1, 0), (100, 0.5, 32, 36), (64, 8, 8, 8)],
)
def test_a_share_takes_as_many_as_leave_a_whole_multiple(width, amount, multiple, goes):
    assert leaving(width, amount, multiple) == goes


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ([{"prune_width": {}}], "leaves nothing out; heads: 1, or neurons: 0.25, would work"),
        ([{"prune_width": {"heads": 2}}], "heads: 2 leaves none of the 2 of encoder.layers.0.self_attn; at most 1"),
        ([{"prune_width": {"heads": 0.3}}], "heads: 0.3 takes none of the 2 .*; 1 would work, or a share of 0.5"),
        ([{"prune_width": {"neurons": 0.1}}], "neurons: 0.1 takes none of the 64 .*multiple of 32 .*; 32 would work"),
        ([{"prune_width": {"neurons": 24}}], r"leaves 40 of .*no multiple of 32 \(multiple_of\); 32 would work"),
        ([{"prune_width": {"neurons": 64}}], "leaves none of the 64 of encoder.layers.0.fc1; at most 32 would work"),
        ([{"prune_width": {"heads": 1.0}}], "heads=1.0"),
        ([{"prune_width": {"heads": -1}}], "heads=-1"),
        ([{"prune_width": {"neurons": True}}], "neurons=True"),
        ([{"prune_width": {"heads": 1, "compensate": False}}], "importance: obs counts on the others"),
        (
            [{"prune_width": {"heads": 1, "where": "encoder.mlp"}}],
            "heads: 1, and where selects no layer that has heads",
        ),
        (
            [{"prune_width": {"heads": 1, "where": "*.q_proj"}}],
            "heads of encoder.layers.0.self_attn are in .*, and where leaves out encoder.layers.0.self_attn.k_proj",
        ),
        (["rtn", {"prune_width": {"neurons": 0.5}}], "changes the structure after rtn has changed .*; put prune_width"),
        (["wanda", {"prune_width": {"neurons": 0.5}}], "put prune_width first"),
        (["quarot", {"prune_width": {"neurons": 0.5}}], "put prune_width first"),
    ],
)
def test_what_cannot_be_left_out_is_refused(recipe, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": recipe}), find_target(toy("whisper")).layout())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"widths": {"encoder.layers.7.fc1": 4}}, "names the width of encoder.layers.7.fc1, which this model lacks"),
        ({"widths": {"encoder.layers.0.fc1": 65}}, "65 neurons, and transformers' config 64"),
        ({"widths": {"encoder.layers.0.fc1": 0}}, "whole numbers above 0"),
        ({"widths": {"encoder.layers.0.fc1": "4"}}, "whole numbers above 0"),
        ([3], r"does not know the setting \[3\] of sottovoce"),
    ],
)
def test_a_config_with_widths_that_cannot_be_is_refused(said, message, tmp_path):
    folder = toys.write_whisper(tmp_path / "w")
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "sottovoce": said}))
    with pytest.raises(ValueError, match=message):
        open_model(folder)
