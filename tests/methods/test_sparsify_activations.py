import json

import numpy as np
import onnx
import pytest
import torch

import sottovoce
from sottovoce.calibration.statistics import InputStats
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.inspect import activations_text, inspect
from sottovoce.methods.sparsify_activations import sparsify_activations
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve
from sottovoce.numbers.hadamard import random_hadamard
from sottovoce.numbers.rounding import Rounding
from sottovoce.numbers.zeroing import Zeroing, fit_zeroing
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.training.data import Material
from sottovoce.weights.cost import LayerCost, Product, Workload, cost
from sottovoce.weights.input_path import InputPath, Turn
from tests.conftest import TOYS
from tests.methods.samples import layer_of, some_inputs, some_weights
from tests.reference import zeroing as slow

W, X = some_weights(12, 48), some_inputs(150, 48)


def seen(x):
    stats = InputStats()
    stats.add(x, {"sample"})
    return stats.finish()


def layout(toy, name="whisper"):
    return open_layout(resolve(toy(name)))


# --- the threshold --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.97])
def test_the_threshold_is_the_least_that_leaves_the_share_at_zero(share):
    found = fit_zeroing(X, share)
    values = X.flatten().tolist()
    assert found.threshold == slow.threshold(values, share)
    assert found(X).flatten().tolist() == slow.zeroed(values, found.threshold)
    assert found.share == pytest.approx((found(X) == 0).double().mean().item()) == pytest.approx(share, abs=1e-3)


def test_of_equal_magnitudes_all_become_zero_and_the_share_says_so():
    x = torch.tensor([[1.0, -1.0, 1.0, 2.0, -3.0]])
    assert fit_zeroing(x, 0.2) == Zeroing(1.0, 0.6)
    assert fit_zeroing(x, 0.2)(x).tolist() == [[0, 0, 0, 2, -3]]


def test_what_is_zero_already_stays_so():
    x = torch.relu(X)
    found = fit_zeroing(x, 0.1)
    assert found.threshold == 0
    assert found.share == pytest.approx((x == 0).double().mean().item())
    assert torch.equal(found(x), x)


def test_a_gradient_reaches_what_is_kept_alone():
    x = X.clone().requires_grad_()
    found = fit_zeroing(X, 0.5)
    found(x).sum().backward()
    assert torch.equal(x.grad, (X.abs() > found.threshold).float())


# --- the path -------------------------------------------------------------------------------------


def test_zeros_come_after_a_turn_and_a_divisor_and_before_the_rounding_and_all_stay():
    layer = layer_of(W)
    turn, divisor = Turn((random_hadamard(48, 0),)), torch.rand(48) + 1
    layer.input = InputPath(turn, divisor, Rounding(4, symmetric=False))
    path = sparsify_activations(layer, seen(turn(X) / divisor), share=0.5)
    assert (path.turn, path.divisor, path.rounding) == (turn, divisor, Rounding(4, symmetric=False))
    moved = turn(X) / divisor
    small = moved.abs() <= path.zeroing.threshold
    assert torch.equal(path(X), Rounding(4, symmetric=False)(moved.masked_fill(small, 0.0)))
    assert (path(X)[small] == 0).all()


@pytest.mark.parametrize("order", [("sparsify_activations", "activations"), ("activations", "sparsify_activations")])
def test_it_and_integer_activations_work_on_one_layer_in_either_order(order, toy, clips):
    target = find_target(toy("whisper"))
    selection = select(read_recipe({"steps": list(order)}), target.layout())
    model, layers = target.open()
    compress_layers(model, layers, selection, Material(clips("whisper")))
    both = layers["encoder.layers.0.fc2"].input
    assert both.zeroing is not None
    assert both.rounding == Rounding(8)
    assert layers["encoder.layers.0.fc1"].input == InputPath(rounding=Rounding(8))


@pytest.mark.parametrize("name", TOYS)
def test_unless_told_otherwise_it_works_on_the_second_product_of_every_mlp(name, toy):
    model = layout(toy, name)
    [names] = select(read_recipe({"steps": ["sparsify_activations"]}), model).layers
    blocks = sum(len(model.blocks(stack)) for stack in model.depth)
    assert len(names) == blocks
    assert all("mlp" in model.components[at] and model.shapes[at].rows < model.shapes[at].columns for at in names)


@torch.no_grad()
def test_the_share_of_zeros_that_a_layer_reads_is_what_the_table_says(toy, clips):
    target = find_target(toy("whisper"))
    selection = select(read_recipe({"steps": [{"sparsify_activations": {"share": 0.4}}]}), target.layout())
    model, layers = target.open()
    compress_layers(model, layers, selection, Material(clips("whisper")))
    clip = clips("whisper")[0]
    read = {}

    def keep(module, inputs):
        read[module] = inputs[0][0]

    at = "encoder.layers.1.fc2"  # behind other layers whose inputs have zeros
    handle = model.find(at).register_forward_pre_hook(keep)
    model.encode([clip.features])
    handle.remove()
    frames = model.valid_positions(clip.samples)["frames"]
    zeros = (read[model.find(at)][:frames] == 0).double().mean().item()
    assert layers[at].input.zeroing.share == pytest.approx(0.4, abs=0.01)
    assert zeros == pytest.approx(0.4, abs=0.1)  # one clip of three


# --- what it saves --------------------------------------------------------------------------------


def test_bytes_of_columns_that_are_not_read_are_told_apart_from_the_traffic():
    # 6 columns of 8 bytes, and a low-rank term of rank 2 in 16 bits, whose left factor (4, 2) is read whole
    layer = LayerCost(4, 6, 16, 1.0, 2, 16, part_bytes=48 + 6 * 2 * 2 + 4 * 2 * 2, zeros=0.5)
    vectors = [[0, 0, 0, 1, 2, 3], [4, 0, 5, 0, 6, 0]]  # each alone in its pass, after one pass of three
    product = Product("layer", "layer", vectors=5, passes=3, single=2)
    found = cost([product, product], {"layer": layer}, Workload())
    without = cost([product, product], {"layer": LayerCost(4, 6, 16, 1.0, 2, 16, layer.part_bytes)}, Workload())
    assert found.skippable_bytes == 2 * slow.unread(8 + 4, vectors)
    assert (found.macs, found.bit_operations, found.memory_bytes) == (
        without.macs,
        without.bit_operations,
        without.memory_bytes,
    )
    assert without.skippable_bytes == 0


@pytest.mark.parametrize(("beam", "single"), [(1, 7), (3, 0)])
def test_a_decoder_reads_a_single_vector_in_every_pass_but_the_prompts_and_an_encoder_in_none(beam, single, toy):
    model = layout(toy)
    products = {product.layer: product for product in model.products(Workload(1.0, 8, beam)) if product.layer}
    assert len(model.rules().prompt) > 1
    assert products["decoder.layers.0.fc2"].single == single
    assert products["encoder.layers.0.fc2"].single == 0
    head = next(product for product in model.products(Workload(1.0, 8, beam)) if product.name == "head")
    assert head.single == single + 1


def test_inspect_shows_zeros_and_what_a_kernel_that_skips_them_would_not_read(toy, speech, tmp_path):
    recipe = {"steps": [{"sparsify_activations": {"share": 0.5}}, "activations"]}
    made = sottovoce.compress(toy("whisper"), recipe=recipe, data=speech, limit=3, output=tmp_path / "out")
    assert made.bytes == made.predicted_bytes()
    entry = next(entry for entry in made.entries if entry.name == "decoder.layers.0.fc2")
    assert activations_text(entry) == "50 % zeros, int8 per token"
    seen = inspect(made.folder, workload=Workload(1.0, 8))
    columns = sum(entry.bytes for entry in made.entries if entry.name.endswith("fc2") and "decoder" in entry.name)
    assert seen.cost.skippable_bytes == pytest.approx(0.5 * columns * 7, rel=0.01)
    assert inspect(toy("whisper"), workload=Workload(1.0, 8)).cost.skippable_bytes == 0


# --- on disk and elsewhere ------------------------------------------------------------------------


def test_a_threshold_is_written_exactly(toy, speech, tmp_path):
    made = sottovoce.compress(
        toy("moonshine"), recipe={"steps": ["sparsify_activations"]}, data=speech, limit=3, output=tmp_path / "out"
    )
    document = json.loads((made.folder / "sottovoce.json").read_text())
    _, layers = find_target(made.folder).open()
    for row in (row for row in document["layers"] if "input" in row):
        stored = row["input"]["zeroing"]
        assert np.float32(stored["threshold"]) == stored["threshold"] == layers[row["name"]].input.zeroing.threshold
    again = {"steps": ["sparsify_activations"]}
    with pytest.raises(ValueError, match="would overwrite what an earlier compression wrote"):
        sottovoce.compress(made.folder, recipe=again, data=speech, output=tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper", "moonshine", "wav2vec2"])
@pytest.mark.parametrize("steps", [["sparsify_activations"], ["sparsify_activations", {"rtn": {"bits": 8}}]], ids=len)
def test_onnx_runtime_sets_the_same_entries_to_zero(name, steps, toy, speech, tmp_path):
    made = sottovoce.compress(toy(name), recipe={"steps": steps}, data=speech, limit=3, output=tmp_path / "out")
    exported = sottovoce.export(made.folder, to="onnx", output=tmp_path / "onnx", threads=1)
    assert exported.tested.passed
    graph = onnx.load(next(iter(sorted((tmp_path / "onnx").glob("*.onnx"))))).graph
    assert sum(node.op_type == "Where" for node in graph.node) >= 2


@pytest.mark.parametrize("runtime", ["ggml", "ctranslate2", "compressed-tensors", "safetensors"])
def test_other_formats_refuse_it_by_name(runtime, toy, speech, tmp_path):
    steps = ["sparsify_activations"]
    if runtime == "compressed-tensors":  # which holds nothing without integers
        steps.append({"rtn": {"group_size": 32, "where": "blocks"}})
    made = sottovoce.compress(toy("whisper"), recipe={"steps": steps}, data=speech, limit=3, output=tmp_path / "out")
    with pytest.raises(ValueError, match="sparsify_activations"):
        sottovoce.export(made.folder, to=runtime, output=tmp_path / "exported")


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"sparsify_activations": {"share": 1.0}}], "less than 1"),
        ([{"sparsify_activations": {"share": 0}}], "greater than 0"),
        ([{"sparsify_activations": {"where": "encoder.conv1"}}], "encoder.conv1 is a convolution; exclude it"),
        ([{"sparsify_activations": {"where": "encoder.embed_positions"}}], "only looked up"),
        (["sparsify_activations", "sparsify_activations"], "would overwrite what sparsify_activations wrote"),
        (
            [{"sparsify_activations": {"where": "*.fc1"}}, "smoothquant"],
            "rescales or rotates inputs .* smoothquant first",
        ),
        ([{"sparsify_activations": {}}, "quarot"], "rescales or rotates inputs .* put quarot first"),
        ([{"sparsify_activations": {}}, {"drop_layers": {"encoder": [0]}}], "put drop_layers first"),
    ],
)
def test_what_cannot_be_set_to_zero_is_refused(steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), layout(toy))
