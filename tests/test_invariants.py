"""The promises of docs/design.md that hold for every method, every family, tied and untied."""

from collections import Counter, defaultdict
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import combinations
from math import ceil, comb, log2
from random import Random

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn.functional import unfold
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

import sottovoce
from sottovoce.artifact.folder import load_layers, read_artifact, save
from sottovoce.calibration.clips import calibrate
from sottovoce.calibration.collect import State, run
from sottovoce.calibration.statistics import InputStats
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import next_tokens
from sottovoce.methods import METHODS
from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.structure import Clip
from sottovoce.numbers.fast_products import fast_products
from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.palette import Palettized
from sottovoce.numbers.scales import RoundedScales
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.recipe import Recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target
from sottovoce.speech.audio import read as read_audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.data import Material
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.weight import Weight
from tests.conftest import FRAMES, TOYS, WRITING, material_of
from tests.tiers import in_turn, one_fast, slow_ones
from tests.units import through_units
from tests.weights.test_input_path import same as same_path

# What a method needs before it, and options without which it refuses; one that needs neither is not named.
BLOCKS = "*.layers.*"
LESSONS = {"batch": 4, "precision": "fp32", "held_out": 0, "checks": 1, "learning_rate": 0.01}
LEARNING = {"iterations": 2, "batch": 1, "checks": 1}
BEFORE = {
    "distill": ["wanda"],
    "lora": ["wanda"],
    "low_rank": ["rtn"],
    "prune_lora": ["rtn", {"low_rank": {"rank": 3}}],
    "quantize_lora": ["rtn", {"low_rank": {"rank": 3}}],
    "recover": ["wanda"],
}
AFTER = {"owl": [{"wanda": {"where": "blocks", "sparsity": "allocated"}}]}  # what a method's work is for
OPTIONS = {
    "armor": {"block_size": 8, "iterations": 2},
    "autoround": LEARNING,
    "distill": LESSONS,
    "drop_layers": {"encoder": [0]},
    "recover": {**LESSONS, "held_out": 0.2, "epochs": 4, "learning_rate": 0.003},
    "finetune": LESSONS,
    "liteasr": {"attention": 0.5, "mlp": 0.5, "multiple": 4},
    "group_lasso": {**LESSONS, "heads": 1, "neurons": 0.5},
    "omniquant": LEARNING,
    "prune_lora": {"where": BLOCKS},
    "prune_width": {"heads": 1, "neurons": 0.5},
    "tesseraq": LEARNING,
    "hqq": {"symmetric": False},
    "merge_layers": {"encoder": [0]},
    "maskllm": LESSONS,
    "lora": {**LESSONS, "rank": 2},
    "low_rank": {"rank": 3},
    "spqr": {"where": BLOCKS},
    "spinquant": {"steps": 2, "batch": 1},
    "trim_vocabulary": {"calibration": True},
}
RECIPES = {
    **{name: [*BEFORE.get(name, []), {name: OPTIONS.get(name, {})}, *AFTER.get(name, [])] for name in METHODS},
    "3 bits in groups": [{"gptq": {"where": BLOCKS, "bits": 3, "group_size": 16, "symmetric": False}}],
    "5 bits, one scale": [{"rtn": {"bits": 5, "group_size": "tensor", "scale_dtype": "float32"}}],
    "clipped by the output after awq": [
        {"awq": {"bits": 3, "form": "ratio"}},
        {"rtn": {"bits": 3, "group_size": 16, "clip": "output", "where": BLOCKS}},
    ],
    "clipped by the weights": [{"gptq": {"bits": 2, "clip": "mse"}}],
    "rounded zero": [{"hqq": {"symmetric": False, "round_zero": True, "scale_dtype": "bfloat16", "bits": 2}}],
    "2:4, bits, factors": [
        {"wanda": {"where": BLOCKS, "sparsity": "2:4"}},
        {"gptq": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
        {"low_rank": {"where": BLOCKS, "rank": 0.1, "metric": "diagonal"}},
    ],
    "2:4, learned integers, factors": [
        {"wanda": {"where": BLOCKS, "sparsity": "2:4"}},
        {"autoround": {**LEARNING, "where": BLOCKS, "bits": 3, "group_size": 16, "symmetric": False}},
        {"low_rank": {"where": BLOCKS, "rank": 2}},
    ],
    "transformed and clipped": [{"omniquant": {**LEARNING, "let": True, "symmetric": False}}],
    "soft under a bitmap, one scale": ["magnitude", {"tesseraq": {**LEARNING, "group_size": "tensor", "bits": 3}}],
    "learned after smoothing, one scale": ["smoothquant", {"autoround": {**LEARNING, "group_size": "tensor"}}],
    "0.7 sparse 3 bits": [{"magnitude": {"sparsity": 0.7}}, {"rtn": {"bits": 3}}],
    "2:4 floats": [{"wanda": {"where": BLOCKS, "sparsity": "2:4"}}],
    "masked floats and factors": ["wanda", {"low_rank": {"rank": 2, "dtype": "bfloat16"}}],
    "factors alone": [{"low_rank": {"replace": True, "rank": 4, "metric": "plain", "dtype": "float32"}}],
    "updated, rounded, factors": [
        {"sparsegpt": {"where": BLOCKS, "sparsity": "4:8"}},
        {"rtn": {"where": BLOCKS, "bits": 3}},
        {"low_rank": {"where": BLOCKS, "rank": 2}},
    ],
    "updated, factors, rounded": [
        {"sparsegpt": {"where": BLOCKS, "sparsity": "1:4"}},
        {"low_rank": {"where": BLOCKS, "rank": 2}},
        {"gptq": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
    ],
    "one sweep, factors, trained": [
        {"sparsegpt_joint": {"where": BLOCKS, "sparsity": "3:8", "group_size": 16, "bits": 3}},
        {"low_rank": {"where": BLOCKS, "rank": 2}},
        {"finetune": LESSONS},
    ],
    "shares allocated, updated, trained, rounded": [
        {"owl": {"sparsity": 0.6}},
        {"sparsegpt": {"where": BLOCKS, "sparsity": "allocated", "over": "row"}},
        {"distill": LESSONS},
        "rtn",
    ],
    "rounded factors beside masked integers": [
        {"wanda": {"where": BLOCKS, "sparsity": "2:4"}},
        {"gptq": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
        {"low_rank": {"where": BLOCKS, "rank": 5, "metric": "diagonal"}},
        {"quantize_lora": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
    ],
    "rounded factors alone, trained": [
        {"liteasr": {"where": "blocks", "attention": 0.5, "mlp": 0.5, "multiple": 4}},
        {"quantize_lora": {"where": "blocks", "bits": 5, "scale_dtype": "bfloat16"}},
        {"finetune": {**LESSONS, "where": BLOCKS}},
    ],
    "smooth, masked, rounded": ["smoothquant", {"global_magnitude": {"where": BLOCKS}}, "gptq"],
    "all pruned then rounded": ["global_magnitude", "gptq"],
    "2:4 integers, trained with their scales": [
        {"wanda": {"where": BLOCKS, "sparsity": "2:4"}},
        {"gptq": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
        {"finetune": {**LESSONS, "learned_scales": True}},
    ],
    "trained with a fractional zero": [{"hqq": {"symmetric": False}}, {"distill": LESSONS}],
    "trained with its factors": [
        "rtn",
        {"low_rank": {"where": BLOCKS, "rank": 2}},
        {"finetune": {**LESSONS, "where": BLOCKS}},
    ],
    "adapters merged into masked integers": [
        "magnitude",
        "gptq",
        {"lora": {**LESSONS, "rank": 2, "merge": True, "where": BLOCKS, "learning_rate": 0.1}},
    ],
    "adapters behind factors": ["rtn", {"low_rank": {"rank": 2}}, {"lora": {**LESSONS, "rank": 2}}],
    "masked, trained, rounded, trained": ["wanda", {"distill": LESSONS}, "gptq", {"distill": LESSONS}],
    "learned masks, integers under them, factors, trained": [
        "smoothquant",
        {"maskllm": {**LESSONS, "sparsity": "1:4", "prior": "magnitude", "train_weights": True}},
        {"gptq": {"where": BLOCKS, "bits": 3, "group_size": 16, "symmetric": False}},
        {"low_rank": {"where": BLOCKS, "rank": 2}},
        {"distill": LESSONS},
    ],
    "outliers under a mask": [
        {"wanda": {"where": BLOCKS}},
        {"spqr": {"where": BLOCKS, "bits": 3, "outlier_threshold": 0.02, "scale_rows": 24}},
    ],
    "symmetric outliers under n:m, a table": [
        {"magnitude": {"where": BLOCKS, "sparsity": "2:4"}},
        {"spqr": {"where": BLOCKS, "bits": 2, "symmetric": True, "zero_bits": "none"}},
        {"palettize": {"where": "!*.layers.*", "bits": 5, "sigma": 1}},
    ],
    "outliers, then adapters": [
        {"spqr": {"where": BLOCKS, "scale_bits": "none", "zero_bits": 5}},
        {"lora": {**LESSONS, "rank": 2, "where": BLOCKS}},
    ],
    "a table and factors": [
        {"palettize": {"bits": 2, "weigh_inputs": True, "dtype": "bfloat16"}},
        {"low_rank": {"where": BLOCKS, "rank": 2}},
    ],
    "a table, trained": [{"palettize": {"bits": 1, "sigma": 2}}, {"finetune": LESSONS}],
    "outliers, trained with scales": [{"spqr": {"where": BLOCKS}}, {"finetune": {**LESSONS, "learned_scales": True}}],
    "adapters merged into masked tables": [
        "magnitude",
        {"palettize": {"sigma": "none", "dtype": "float32"}},
        {"lora": {**LESSONS, "rank": 2, "merge": True, "where": BLOCKS, "learning_rate": 0.1}},
    ],
    "small inputs at 0, then rounded": [
        {"wanda": {"where": BLOCKS}},
        {"sparsify_activations": {"where": BLOCKS, "share": 0.3}},
        {"gptq": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
        {"activations": {"where": BLOCKS, "per": "tensor", "symmetric": False}},
    ],
    "small inputs at 0, trained": ["sparsify_activations", "rtn", {"finetune": LESSONS}],
    "merged, smoothed, rounded": [{"merge_layers": {"decoder": [0], "first_share": 0.2}}, "smoothquant", "gptq"],
    "every input rounded": [
        {"activations": {"where": ["*", "!~*embed_positions", "!~decoder.embed_tokens"], "bits": 5}},
        "gptq",
    ],
    "inputs of fixed scales": [
        "smoothquant",
        {"activations": {"where": "encoder.*.fc?", "per": "channel", "range": "mse", "bits": 4}},
        {"activations": {"where": "*.*_proj", "per": "tensor", "range": "percentile", "symmetric": False}},
        "rtn",
    ],
    "trained with rounded inputs": ["activations", "rtn", {"finetune": {**LESSONS, "learned_scales": True}}],
    "integers throughout": ["smoothquant", {"gptq": {"bits": 8}}, "activations", {"kv_cache": {"bits": 4}}],
    "outliers apart, trained": [
        {"wanda": {"where": BLOCKS}},
        {"llm_int8": {"threshold": 1.5}},
        "kv_cache",
        {"finetune": {**LESSONS, "learned_scales": True}},
    ],
    "turned, smoothed, rounded": [
        {"quarot": {"kind": "random", "keys": True}},
        "smoothquant",
        {"gptq": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
    ],
    "shifted, then turned without heads": [
        {"osplus": {"candidates": 10}},
        {"quarot": {"heads": False, "online": False}},
        "rtn",
    ],
    "narrower, trained, narrower, rounded": [
        {"prune_width": {"neurons": 0.25, "multiple_of": 16, "over": "stack", "importance": "activation"}},
        {"distill": LESSONS},
        {"prune_width": {"heads": 1, "importance": "taylor", "where": "encoder"}},
        {"gptq": {"where": BLOCKS, "group_size": 16}},
    ],
    "trained narrower, trained, rounded": [
        {"drop_layers": {"decoder": [0]}},
        {"group_lasso": {**LESSONS, "neurons": 0.25, "multiple_of": 16, "over": "stack"}},
        {"distill": LESSONS},
        {"gptq": {"where": BLOCKS, "group_size": 16}},
    ],
    "2:4 integers and factors of fewer tokens": [
        {"wanda": {"where": BLOCKS, "sparsity": "2:4"}},
        {"gptq": {"group_size": 16, "symmetric": False}},
        {"low_rank": {"where": [BLOCKS, "decoder.embed_tokens"], "rank": 2}},
        {"trim_vocabulary": {"calibration": True}},
    ],
    "outliers and shared lines of fewer tokens": [
        {"spqr": {"where": "decoder.embed_tokens", "bits": 3, "outlier_threshold": 0.02, "scale_rows": 24}},
        {"palettize": {"where": "!decoder.embed_tokens", "bits": 5, "sigma": 1}},
        {"trim_vocabulary": {"calibration": True}},
    ],
    "short and pooled, 2:4, bits, trained": [
        {"shorten_context": {"margin_seconds": 0.1}},
        {"pool_time": {"factor": 3}},
        {"wanda": {"where": BLOCKS, "sparsity": "2:4"}},
        {"gptq": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
        {"distill": {**LESSONS, "encoder": 0}},
    ],
    "the encoder alone": [
        {"wanda": {"where": "encoder.layers.*"}},
        {"distill": {**LESSONS, "encoder": 1, "logits": 0}},
    ],
    "pruned factors beside masked integers, rounded, trained": [
        {"wanda": {"where": BLOCKS, "sparsity": "2:4"}},
        {"gptq": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
        {"low_rank": {"where": BLOCKS, "rank": 5, "metric": "diagonal"}},
        {"prune_lora": {"where": BLOCKS, "metric": "diagonal"}},
        {"quantize_lora": {"where": BLOCKS, "group_size": 16, "symmetric": False}},
        {"finetune": {**LESSONS, "where": BLOCKS}},
    ],
    "a core between blocks, rounded, factors, trained": [
        {"armor": {"sparsity": "4:8", "block_size": 16, "iterations": 2, "dtype": "bfloat16"}},
        {"rtn": {"where": BLOCKS, "bits": 5, "symmetric": False}},
        {"low_rank": {"where": BLOCKS, "rank": 2}},
        {"finetune": {**LESSONS, "where": BLOCKS}},
    ],
}
every_toy = pytest.mark.parametrize("name", TOYS)
every_writing_toy = pytest.mark.parametrize("name", WRITING)


def compressed(folder, steps, material, after=lambda model, layers, step, changed: None):
    """The model and layers of a checkpoint after `steps`; `after` is called with all of them at each."""
    target = find_target(folder)
    selection = select(read_recipe({"steps": steps}), target.layout())
    model, layers = target.open()
    compress_layers(model, layers, selection, material, after=lambda step, changed: after(model, layers, step, changed))
    return model, layers


def saved(tmp_path, folder, steps, material):
    model, layers = compressed(folder, steps, material)
    return model, layers, save(tmp_path / "artifact", model, layers, find_target(folder).base, [], [])


def degenerate(model, layers):
    """Weights that are all zero, so that what follows them never changes, and a channel that never fires."""
    for name, layer in layers.items():
        if name.endswith(("layers.0.fc1", "layers.0.mlp.fc1", "layers.1.self_attn.v_proj")):
            layer.change_target(torch.zeros_like(layer.target))
            model.assign(layer)
    for name, module in model.module.named_modules():
        if isinstance(module, nn.LayerNorm) and "layers.1." in name:
            module.weight.data[3] = 0


NEED_A_DECODER = {
    *("finetune", "distill", "recover", "lora", "maskllm", "group_lasso"),
    *("quarot", "spinquant", "kv_cache", "trim_vocabulary"),
}
NEED_A_WINDOW = {"shorten_context", "pool_time"}
UNTRAINED = [name for name in METHODS if not read_recipe({"steps": RECIPES[name]}).trains]


def has_what_it_needs(name, recipe):
    """Whether a toy is a Whisper, where a recipe changes how long its encoder's input is."""
    steps = {step if isinstance(step, str) else next(iter(step)) for step in RECIPES[recipe]}
    return name.startswith("whisper") or not NEED_A_WINDOW & steps


@pytest.mark.parametrize(("method", "family"), in_turn(UNTRAINED, ["whisper", "moonshine"]))
def test_zero_weights_constant_activations_and_a_clip_of_one_frame_give_no_nan(family, method, toy, clips):
    if not has_what_it_needs(family, method):
        pytest.skip("it has no window")
    target = find_target(toy(family))
    model, layers = target.open()
    degenerate(model, layers)
    shortest = model.least_samples if family == "moonshine" else 1
    clip = Clip(
        model.features(np.zeros(shortest, dtype=np.float32) + 0.1),
        shortest,
        clips(family)[0].tokens[:, : len(model.rules().prompt)],
    )
    selection = select(read_recipe({"steps": RECIPES[method]}), target.layout())
    compress_layers(model, layers, selection, Material((clip,)))
    for layer in layers.values():
        assert torch.isfinite(layer.weight.dense()).all(), layer.name
    assert all(torch.isfinite(tensor).all() for tensor in model.module.state_dict().values())
    assert torch.isfinite(next_tokens(model, clip)).all()


def logits(model: SpeechModel, clip: Clip) -> torch.Tensor:
    """transformers' own forward of one clip."""
    with torch.no_grad():
        inputs = {model.module.main_input_name: clip.features}
        if isinstance(model, EncoderDecoder):
            inputs |= {"decoder_input_ids": clip.tokens, "use_cache": False}
        return model.module(**inputs).logits


def weight_of(model, layer):
    return model.find(layer.name).weight.detach().reshape(layer.target.shape)


# --- after each step ------------------------------------------------------------------------------


class Watched:
    """A toy compressed by one of RECIPES and saved, with all that was wrong after any of its steps."""

    def __init__(self, name, recipe, folder, material, output):
        self.name, self.recipe, self.seen = name, recipe, []
        self.unlike_parts, self.unchanged, self.strayed = [], [], []
        _, self.before = find_target(folder).open()
        self._known = {at: (layer.weight, layer.input, layer.output) for at, layer in self.before.items()}
        self._targets = {at: layer.target.clone() for at, layer in self.before.items()}
        self.model, self.layers = compressed(folder, RECIPES[recipe], material, self.after)
        self.artifact = save(output, self.model, self.layers, find_target(folder).base, [], [])

    def after(self, model, layers, step, changed):
        self.seen.append(step.method.name)
        for layer in layers.values():
            if not torch.equal(weight_of(model, layer), layer.weight.dense()):
                self.unlike_parts.append((step.label, layer.name))
        if step.method.owns == "sparsity":  # for a pruner that follows; nothing is changed
            assert not changed
            assert any(layer.sparsity for layer in layers.values())
            return
        if step.method.owns == "structure":  # fewer layers, and other names, or the same
            assert set(layers) == set(model.shapes) <= set(self.before)
            self.before = deepcopy(layers)
            self._known = {at: (layer.weight, layer.input, layer.output) for at, layer in layers.items()}
            self._targets = {at: layer.target.clone() for at, layer in layers.items()}
            return
        assert changed
        for layer in changed.values():
            if layer.steps[-1] != step.on(model.components[layer.name]).label or self.is_as_before(layer):
                self.unchanged.append((step.label, layer.name))
            self._known[layer.name] = layer.weight, layer.input, layer.output
        self.strayed += [
            (step.label, at) for at, layer in layers.items() if not self.target_is_right(layer, step, changed)
        ]
        self._targets = {at: layer.target.clone() for at, layer in layers.items()}

    def is_as_before(self, layer):
        (old, *paths), new = self._known[layer.name], layer.weight
        same = old.base is new.base or (isinstance(new.base, torch.Tensor) and torch.equal(old.base, new.base))
        same &= paths[0] is layer.input and paths[1] is layer.output
        return same and old.mask is new.mask and old.low_rank is new.low_rank and old.wrappers is new.wrappers

    def target_is_right(self, layer, step, changed):
        stays = torch.equal(layer.target, self._targets[layer.name])
        if step.method.scope == "model":
            if layer.name not in changed:
                return True
            weight = layer.weight
            settled = not isinstance(weight.base, torch.Tensor) or torch.equal(
                weight.base.float(), weight.masked_base()
            )
            return settled and torch.equal(layer.target, weight.dense())  # base := mask * base
        if step.method.moves_basis(step.options):
            return True
        return stays != (step.method.owns == "basis" and layer.name in changed)


FAST_OF_FRAMES = ("awq", "gptq", "hqq", "rsq", "rtn", "smoothquant", "wanda")
ONE_OF_EACH = ("whisper untied", "moonshine")  # where tied or not says nothing new of a combination


def cases():
    """A method with every toy that has what it needs, a combination with two; in the fast tier fewer."""
    turns = ("whisper", "moonshine untied", "whisper untied", "moonshine")
    ones = (("whisper untied",), (), (), (), ("moonshine",), (), (), ())
    for i, recipe in enumerate(RECIPES):
        every, fast = (WRITING, turns[i % 4 : i % 4 + 1]) if recipe in METHODS else (ONE_OF_EACH, ones[i % 8])
        if recipe in METHODS and recipe not in NEED_A_DECODER:
            frames = FRAMES[recipe == "osplus" :]  # norms after sums are none that it could shift
            every, fast = (*WRITING, *frames), (*fast, *FRAMES[: recipe in FAST_OF_FRAMES])
        for name in filter(partial(has_what_it_needs, recipe=recipe), every):
            yield pytest.param((name, recipe), marks=[] if name in fast else [pytest.mark.slow])


@pytest.fixture(scope="module", params=list(cases()), ids=": ".join)
def watched(request, toy, clips, lessons, tmp_path_factory):
    """Each toy with each recipe, compressed once for all that is asked of it."""
    name, recipe = request.param
    folder = tmp_path_factory.mktemp("watched")
    return Watched(name, recipe, toy(name), material_of(name, toy, clips, lessons, folder), folder / "artifact")


def test_after_every_step_the_module_holds_what_its_parts_say(watched):
    assert not watched.unlike_parts
    steps = RECIPES[watched.recipe]
    assert set(watched.seen) == {step if isinstance(step, str) else next(iter(step)) for step in steps}


def test_a_layer_lists_a_step_only_if_the_step_changed_it(watched):
    assert not watched.unchanged
    for name, layer in watched.layers.items():
        assert layer.steps or torch.equal(layer.weight.dense(), watched.before[name].weight.dense())


def test_a_target_moves_only_where_the_basis_or_a_whole_segment_does(watched):
    assert not watched.strayed


# --- on disk --------------------------------------------------------------------------------------


def test_what_is_loaded_is_bitwise_what_was_saved(watched, monkeypatch):
    model, layers, artifact = watched.model, watched.layers, watched.artifact
    assert artifact.predicted_bytes() == artifact.bytes
    monkeypatch.setattr(SpeechModel, "without_weights", garbage(SpeechModel.without_weights))
    loaded, found = load_layers(artifact)

    assert loaded.tied == model.tied == (watched.name in ("whisper", "moonshine"))
    assert_same_module(loaded.module, model.module)
    assert loaded.turns.keys() == model.turns.keys()
    assert all(same_path(InputPath(turn), InputPath(model.turns[at])) for at, turn in loaded.turns.items())
    for layer in found.values():
        assert_same_weight(layer.weight, layers[layer.name].weight)
        assert same_path(layer.input, layers[layer.name].input)
        assert layer.output == layers[layer.name].output
        assert layer.steps == layers[layer.name].steps
        if layer.weight.mask is not None and layer.weight.low_rank is None and layer.weight.wrappers is None:
            assert (weight_of(loaded, layer)[~layer.weight.mask] == 0).all()
        if layer.weight.mask is not None and layer.weight.base is not None:
            assert (layer.weight.masked_base()[~layer.weight.mask] == 0).all()


def test_a_dense_weight_can_be_computed_from_the_file_alone(watched):
    model, layers, artifact = watched.model, watched.layers, watched.artifact
    with safe_open(artifact.folder / "model.safetensors", framework="pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, a file and no dict
    for entry in artifact.entries:
        parts = {key.removeprefix(entry.tensor): t for key, t in stored.items() if key.startswith(f"{entry.tensor}")}
        dense = by_hand(entry, parts)
        assert torch.equal(dense, layers[entry.name].weight.dense()), entry.name
        assert torch.equal(dense, weight_of(model, layers[entry.name])), entry.name


def mask_by_hand(words, packed, columns):
    """(rows, columns) bool of a stored mask that the table calls `words`."""
    if words == "bitmap":
        return torch.stack([torch.tensor(numbers(row, 1, columns)).bool() for row in packed])
    n, m = map(int, words.split(":"))
    ways = [[place in kept for place in range(m)] for kept in combinations(range(m), n)]
    bits = ceil(log2(len(ways)))
    groups = [[ways[i] for i in numbers(row, bits, columns // m)] for row in packed]
    return torch.tensor(groups).reshape(len(packed), columns)


def by_hand(entry, parts):
    """(out, in) float32 from an entry's stored tensors, one number after the other."""
    if "" in parts:
        return parts[""].reshape(entry.rows, entry.columns).float()
    kept = torch.ones(entry.rows, entry.columns, dtype=torch.bool)
    if entry.mask:
        kept = mask_by_hand(entry.mask, parts[".mask"], entry.columns)
    dense = torch.zeros(entry.rows, entry.columns)
    if entry.bits:
        codes = parts[".codes"]
        if entry.mask:
            levels = torch.zeros(entry.rows, entry.columns)
            levels[kept] = torch.tensor(numbers(codes, entry.bits, entry.kept)).float()
        else:
            levels = torch.tensor([numbers(row, entry.bits, entry.columns) for row in codes]).float()
        if entry.palette:
            dense = parts[".table"].float()[levels.long()]
        else:
            scale, zero = scales_by_hand(entry, parts)
            for i in range(entry.columns):
                group = i * scale.shape[1] // entry.columns
                dense[:, i] = (levels[:, i] - zero[:, group]) * scale[:, group]
    elif entry.dtype:
        dense[kept] = parts[".values"].float().flatten()
    if entry.outliers:
        found = iter(zip(parts[".outlier_columns"].tolist(), parts[".outlier_values"].tolist(), strict=True))
        for row, count in enumerate(parts[".outlier_counts"].tolist()):
            for column, value in (next(found) for _ in range(count)):
                assert kept[row, column]
                dense[row, column] = value
        assert next(found, None) is None
    dense[~kept] = 0
    if entry.wrapper_size:
        size, inner = entry.wrapper_size, parts[".inner"].float()
        dense = torch.bmm(dense.reshape(entry.rows, -1, size).transpose(0, 1), inner).transpose(0, 1)
        dense = torch.bmm(parts[".outer"].float(), dense.reshape(-1, size, entry.columns))
        dense = dense.reshape(entry.rows, entry.columns)
    if not entry.rank:
        return dense
    left, right = factors_by_hand(entry, parts)
    product = left @ right
    return product if entry.base_bits == 0 else dense + product


def factors_by_hand(entry, parts):
    """The factors (out, rank) and (rank, in) float32 of a low-rank term."""
    kept = torch.ones(entry.rank, entry.columns, dtype=torch.bool)
    if entry.factor_mask:
        kept = mask_by_hand(entry.factor_mask, parts[".right.mask"], entry.columns)
    if not entry.factor_bits:
        right = torch.zeros(entry.rank, entry.columns)
        right[kept] = parts[".right"].float().flatten()
        return parts[".left"].float(), right
    found = []
    for side in ("left", "right"):
        own = {key.removeprefix(f".{side}"): part for key, part in parts.items() if key.startswith(f".{side}.")}
        size, bits = entry.factor_group_size, entry.factor_bits
        length = entry.rows if side == "left" else entry.columns
        if side == "right" and entry.factor_mask:
            levels = torch.zeros(entry.rank, length)
            levels[kept] = torch.tensor(numbers(own[".codes"], bits, entry.factor_kept)).float()
        else:
            levels = torch.tensor([numbers(row, bits, length) for row in own[".codes"]]).float()
        scale = own[".scale"].float()
        groups = 1 if size == "channel" else length // size
        zero = torch.full(scale.shape, 2.0 ** (bits - 1))
        if not entry.factor_symmetric:
            zero = torch.tensor([numbers(row, bits, groups) for row in own[".zero_point"]]).float()
        each = [group * groups // length for group in range(length)]
        found.append((levels - zero[:, each]) * scale[:, each])
    return found[0].T, found[1].masked_fill(~kept, 0)


def scales_by_hand(entry, parts):
    """The scales and zero points (rows, groups) float32 of a base on a grid."""
    rows, groups = entry.scale_shape()

    def on_lines(suffix, bits):
        codes = torch.tensor([numbers(row, bits, groups) for row in parts[suffix]]).float()
        runs = [row // entry.scale_rows for row in range(rows)]
        return parts[f"{suffix}_start"].float()[runs] + codes * parts[f"{suffix}_step"].float()[runs]

    scale = on_lines(".scale", entry.scale_bits) if entry.scale_bits else parts[".scale"].float()
    if entry.zero == "integer":
        zero = torch.tensor([numbers(row, entry.bits, groups) for row in parts[".zero_point"]]).float()
    elif entry.zero == "fractional":
        zero = on_lines(".zero_point", entry.zero_bits) if entry.zero_bits else parts[".zero_point"].float()
    else:
        zero = torch.full((rows, groups), 2.0 ** (entry.bits - 1))
    return scale, zero


def numbers(packed, bits, count):
    """The first `count` numbers of `bits` bits in a little-endian binary number."""
    digits = "".join(f"{byte:08b}"[::-1] for byte in packed.tolist())  # lowest first
    return [int(digits[bits * i : bits * (i + 1)][::-1], 2) for i in range(count)]


def garbage(without_weights):
    """A `without_weights` whose module holds random numbers, in its buffers that a file stores too."""

    @classmethod
    def filled(cls, checkpoint, device="meta"):
        model = without_weights.__func__(cls, checkpoint, device)
        if device != "meta":
            for tensor in model.module.state_dict().values():
                tensor.detach().normal_(mean=100)
        return model

    return filled


def assert_same_module(one, other):
    for kind in ("named_parameters", "named_buffers"):
        found, expected = dict(getattr(one, kind)()), dict(getattr(other, kind)())
        assert set(found) == set(expected)
        for key, tensor in found.items():
            assert torch.equal(tensor, expected[key]), key


def assert_same_weight(one, other):
    kept = slice(None) if one.mask is None else one.mask
    assert (one.mask is None) == (other.mask is None)
    assert one.mask is None or torch.equal(one.mask, other.mask)
    assert type(one.base) is type(other.base)
    if isinstance(one.base, Quantized):
        assert one.base.grid == other.base.grid
        pairs = [(one.base.codes[kept], other.base.codes[kept])]
        for mine, theirs in ((one.base.scale, other.base.scale), (one.base.zero_point, other.base.zero_point)):
            assert type(mine) is type(theirs)
            if isinstance(mine, RoundedScales):
                assert (mine.bits, mine.size) == (theirs.bits, theirs.size)
                pairs += [(getattr(mine, part), getattr(theirs, part)) for part in ("codes", "start", "step")]
            elif mine is not None:
                pairs.append((mine, theirs))
    elif isinstance(one.base, Palettized):
        pairs = [(one.base.codes[kept], other.base.codes[kept]), (one.base.table, other.base.table)]
    else:
        pairs = [] if one.base is None else [(one.base[kept], other.base[kept])]
    assert type(one.low_rank) is type(other.low_rank)
    if isinstance(one.low_rank, CodedFactors):
        assert_same_weight(Weight(one.low_rank.left), Weight(other.low_rank.left))
        rights = (Weight(weight.low_rank.right, weight.factor_mask) for weight in (one, other))
        assert_same_weight(*rights)
    else:
        pairs += list(zip(one.low_rank or (), other.low_rank or (), strict=True))
    assert (one.factor_mask is None) == (other.factor_mask is None)
    if one.factor_mask is not None:
        pairs.append((one.factor_mask, other.factor_mask))
    assert (one.wrappers is None) == (other.wrappers is None)
    if one.wrappers is not None:
        pairs += [(one.wrappers.outer, other.wrappers.outer), (one.wrappers.inner, other.wrappers.inner)]
    far = [None if weight.outliers is None else weight.outliers.under(weight.mask) for weight in (one, other)]
    assert (far[0] is None) == (far[1] is None)
    if far[0] is not None:
        pairs += [tuple(getattr(values, part) for values in far) for part in ("counts", "columns", "values")]
    for mine, theirs in pairs:
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


@every_writing_toy
def test_a_tied_weight_is_stored_once_and_stays_tied(name, toy, clips, tmp_path):
    model, _, artifact = saved(tmp_path, toy(name), ["rtn"], Material())
    module, tied = model.module, "untied" not in name
    assert (module.proj_out.weight is module.model.decoder.embed_tokens.weight) == tied
    with safe_open(artifact.folder / "model.safetensors", framework="pt") as file:
        heads = [key for key in file.keys() if key.startswith("proj_out")]  # noqa: SIM118
        tables = [key for key in file.keys() if "embed_tokens" in key]  # noqa: SIM118
    assert len(tables) == 2  # codes and scale
    assert len(heads) == (0 if tied else 2)


# --- masks ----------------------------------------------------------------------------------------

PRUNERS = ("magnitude", "wanda", "ria", "sparsegpt", "sparsegpt_joint")
PATTERNS = ("1:2", "2:4", "1:4", "3:4", "4:8", "1:8", "8:16")
ROUNDED = (
    ["rtn"], [{"gptq": {"where": BLOCKS, "bits": 3, "group_size": 16}}], [{"hqq": {"symmetric": False}}],
    [{"autoround": {**LEARNING, "where": BLOCKS}}], [{"palettize": {"bits": 3}}], [{"spqr": {"where": BLOCKS}}], [],
)  # fmt: skip
CORRECTED = ([{"low_rank": {"where": BLOCKS, "rank": 2}}], [])
TRAINED = ([{"finetune": LESSONS}], [{"lora": {**LESSONS, "rank": 2, "merge": True, "where": BLOCKS}}], [], [])


def a_recipe(seed):
    """(n, m, steps): a pruner of n:m, and what may follow it."""
    draw = Random(seed).choice
    pruner, pattern = PRUNERS[seed % len(PRUNERS)], draw(PATTERNS)
    joint = {"bits": 3, "group_size": 16} if pruner == "sparsegpt_joint" else {}
    later = [*draw(TRAINED), *([] if joint else draw(ROUNDED)), *draw(CORRECTED), *draw(TRAINED)]
    return (*map(int, pattern.split(":")), [{pruner: {"where": BLOCKS, "sparsity": pattern, **joint}}, *later])


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 40))])
def test_n_of_m_holds_in_every_group_after_every_later_step_and_in_the_file(seed, toy, material, tmp_path):
    n, m, steps = a_recipe(seed)
    name = WRITING[seed % len(WRITING)]
    left = []

    def check(model, layers, step, changed):
        for layer in (layer for layer in layers.values() if layer.weight.mask is not None):
            base = layer.weight.masked_base().reshape(-1, m)
            if (layer.weight.mask.reshape(-1, m).sum(1) != n).any() or ((base != 0).sum(1) > n).any():
                left.append((step.label, layer.name))

    model, layers = compressed(toy(name), steps, material(name), check)
    assert not left
    artifact = save(tmp_path / "a", model, layers, find_target(toy(name)).base, [], [])
    _, loaded = load_layers(artifact)
    for entry in artifact.entries:
        if ".layers." in entry.name:
            assert entry.kept * m == entry.weights * n
            assert torch.equal(loaded[entry.name].weight.mask, layers[entry.name].weight.mask)


@pytest.mark.parametrize("sparsity", [0.5, *PATTERNS])
def test_a_file_shrinks_by_what_the_table_says_to_the_byte(sparsity, toy, tmp_path):
    alike = {"rtn": {"where": "encoder.conv1", "bits": 8}}
    pruning = {"magnitude": {"where": "*.fc2", "sparsity": sparsity}}
    dense, masked = (
        sottovoce.compress(toy("whisper"), recipe={"steps": steps}, output=tmp_path / f"{len(steps)}")
        for steps in ([alike], [alike, pruning])
    )
    n, m = (1, 2) if isinstance(sparsity, float) else map(int, sparsity.split(":"))
    pruned = {entry.name: entry for entry in masked.entries if entry.name.endswith("fc2")}
    for entry in pruned.values():
        assert entry.shape == (32, 64)
        assert entry.mask == {0.5: "bitmap", "1:2": "2:4"}.get(sparsity, sparsity)  # 1:2 is 2:4, which kernels know
        kept_of = (2, 4) if sparsity == "1:2" else (n, m)
        row = 8 if isinstance(sparsity, float) else ceil(64 / kept_of[1] * ceil(log2(comb(*kept_of[::-1]))) / 8)
        assert entry.bytes == 32 * 64 * n // m * 4 + 32 * row
    saved_by_table = sum(entry.bytes for entry in dense.entries) - sum(entry.bytes for entry in masked.entries)
    headers = [
        int.from_bytes((each.folder / "model.safetensors").read_bytes()[:8], "little") for each in (dense, masked)
    ]
    sizes = [(each.folder / "model.safetensors").stat().st_size for each in (dense, masked)]
    assert (sizes[0] - headers[0]) - (sizes[1] - headers[1]) == saved_by_table > 0
    assert masked.predicted_bytes() == masked.bytes


# --- the change of basis --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        {"smoothquant": {"alpha": 0.7}},
        {"awq": {"bits": 2}},
        {"osplus": {"bits": 3, "activation_bits": 4, "frontend_bits": None}},
        {"quarot": {"keys": True}},
        {"spinquant": {"steps": 2, "batch": 1, "activation_bits": 3}},
    ],
    ids=lambda step: next(iter(step)),
)
@every_toy
def test_a_change_of_basis_leaves_float_logits_as_they_were(name, step, toy, clips):
    if name in FRAMES and next(iter(step)) in NEED_A_DECODER:
        pytest.skip("refused, says test_what_a_ctc_model_cannot_have_is_refused_before_a_weight_is_read")
    before, _ = find_target(toy(name)).open()
    after, layers = compressed(toy(name), [step], Material(clips(name)))
    assert any(layer.steps for layer in layers.values())
    for clip in clips(name):
        expected = logits(before, clip)
        assert torch.allclose(logits(after, clip), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("earlier", ["wanda", "magnitude", "rtn", {"low_rank": {"replace": True}}])
@every_toy
def test_smoothing_may_not_follow_a_mask_or_a_rounding(name, earlier, toy):
    with pytest.raises(ValueError, match="has already fixed"):
        select(read_recipe({"steps": [earlier, "smoothquant"]}), find_target(toy(name)).layout())


@every_toy
def test_smoothing_refuses_an_artifact_that_is_masked(name, toy, tmp_path):
    sottovoce.compress(toy(name), recipe={"steps": ["magnitude"]}, output=tmp_path / "a")
    with pytest.raises(ValueError, match="smoothquant rescales or rotates weights that an earlier compression"):
        sottovoce.compress(tmp_path / "a", recipe={"steps": ["smoothquant"]}, output=tmp_path / "b", data="none")


# --- block by block -------------------------------------------------------------------------------


@every_toy
@torch.no_grad()
def test_block_by_block_is_the_forward_of_the_model_bit_for_bit(name, toy, clips):
    model, _ = find_target(toy(name)).open()
    for clip in clips(name):
        assert torch.equal(through_units(model, clip), logits(model, clip))


@torch.no_grad()
def test_the_sweep_runs_a_unit_as_the_model_does_under_the_same_arithmetic(toy, clips):
    model, _ = find_target(toy("whisper")).open()
    [clip, *_] = clips("whisper")
    state = State(*model.stacks[0].enter(clip, None, None))
    for unit in model.stacks[0].units:
        state.hidden = run(model, unit, state)
    with fast_products():
        assert torch.equal(state.hidden, model.module.model.encoder(clip.features).last_hidden_state)


# --- what is transcribed --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audio(speech):
    return [read_audio(row.audio, 16_000) for row in read_corpus(speech, need_text=False).utterances]


@pytest.mark.parametrize("name", ["whisper", *slow_ones("moonshine")])
def test_a_transcript_does_not_depend_on_its_batch_its_order_or_the_threads(name, toy, audio):
    recognizer = sottovoce.load(toy(name))
    alone = [recognizer.transcribe_clips(clip) for clip in audio]
    assert len({len(clip) for clip in audio}) == len(audio)
    assert len(set(alone)) > 5
    assert recognizer.transcribe_clips(audio) == alone
    assert [text for i in range(0, 8, 3) for text in recognizer.transcribe_clips(audio[i : i + 3])] == alone
    order = np.random.default_rng(0).permutation(len(audio))
    assert recognizer.transcribe_clips([audio[i] for i in order]) == [alone[i] for i in order]
    assert recognizer.transcribe_clips([audio[0], audio[1], audio[0]]) == [alone[0], alone[1], alone[0]]
    torch.set_num_threads(2)
    try:
        assert recognizer.transcribe_clips(audio) == alone
    finally:
        torch.set_num_threads(1)


INTEGERS = {
    "per token": ["activations", {"kv_cache": {"bits": 8}}],
    "of few bits": [{"activations": {"bits": 5, "symmetric": False}}, {"kv_cache": {"bits": 4}}],
    "per clip and per tensor": [
        {"activations": {"where": "encoder.conv*"}},
        {"activations": {"per": "tensor", "range": "percentile"}},
    ],
    "outliers": [{"llm_int8": {"threshold": 2.0}}],
}


@pytest.mark.parametrize(("recipe", "name"), one_fast(list(INTEGERS), ["moonshine", "whisper"]))
def test_a_transcript_of_integer_activations_does_not_depend_on_its_batch_either(name, recipe, toy, clips, audio):
    model, _ = compressed(toy(name), INTEGERS[recipe], Material(clips(name)))
    recognizer = Recognizer.of(model)
    alone = [recognizer.transcribe_clips(clip) for clip in audio]
    assert len(set(alone)) > 4
    assert alone != [sottovoce.load(toy(name)).transcribe_clips(clip) for clip in audio]
    assert recognizer.transcribe_clips(audio) == alone
    order = np.random.default_rng(0).permutation(len(audio))
    assert recognizer.transcribe_clips([audio[i] for i in order]) == [alone[i] for i in order]


@pytest.mark.parametrize(("name", "apart"), [("whisper", 1e-5), ("moonshine", 0)])
def test_what_is_heard_does_not_depend_on_the_batch(name, apart, toy, audio):
    # a convolution of a batch of equal windows may be summed in another order; padding would be worth 1 and more
    recognizer = sottovoce.load(toy(name))
    features = [recognizer.frontend.features(clip) for clip in audio]
    together = recognizer.engine.encode(features)
    for i, feature in enumerate(features):
        alone = recognizer.engine.encode([feature]).states[0]
        assert torch.allclose(together.states[i, : len(alone)], alone, atol=apart, rtol=apart)
        assert together.valid is None or int(together.valid[i].sum()) == len(alone)


@pytest.mark.parametrize("name", FRAMES)
def test_nothing_drives_a_model_without_a_decoder(name, toy, speech):
    model, _ = find_target(toy(name)).open()
    made = calibrate(model, read_corpus(speech, need_text=False))
    assert all(clip.tokens.shape == (1, 0) for clip in made.clips)
    assert made.record.tokens == "none"
    with pytest.raises(ValueError, match="has no decoder that tokens drive"):
        calibrate(model, read_corpus(speech, need_text=True), tokens="transcript")


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("method", sorted(NEED_A_DECODER))
def test_what_a_ctc_model_cannot_have_is_refused_before_a_weight_is_read(name, method, toy, speech, tmp_path):
    recipe = {"steps": [{method: {} if method != "finetune" else {"epochs": 1}}]}
    with pytest.raises(ValueError, match=r"has no decoder|residual streams|matches no layer"):
        select(read_recipe(recipe), find_target(toy(name)).layout())


@every_writing_toy
def test_own_tokens_are_what_transformers_generates(name, toy, speech):
    model, _ = find_target(toy(name)).open()
    corpus = read_corpus(speech, need_text=False)
    module = AutoModelForSpeechSeq2Seq.from_pretrained(toy(name), local_files_only=True).eval()
    processor = AutoProcessor.from_pretrained(toy(name), local_files_only=True)
    for clip, utterance in zip(calibrate(model, corpus).clips, corpus.utterances, strict=True):
        samples = read_audio(utterance.audio, 16_000)
        features = processor(samples, sampling_rate=16_000, return_tensors="pt")
        [row] = module.generate(**features, return_dict_in_generate=True)["sequences"].tolist()
        end = module.generation_config.eos_token_id
        assert clip.tokens[0].tolist() == (row[: row.index(end)] if end in row else row)
        assert clip.samples == len(samples)


# --- what is computed, and how often --------------------------------------------------------------


class Watch:
    """Counts of forwards by unit and of InputStats by object, while a recipe runs."""

    def __init__(self, monkeypatch):
        self.forwards, self.adds, self.objects = Counter(), Counter(), []
        plain_run, plain_add = run, InputStats.add

        def counted_run(model, unit, state):
            self.forwards[unit.name] += 1
            return plain_run(model, unit, state)

        def counted_add(stats, x, needs, *rest, **told):
            self.objects.append(stats)  # kept alive, so that an id stands for one object
            self.adds[id(stats)] += 1
            return plain_add(stats, x, needs, *rest, **told)

        monkeypatch.setattr("sottovoce.compressing.loop.run", counted_run)
        monkeypatch.setattr("sottovoce.calibration.collect.run", counted_run)
        monkeypatch.setattr(InputStats, "add", counted_add)


@every_toy
def test_every_site_is_summed_once_for_each_clip_and_memory_once_for_all_blocks(name, toy, clips, monkeypatch):
    three, watch = clips(name), Watch(monkeypatch)
    model, _ = compressed(toy(name), ["wanda", "gptq"], Material(three))
    sites = [site for stack in model.stacks for unit in stack.units for site in unit.sites if site.collected != "out"]
    sites = {site.name for site in sites if not site.name.endswith("positions")}
    looked_up = int(name in WRITING and not model.tied)  # an untied table of tokens is looked up: no sum
    assert sum(site == "decoder.memory" for site in sites) == int(name in WRITING)
    assert len(watch.adds) == len(sites) - looked_up
    assert set(watch.adds.values()) == {len(three)}


@every_toy
def test_readers_of_one_site_share_its_statistics_and_all_blocks_those_of_memory(name, toy, clips):
    seen = defaultdict(set)
    kept = []
    recipe = read_recipe({"steps": ["gptq"]})
    [step] = recipe.steps

    def spy(layer, stats, **options):
        kept.append(stats)
        seen[layer.name].add(id(stats))
        return step.method.function(layer, stats, **options)

    target = find_target(toy(name))
    spied = Recipe("spied", (replace(step, method=replace(step.method, function=spy)),))
    model, layers = target.open()
    compress_layers(model, layers, select(spied, target.layout()), Material(clips(name)))
    readers = defaultdict(set)
    for site in (site for stack in model.stacks for unit in stack.units for site in unit.sites):
        readers[site.name] |= set(site.readers)
    assert set().union(*readers.values()) == set(layers)
    assert len(readers["decoder.memory"]) == (4 if name in WRITING else 0)
    for site, names in readers.items():
        assert not names or len(set().union(*(seen[layer] for layer in names))) == 1, site


@every_toy
def test_a_unit_runs_once_to_collect_once_to_feed_the_next_and_no_more(name, toy, clips, monkeypatch):
    three, watch = clips(name), Watch(monkeypatch)
    where = "decoder.layers.0.self_attn.*" if name in WRITING else "encoder.layers.1.attention.*"
    compressed(toy(name), [{"gptq": {"where": where}}], Material(three))
    expected = {"encoder.stem", "encoder.layers.0"}
    if name in WRITING:
        expected |= {"encoder.layers.1", "encoder.exit", "decoder.stem"}
    assert watch.forwards == {**dict.fromkeys(expected, len(three)), "watched": len(three)}


@every_toy
def test_a_recipe_without_statistics_runs_no_unit(name, toy, clips, monkeypatch):
    three, watch = clips(name), Watch(monkeypatch)
    compressed(toy(name), [{"magnitude": {"where": BLOCKS}}, "rtn"], Material(three))
    assert not watch.forwards
    assert not watch.adds


# --- statistics against the slow truth ------------------------------------------------------------


def statistics(folder, steps, clips):
    """The statistics that a layer's step was given, by the layer's name."""
    found = {}
    recipe = read_recipe({"steps": steps})
    [step] = recipe.steps

    def spy(layer, stats, **options):
        found[layer.name] = stats
        return layer.weight

    target = find_target(folder)
    model, layers = target.open()
    spied = Recipe("spied", (replace(step, method=replace(step.method, function=spy)),))
    compress_layers(model, layers, select(spied, target.layout()), Material(clips))
    return model, found


def inputs_of(model, names, clip):
    """What each module reads in transformers' own forward of one clip."""
    seen = {}
    handles = [
        model.find(name).register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0]}))
        for name in names
    ]
    logits(model, clip)
    for handle in handles:
        handle.remove()
    return seen


@every_toy
def test_statistics_are_sums_over_valid_positions_of_what_each_layer_reads(name, toy, clips):
    model, found = statistics(toy(name), ["gptq"], clips(name))
    expected = defaultdict(list)
    for clip in clips(name):
        names = [layer for layer in found if isinstance(model.find(layer), (nn.Linear, nn.Conv1d))]
        names = [layer for layer in names if not layer.endswith("pos_conv_embed.conv")]  # in groups: the identity
        for layer, x in inputs_of(model, [*names, *(["proj_out"] if model.tied else [])], clip).items():
            module = model.find(layer)
            if isinstance(module, nn.Conv1d):
                kernel, stride, padding = module.kernel_size[0], module.stride[0], module.padding[0]
                x = unfold(x[:, :, None], (1, kernel), padding=(0, padding), stride=(1, stride)).transpose(1, 2)
            valid = valid_positions(name, layer, clip, x.shape[1])
            expected[layer].append(x[0, :valid])
    if model.tied:
        expected["decoder.embed_tokens"] = expected.pop("proj_out")
    assert len(expected) > (20 if name in WRITING else 15)
    for layer, parts in expected.items():
        x, stats = torch.cat(parts).double(), found[layer]
        assert stats.count == len(x), layer
        gram = x.T @ x
        assert torch.allclose(stats.gram.double(), gram, rtol=1e-4, atol=1e-5 * float(gram.abs().max())), layer
        assert torch.allclose(stats.square, stats.gram.diagonal()), layer


def valid_positions(name, layer, clip, positions):
    """Positions that lie in speech: Whisper's window goes on after the clip, Moonshine's frames do not."""
    reads_frames = layer.startswith("encoder.") or layer.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj"))
    if not (name.startswith("whisper") and reads_frames):
        return positions
    frames = -(-clip.samples // (160 if layer == "encoder.conv1" else 320))
    assert frames < positions
    return frames


def test_silence_after_a_clip_is_no_statistic(toy, clips):
    # the same features, whether the silence up to the window's end was ours or the feature extractor's
    clip = clips("whisper")[0]
    steps = [{"gptq": {"where": "encoder.layers.*"}}]
    _, found = statistics(toy("whisper"), steps, [clip])
    _, padded = statistics(toy("whisper"), steps, [Clip(clip.features, 32_000, clip.tokens)])
    assert {stats.count for stats in found.values()} == {-(-clip.samples // 320)}
    assert {stats.count for stats in padded.values()} == {100}


# --- a wrong recipe -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["gpqt"], "did you mean gptq"),
        ([{"gptq": {"bits": 9}}], "bits=9"),
        ([{"gptq": {"where": "encodr.*"}}], "matches no layer"),
        ([{"gptq": {"group_size": 24}}], "does not divide"),
        (["gptq", "rtn"], "would overwrite"),
        (["low_rank"], "neither comes before"),
        ([{"hqq": {"symmetric": True}}], "set symmetric: false"),
        (["gptq", "smoothquant"], "has already fixed"),
    ],
)
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_a_wrong_recipe_fails_before_a_weight_is_read(name, steps, message, toy, speech, tmp_path, monkeypatch):
    def opened(*arguments):
        raise AssertionError("weights were read")

    monkeypatch.setattr(SpeechModel, "with_weights", opened)
    monkeypatch.setattr(SpeechModel, "layers", opened)
    with pytest.raises(ValueError, match=message):
        sottovoce.compress(toy(name), recipe={"steps": steps}, output=tmp_path / "out", data=speech)
    assert not (tmp_path / "out").exists()


def test_missing_and_needless_data_are_refused_before_a_weight_is_read(toy, speech, tmp_path, monkeypatch):
    monkeypatch.setattr(SpeechModel, "with_weights", None)
    with pytest.raises(ValueError, match="gptq-w8 needs calibration audio"):
        sottovoce.compress(toy("whisper"), recipe="gptq-w8", output=tmp_path / "out")
    with pytest.raises(ValueError, match="uses no calibration data"):
        sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=tmp_path / "out", data=speech)


# --- the verb -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["whisper", "moonshine untied"])
def test_integer_activations_are_what_is_saved_loaded_and_transcribed(name, toy, speech, clips, tmp_path, audio):
    steps = [*INTEGERS["of few bits"], {"rtn": {"bits": 4}}]
    sottovoce.compress(toy(name), recipe={"steps": steps}, output=tmp_path / "a")
    model, _ = compressed(toy(name), steps, Material())
    loaded = sottovoce.load(tmp_path / "a")
    for clip in clips(name):
        assert torch.equal(next_tokens(loaded.engine.model, clip), next_tokens(model, clip))
    assert loaded.transcribe_clips(audio) == Recognizer.of(model).transcribe_clips(audio)


@pytest.mark.parametrize("name", ["whisper", "moonshine untied"])
def test_compress_saves_what_the_loop_made_and_load_runs_it(name, toy, speech, clips, tmp_path, audio):
    artifact = sottovoce.compress(toy(name), recipe="gptq-w4", output=tmp_path / "a", data=speech, limit=3)
    model, _ = compressed(
        toy(name), [step.as_document() for step in read_recipe("gptq-w4").steps], Material(clips(name))
    )
    recognizer = sottovoce.load(tmp_path / "a")
    assert_same_module(recognizer.engine.model.module, model.module)
    assert artifact == read_artifact(tmp_path / "a")
    assert len(set(recognizer.transcribe_clips(audio))) > 4
    assert artifact.bytes < find_target(toy(name)).bytes / 3
