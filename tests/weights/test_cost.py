import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sottovoce
from sottovoce.artifact.folder import save
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve
from sottovoce.models.moonshine import stem_lengths
from sottovoce.numbers.hadamard import random_hadamard
from sottovoce.recognition.target import find_target
from sottovoce.weights.cost import Cost, LayerCost, Product, Workload, attention, bits_per_weight, cost
from sottovoce.weights.input_path import Turn
from tests import toys
from tests.reference.cost import count

INT4 = LayerCost(rows=3, columns=2, bits=4, kept=1.0, rank=0, factor_bits=0, part_bytes=9)
A8 = Workload(activation_bits=8)


def of(product, layer=INT4, workload=A8):
    return cost([product], {"layer": layer}, workload)


# --- by hand --------------------------------------------------------------------------------------


def test_a_linear_multiplies_every_vector_and_is_read_once_a_pass():
    # 5 vectors of 2 inputs to 3 outputs: 5 x 6 MACs of 4 x 8 bits, 25 bytes of activations; 2 passes: 2 x 9 of weights
    product = Product("layer", "layer", vectors=5, passes=2, moved=5 * (2 + 3))
    assert of(product) == Cost(macs=30, bit_operations=30 * 32, memory_bytes=25 + 18)


def test_a_low_rank_term_adds_two_thin_products():
    # rank 2 in 16 bits: 5 vectors x 2 x (2 + 3) MACs of 16 x 8 bits
    layer = dataclasses.replace(INT4, rank=2, factor_bits=16)
    product = Product("layer", "layer", vectors=5, passes=2)
    assert of(product, layer) == Cost(macs=30 + 50, bit_operations=30 * 32 + 50 * 128, memory_bytes=18)
    alone = dataclasses.replace(layer, bits=0)
    assert of(product, alone) == Cost(macs=50, bit_operations=50 * 128, memory_bytes=18)


def test_outliers_are_multiplied_beside_the_base():
    layer = dataclasses.replace(INT4, outliers=2, outlier_bits=16)
    product = Product("layer", "layer", vectors=5, passes=1)
    assert of(product, layer) == Cost(macs=30 + 10, bit_operations=30 * 32 + 10 * 128, memory_bytes=9)


def test_two_of_four_halves_the_products_and_scattered_zeros_none():
    product = Product("layer", "layer", vectors=4, passes=1)
    assert of(product, dataclasses.replace(INT4, kept=0.5)) == Cost(12, 12 * 32, 9)
    assert of(product) == Cost(24, 24 * 32, 9)


def test_a_look_up_multiplies_nothing_and_reads_its_rows():
    # 2 of 3 rows of 9 bytes together; 2 x 2 values of one byte written
    assert of(Product("layer", "layer", lookups=2, moved=4)) == Cost(0, 0, 6 + 4)
    assert (
        of(Product("layer", "layer", lookups=2, moved=4), dataclasses.replace(INT4, part_bytes=10)).memory_bytes == 11
    )


def test_attention_multiplies_activations_with_activations():
    # 3 queries, 5 keys, width 4: 60 MACs of scores, 60 of values; 12 in, 12 out, 40 of keys and values
    product = attention("attention", queries=3, keys=5, width=4, cached=40)
    assert of(product) == Cost(120, 120 * 64, 64)
    assert of(product, workload=Workload(activation_bits=16)) == Cost(120, 120 * 256, 128)


def test_a_rounded_input_is_multiplied_and_read_at_its_bits():
    # as above: 30 MACs of 4 x 5 bits; 10 values of 5 bits in, 15 of 8 bits out
    product = Product("layer", "layer", vectors=5, passes=2, moved=5 * (2 + 3), read=10)
    narrow = dataclasses.replace(INT4, input_bits=5)
    assert of(product) == Cost(macs=30, bit_operations=30 * 32, memory_bytes=25 + 18)
    assert of(product, narrow) == Cost(macs=30, bit_operations=30 * 20, memory_bytes=(10 * 5 + 15 * 8) // 8 + 18)


def test_a_turn_multiplies_every_vector_by_each_factor_before_the_rounding():
    # 5 vectors of 6 inputs: a factor of 2 in signs and one of 3 in floats, 5 x 6 x (2 + 3) MACs at 8 bits
    layer = LayerCost(3, 6, 4, 1.0, 0, 0, part_bytes=9, input_bits=5, turn=((2, 1), (3, 32)))
    product = Product("layer", "layer", vectors=5, passes=1, moved=30, read=30)
    assert of(product, layer) == Cost(90 + 150, 90 * 20 + 8 * 30 * (2 * 1 + 3 * 32), 30 * 5 // 8 + 9)


def test_keys_and_values_in_the_cache_move_and_multiply_at_their_bits():
    layers = {"k": dataclasses.replace(INT4, held_bits=4), "v": dataclasses.replace(INT4, held_bits=2)}
    # 3 queries, 5 keys, width 4: 60 MACs of 8 x 4 bits, 60 of 8 x 2; 24 values at 8 bits, 20 at 4, 20 at 2
    product = attention("attention", queries=3, keys=5, width=4, cached=40, held=("k", "v"))
    found = cost([product], layers, A8)
    assert found == Cost(120, 60 * 32 + 60 * 16, (24 * 8 + 20 * 4 + 20 * 2) // 8)
    plain = cost([product], {"k": INT4, "v": INT4}, A8)
    assert plain == of(attention("attention", queries=3, keys=5, width=4, cached=40))
    # what makes the keys writes them at their bits
    made = Product("k", "k", vectors=5, moved=25, read=10, held=(("k", 15),))
    assert cost([made], layers, A8).memory_bytes == (10 * 8 + 15 * 4) // 8


def test_costs_add_up_and_bits_per_weight_weighs_layers_by_their_weights():
    product = Product("layer", "layer", vectors=1, passes=1)
    assert cost([product, product], {"layer": INT4}, A8) == of(product) + of(product)
    assert cost([], {}, A8) == Cost(0, 0, 0)
    large = LayerCost(rows=10, columns=9, bits=8, kept=1.0, rank=0, factor_bits=0, part_bytes=99)
    assert bits_per_weight([INT4, large]) == 8 * 108 / 96


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"tokens": 0}, {"beam": 0}, {"activation_bits": 0}])
def test_a_workload_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="a workload needs"):
        Workload(**wrong)


def test_a_workload_longer_than_whispers_window_is_refused(toy):
    with pytest.raises(ValueError, match=r"of 2\.5 s is longer than the window of 2 s"):
        open_layout(resolve(toy("whisper"))).products(Workload(seconds=2.5))


# --- against a run --------------------------------------------------------------------------------

SMALL = {"encoder_layers": 1, "decoder_layers": 1}
VARIANTS = {
    "whisper 1+1": (toys.write_whisper, SMALL),
    "whisper untied 1+1": (toys.write_whisper, {**SMALL, "tied": False}),
    "whisper english 2+1": (toys.write_whisper, {"decoder_layers": 1, "english_only": True}),
    "moonshine 1+1": (toys.write_moonshine, SMALL),
    "moonshine untied 1+2": (toys.write_moonshine, {"encoder_layers": 1, "tied": False}),
}


@pytest.mark.parametrize("tokens", [1, 2, 7])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_cost_of_a_model_is_what_a_run_of_it_multiplies_and_reads(variant, tokens, tmp_path):
    write, options = VARIANTS[variant]
    folder = write(tmp_path / "toy", **options)
    artifact = sottovoce.compress(
        folder, recipe={"steps": [{"rtn": {"bits": 3, "frontend_bits": None}}]}, output=tmp_path / "a"
    )
    model = sottovoce.load(artifact.folder).engine.model
    seconds = 1.3
    counted = count(model, np.zeros(round(seconds * 16_000), np.float32), tokens)
    stored = {}
    tensors = load_file(artifact.folder / "model.safetensors")
    for entry in artifact.entries:
        stored[entry.name] = sum(t.nbytes for key, t in tensors.items() if key.startswith(f"{entry.tensor}."))
    rows = {entry.name: entry.rows for entry in artifact.entries}

    workload = Workload(seconds=seconds, tokens=tokens, activation_bits=16)
    layers = {entry.name: entry.as_cost() for entry in artifact.entries}
    found = cost(model.products(workload), layers, workload)
    macs = sum(counted.macs.values())
    assert macs > 10_000
    assert set(counted.passes) | set(counted.lookups) == set(layers)
    assert found.macs == macs + counted.attention_macs
    assert found.bit_operations == macs * 3 * 16 + counted.attention_macs * 16 * 16
    looked_up = sum(-(-stored[name] * n // rows[name]) for name, n in counted.lookups.items())
    streamed = sum(stored[name] * n for name, n in counted.passes.items())
    assert found.memory_bytes == 2 * counted.moved + streamed + looked_up


ROUNDED = [{"rtn": {"bits": 3, "frontend_bits": None}}, {"activations": {"bits": 8}}, {"kv_cache": {"bits": 4}}]


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_the_cost_of_integer_activations_is_what_a_run_multiplies_and_reads_at_their_bits(name, toy, tmp_path):
    artifact = sottovoce.compress(toy(name), recipe={"steps": ROUNDED}, output=tmp_path / "a")
    counted = count(sottovoce.load(artifact.folder).engine.model, np.zeros(20_800, np.float32), 6)
    workload = Workload(seconds=1.3, tokens=6, activation_bits=16)
    found = sottovoce.inspect(artifact.folder, workload=workload).cost
    a = {layer: 8 if ".layers." in layer else 16 for layer in counted.macs}
    encoder = counted.attention_macs - counted.attended
    assert found.macs == sum(counted.macs.values()) + counted.attention_macs
    assert found.bit_operations == (
        sum(macs * 3 * a[layer] for layer, macs in counted.macs.items()) + encoder * 16**2 + counted.attended * 16 * 4
    )
    stored = {entry.name: entry.bytes for entry in artifact.entries}
    rows = {entry.name: entry.rows for entry in artifact.entries}
    weights = sum(stored[layer] * n for layer, n in counted.passes.items())
    weights += sum(-(-stored[layer] * n // rows[layer]) for layer, n in counted.lookups.items())
    read = sum(values for layer, values in counted.reads.items() if a[layer] == 8)
    others = counted.moved - read - counted.held
    assert found.memory_bytes == weights + (read * 8 + counted.held * 4 + others * 16) // 8


def test_a_turn_at_the_entry_of_a_block_is_counted_for_every_position(toy, tmp_path):
    target = find_target(toy("moonshine"))
    plain = sottovoce.inspect(toy("moonshine"))
    model, layers = target.open()
    model.set_turn("decoder.layers.1", Turn((random_hadamard(32, 0),)))
    model.set_turn("encoder.layers.1", Turn((random_hadamard(8, 0), torch.linalg.qr(torch.randn(4, 4))[0])))
    save(tmp_path / "a", model, layers, target.base, [], [])
    turned = sottovoce.inspect(tmp_path / "a")
    frames = stem_lengths(160_000)[2]
    tokens = turned.workload.tokens
    assert turned.cost.macs - plain.cost.macs == 32 * (32 * tokens + (8 + 4) * frames)
    assert turned.cost.bit_operations - plain.cost.bit_operations == 32 * 32 * (32 * tokens + (8 + 4 * 32) * frames)
    stored = (32 // 8) * tokens + (8 // 8 + 4 * 4 * 4)
    assert turned.cost.memory_bytes - plain.cost.memory_bytes == 2 * 32 * 4 * (tokens + frames) + stored


def test_beams_share_weights_and_the_memory_and_nothing_else(toy):
    model = open_layout(resolve(toy("moonshine")))
    layers = {entry.name: entry.as_cost() for entry in find_target(toy("moonshine")).entries()}
    one, two = (Workload(seconds=1, tokens=9, beam=beam) for beam in (1, 2))
    first, beams = model.products(one), model.products(two)
    for narrow, wide in zip(first, beams, strict=True):
        assert narrow.passes == wide.passes, narrow.name
        if narrow.name.startswith("encoder.") or narrow.name.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj")):
            assert narrow == wide
        else:
            # the prompt and the first token are fed once, every later one for each beam
            alone = model.products(dataclasses.replace(one, tokens=1))[first.index(narrow)]
            assert wide.macs - alone.macs == 2 * (narrow.macs - alone.macs)
            assert wide.vectors - alone.vectors == 2 * (narrow.vectors - alone.vectors)
            assert wide.lookups - alone.lookups == 2 * (narrow.lookups - alone.lookups)
    assert cost(beams, layers, two).macs > cost(first, layers, one).macs


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_two_of_four_halves_a_models_products_and_half_a_row_does_not(name, toy, tmp_path):
    where = {"where": "*.layers.*"}
    dense = find_target(toy(name))
    masked = {
        kind: sottovoce.compress(
            toy(name), recipe={"steps": [{"magnitude": {**where, "sparsity": sparsity}}]}, output=tmp_path / kind
        )
        for kind, sparsity in {"two": "2:4", "half": 0.5}.items()
    }
    workload = Workload(seconds=1.5, tokens=5)
    products = dense.layout().products(workload)

    def macs(entries):
        return cost(products, {entry.name: entry.as_cost() for entry in entries}, workload).macs

    in_blocks = [product for product in products if product.layer and ".layers." in product.layer]
    whole = cost(in_blocks, {entry.name: entry.as_cost() for entry in dense.entries()}, workload).macs
    assert macs(masked["two"].entries) == macs(dense.entries()) - whole // 2
    assert macs(masked["half"].entries) == macs(dense.entries())
    # a bitmap costs 1 bit, places in a quad 3/4 of one, half of the floats stay
    sizes = {kind: sum(e.bytes for e in artifact.entries if ".layers." in e.name) for kind, artifact in masked.items()}
    weights = sum(entry.weights for entry in dense.entries() if ".layers." in entry.name)
    assert sizes["half"] == weights * 2 + weights // 8
    assert sizes["two"] == weights * 2 + weights * 3 // 32
