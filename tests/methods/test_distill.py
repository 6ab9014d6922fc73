"""What the methods that train refuse, want and take before a model is opened."""

import pytest

from sottovoce.methods import find
from sottovoce.weights.weight import LayerShape

SHAPE = LayerShape("decoder.layers.0.fc1", "linear", 32, 8)


@pytest.mark.parametrize("name", ["distill", "lora"])
@pytest.mark.parametrize(
    ("weights", "refused"),
    [
        ({"encoder": 0, "logits": 0}, True),
        ({"encoder": 0}, False),
        ({"encoder": 0, "logits": 0, "hidden": 0.1}, False),
        ({"encoder": 0, "logits": 0, "labels": 1}, False),
        ({"encoder": 0, "logits": 0, "temperature": 3, "label_smoothing": 0.1}, True),
    ],
)
def test_without_a_loss_there_is_nothing_to_learn(name, weights, refused):
    method = find(name)
    options = method.options.fill(name, {"rank": 2, **weights} if name == "lora" else weights)
    why = method.refuse(SHAPE, options)
    assert bool(why) == refused
    assert not refused or "labels, encoder, logits and hidden are all 0" in why


@pytest.mark.parametrize("name", ["distill", "lora"])
def test_transcripts_are_wanted_only_where_the_decoder_reads_them(name):
    method = find(name)
    assert method.needs(method.options.fill(name, {})) == {"audio"}
    assert method.needs(method.options.fill(name, {"tokens": "transcript"})) == {"transcripts"}


@pytest.mark.parametrize("name", ["distill", "lora"])
def test_encoder_and_logits_are_imitated_unless_told_otherwise(name):
    method = find(name)
    losses = method.options.arguments(method.options.fill(name, {}))["losses"]
    assert (losses.labels, losses.encoder, losses.logits, losses.hidden) == (0, 1, 1, 0)
    changed = method.options.arguments(method.options.fill(name, {"encoder": 0.5, "hidden": 2}))["losses"]
    assert (changed.labels, changed.encoder, changed.logits, changed.hidden) == (0, 0.5, 1, 2)


def test_finetune_always_wants_transcripts():
    method = find("finetune")
    assert method.needs(method.options.fill("finetune", {})) == {"transcripts"}


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("distill", "encoder", -1),
        ("distill", "temperature", 0),
        ("finetune", "label_smoothing", 1),
        ("finetune", "epochs", 0),
        ("finetune", "batch", 0),
        ("finetune", "held_out", 1),
        ("finetune", "warmup", 1),
        ("lora", "rank", 0),
        ("lora", "precision", "fp16"),
        ("lora", "dtype", "int8"),
    ],
)
def test_an_option_out_of_its_range_is_refused_by_name(name, option, value):
    with pytest.raises(ValueError, match=rf"{name}: {option}={value!r}: should be"):
        find(name).options.fill(name, {option: value})


@pytest.mark.parametrize("name", ["finetune", "distill", "lora"])
def test_every_method_that_trains_takes_the_same_options_for_it(name):
    training = find(name).options.groups["training"].schema.model_fields
    assert {"epochs", "learning_rate", "batch", "held_out", "patience", "seed", "precision"} <= set(training)
    assert set(training) < set(find(name).options.names())
