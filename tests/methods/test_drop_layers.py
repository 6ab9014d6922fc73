"""Whole blocks dropped: what is left is the model that transformers builds of the config that is saved with it."""

import json
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq

import sottovoce
from sottovoce.calibration.influence import block_changes, block_influence, least_first
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import divergence_without
from sottovoce.models import open_model
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.speech.audio import read as read_audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.data import Material
from tests import toys

KINDS = {
    "whisper": (toys.write_whisper, {"encoder_layers": 4, "decoder_layers": 3}),
    "moonshine": (toys.write_moonshine, {"encoder_layers": 4, "decoder_layers": 3}),
    "wav2vec2": (toys.write_wav2vec2, {}),
}


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A toy of its own kind with more blocks, where it has a say."""
    made = {}

    def folder(name):
        if name not in made:
            write, options = KINDS[name]
            made[name] = write(tmp_path_factory.mktemp("deep") / name, **options)
        return made[name]

    return folder


def steps(name, **options):
    asked = {"encoder": [1], "decoder": [0]} if name != "wav2vec2" else {"encoder": [1]}
    return [{"drop_layers": {**asked, **options}}]


@pytest.fixture(scope="module")
def audio(speech):
    return [read_audio(row.audio, 16_000) for row in read_corpus(speech, need_text=False).utterances]


@pytest.mark.parametrize("name", KINDS)
def test_what_is_left_is_the_model_of_the_config_that_is_saved(name, deep, audio, tmp_path):
    made = sottovoce.compress(deep(name), recipe={"steps": steps(name)}, output=tmp_path / "out")
    sottovoce.export(made.folder, to="safetensors", output=tmp_path / "dense") if name != "wav2vec2" else None
    kind = AutoModelForCTC if name == "wav2vec2" else AutoModelForSpeechSeq2Seq
    whole = open_model(deep(name))
    left = find_target(made.folder).open()[0]
    encoder = [i for i in range(len(whole.blocks("encoder"))) if i != 1]
    for now, before in enumerate(encoder):
        mine, theirs = (
            left.blocks("encoder")[f"encoder.layers.{now}"],
            whole.blocks("encoder")[f"encoder.layers.{before}"],
        )
        for key, tensor in theirs.state_dict().items():
            assert torch.equal(mine.state_dict()[key], tensor)
    assert len(left.blocks("encoder")) == len(encoder)
    if name != "wav2vec2":
        assert len(left.blocks("decoder")) == 2
        module = kind.from_pretrained(tmp_path / "dense", local_files_only=True)
        assert {name: tensor.shape for name, tensor in module.state_dict().items()} == {
            name: tensor.shape for name, tensor in left.module.state_dict().items()
        }
        features = left.features(audio[0])
        tokens = torch.tensor([[1, 5, 9]])
        wanted = module(**{module.main_input_name: features}, decoder_input_ids=tokens).logits
        hidden, _ = left.decode(tokens, left.encode([features]))
        torch.testing.assert_close(left.head(hidden), wanted, atol=2e-3, rtol=1e-3)
    texts = sottovoce.load(made.folder).transcribe_clips(audio)
    assert texts != sottovoce.load(deep(name)).transcribe_clips(audio)
    assert made.bytes == made.predicted_bytes() < find_target(deep(name)).bytes


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_later_steps_name_the_layers_that_are_left(name, deep, speech, tmp_path):
    later = [{"gptq": {"where": "encoder.layers.2.*"}}, {"rtn": {"where": "decoder.layers.1.*"}}]
    recipe = {"steps": [*steps(name), *later]}
    made = sottovoce.compress(deep(name), recipe=recipe, output=tmp_path / "out", data=speech, limit=3)
    coded = {".".join(entry.name.split(".")[:3]) for entry in made.entries if entry.bits is not None}
    assert coded == {"encoder.layers.2", "decoder.layers.1"}
    layout = find_target(deep(name)).layout()
    with pytest.raises(ValueError, match=r"where 'encoder\.layers\.3\.\*' matches no layer"):
        select(read_recipe({"steps": [*steps(name), {"rtn": {"where": "encoder.layers.3.*"}}]}), layout)
    assert "encoder.layers.3.self_attn.q_proj" in layout.shapes  # the target's own is as it was


def test_the_block_that_changes_its_stream_least_goes(deep, clips, toy):
    model, layers = find_target(deep("whisper")).open()
    for part in ("self_attn.out_proj", "fc2"):
        for key in ("weight", "bias"):
            getattr(model.find(f"encoder.layers.2.{part}"), key).data.mul_(1e-3)
    given = clips("whisper")
    influence = block_influence(model, given)
    assert set(influence) == {*model.blocks("encoder"), *model.blocks("decoder")}
    assert min(influence, key=influence.get) == "encoder.layers.2"
    assert influence["encoder.layers.2"] < 1e-3 < influence["encoder.layers.0"] < 2
    kept = {name: layer.weight.base.clone() for name, layer in layers.items()}
    selection = select(read_recipe({"steps": [{"drop_layers": {"encoder": 1}}]}), find_target(deep("whisper")).layout())
    compress_layers(model, layers, selection, Material(given))
    assert torch.equal(layers["encoder.layers.2.fc1"].weight.base, kept["encoder.layers.3.fc1"])
    assert torch.equal(layers["encoder.layers.1.fc1"].weight.base, kept["encoder.layers.1.fc1"])
    assert "encoder.layers.3.fc1" not in layers
    assert all(layer.name == name for name, layer in layers.items())


def slow_influence(model, clip):
    """Position by position, from transformers' own hidden states."""
    encoder = model.module.model.encoder(clip.features, output_hidden_states=True).hidden_states
    frames, found = model.valid_positions(clip.samples)["frames"], []
    for before, after in pairwise(encoder[:-1]):  # the last has passed the norm
        cosines = [
            float(a @ b / a.norm() / b.norm()) for a, b in zip(before[0, :frames], after[0, :frames], strict=True)
        ]
        found.append(1 - sum(cosines) / len(cosines))
    return found


@torch.no_grad()
def test_influence_is_one_less_the_mean_cosine(deep, clips):
    model, _ = find_target(deep("whisper")).open()
    clip = clips("whisper")[0]
    expected = slow_influence(model, clip)
    found = block_influence(model, [clip])
    for i, wanted in enumerate(expected):
        assert found[f"encoder.layers.{i}"] == pytest.approx(wanted, abs=1e-5)


@torch.no_grad()
def test_the_other_statistics_are_sums_over_positions_and_shares_of_channels(deep, clips):
    model, _ = find_target(deep("whisper")).open()
    given = clips("whisper")
    changes = block_changes(model, given, outlier=4.0)
    energy, difference, shares = {}, {}, {}
    for clip in given:
        states = model.module.model.encoder(clip.features, output_hidden_states=True).hidden_states
        frames = model.valid_positions(clip.samples)["frames"]
        for i, (before, after) in enumerate(pairwise(states[:-1])):
            read, made = before[0, :frames].tolist(), after[0, :frames].tolist()
            energy[i] = energy.get(i, 0) + sum(x * x for row in read for x in row)
            difference[i] = difference.get(i, 0) + sum(
                (y - x) ** 2 for a, b in zip(read, made, strict=True) for x, y in zip(a, b, strict=True)
            )
            channels = list(zip(*made, strict=True))
            shares.setdefault(i, []).append(sum(max(map(abs, each)) > 4.0 for each in channels) / len(channels))
    for i in energy:
        found = changes[f"encoder.layers.{i}"]
        assert found.mse == pytest.approx(difference[i] / energy[i], rel=1e-4)
        assert found.outliers == pytest.approx(sum(shares[i]) / len(shares[i]))
    assert 0 < min(found.outliers for found in changes.values()) < 1


def test_of_equal_values_the_block_of_less_influence_goes_first():
    assert least_first("abc", {"a": 0, "b": 0, "c": 1}, {"a": 0.5, "b": 0.1, "c": 0.01}) == ["b", "a", "c"]


@pytest.mark.parametrize("rank_by", ["influence", "mse", "outliers", "divergence"])
def test_the_block_that_is_least_by_the_chosen_ranking_goes(rank_by, deep, clips):
    given = clips("moonshine")
    model, layers = find_target(deep("moonshine")).open()
    names = [*model.blocks("encoder"), *model.blocks("decoder")]
    changes = block_changes(model, given, 2.0)
    if rank_by == "divergence":
        values = dict(zip(names, divergence_without(model, [[name] for name in names], given), strict=True))
    else:
        values = {name: getattr(changes[name], rank_by) for name in names}
    gone = [
        min(model.blocks(stack), key=lambda name: (values[name], changes[name].influence))
        for stack in ("encoder", "decoder")
    ]
    expected = [layers[name].weight.base for name in layers if not name.startswith(tuple(f"{at}." for at in gone))]
    options = {"encoder": 1, "decoder": 1, "rank_by": rank_by} | ({"outlier": 2.0} if rank_by == "outliers" else {})
    selection = select(read_recipe({"steps": [{"drop_layers": options}]}), find_target(deep("moonshine")).layout())
    compress_layers(model, layers, selection, Material(given))
    assert [layer.weight.base for layer in layers.values()] == expected  # the very tensors, in their order


def test_alignment_heads_go_with_their_blocks(deep, tmp_path):
    saved = deep("whisper") / "generation_config.json"
    assert json.loads(saved.read_text())["alignment_heads"] == [[2, 0], [2, 1]]
    made = sottovoce.compress(deep("whisper"), recipe={"steps": steps("whisper")}, output=tmp_path / "out")
    assert json.loads((made.folder / "generation_config.json").read_text())["alignment_heads"] == [[1, 0], [1, 1]]
    config = json.loads((made.folder / "config.json").read_text())
    assert (config["encoder_layers"], config["decoder_layers"]) == (3, 2)
    assert (
        len({key.split(".")[3] for key in load_file(made.folder / "model.safetensors") if "encoder.layers" in key}) == 3
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_dropped_trained_rounded_and_exported(name, deep, speech, lessons, audio, tmp_path):
    trained = {"distill": {"epochs": 1, "batch": 4, "learning_rate": 1e-4}}
    recipe = {"steps": [*steps(name), trained, {"rtn": {"bits": 8}}]}
    made = sottovoce.compress(deep(name), recipe=recipe, output=tmp_path / "out", train=lessons(name))
    exported = sottovoce.export(made.folder, to="onnx", output=tmp_path / "onnx", threads=1)
    assert exported.tested.passed
    assert len(sottovoce.load(tmp_path / "onnx").transcribe_clips(audio)) == len(audio)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ([{"drop_layers": {}}], "drops nothing"),
        ([{"drop_layers": {"encoder": 4}}], "encoder: 4 leaves none of the 4 blocks; at most 3 would work"),
        ([{"drop_layers": {"decoder": [0, 1, 2]}}], "leaves no block"),
        ([{"drop_layers": {"decoder": [3]}}], "numbers from 0 to 2, each once, would work"),
        ([{"drop_layers": {"decoder": [1, 1]}}], "numbers from 0 to 2, each once, would work"),
        ([{"drop_layers": {"encoder": [1], "rank_by": "mse"}}], "rank_by: mse has no effect where blocks are named"),
        ([{"drop_layers": {"encoder": 1, "outlier": 3.0}}], "no effect with rank_by: influence; set rank_by: outliers"),
        ([{"drop_layers": {"encoder": 1, "rank_by": "wer"}}], "'influence', 'mse', 'outliers' or 'divergence'"),
        (["rtn", {"drop_layers": {"encoder": [0]}}], "put drop_layers first"),
        ([{"drop_layers": {"encoder": [0]}}, {"distill": {"hidden": 1.0, "epochs": 1}}], "set hidden to 0"),
    ],
)
def test_what_cannot_be_dropped_is_refused(recipe, message, deep):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": recipe}), find_target(deep("whisper")).layout())


def test_an_artifact_that_is_rounded_is_not_dropped_from(deep, tmp_path):
    sottovoce.compress(deep("whisper"), recipe="rtn-w8", output=tmp_path / "a")
    with pytest.raises(ValueError, match="put drop_layers first"):
        sottovoce.compress(tmp_path / "a", recipe={"steps": steps("whisper")}, output=tmp_path / "b")


def test_an_artifact_from_which_blocks_were_dropped_is_compressed_further(deep, audio, tmp_path):
    sottovoce.compress(deep("whisper"), recipe={"steps": steps("whisper")}, output=tmp_path / "a")
    twice = sottovoce.compress(
        tmp_path / "a", recipe={"steps": [{"drop_layers": {"encoder": [0]}}, "rtn"]}, output=tmp_path / "b"
    )
    once = {"steps": [{"drop_layers": {"encoder": [0, 1], "decoder": [0]}}, "rtn"]}
    whole = sottovoce.compress(deep("whisper"), recipe=once, output=tmp_path / "c")
    assert (twice.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert sottovoce.load(twice.folder).transcribe_clips(audio) == sottovoce.load(whole.folder).transcribe_clips(audio)


@pytest.mark.parametrize(
    "step",
    [
        {"drop_layers": {"encoder": 1, "where": "encoder.*"}},
        {"merge_layers": {"encoder": 1, "where": "encoder.*"}},
        {"shorten_context": {"where": "encoder.*"}},
        {"pool_time": {"where": "encoder.*"}},
    ],
    ids=lambda step: next(iter(step)),
)
def test_a_choice_of_layers_has_no_meaning_where_the_model_changes_as_a_whole(step, deep):
    with pytest.raises(ValueError, match="changes the model as a whole, so where has no meaning"):
        select(read_recipe({"steps": [step]}), find_target(deep("whisper")).layout())
