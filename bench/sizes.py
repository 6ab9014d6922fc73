"""Random checkpoints at the released sizes: what they cost can be timed, what they say means nothing."""

from pathlib import Path

from tests import toys
from transformers import (
    MoonshineConfig,
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
    toys.whisper_sized(path, width=width, layers=layers, heads=heads)


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
    toys.save_moonshine(path, config, tokenizer, max_length=194, seed=0)
