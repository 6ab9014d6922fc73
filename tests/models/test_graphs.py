import pytest
import torch

from sottovoce.models.graphs import DecoderGraph, EncoderGraph, StaticDecoderGraph
from sottovoce.recognition.target import find_target
from sottovoce.targets.executorch.attention import MANY, ONE, set_attention
from sottovoce.targets.torch import TorchEngine
from tests.conftest import WRITING

STEPS = 5


@pytest.mark.parametrize("name", WRITING)
@torch.inference_mode()
def test_the_graphs_put_out_the_models_own_logits_token_by_token(name, toy, clips):
    model, _ = find_target(toy(name)).open()
    clip = clips(name)[0]
    engine = TorchEngine(model)
    memory = engine.encode([clip.features])
    tokens = clip.tokens[:, :STEPS]
    expected, cache = [], None
    for token in tokens.T:
        logits, cache = engine.step(token[None].numpy(), memory, cache)
        expected.append(torch.from_numpy(logits))

    encoder, decoder = EncoderGraph(model).eval(), DecoderGraph(model).eval()
    cross = encoder(clip.features)
    past = [tensor[:, :, :0] for tensor in cross]
    for token, wanted in zip(tokens.T, expected, strict=True):
        logits, *past = decoder(token[None], past, cross)
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    assert past[0].shape[2] == len(tokens.T)

    set_attention(model, MANY)
    cross = EncoderGraph(model, for_static=True).eval()(clip.features)
    set_attention(model, ONE)
    static = StaticDecoderGraph(model, places=STEPS + 2).eval()
    static(torch.tensor([[3]]), torch.tensor([1]), cross)  # what lies behind a place is not heard
    for place, (token, wanted) in enumerate(zip(tokens.T, expected, strict=True)):
        logits = static(token[None], torch.tensor([place]), cross)
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_decoder_never_projects_what_the_encoder_put_out(toy, clips):
    model, _ = find_target(toy("whisper")).open()
    cross = EncoderGraph(model)(clips("whisper")[0].features)
    calls = []
    for block in model.module.model.decoder.layers:
        block.encoder_attn.k_proj.register_forward_hook(lambda *_: calls.append(1))
    past = [tensor[:, :, :0] for tensor in cross]
    DecoderGraph(model)(torch.tensor([[1]]), past, cross)
    assert not calls
