"""What a row calls its recipe."""

import pytest

from sottovoce.methods.words import COLUMNS
from sottovoce.recipes.read import read_recipe
from sottovoce.sweeping.row import recipe_words

WANDA = {"wanda": {"where": "*.layers.*", "sparsity": "2:4"}}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"gptq": {"bits": 3, "group_size": 32}}], {"quantization": "gptq 3-bit g32"}),
        ([{"rtn": {"bits": 4, "group_size": "channel"}}], {"quantization": "rtn 4-bit channel"}),
        ([{"spqr": {"bits": 3}}], {"quantization": "spqr 3-bit g16"}),
        ([{"palettize": {"bits": 2}}], {"quantization": "palettize 2-bit"}),
        ([WANDA], {"sparsity": "wanda 2:4"}),
        (["activations"], {"activations": "int8 per token"}),
        (
            [
                {"rtn": {"bits": 8}},
                {"activations": {"per": "tensor", "range": "mse", "symmetric": False, "bits": 4}},
                {"kv_cache": {"bits": 4}},
            ],
            {"quantization": "rtn 8-bit channel", "activations": "int4 per tensor asymmetric mse + kv int4"},
        ),
        (["llm_int8"], {"quantization": "llm_int8", "activations": "int8 per token, from 6 float"}),
        ([WANDA, {"low_rank": {"rank": 0.1}}], {"sparsity": "wanda 2:4", "low_rank": "gram r=0.1"}),
        ([{"finetune": {"epochs": 2}}], {"recovery": "finetune 2 ep lr 0.0001"}),
        ([{"distill": {}}], {"recovery": "distill encoder+logits 1 ep lr 0.0001"}),
        (
            [{"distill": {"labels": 0.5, "encoder": 0.0, "hidden": 2.0, "learning_rate": 0.001}}],
            {"recovery": "distill 0.5 labels+logits+2 hidden 1 ep lr 0.001"},
        ),
        (
            [{"maskllm": {"sparsity": "1:4", "epochs": 3}}],
            {"sparsity": "maskllm 1:4", "recovery": "maskllm encoder+logits 3 ep lr 0.0003"},
        ),
        (
            [WANDA, {"lora": {"rank": 8}}],
            {"sparsity": "wanda 2:4", "recovery": "lora r=8 encoder+logits 1 ep lr 0.0001"},
        ),
        (
            [{"drop_layers": {"encoder": [0]}}, "shorten_context", WANDA],
            {"structure": "drop_layers(encoder=[0]) + shorten_context", "sparsity": "wanda 2:4"},
        ),
    ],
)
def test_a_recipe_is_told_by_the_part_that_each_step_owns(steps, words):
    expected = dict.fromkeys(COLUMNS, "-") | words
    assert recipe_words(read_recipe({"steps": steps})) == expected
