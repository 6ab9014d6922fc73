"""Random checkpoints at the released sizes: what they cost can be timed, what they say means nothing."""

from pathlib import Path

import torch
from tests import toys
from transformers import (
    GenerationConfig,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

WHISPER = {
    "whisper-tiny": (384, 4, 6),
    "whisper-base": (512, 6, 8),
    "whisper-small": (768, 12, 12),
}  # width, layers, heads
MOONSHINE = {"moonshine-tiny": (288, 6, 8), "moonshine-base": (416, 8, 8)}
SIZES = (*WHISPER, *MOONSHINE)


def write(name: str, folder: Path) -> Path:
    """The checkpoint of that name in folder/name, written once."""
    path = folder / name
    if not (path / "config.json").exists():
        (_whisper if name in WHISPER else _moonshine)(name, path)
    return path


def _whisper(name: str, path: Path) -> None:
    width, layers, heads = WHISPER[name]
    tokenizer = toys.whisper_tokenizer(30, english_only=False)
    config = toys.whisper_config(
        tokenizer,
        vocab_size=51_865,
        num_mel_bins=80,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        max_source_positions=1500,
        max_target_positions=448,
        tie_word_embeddings=True,
    )
    generation = toys.whisper_generation(tokenizer, decoder_layers=layers, english_only=False, max_length=448)
    toys.save_whisper(path, config, generation, tokenizer, 30, seed=0)


def _moonshine(name: str, path: Path) -> None:
    width, layers, heads = MOONSHINE[name]
    tokenizer = toys.moonshine_tokenizer()
    tokenizer.model_max_length = 194
    config = MoonshineConfig(
        vocab_size=32_768,
        hidden_size=width,
        intermediate_size=4 * width,
        encoder_num_hidden_layers=layers,
        decoder_num_hidden_layers=layers,
        encoder_num_attention_heads=heads,
        decoder_num_attention_heads=heads,
        partial_rotary_factor=0.9 if name == "moonshine-tiny" else 0.62,
        max_position_embeddings=194,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        model = MoonshineForConditionalGeneration(config)
    toys.fill_with_noise(model, toys.row_scale(tokenizer, config.vocab_size), 0)
    model.generation_config = GenerationConfig(
        bos_token_id=1, decoder_start_token_id=1, eos_token_id=2, pad_token_id=2, max_length=194
    )
    features = Wav2Vec2FeatureExtractor(sampling_rate=16_000, do_normalize=False, return_attention_mask=True)
    toys.save(path, model, Wav2Vec2Processor(features, tokenizer))
