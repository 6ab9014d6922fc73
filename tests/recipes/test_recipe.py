import warnings

import pytest

import sottovoce
from sottovoce.methods import METHODS, find
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve
from sottovoce.recipes.read import built_in_recipes, read_recipe
from sottovoce.recipes.select import select
from sottovoce.weights.weight import LayerShape
from tests import toys
from tests.conftest import FRAMES, TOYS
from tests.tiers import in_turn


@pytest.fixture(scope="module")
def layout(toy):
    """A toy without weights: all that a recipe is held against."""
    return lambda name: open_layout(resolve(toy(name)))


def steps(*found):
    return {"steps": list(found)}


def options(recipe):
    return [(step.method.name, dict(step.options)) for step in recipe.steps]


# --- reading --------------------------------------------------------------------------------------


def test_a_step_takes_the_grid_and_what_it_says_itself_comes_first():
    recipe = read_recipe({"grid": {"bits": 3, "group_size": 32}, "steps": ["wanda", "rtn", {"gptq": {"bits": 8}}]})
    (_, wanda), (_, rtn), (_, gptq) = options(recipe)
    assert wanda == {"sparsity": 0.5, "over": "row"}
    assert rtn == {
        "bits": 3,
        "group_size": 32,
        "symmetric": True,
        "scale_dtype": "float16",
        "clip": "none",
        "frontend_bits": 8,
    }
    assert (gptq["bits"], gptq["group_size"], gptq["damp"]) == (8, 32, 0.01)


def test_two_of_four_needs_no_quotes_in_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("steps:\n  - wanda: {sparsity: 2:4}\n  - gptq: {damp: 1e-1}\n")
    recipe = read_recipe(path)
    assert recipe.name == "mine"
    assert options(recipe)[0] == ("wanda", {"sparsity": "2:4", "over": "row"})
    assert options(recipe)[1][1]["damp"] == 0.1


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("grid.bits=3", {"rtn": {"bits": 3}, "gptq": {"bits": 3}}),
        ("grid.group_size=tensor", {"rtn": {"group_size": "tensor"}, "gptq": {"group_size": "tensor"}}),
        ("grid={bits: 3}", {"rtn": {"bits": 3}, "gptq": {"bits": 3}}),
        ("steps.2.damp=0.1", {"gptq": {"damp": 0.1}}),
        ("gptq.damp=1e-1", {"gptq": {"damp": 0.1}}),
        ("wanda.sparsity=2:4", {"wanda": {"sparsity": "2:4"}}),
        ("steps.0={magnitude: {sparsity: 0.2}}", {"wanda": None, "magnitude": {"sparsity": 0.2}}),
        ("steps.0=magnitude", {"wanda": None, "magnitude": {"sparsity": 0.5, "over": "row"}}),
        ("steps=[rtn]", {"wanda": None, "gptq": None}),
    ],
)
def test_an_override_changes_what_it_names_and_nothing_else(override, changed):
    document = steps(
        {"wanda": {"where": "decoder.*"}}, {"rtn": {"where": "encoder.*"}}, {"gptq": {"where": "decoder.*"}}
    )
    before = dict(options(read_recipe(document)))
    after = dict(options(read_recipe(document, [override])))
    for name, values in changed.items():
        if values is None:
            del before[name]
        else:
            before[name] = {**before.get(name, {}), **values}
    if "magnitude" in after:
        after["magnitude"] = {key: after["magnitude"][key] for key in before["magnitude"]}
    assert after == before
    assert "where" in document["steps"][0]["wanda"]  # the caller's document stays as it was


def test_a_table_takes_the_bits_of_the_grid_and_its_own_first():
    document = {"grid": {"bits": 3, "group_size": 16}, "steps": [{"palettize": {"where": "encoder.*"}}, "rtn"]}
    assert [step.options["bits"] for step in read_recipe(document).steps] == [3, 3]
    assert read_recipe(document, ["palettize.bits=1"]).steps[0].options["bits"] == 1
    assert "group_size" not in read_recipe(document).steps[0].options


def test_an_override_by_name_reaches_every_step_of_that_method_and_by_number_one():
    document = steps({"rtn": {"where": "encoder.*"}}, {"rtn": {"where": "decoder.*"}})
    assert [step.options["bits"] for step in read_recipe(document, ["rtn.bits=3"]).steps] == [3, 3]
    assert [step.options["bits"] for step in read_recipe(document, ["steps.1.bits=3"]).steps] == [4, 3]
    later = read_recipe(document, ["rtn.bits=3", "rtn.bits=2", "rtn.symmetric=no"])
    assert [step.options["bits"] for step in later.steps] == [2, 2]
    assert read_recipe(document, ["rtn.where=proj_out"]).steps[1].where == ("proj_out",)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grid.bits", "lacks a value; write it as grid.bits=3"),
        ("=3", "is not a step of this recipe"),
        ("gptq.damp=0.1", r"'gptq' is not a step of this recipe; grid, steps.0 and rtn would work"),
        ("rtn=3", "would work"),
        ("steps.1.bits=3", "'1' is not one of the 1 entries, counted from 0"),
        ("steps.x.bits=3", "'x' is not one of the 1 entries"),
        ("steps.0=3", "3 is not a step"),
        ("steps=3", "has no steps"),
        ("steps=[]", "has no steps"),
        ("grid.bitz=3", "unknown option of grid 'bitz'; did you mean bits"),
        ("rtn.bitz=3", "unknown option of rtn 'bitz'; did you mean bits"),
        ("rtn.bits=9", "rtn: bits=9: should be less than or equal to 8"),
        ("rtn.bits=[", "is not YAML"),
        ("grid=3", "grid of recipe .* holds 3"),
        ("gird.bits=3", "'gird' is not a step"),
    ],
)
def test_an_override_that_changes_nothing_is_refused(override, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(steps("rtn"), [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "is a list; a mapping with grid and steps would work"),
        ("steps", "is a str; a mapping"),
        ({}, "has no steps; write a list"),
        ({"steps": []}, "has no steps"),
        ({"steps": None}, "has no steps"),
        ({"steps": {"gptq": {}}}, "has no steps; write a list"),
        ({"steps": [3]}, "3 is not a step"),
        ({"steps": [["gptq"]]}, "is not a step"),
        ({"steps": [{"gptq": {}, "rtn": {}}]}, "is not a step"),
        ({"steps": [{"gptq": 4}]}, "is not a step"),
        ({"steps": ["gpqt"]}, "unknown method 'gpqt'; did you mean gptq"),
        ({"steps": [{"gptq": {"dampp": 1}}]}, "unknown option of gptq 'dampp'; did you mean damp"),
        ({"steps": [{"gptq": {4: 1}}]}, "unknown option of gptq '4'"),
        ({"steps": ["rtn"], "girds": {}}, "unknown part of recipe .* 'girds'; did you mean grid"),
        ({"steps": ["rtn"], 4: 3}, "unknown part of recipe .* '4'"),
        ({"steps": ["rtn"], "grid": [4]}, r"grid of recipe .* holds \[4\]"),
        ({"steps": ["rtn"], "grid": None}, "grid of recipe .* holds None"),
        ({"steps": ["rtn"], "grid": {"damp": 1}}, "unknown option of grid 'damp'"),
        ({"steps": ["rtn"], "grid": {"bits": 16}}, "rtn: bits=16"),
        ({"steps": [{"rtn": {"where": 3}}]}, "where=3 is not a pattern"),
        ({"steps": [{"rtn": {"where": []}}]}, r"where=\[\] is not a pattern"),
        ({"steps": [{"rtn": {"where": ["a", 3]}}]}, "is not a pattern"),
        ({"steps": [{"wanda": {"sparsity": 1.5}}]}, "wanda: sparsity=1.5: must be a share between 0 and 1"),
        ({"steps": [{"wanda": {"sparsity": "4:2"}}]}, "wanda: sparsity='4:2': n:m keeps n of m neighbours"),
        ({"steps": [{"wanda": {"sparsity": "half"}}]}, "wanda: sparsity='half'"),
        ({"steps": [{"low_rank": {"metric": "gramm"}}]}, "low_rank: metric='gramm': should be 'gram'"),
        ({"steps": [{"rtn": {"group_size": 0}}]}, "rtn: group_size=0"),
        ({"steps": [{"wanda": {"sparsity": [0.5]}}]}, r"wanda: sparsity=\[0.5\]"),
    ],
)
def test_a_recipe_that_fits_no_model_is_refused_in_one_sentence(document, message, tmp_path):
    import yaml

    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gptq-4w", "unknown recipe 'gptq-4w'; did you mean gptq-w"),
        ("no/such/file", "recipe no/such/file does not exist; built in are autoround-w3, awq-w4"),
        ("mine.yaml", "recipe mine.yaml does not exist"),
    ],
)
def test_a_recipe_that_does_not_exist_names_those_that_do(source, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(source)


def test_symmetric_two_bits_warn():
    with pytest.warns(UserWarning, match="symmetric 2 bits leaves -1, 0, 1"):
        read_recipe(steps({"gptq": {"bits": 2}}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_recipe(steps({"gptq": {"bits": 2, "symmetric": False}}))
        read_recipe(steps({"gptq": {"bits": 3}}))


# --- the key --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "same",
    [
        {"grid": {"bits": 4}, "steps": ["gptq"]},
        steps({"gptq": {"damp": 0.01}}),
        steps({"gptq": {"damp": 1e-2, "where": "*", "group_size": "channel"}}),
        steps({"gptq": {"where": ["*"]}}),
        steps({"gptq": None}),
        {"steps": ["gptq"], "description": "the same"},
    ],
)
def test_the_key_does_not_see_how_defaults_are_spelt(same):
    assert read_recipe(same).key == read_recipe(steps("gptq")).key
    assert len(read_recipe(same).key) == 16


def test_the_key_changes_with_every_option_the_layers_and_the_order():
    grid = {"bits": 3, "group_size": 32, "symmetric": False, "scale_dtype": "bfloat16"}
    own = {"damp": 0.02, "tied_damp": 0.2, "act_order": True, "static_groups": True, "clip": "mse", "block_size": 64}
    values = {**grid, **own, "frontend_bits": 6, "where": "encoder.*"}
    assert set(values) == {*read_recipe(steps("gptq")).steps[0].options, "where"}
    recipes = [steps("gptq"), *(steps({"gptq": {name: value}}) for name, value in values.items())]
    recipes += [steps("wanda", "gptq"), steps("gptq", "wanda"), steps("rtn")]
    assert len({read_recipe(recipe).key for recipe in recipes}) == len(recipes)


def test_a_recipe_written_out_is_the_same_recipe():
    for name in built_in_recipes():
        recipe = read_recipe(name)
        assert read_recipe(recipe.as_document()).key == recipe.key


# --- against a model ------------------------------------------------------------------------------


WANT_A_DECODER = (
    "drop-layers-distill",
    "gptq-w4-kv8",
    "group-lasso-distill",
    "llama-guard-w4",
    "maskllm-2of4",
    "quarot-w3",
    "quarot-w4a4",
    "recover",
    "rsq-w3",
    "wanda-50-distill",
    "wanda-50-finetune",
)


OF_TOYS = {  # what is small enough for one
    "group-lasso-distill": ["group_lasso.neurons=0.5"],
    "llama-guard-w4": ["prune_width.neurons=0.5", "trim_vocabulary.size=null"],
}


@pytest.mark.parametrize(("recipe", "name"), in_turn(list(built_in_recipes()), TOYS))
def test_every_built_in_recipe_says_what_it_is_and_fits_every_family(recipe, name, layout):
    assert built_in_recipes()[recipe]
    if (name in FRAMES and recipe in WANT_A_DECODER) or (recipe == "short-context" and not name.startswith("whisper")):
        with pytest.raises(ValueError, match=r"decoder|residual stream|at its own length"):
            select(read_recipe(recipe, OF_TOYS.get(recipe, [])), layout(name))
        return
    selection = select(read_recipe(recipe, OF_TOYS.get(recipe, [])), layout(name))
    if not recipe.startswith(("drop", "group", "llama", "maskllm", "recover", "short", "wanda")):
        rounded = [
            layer
            for step, names in zip(selection.recipe.steps, selection.layers, strict=True)
            if "base" in step.method.parts
            for layer in names
        ]
        assert sorted(rounded) == sorted(layout(name).shapes)  # each once, none left out


def test_patterns_add_in_turn_and_an_exclamation_mark_takes_out(layout):
    def chosen(*where):
        return set(select(read_recipe(steps({"magnitude": {"where": list(where)}})), layout("whisper")).layers[0])

    every = set(layout("whisper").shapes)
    assert chosen("*") == every
    assert chosen("encoder.*", "!*fc1") == {n for n in every if n.startswith("encoder.") and not n.endswith("fc1")}
    assert chosen("!encoder.*") == {name for name in every if name.startswith("decoder.")}
    assert chosen("!encoder.*", "*.0.fc1") == chosen("!encoder.*") | {"encoder.layers.0.fc1"}
    assert chosen("~nothing*", "*fc2") == chosen("*fc2") == {n for n in every if n.endswith("fc2")}
    assert chosen("*fc2", "!~nothing*") == chosen("*fc2")
    assert chosen("encoder.layers.[0].fc1") == {"encoder.layers.0.fc1"}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("encodr.*", "where 'encodr.*' matches no layer; there are encoder.conv1, "),
        (["*", "!encodr.*"], "where '!encodr.*' matches no layer"),
        (["encoder.*", "!*"], r"where encoder\.\* !\* leaves no layer that it can work on"),
        ("ENCODER.*", "matches no layer"),
        ("encoder.conv1.weight", "matches no layer"),
    ],
)
def test_a_pattern_without_a_match_is_refused(where, message, layout):
    with pytest.raises(ValueError, match=message):
        select(read_recipe(steps({"rtn": {"where": where}})), layout("whisper"))


@pytest.mark.parametrize("where", ["*.q_proj", ["*", "!*v_proj"]])
def test_half_of_an_activations_readers_is_refused_with_all_of_them(where, layout):
    with pytest.raises(ValueError, match="share one input, so where must match all or none of them") as caught:
        select(read_recipe(steps({"smoothquant": {"where": where}})), layout("moonshine"))
    for part in ("q_proj", "k_proj", "v_proj"):
        assert f"encoder.layers.0.self_attn.{part}" in str(caught.value)


def test_smoothquant_where_no_norm_writes_has_nothing_to_do(layout):
    with pytest.raises(ValueError, match="leaves no layer that it can work on"):
        select(read_recipe(steps({"smoothquant": {"where": "encoder.layers.*fc2"}})), layout("whisper"))


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ("frontend", {"encoder.conv1", "encoder.conv2", "encoder.embed_positions", "decoder.embed_positions"}),
        ("encoder.stem", {"encoder.conv1", "encoder.conv2"}),
        ("embeddings", {"decoder.embed_tokens"}),
        ("head", {"decoder.embed_tokens"}),
        (["decoder.mlp", "!*layers.0*"], {"decoder.layers.1.fc1", "decoder.layers.1.fc2"}),
        (
            ["cross_attention", "!*k_proj", "!*v_proj", "!*layers.1*"],
            {"decoder.layers.0.encoder_attn.q_proj", "decoder.layers.0.encoder_attn.out_proj"},
        ),
    ],
)
def test_a_pattern_may_name_components(where, chosen, layout):
    [names] = select(read_recipe(steps({"rtn": {"where": where, "bits": 8}})), layout("whisper")).layers
    assert set(names) == chosen


@pytest.mark.parametrize("name", TOYS)
def test_every_layer_is_of_one_stack_and_one_component(name, layout):
    words = layout(name).components
    assert set(words) == set(layout(name).shapes)
    assert all(len({"encoder", "decoder"} & components) == 1 for components in words.values())
    assert all(
        len({"frontend", "blocks", "embeddings"} & components) == 1
        for key, components in words.items()
        if key not in ("proj_out", "lm_head")
    )


def test_frontends_keep_eight_bits_per_channel_unless_asked(toy, tmp_path):
    grid = {"bits": 3, "group_size": 16, "symmetric": False}
    found = sottovoce.compress(toy("moonshine"), recipe={"grid": grid, "steps": ["rtn"]}, output=tmp_path / "a")
    kept = {entry.name: (entry.bits, entry.group_size) for entry in found.entries if "conv" in entry.name}
    assert kept == {f"encoder.conv{i}": (8, "channel") for i in (1, 2, 3)}
    assert {(entry.bits, entry.group_size) for entry in found.entries if "conv" not in entry.name} == {(3, 16)}
    asked = {**grid, "group_size": "channel", "frontend_bits": None}
    all_alike = sottovoce.compress(toy("moonshine"), recipe={"grid": asked, "steps": ["rtn"]}, output=tmp_path / "b")
    assert {(entry.bits, entry.group_size) for entry in all_alike.entries} == {(3, "channel")}


def test_fewer_bits_for_frontends_alone_are_refused_as_long_as_frontend_bits_holds(layout):
    with pytest.raises(ValueError, match=r"rtn of stem asks for bits=4 .* frontend_bits: null would work"):
        select(read_recipe(steps({"rtn": {"where": "stem", "bits": 4}})), layout("whisper"))


def test_a_group_that_does_not_divide_names_those_that_do(layout):
    with pytest.raises(ValueError, match=r"group_size 64 does not divide the 32 inputs of .*; 16 and 32 do") as caught:
        select(read_recipe(steps({"rtn": {"group_size": 64, "where": "*q_proj"}})), layout("whisper"))
    assert '"channel" always fits' in str(caught.value)
    with pytest.raises(ValueError, match=r"127 inputs of encoder.conv1; none of the usual sizes does"):
        select(read_recipe(steps({"rtn": {"group_size": 32, "frontend_bits": None}})), layout("moonshine"))


def test_n_of_m_that_does_not_divide_names_the_layer(layout):
    with pytest.raises(ValueError, match=r"sparsity 2:4 needs a multiple of 4 inputs, and encoder.conv1 has 127"):
        select(read_recipe(steps({"wanda": {"sparsity": "2:4"}})), layout("moonshine"))


@pytest.mark.parametrize("rank", [32, 200, 0.01])
def test_a_rank_that_saves_nothing_is_refused_with_those_that_work(rank, layout):
    with pytest.raises(ValueError, match="1 to 31 would work"):
        select(read_recipe(steps("rtn", {"low_rank": {"rank": rank, "where": "*q_proj"}})), layout("whisper"))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (["rtn", "gptq"], "gptq would overwrite what rtn wrote in encoder.conv1"),
        (["wanda", "magnitude"], "magnitude would overwrite what wanda wrote"),
        ([{"low_rank": {"replace": True}}, "rtn"], "rtn would overwrite what low_rank wrote"),
        (["gptq", {"low_rank": {"replace": True}}], "low_rank would overwrite what gptq wrote"),
        (["wanda", {"low_rank": {"replace": True}}], "low_rank would overwrite what wanda wrote"),
        ([{"low_rank": {"replace": True}}, "low_rank"], "low_rank would overwrite what low_rank wrote"),
        (["low_rank"], "neither comes before it in encoder.conv1; add one, or set replace: true"),
        (["wanda", "low_rank", "magnitude"], "magnitude would overwrite what wanda wrote"),
        (["wanda", "smoothquant"], "smoothquant rescales or rotates weights that wanda has already fixed"),
        (["rtn", "smoothquant"], "that rtn has already fixed"),
        (["rtn", {"lora": {"rank": 2}}, "low_rank"], "low_rank would overwrite what lora wrote"),
        ([{"lora": {"rank": 2}}, "wanda"], "wanda masks encoder.conv1 after lora was fitted; put it before"),
        (["rtn", "finetune", "gptq"], "gptq would overwrite what rtn wrote"),
        (["rtn", "finetune", "smoothquant"], "that rtn has already fixed"),
        ([{"lora": {"rank": 2}}, "smoothquant"], "that lora has already fixed"),
        ([{"low_rank": {"replace": True}}, "wanda"], "wanda would overwrite what low_rank wrote"),
        (["rtn", "sparsegpt_joint"], "sparsegpt_joint would overwrite what rtn wrote in encoder.conv1"),
        (["sparsegpt_joint", "rtn"], "rtn would overwrite what sparsegpt_joint wrote"),
        (["sparsegpt_joint", "wanda"], "wanda would overwrite what sparsegpt_joint wrote"),
        (["wanda", "sparsegpt"], "sparsegpt would overwrite what wanda wrote"),
        (["sparsegpt", "smoothquant"], "weights that sparsegpt has already fixed"),
        ([{"lora": {"rank": 2}}, "sparsegpt_joint"], "sparsegpt_joint masks encoder.conv1 after lora was fitted"),
        ([{"hqq": {"symmetric": True}}], "set symmetric: false"),
        (
            [{"drop_layers": {"encoder": 2}}],
            "^drop_layers: encoder: 2 leaves none of the 2 blocks; at most 1 would work",
        ),
        ([{"magnitude": {"sparsity": "3:5"}}], "^magnitude: sparsity 3:5 needs a multiple of 5 inputs"),
        ([{"gptq": {"act_order": True, "group_size": 1}}], "set static_groups: true"),
    ],
)
def test_steps_in_an_order_that_undoes_one_are_refused(order, message, layout):
    with pytest.raises(ValueError, match=message):
        select(read_recipe(steps(*order)), layout("whisper"))


PRUNERS = [name for name in METHODS if "mask" in find(name).parts and "base" not in find(name).parts]
ROUNDERS = [name for name in METHODS if find(name).owns == "base" and "mask" not in find(name).parts]


@pytest.mark.parametrize(
    ("rounder", "pruner"),
    [
        *((rounder, "magnitude") for rounder in ROUNDERS),
        *(("rtn", pruner) for pruner in PRUNERS if pruner != "magnitude"),
    ],
)
def test_a_mask_on_top_of_rounded_weights_is_refused_and_the_order_that_works_is_named(rounder, pruner, layout):
    where = "encoder.layers.*.fc*"
    own = {"hqq": {"symmetric": False}}.get(rounder, {})
    recipe = read_recipe(steps({rounder: {"where": where, **own}}, {pruner: {"where": where}}))
    with pytest.raises(ValueError, match=r"encoder\.layers\.0\.fc1 that .* has already rounded; prune first") as caught:
        select(recipe, layout("whisper"))
    assert f"({pruner} before {rounder}), or take sparsegpt_joint" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mask_is_not_laid_over_what_an_earlier_compression_has_rounded(toy, tmp_path):
    sottovoce.compress(toy("whisper"), recipe=steps({"rtn": {"where": "encoder.*"}}), output=tmp_path / "a")
    with pytest.raises(ValueError, match=r"magnitude would .* an earlier compression has already rounded; prune first"):
        sottovoce.compress(tmp_path / "a", recipe=steps("magnitude"), output=tmp_path / "b")


@pytest.mark.parametrize(
    "order",
    [
        ["smoothquant", "smoothquant", "wanda", "rtn", "low_rank"],
        [{"rtn": {"where": "encoder.*"}}, {"gptq": {"where": "decoder.*"}}],
        [{"low_rank": {"replace": True, "where": "*fc1"}}, {"rtn": {"where": "!*fc1"}}],
        ["finetune", "wanda", "distill", "gptq", "low_rank", "finetune", {"lora": {"rank": 2}}, "distill"],
        [{"lora": {"rank": 2, "merge": True}}, "smoothquant", "rtn", {"lora": {"rank": 2, "merge": True}}, "low_rank"],
        ["rtn", "low_rank", {"lora": {"rank": 2}}, {"lora": {"rank": 2}}],
        [{"low_rank": {"replace": True}}, "finetune"],
        ["sparsegpt", "low_rank", "gptq"],
        ["finetune", "sparsegpt", "gptq", "low_rank", "distill"],
        ["smoothquant", "sparsegpt_joint", "low_rank", "finetune"],
    ],
)
def test_steps_that_leave_each_other_alone_are_taken(order, layout):
    assert select(read_recipe(steps(*order)), layout("whisper"))


def test_steps_of_different_layers_in_an_earlier_artifact_are_taken_and_of_the_same_refused(toy, tmp_path):
    sottovoce.compress(toy("whisper"), recipe=steps({"rtn": {"where": "encoder.*"}}), output=tmp_path / "a")
    with pytest.raises(ValueError, match=r"hqq would overwrite what an earlier compression wrote in encoder.conv1"):
        sottovoce.compress(tmp_path / "a", recipe="hqq-w4", output=tmp_path / "b")
    recipe = steps({"rtn": {"where": "decoder.*", "bits": 3}})
    twice = sottovoce.compress(tmp_path / "a", recipe=recipe, output=tmp_path / "b")
    assert {entry.bits for entry in twice.entries if entry.name.startswith("encoder.layers.")} == {4}
    assert {entry.bits for entry in twice.entries if entry.name.startswith("decoder.layers.")} == {3}


def test_segments_part_where_a_step_sees_the_whole_model(layout):
    recipe = read_recipe(steps("smoothquant", "global_magnitude", "rtn", {"low_rank": {"metric": "plain"}}))
    segments = list(select(recipe, layout("moonshine")).segments())
    assert [(whole, [step.method.name for step, _ in work]) for whole, work in segments] == [
        (False, ["smoothquant"]),
        (True, ["global_magnitude"]),
        (False, ["rtn", "low_rank"]),
    ]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_does_and_what_each_option_is(name):
    step = read_recipe(steps({name: {"symmetric": False} if name == "hqq" else {}})).steps[0]
    assert step.method.name == name
    assert len(step.method.summary) > 20
    for row in step.method.options.rows():
        assert row["text"], row["option"]
        assert row["type"] != "any", row["option"]
    assert step.method.refuse(LayerShape("layer", "linear", 32, 32, cached=True), step.options) is None


def test_a_wider_toy_takes_groups_of_its_own_width(tmp_path):
    folder = toys.write_moonshine(tmp_path / "toy", hidden_size=52)
    with pytest.raises(ValueError, match=r"the 52 inputs of .*; 52 do"):
        select(read_recipe(steps({"rtn": {"group_size": 32, "where": "*q_proj"}})), open_layout(resolve(folder)))


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_smoothquant_takes_the_readers_of_norms_and_no_others(name, toy):
    model = open_layout(resolve(toy(name)))
    [chosen] = select(read_recipe({"steps": ["smoothquant"]}), model).layers
    written_by_norms = {
        reader
        for stack in model.stacks
        for unit in stack.units
        for site in unit.sites
        if site.writer and site.writer not in model.shapes
        for reader in site.readers
    }
    assert set(chosen) == written_by_norms


def test_smoothquant_where_no_norm_writes_is_refused_and_not_a_step_without_effect(toy):
    model = open_layout(resolve(toy("whisper")))
    recipe = read_recipe({"steps": [{"smoothquant": {"where": "*out_proj"}}]})
    with pytest.raises(ValueError, match=r"smoothquant: where \*out_proj leaves no layer that it can work on"):
        select(recipe, model)
