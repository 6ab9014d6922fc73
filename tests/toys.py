"""Toy speech models and toy speech, made on the spot from a seed.

The weights are random and the audio is synthetic tones: what runs on them proves that the machinery
runs, never that anything is accurate. A transcript here is a random string that depends on the clip,
which is enough to see that two ways of computing it agree. All files have the layout of released checkpoints.

    python -m tests.toys FOLDER      writes whisper/, moonshine/, speech/*.flac, test.jsonl, calibration.jsonl
"""

from __future__ import annotations

import json
import re
import string
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

SAMPLE_RATE = 16_000
WINDOW_SECONDS = 2
SPEAKERS = tuple(f"speaker{i}" for i in range(6))
WORDS = (
    "all",
    "and",
    "but",
    "can",
    "day",
    "had",
    "her",
    "man",
    "not",
    "old",
    "red",
    "run",
    "see",
    "ten",
    "the",
)
MERGES = (
    "th",
    "he",
    "in",
    "er",
    "an",
    "re",
    "on",
    "at",
    "en",
    "nd",
    "st",
    "es",
    "or",
    "te",
    "ed",
    "is",
    "it",
    "al",
)
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>",
           "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")  # fmt: skip


def write_whisper(
    folder: str | Path,
    *,
    seed: int = 0,
    tied: bool = True,
    english_only: bool = False,
    mels: int = 80,
    d_model: int = 32,
    ffn_dim: int = 64,
    encoder_layers: int = 2,
    decoder_layers: int = 2,
) -> Path:
    """A random Whisper with a window of 2 s, 100 frames of `d_model` channels and 32 token positions.

    `tied=False` gives it a head (proj_out) of its own; `english_only` a generation config as the
    released `.en` models have it, without languages and tasks.
    """
    tokenizer = whisper_tokenizer(WINDOW_SECONDS, english_only)
    config = whisper_config(
        tokenizer,
        vocab_size=len(tokenizer),
        num_mel_bins=mels,
        d_model=d_model,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=ffn_dim,
        decoder_ffn_dim=ffn_dim,
        max_source_positions=50 * WINDOW_SECONDS,
        max_target_positions=32,
        tie_word_embeddings=tied,
    )
    generation = whisper_generation(tokenizer, decoder_layers, english_only, max_length=24)
    return save_whisper(folder, config, generation, tokenizer, WINDOW_SECONDS, seed)


def whisper_sized(folder: str | Path, *, width: int = 384, layers: int = 4, heads: int = 6, seed: int = 0) -> Path:
    """A random Whisper of a released one's true sizes, whisper-tiny's if nothing is said, to be timed, not read.

    The toy tokenizer stays (with the timestamps of 30 s): ids beyond it decode to nothing.
    """
    tokenizer = whisper_tokenizer(30, english_only=False)
    config = whisper_config(
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
    generation = whisper_generation(tokenizer, decoder_layers=layers, english_only=False, max_length=448)
    return save_whisper(folder, config, generation, tokenizer, 30, seed)


def write_moonshine(
    folder: str | Path,
    *,
    seed: int = 0,
    tied: bool = True,
    hidden_size: int = 32,
    encoder_layers: int = 2,
    decoder_layers: int = 2,
) -> Path:
    """A random Moonshine of two heads; `tied=False` gives it a head (proj_out) of its own."""
    tokenizer = moonshine_tokenizer()
    config = MoonshineConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=64,
        encoder_num_hidden_layers=encoder_layers,
        decoder_num_hidden_layers=decoder_layers,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        partial_rotary_factor=0.9,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=tied,
    )
    return save_moonshine(folder, config, tokenizer, max_length=24, seed=seed)


def save_moonshine(
    folder: str | Path, config: MoonshineConfig, tokenizer: PreTrainedTokenizerFast, *, max_length: int, seed: int
) -> Path:
    """A random Moonshine of that config with all that a checkpoint has beside its weights."""
    with torch.random.fork_rng(devices=[]):
        model = MoonshineForConditionalGeneration(config)
    fill_with_noise(model, row_scale(tokenizer, config.vocab_size), seed)
    model.generation_config = GenerationConfig(
        bos_token_id=1, decoder_start_token_id=1, eos_token_id=2, pad_token_id=2, max_length=max_length
    )
    features = Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE, do_normalize=False, return_attention_mask=True)
    return save(folder, model, Wav2Vec2Processor(features, tokenizer))


def write_wav2vec2(folder: str | Path, *, seed: int = 0, stable: bool = False, hidden_size: int = 32) -> Path:
    """A random wav2vec 2.0 with a CTC head: group norm in its stem, norms after sums; `stable`, the other kind."""
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(letters)}))
    tokenizer = Wav2Vec2CTCTokenizer(folder / "vocab.json")
    config = Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(32, 32, 32),
        conv_kernel=(10, 8, 4),
        conv_stride=(5, 8, 4),
        conv_bias=stable,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if stable else "group",
        do_stable_layer_norm=stable,
        num_feat_extract_layers=3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        model = Wav2Vec2ForCTC(config)
    fill_with_noise(model, torch.ones(len(letters)), seed)
    with torch.no_grad():
        model.lm_head.bias[0] += 1.0  # the blank is likely
        model.lm_head.bias[1:4] -= 100.0  # transformers would write "<s>" where it is chosen
    features = Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE, do_normalize=True, return_attention_mask=stable)
    return save(folder, model, Wav2Vec2Processor(features, tokenizer))


def write_speech(folder: str | Path, count: int, *, seed: int, prefix: str) -> Path:
    """`count` FLAC clips of 0.4 to 1.9 s at 16 kHz in folder/speech, listed in folder/<prefix>.jsonl.

    A row: id, audio (path relative to the manifest), text (2 to 5 words), speaker (one of 6), seconds.
    """
    folder = Path(folder)
    (folder / "speech").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        samples = int(rng.uniform(0.4, 1.9) * SAMPLE_RATE)
        row = {
            "id": f"{prefix}-{index:03d}",
            "audio": f"speech/{prefix}-{index:03d}.flac",
            "text": " ".join(rng.choice(WORDS, rng.integers(2, 6))),
            "speaker": str(rng.choice(SPEAKERS)),
            "seconds": samples / SAMPLE_RATE,
        }
        soundfile.write(folder / row["audio"], tones(samples, rng), SAMPLE_RATE, subtype="PCM_16")
        rows.append(row)
    manifest = folder / f"{prefix}.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return manifest


def tones(samples: int, rng: np.random.Generator) -> np.ndarray:
    """(samples,) float64 within -0.9 to 0.9: five harmonics, each with an envelope of its own, and noise."""
    seconds = np.arange(samples) / SAMPLE_RATE
    pitch = rng.uniform(90, 400)  # Hz
    wave = 0.02 * rng.standard_normal(samples)
    for harmonic in rng.choice(np.arange(1, 16), 5, replace=False):
        knots = rng.uniform(0, 1, 8) ** 2
        envelope = np.interp(seconds, np.linspace(0, seconds[-1], 8), knots)
        wave += envelope * np.sin(2 * np.pi * harmonic * pitch * seconds + rng.uniform(0, 2 * np.pi))
    return 0.9 * wave / np.abs(wave).max()


def merge_pairs(space: str) -> list[tuple[str, str]]:
    """Pairs of symbols that BPE joins, first come first; `space` is how a tokenizer writes the blank."""
    starts = [(space, letter) for letter in "aothbwsc"]
    return [*((a, b) for a, b in MERGES), *starts, ("th", "e"), (space, "the")]


def whisper_tokenizer(window_seconds: int, english_only: bool) -> WhisperTokenizer:
    """256 bytes, a few merges, the special tokens, then one timestamp each 0.02 s of the window."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = merge_pairs("Ġ")
    timestamps = [f"<|{i * 0.02:.2f}|>" for i in range(50 * window_seconds + 1)]
    tokens = [*symbols, *(a + b for a, b in merges), *SPECIAL, *timestamps]
    language, task = (None, None) if english_only else ("en", "transcribe")
    tokenizer = WhisperTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        unk_token=SPECIAL[0],
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[0],
        pad_token=SPECIAL[0],
        language=language,
        task=task,
        extra_special_tokens=list(SPECIAL[1:]),
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in timestamps])
    tokenizer.set_prefix_tokens(language=language, task=task, predict_timestamps=False)
    return tokenizer


def moonshine_tokenizer() -> PreTrainedTokenizerFast:
    """Three special tokens, 256 bytes to fall back on, letters and a few merges, as Llama ships it."""
    letters = [*"▁abcdefghijklmnopqrstuvwxyz'"]
    merges = merge_pairs("▁")
    special = ["<unk>", "<s>", "</s>"]
    tokens = [*special, *(f"<0x{i:02X}>" for i in range(256)), *letters, *(a + b for a, b in merges)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    layout = json.loads(Tokenizer(model).to_str())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    layout["added_tokens"] = [{"id": i, "content": token, **plain} for i, token in enumerate(special)]
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    layout["normalizer"] = {"type": "Sequence", "normalizers": [prepend, replace]}
    start, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    layout["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, text],
        "pair": [start, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    layout["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(layout)),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=64,
        clean_up_tokenization_spaces=False,
    )


def whisper_config(tokenizer: WhisperTokenizer, **sizes: int) -> WhisperConfig:
    """The sizes, and the ids that the tokenizer gives its special tokens."""
    end, start = tokenizer.convert_tokens_to_ids(list(SPECIAL[:2]))
    return WhisperConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **sizes,
    )


def whisper_generation(
    tokenizer: WhisperTokenizer, decoder_layers: int, english_only: bool, max_length: int
) -> GenerationConfig:
    """A complete one: without some of these Whisper silently transcribes with another prompt."""
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    end = ids["<|endoftext|>"]
    speech = {} if english_only else {
        "lang_to_id": {name: ids[name] for name in ("<|en|>", "<|de|>")},
        "task_to_id": {name: ids[f"<|{name}|>"] for name in ("translate", "transcribe")},
        "language": "en",
        "task": "transcribe",
    }  # fmt: skip
    return GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        no_timestamps_token_id=ids["<|notimestamps|>"],
        is_multilingual=not english_only,
        suppress_tokens=[ids[name] for name in SPECIAL[1:-1]],
        begin_suppress_tokens=[end],
        return_timestamps=False,
        max_initial_timestamp_index=50,
        max_length=max_length,
        alignment_heads=[[decoder_layers - 1, 0], [decoder_layers - 1, 1]],
        **speech,
    )


def save_whisper(
    folder: str | Path,
    config: WhisperConfig,
    generation: GenerationConfig,
    tokenizer: WhisperTokenizer,
    window_seconds: int,
    seed: int,
) -> Path:
    """Make the model of `config`, fill it with noise and save it with its processor."""
    with torch.random.fork_rng(devices=[]):
        model = WhisperForConditionalGeneration(config)
    fill_with_noise(model, row_scale(tokenizer, config.vocab_size), seed)
    model.generation_config = generation
    tokenizer.model_max_length = config.max_target_positions
    features = WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=window_seconds)
    return save(folder, model, WhisperProcessor(features, tokenizer))


def save(folder: str | Path, model: nn.Module, processor: WhisperProcessor | Wav2Vec2Processor) -> Path:
    folder = Path(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    processor.feature_extractor.save_pretrained(folder)  # released checkpoints have preprocessor_config.json
    return folder


def row_scale(tokenizer: WhisperTokenizer | PreTrainedTokenizerFast, vocab_size: int) -> Tensor:
    """(vocab_size,) how loud a token's row is, so that transcripts are letters and end at different lengths.

    Letters 1, letters after a space 1.3, the end 1.7; bytes, special tokens, timestamps and ids that the
    tokenizer lacks 0.3.
    """
    scale = torch.full((vocab_size,), 0.3)
    for token, i in tokenizer.get_vocab().items():
        if re.fullmatch("[Ġ▁]?[a-z]+", token):
            scale[i] = 1.0 if token[0] in string.ascii_lowercase else 1.3
    scale[tokenizer.eos_token_id] = 1.7
    return scale


@torch.no_grad()
def fill_with_noise(model: nn.Module, rows: Tensor, seed: int) -> None:
    """Random values of a size at which layers matter: with the usual 0.02 all clips get the same transcript.

    Biases and norms are random too, so that code that forgets one shows it. The sizes, and what is added to
    the seed, were chosen by looking at the transcripts of seed 0; a toy of another seed may end at once.
    """
    noise = torch.Generator().manual_seed(1000 * seed + 171)
    for name, w in model.named_parameters():
        r = torch.randn(w.shape, generator=noise)
        if name.endswith("encoder.embed_positions.weight"):
            continue  # sinusoids
        if name.endswith(("embed_tokens.weight", "proj_out.weight")):
            w.copy_(0.3 * r * rows[:, None])
        elif name.endswith("embed_positions.weight"):
            w.copy_(0.5 * r)
        elif w.ndim > 1:
            w.copy_(2.0 * r / w[0].numel() ** 0.5)
        elif "norm" in name and name.endswith("weight"):
            w.copy_(1 + 0.2 * r)
        else:
            w.copy_(0.1 * r)


def main(folder: Path) -> None:
    """Write both toys and their speech under `folder`."""
    write_whisper(folder / "whisper")
    write_moonshine(folder / "moonshine")
    write_speech(folder, 12, seed=0, prefix="test")
    write_speech(folder, 8, seed=1, prefix="calibration")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.toys FOLDER")
    main(Path(sys.argv[1]))
