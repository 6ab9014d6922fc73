"""The cost of one utterance, counted while it is decoded.

Every module with a weight and every attention is watched, the encoder runs once and the decoder one
step at a time into its cache: what was multiplied, and what was read for it, is what the tensors say.
"""

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.targets.torch import TorchEngine, TorchFrameEngine


@dataclass
class Counted:
    """By layer: multiply-accumulates, passes over its weight, rows looked up, activations read; of all products.

    held is what is written to and read from the decoder's cache, attended what the decoder's attention multiplies.
    """

    macs: Counter = field(default_factory=Counter)
    passes: Counter = field(default_factory=Counter)
    lookups: Counter = field(default_factory=Counter)
    reads: Counter = field(default_factory=Counter)
    attention_macs: int = 0
    attended: int = 0
    moved: int = 0
    held: int = 0


def count(model, samples, tokens):
    """What `model` does for one clip of `samples`, when it writes `tokens` tokens."""
    counted = Counted()
    engine = TorchEngine(model)
    with watched(model, counted):
        memory = engine.encode([model.frontend.features(samples)])
        feed, cache = np.array([model.rules().prompt]), None
        for _ in range(tokens):
            logits, cache = engine.step(feed, memory, cache)
            feed = logits.argmax(-1, keepdims=True)
    return counted


def count_frames(model, samples):
    """The same of a model without a decoder."""
    counted = Counted()
    engine = TorchFrameEngine(model)
    with watched(model, counted):
        engine.frame_logits(engine.encode([model.frontend.features(samples)]))
    return counted


@contextmanager
def watched(model, counted):
    decoding = []  # something while the decoder runs
    names = {module: name.removeprefix(f"{model.root}.") for name, module in model.module.named_modules()}

    def linear(module, inputs, output):
        name = model.head_layer if module is model.head else names[module]
        places = output.numel() // len(module.weight)  # output positions, of a linear or a convolution
        counted.macs[name] += places * module.weight.numel()
        counted.passes[name] += 1
        counted.reads[name] += inputs[0].numel()
        counted.moved += inputs[0].numel() + output.numel()
        if decoding and name.endswith(("k_proj", "v_proj")):
            counted.held += output.numel()

    def lookup(module, inputs, output):
        counted.lookups[names[module]] += output.numel() // module.weight.shape[1]
        counted.moved += output.numel()

    plain = functional.scaled_dot_product_attention

    def attend(query, key, value, attn_mask=None, is_causal=False, **keywords):
        output = plain(query, key, value, attn_mask=attn_mask, is_causal=is_causal, **keywords)
        heads, queries, width = query.shape[1:]
        keys = key.shape[2]
        allowed = torch.ones(queries, keys, dtype=torch.bool)
        if is_causal:
            allowed = allowed.tril()
        elif attn_mask is not None:
            assert attn_mask.dtype == torch.bool
            allowed = attn_mask[0, 0]
        macs = int(allowed.sum()) * heads * (width + value.shape[3])
        counted.attention_macs += macs
        if decoding:
            counted.attended += macs
            counted.held += key.numel() + value.numel()
        counted.moved += query.numel() + key.numel() + value.numel() + output.numel()
        return output

    handles = [
        module.register_forward_hook(linear if isinstance(module, (nn.Linear, nn.Conv1d)) else lookup)
        for module in model.module.modules()
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Embedding))
    ]
    if isinstance(model, EncoderDecoder):
        decoder = model.module.model.decoder
        handles += [
            decoder.register_forward_pre_hook(lambda module, inputs: decoding.append(True)),
            decoder.register_forward_hook(lambda module, inputs, output: decoding.clear()),
        ]
    functional.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain
        for handle in handles:
            handle.remove()
