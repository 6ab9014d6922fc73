"""Neighbouring blocks merged: their average in all parameters, in the place of the two."""

from itertools import pairwise

import pytest
import torch

import sottovoce
from sottovoce.compressing.loop import compress_layers
from sottovoce.methods.merge_layers import average, least_pairs
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.speech.audio import read as read_audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.data import Material
from tests import toys
from tests.methods.samples import noise
from tests.reference import merge_layers as slow

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


@pytest.fixture(scope="module")
def audio(speech):
    return [read_audio(row.audio, 16_000) for row in read_corpus(speech, need_text=False).utterances]


def merged(folder, clips=(), prepare=lambda model, layers: None, **options):
    """The model and layers of a checkpoint, prepared and merged."""
    target = find_target(folder)
    selection = select(read_recipe({"steps": [{"merge_layers": options}]}), target.layout())
    model, layers = target.open()
    prepare(model, layers)
    compress_layers(model, layers, selection, Material(clips))
    return model, layers


# --- the core -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_an_average_is_that_of_each_number_and_exact_at_its_ends_and_of_equals(share):
    one, other = noise(7, 5, seed=1), noise(7, 5, seed=2)
    found = average(one, other, share)
    assert found.flatten().tolist() == pytest.approx(
        slow.average(one.flatten().tolist(), other.flatten().tolist(), share), rel=1e-5, abs=1e-6
    )
    assert torch.equal(average(one, one.clone(), share), one)
    if share in (0.0, 1.0):
        assert torch.equal(found, one if share else other)


@pytest.mark.parametrize("blocks", [2, 3, 5, 8])
def test_the_pairs_are_those_of_the_least_sum_of_all_that_share_no_block(blocks):
    costs = noise(blocks - 1, seed=blocks).abs().tolist()
    for count in range(1, blocks // 2 + 1):
        chosen = least_pairs(costs, count)
        assert len(chosen) == count
        assert all(b - a > 1 for a, b in pairwise(chosen))
        assert sum(costs[i] for i in chosen) == pytest.approx(slow.least_sum(costs, count))


def test_the_best_single_pair_is_given_up_where_more_are_asked_for():
    assert least_pairs([3.0, 1.0, 3.0], 1) == [1]
    assert least_pairs([3.0, 1.0, 3.0], 2) == [0, 2]


# --- a model --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_every_parameter_of_the_merged_block_is_the_average_biases_and_norms_too(name, share, deep):
    whole, _ = find_target(deep(name)).open()
    model, layers = merged(deep(name), encoder=[0], first_share=share)
    blocks = whole.blocks("encoder")
    found = dict(model.blocks("encoder")["encoder.layers.0"].named_parameters())
    first, second = (dict(blocks[f"encoder.layers.{i}"].named_parameters()) for i in (0, 1))
    assert found.keys() == first.keys() == second.keys()
    for key, parameter in found.items():
        wanted = slow.average(first[key].flatten().tolist(), second[key].flatten().tolist(), share)
        assert parameter.flatten().tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-6), key
    assert len(model.blocks("encoder")) == len(blocks) - 1
    for i in range(2, len(blocks)):
        now = model.blocks("encoder")[f"encoder.layers.{i - 1}"].state_dict()
        assert all(torch.equal(now[key], tensor) for key, tensor in blocks[f"encoder.layers.{i}"].state_dict().items())
    changed = {name for name, layer in layers.items() if layer.steps}
    assert changed == {name for name in layers if name.startswith("encoder.layers.0.")}


def same(one, other):
    """Whether two models hold the same tensors under the same names, bit for bit."""
    mine, theirs = one.module.state_dict(), other.module.state_dict()
    assert mine.keys() == theirs.keys()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in mine.items())


def copied(model, layers):
    """Give the second block of the encoder, and the last of the decoder, what the one before it has."""
    for stack, one, other in (("encoder", 0, 1), ("decoder", 1, 2)):
        if stack not in model.depth:
            continue
        blocks = model.blocks(stack)
        blocks[f"{stack}.layers.{other}"].load_state_dict(blocks[f"{stack}.layers.{one}"].state_dict())
        for name, layer in layers.items():
            if name.startswith(f"{stack}.layers.{other}."):
                layer.change_target(layers[name.replace(f".{other}.", f".{one}.", 1)].target)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.5, 0.3])
def test_merged_with_an_identical_copy_a_block_is_what_it_was_bit_for_bit(name, share, deep, clips):
    options = {"encoder": [0], **({} if name == "wav2vec2" else {"decoder": [1]})}
    model, layers = merged(deep(name), prepare=copied, first_share=share, **options)
    target = find_target(deep(name))
    selection = select(
        read_recipe({"steps": [{"drop_layers": {s: [i + 1 for i in p] for s, p in options.items()}}]}), target.layout()
    )
    dropped, other = target.open()
    copied(dropped, other)
    compress_layers(dropped, other, selection, Material(()))
    assert same(model, dropped)
    assert all(torch.equal(layer.weight.dense(), other[at].weight.dense()) for at, layer in layers.items())


@pytest.mark.parametrize(("share", "gone"), [(1.0, 2), (0.0, 1)])
def test_at_the_ends_of_the_share_it_drops_one_of_the_two(share, gone, deep, audio, tmp_path):
    recipe = {"steps": [{"merge_layers": {"encoder": [1], "first_share": share}}]}
    made = sottovoce.compress(deep("whisper"), recipe=recipe, output=tmp_path / "merged")
    left = sottovoce.compress(
        deep("whisper"), recipe={"steps": [{"drop_layers": {"encoder": [gone]}}]}, output=tmp_path / "dropped"
    )
    assert (made.folder / "model.safetensors").read_bytes() == (left.folder / "model.safetensors").read_bytes()
    assert (made.folder / "config.json").read_bytes() == (left.folder / "config.json").read_bytes()
    assert sottovoce.load(made.folder).transcribe_clips(audio) == sottovoce.load(left.folder).transcribe_clips(audio)


@torch.no_grad()
def test_the_pair_whose_outputs_are_most_alike_is_chosen(deep, clips):
    given = clips("whisper")

    def quiet(model, layers):
        for part in ("self_attn.out_proj", "fc2"):
            layer = layers[f"encoder.layers.2.{part}"]
            layer.change_target(layer.target * 1e-3)
            model.assign(layer)
            model.find(layer.name).bias.data.mul_(1e-3)

    model, _ = find_target(deep("whisper")).open()
    _, known = find_target(deep("whisper")).open()
    quiet(model, known)
    [clip] = given[:1]
    frames = model.valid_positions(clip.samples)["frames"]
    states = model.module.model.encoder(clip.features, output_hidden_states=True).hidden_states[1:-1]
    alike = slow.similarity([state[0, :frames].numpy() for state in states])
    assert alike.index(max(alike)) == 1  # of blocks 1 and 2
    made, layers = merged(deep("whisper"), given, quiet, encoder=1)
    assert {name.split(".")[2] for name, layer in layers.items() if layer.steps} == {"1"}
    assert len(made.blocks("encoder")) == 3


@pytest.mark.parametrize("name", KINDS)
def test_it_is_saved_loaded_and_compressed_further(name, deep, audio, tmp_path):
    recipe = {"steps": [{"merge_layers": {"encoder": [0]}}, {"rtn": {"bits": 8}}]}
    made = sottovoce.compress(deep(name), recipe=recipe, output=tmp_path / "out")
    assert made.bytes == made.predicted_bytes()
    assert len(sottovoce.load(made.folder).transcribe_clips(audio)) == len(audio)
    done = {
        tuple(step.partition("(")[0] for step in entry.steps)
        for entry in made.entries
        if entry.name.startswith("encoder.layers.0.")
    }
    assert done == {("merge_layers", "rtn")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_merged_trained_rounded_and_exported(name, deep, lessons, audio, tmp_path):
    trained = {"distill": {"epochs": 1, "batch": 4, "learning_rate": 1e-4}}
    recipe = {"steps": [{"merge_layers": {"encoder": [1], "decoder": [0]}}, trained, {"rtn": {"bits": 8}}]}
    made = sottovoce.compress(deep(name), recipe=recipe, output=tmp_path / "out", train=lessons(name))
    exported = sottovoce.export(made.folder, to="onnx", output=tmp_path / "onnx", threads=1)
    assert exported.tested.passed
    assert len(sottovoce.load(tmp_path / "onnx").transcribe_clips(audio)) == len(audio)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ([{"merge_layers": {}}], "merges nothing"),
        ([{"merge_layers": {"encoder": 3}}], "3 pairs are 6 blocks of 4; at most 2 would work"),
        ([{"merge_layers": {"decoder": 2}}], "2 pairs are 4 blocks of 3; at most 1 would work"),
        ([{"merge_layers": {"decoder": [2]}}], r"decoder: \[2\]: the first blocks of pairs, numbers from 0 to 1"),
        ([{"merge_layers": {"encoder": [1, 0]}}], "the pairs of 0 and 1 share a block"),
        ([{"merge_layers": {"encoder": [1, 1]}}], "the pairs of 1 and 1 share a block"),
        ([{"merge_layers": {"encoder": [0], "first_share": 1.5}}], "less than or equal to 1"),
        ([{"merge_layers": {"encoder": [0], "where": "encoder.*"}}], "leave where out"),
        (["rtn", {"merge_layers": {"encoder": [0]}}], "put merge_layers first"),
        ([{"merge_layers": {"encoder": [0]}}, {"distill": {"hidden": 1.0, "epochs": 1}}], "set hidden to 0"),
    ],
)
def test_what_cannot_be_merged_is_refused(recipe, message, deep):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": recipe}), find_target(deep("whisper")).layout())


def test_a_model_without_a_decoder_has_none_to_merge(deep):
    with pytest.raises(ValueError, match="has no decoder of which blocks could be merged"):
        select(read_recipe({"steps": [{"merge_layers": {"decoder": 1}}]}), find_target(deep("wav2vec2")).layout())
