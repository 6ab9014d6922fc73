"""The two built-in models before any training: tokenizers of the domain, configurations, first weights."""

import json
import math
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn

from builtin.domain import sentences

WINDOW_SECONDS = 8
WIDTH, ENCODER_LAYERS, DECODER_LAYERS, HEADS = 192, 4, 2, 6
VOCABULARY = 640
MOST_TOKENS = 64
WHISPER_SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip


def whisper() -> tuple[Any, Any]:
    """A Whisper with a window of 8 s, and its processor."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
    )

    tokenizer = _whisper_tokenizer()
    special = tokenizer.convert_tokens_to_ids
    end, start = special("<|endoftext|>"), special("<|startoftranscript|>")
    config = WhisperConfig(
        vocab_size=_rounded(len(tokenizer)), num_mel_bins=80, d_model=WIDTH,
        encoder_layers=ENCODER_LAYERS, decoder_layers=DECODER_LAYERS,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * WIDTH, decoder_ffn_dim=4 * WIDTH,
        max_source_positions=WINDOW_SECONDS * 50, max_target_positions=MOST_TOKENS,
        dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        decoder_start_token_id=start, eos_token_id=end, bos_token_id=end, pad_token_id=end,
        suppress_tokens=None, begin_suppress_tokens=None, is_encoder_decoder=True,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    _first_weights(model)
    nn.init.normal_(model.model.decoder.embed_positions.weight, std=0.08)
    model.model.encoder.embed_positions.weight.data.mul_(0.5)  # sinusoids, which Whisper does not train
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        max_length=MOST_TOKENS, begin_suppress_tokens=[end],
        suppress_tokens=[start, *map(special, WHISPER_SPECIAL[2:8])],
        is_multilingual=True, language="en", task="transcribe", return_timestamps=False,
        lang_to_id={"<|en|>": special("<|en|>")},
        task_to_id={task: special(f"<|{task}|>") for task in ("transcribe", "translate")},
        no_timestamps_token_id=special("<|notimestamps|>"), prev_sot_token_id=special("<|startofprev|>"),
        max_initial_timestamp_index=50, alignment_heads=[[1, head] for head in range(HEADS)],
    )  # fmt: skip
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=WINDOW_SECONDS)
    return model, WhisperProcessor(extractor, tokenizer)


def moonshine() -> tuple[Any, Any]:
    """A Moonshine, and its processor."""
    from transformers import (
        GenerationConfig,
        MoonshineConfig,
        MoonshineForConditionalGeneration,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Processor,
    )

    tokenizer = _moonshine_tokenizer()
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    config = MoonshineConfig(
        vocab_size=_rounded(len(tokenizer)), hidden_size=WIDTH, intermediate_size=3 * WIDTH,
        encoder_num_hidden_layers=ENCODER_LAYERS, decoder_num_hidden_layers=DECODER_LAYERS,
        encoder_num_attention_heads=HEADS, decoder_num_attention_heads=HEADS,
        max_position_embeddings=512, decoder_start_token_id=start, bos_token_id=start,
        eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    model = MoonshineForConditionalGeneration(config)
    _first_weights(model)
    with torch.no_grad():
        model.model.encoder.conv1.weight.copy_(_gabor_pairs(WIDTH)[:, None])
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start, bos_token_id=start, eos_token_id=end, pad_token_id=end, max_length=MOST_TOKENS
    )
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=16_000, padding_value=0.0, do_normalize=False, return_attention_mask=True
    )
    return model, Wav2Vec2Processor(extractor, tokenizer)


def _first_weights(model: nn.Module) -> None:
    """The classes' own N(0, 0.02) is far too small at this width."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "proj_out":
            nn.init.xavier_uniform_(module.weight)
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    nn.init.normal_(model.get_submodule("model.decoder.embed_tokens").weight, std=0.08)  # type: ignore[arg-type]


def _gabor_pairs(filters: int) -> torch.Tensor:
    """(filters, 127): cosine and sine at mel-spaced frequencies, from which Moonshine's first layer learns on."""
    n = torch.arange(127) - 63.0
    mel = torch.linspace(2595 * math.log10(1 + 80 / 700), 2595 * math.log10(1 + 7000 / 700), filters // 2)
    angle = 2 * math.pi * (700 * (10 ** (mel / 2595) - 1))[:, None] * n / 16_000
    pairs = torch.stack([torch.cos(angle), torch.sin(angle)], 1).flatten(0, 1) * torch.hann_window(127, periodic=False)
    return pairs * (6.0 / pairs.abs().sum(1, keepdim=True))


def _texts() -> list[str]:
    drawn = sentences(0)
    return [next(drawn) for _ in range(4000)]


def _whisper_tokenizer() -> Any:
    """Whisper's byte-level BPE with the special tokens of a checkpoint that knows English only."""
    from transformers import WhisperTokenizer

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([f" {text}" for text in _texts()], trainer)
    trained = json.loads(bpe.to_str())["model"]
    vocabulary = dict(trained["vocab"])
    merges = [tuple(merge) if not isinstance(merge, str) else tuple(merge.split(" ")) for merge in trained["merges"]]
    timestamps = [f"<|{i * 0.02:.2f}|>" for i in range(WINDOW_SECONDS * 50 + 1)]
    for token in (*WHISPER_SPECIAL, *timestamps):
        vocabulary[token] = len(vocabulary)
    end = WHISPER_SPECIAL[0]
    tokenizer = WhisperTokenizer(
        vocab=vocabulary, merges=merges, unk_token=end, bos_token=end, eos_token=end, pad_token=end,
        language="en", task="transcribe", extra_special_tokens=list(WHISPER_SPECIAL[1:]),
    )  # fmt: skip
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in timestamps])
    tokenizer.model_max_length = MOST_TOKENS
    tokenizer.set_prefix_tokens(language="en", task="transcribe", predict_timestamps=False)
    return tokenizer


def _moonshine_tokenizer() -> Any:
    """Moonshine's Llama-style BPE that falls back to bytes."""
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>"]
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(), trainer)
    bpe.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    document = json.loads(bpe.to_str())
    document["pre_tokenizer"] = None  # as Moonshine ships it
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in special]
    pair = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": pair,
        "pair": [*pair, {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(document)),
        unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>",
        model_max_length=MOST_TOKENS, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _rounded(size: int) -> int:
    return -(-size // 8) * 8


FAMILIES = {"whisper": whisper, "moonshine": moonshine}
