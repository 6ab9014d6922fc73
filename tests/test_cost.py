import dataclasses

import numpy as np
import pytest
from safetensors.torch import load_file

import sottovoce
from sottovoce.cost import Cost, LayerCost, Product, Workload, attention, bits_per_weight, cost
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve
from sottovoce.target import find_target
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
    artifact = sottovoce.compress(folder, recipe={"steps": [{"rtn": {"bits": 3}}]}, output=tmp_path / "a")
    model = sottovoce.load(artifact.folder).model
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
