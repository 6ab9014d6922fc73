"""Audio to batches: what the sweep feeds through the model to see its activations.

A batch is a single clip, so nothing is padded but Whisper's own window, whose silence is left out of
the statistics. A decoder is driven by the model's own greedy tokens or by the transcripts.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch

from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Clip
from sottovoce.numbers.fast_products import fast_products
from sottovoce.progress import Track, silent
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.spoken import Spoken
from sottovoce.speech.datasets import Corpus, Utterance

Tokens = Literal["own", "transcript"]
_BATCH = 16


@dataclass(frozen=True)
class CalibrationRecord:
    """What the artifact keeps of the calibration, so that a test set can be held against it.

    fingerprints are the first 16 hex digits of the SHA-256 of each audio file; digest covers them all. left_out counts
    clips that were drawn and could not be used.
    """

    dataset: str
    utterances: int
    seconds: float
    tokens: str
    seed: int
    ids: tuple[str, ...]
    fingerprints: tuple[str, ...]
    digest: str
    left_out: int = 0

    def as_document(self) -> dict[str, object]:
        """The record for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Calibration:
    """Clips ready for the sweep, and their record."""

    clips: tuple[Clip, ...]
    record: CalibrationRecord


@fast_products()
def calibrate(
    model: SpeechModel,
    corpus: Corpus,
    *,
    tokens: Tokens = "own",
    seed: int = 0,
    language: str | None = None,
    track: Track = silent,
) -> Calibration:
    """Read, featurise and give tokens to every utterance of `corpus`, with the model as it stands.

    language  of all utterances; left out, each one's own

    Raises ValueError for audio that cannot be used or, with tokens="transcript", an utterance without one.
    """
    by_frames = model.rules().by_frames
    if tokens == "transcript" and by_frames:
        raise ValueError(
            f"{model.checkpoint.name} has no decoder that tokens drive (CTC), found tokens=transcript; leave it out"
        )
    if tokens == "transcript" and (bare := next((u for u in corpus.utterances if not u.text), None)):
        raise ValueError(
            f"{corpus.path}: {bare.id} has no transcript; give one, or drive the decoder with the model's own tokens"
        )
    spoken = Spoken(language)
    spoken.check(corpus, model.frontend, model.checkpoint.name)
    recognizer = Recognizer.of(model, language)
    clips: list[Clip] = []
    batches = [corpus.utterances[i : i + _BATCH] for i in range(0, len(corpus), _BATCH)]
    for batch in track(batches, len(batches), "calibration batches"):
        made: dict[str, Clip] = {}
        for one, rows in spoken.by_prompt(batch, lambda utterance: utterance, recognizer):
            made |= zip((row.id for row in rows), _clips(one, rows, tokens), strict=True)
        clips += [made[utterance.id] for utterance in batch]
    fingerprints = corpus.fingerprints()
    record = CalibrationRecord(
        corpus.name,
        len(corpus),
        round(corpus.total_seconds, 3),
        "none" if by_frames else tokens,
        seed,
        tuple(utterance.id for utterance in corpus.utterances),
        fingerprints,
        hashlib.sha256("\n".join(fingerprints).encode()).hexdigest(),
        len(corpus.left_out),
    )
    return Calibration(tuple(clips), record)


def _clips(recognizer: Recognizer, batch: Sequence[Utterance], tokens: Tokens) -> Iterator[Clip]:
    frontend, most = recognizer.frontend, recognizer.rules.most_tokens
    samples = [recognizer.read(utterance.audio) for utterance in batch]
    features = [frontend.features(clip) for clip in samples]
    rows: list[tuple[int, ...]]
    if recognizer.rules.by_frames:
        rows = [()] * len(features)
    elif tokens == "own":
        rows = [(*decoded.prompt, *decoded.tokens) for decoded in recognizer.decode(features)]
    else:
        spoken = [frontend.text_tokens(utterance.text or "") for utterance in batch]
        if long := next((u for u, row in zip(batch, spoken, strict=True) if len(row) > most), None):
            raise ValueError(
                f"{long.id}: its transcript takes more than the {most} tokens that the model writes at most"
            )
        rows = [(*prompt, *row) for prompt, row in zip(recognizer.prompts(features), spoken, strict=True)]
    for clip, feature, row in zip(samples, features, rows, strict=True):
        yield Clip(torch.from_numpy(feature), len(clip), torch.tensor([row], dtype=torch.int64))
