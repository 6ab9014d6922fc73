import pytest

import sottovoce
from sottovoce.calibration.statistics import InputStats
from sottovoce.methods.kv_cache import kv_cache
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve
from sottovoce.numbers.rounding import Rounding
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from tests.methods.samples import layer_of, some_inputs, some_weights
from tests.reference import rounding as slow


@pytest.mark.parametrize(("bits", "symmetric"), [(8, False), (4, False), (4, True)])
def test_what_the_cache_holds_has_the_scale_of_its_vector(bits, symmetric):
    rounding = kv_cache(layer_of(some_weights(12, 48)), InputStats(), bits=bits, symmetric=symmetric)
    x = some_inputs(20, 16)
    for ours, values in zip(rounding(x).tolist(), x.tolist(), strict=True):
        assert ours == pytest.approx(slow.rounded_vector(values, bits, symmetric), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["whisper", "moonshine untied"])
def test_it_works_on_the_keys_and_values_of_both_attentions(name, toy):
    layout = open_layout(resolve(toy(name)))
    [names] = select(read_recipe({"steps": ["kv_cache"]}), layout).layers
    expected = [
        f"decoder.layers.{i}.{attention}.{part}_proj"
        for i in range(2)
        for attention in ("self_attn", "encoder_attn")
        for part in ("k", "v")
    ]
    assert set(names) == set(expected)
    own = {"where": "decoder.layers.*.self_attn.?_proj"}
    with pytest.raises(ValueError, match=r"which decoder\.layers\.0\.self_attn\.q_proj does not make"):
        select(read_recipe({"steps": [{"kv_cache": own}]}), layout)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["kv_cache", "kv_cache"], "kv_cache would overwrite what kv_cache wrote"),
        ([{"kv_cache": {"where": "encoder.*.k_proj"}}], "which encoder.layers.0.self_attn.k_proj does not make"),
        ([{"kv_cache": {"bits": 1}}], "bits=1"),
    ],
)
def test_what_cannot_work_is_refused(steps, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": steps}), open_layout(resolve(toy("whisper"))))


def test_an_artifact_keeps_it_and_is_compressed_further_around_it(toy, speech, tmp_path):
    recipe = {"steps": [{"kv_cache": {"bits": 4}}, {"kv_cache": {"bits": 8, "where": "~nothing"}}]}
    sottovoce.compress(toy("whisper"), recipe=recipe, output=tmp_path / "a")
    with pytest.raises(ValueError, match="kv_cache would overwrite what an earlier compression wrote"):
        sottovoce.compress(tmp_path / "a", recipe={"steps": ["kv_cache"]}, output=tmp_path / "b")
    further = {"steps": [{"smoothquant": {}}, "gptq"]}
    both = sottovoce.compress(tmp_path / "a", recipe=further, output=tmp_path / "b", data=speech, limit=2)
    model, layers = find_target(both.folder).open()
    assert layers["decoder.layers.1.self_attn.v_proj"].output == Rounding(4, symmetric=False)
    assert len(model.cached_roundings) == 8
