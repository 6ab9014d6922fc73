"""A corpus as batches by number: shuffled anew each epoch, read when asked for, augmented by a seed."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sottovoce.files.atomic import read_json_lines, write_text
from sottovoce.models.base import SpeechModel
from sottovoce.progress import Track
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.speech.datasets import Corpus, Utterance
from sottovoce.speech.pace import too_fast
from sottovoce.speech.text import NormalizerChoice
from sottovoce.training.augment import (
    DECIBELS,
    Augmentation,
    at_another_speed,
    chance,
    coloured_noise,
    in_noise,
    spec_augment,
    uniform,
)
from sottovoce.training.batch import Batch, teacher_forced
from sottovoce.training.loops import before_loop
from sottovoce.training.losses import Losses, Objective
from sottovoce.training.settings import Training
from sottovoce.training.spelling import respelled

Tokens = Literal["own", "transcript", "respelled"]
Row = tuple[Utterance, ...]  # what is heard as one clip, one behind another
HELD_OUT_MOST = 256


@dataclass
class UtteranceBatches:
    """Batches of a corpus.

    texts    the tokens of each utterance by id, the end among them; None where the decoder is not trained
    numbers  (tokens,) int64, the uncompressed model's number of each token; None where they are the same
    """

    model: SpeechModel
    recognizer: Recognizer
    corpus: Corpus
    texts: Mapping[str, Sequence[int]] | None
    settings: Training
    augmentation: Augmentation
    numbers: Tensor | None = None
    _orders: dict[int, list[int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        shuffled = list(range(len(self.corpus)))
        random.Random(self.settings.seed).shuffle(shuffled)
        held = min(HELD_OUT_MOST, round(self.settings.held_out * len(self.corpus)))
        held = max(held, 1) if self.settings.held_out else 0
        self._held, self._trained = shuffled[:held], shuffled[held:]
        if not self._trained:
            raise ValueError(
                f"{self.corpus.path} has {len(self.corpus)} utterances, of which held_out={self.settings.held_out:g} "
                "leaves none to train on; more audio or held_out: 0 would work"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass; the last may be smaller."""
        return -(-len(self._trained) // self.settings.batch)

    def at(self, number: int) -> Batch:
        """The batch of that number."""
        epoch, place = divmod(number, self.steps_per_epoch)
        if epoch not in self._orders:
            order = list(self._trained)
            random.Random(f"{self.settings.seed} {epoch}").shuffle(order)
            self._orders = {epoch: order}
        first = place * self.settings.batch
        chosen = self._orders[epoch][first : first + self.settings.batch]
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + number)
        return self._batch(chosen, generator)

    def of(self, chosen: Sequence[int]) -> Batch:
        """Some utterances by their place in the corpus, as they are."""
        return self._batch(chosen, None)

    def held_out(self) -> Iterator[Batch]:
        """The utterances that are never trained on, as they are."""
        for first in range(0, len(self._held), self.settings.batch):
            yield self.of(self._held[first : first + self.settings.batch])

    def _batch(self, chosen: Sequence[int], generator: torch.Generator | None) -> Batch:
        utterances = [self.corpus.utterances[i] for i in chosen]
        rows = [(each,) if generator is None else self._joined(each, generator) for each in utterances]
        # neighbours pass the encoder together, so they should be of one length
        rows.sort(key=lambda row: sum(utterance.seconds for utterance in row))
        clips = self._clips(rows)
        if generator is not None:
            clips = [self._in_noise(self._at_another_speed(clip, generator), generator) for clip in clips]
        features, whole = self._features(clips, generator)
        ids = tuple("+".join(utterance.id for utterance in row) for row in rows)
        if self.texts is None:
            none = torch.zeros(len(ids), 0, dtype=torch.int64)
            return Batch(ids, features, none, none, whole=whole)
        prompts = self.recognizer.prompts([clip.numpy() for clip in features])
        inputs, labels = teacher_forced(prompts, [self._text(row) for row in rows], self.recognizer.rules.end[0])
        return Batch(ids, features, inputs, labels, whole=whole, numbers=self.numbers)

    def _clips(self, rows: Sequence[Row]) -> list[np.ndarray]:
        with ThreadPoolExecutor() as pool:  # a codec takes longer than the features
            read = pool.map(lambda row: [self.recognizer.read(utterance.audio) for utterance in row], rows)
            return [np.concatenate(clips) for clips in read]

    def _joined(self, utterance: Utterance, generator: torch.Generator) -> Row:
        """An utterance with another of those that are trained on behind it, if the dice say so and both fit."""
        if not chance(self.augmentation.join, generator):
            return (utterance,)
        other = self.corpus.utterances[self._any_trained(generator)]
        together = (utterance, other)
        most = self.model.frontend.bounds.most_seconds
        if most is not None and sum(each.seconds for each in together) > most:
            return (utterance,)
        if self.texts is None:
            return together
        end = self.recognizer.rules.end[0]
        # a text without its end stops in the middle: what comes next is not the other's first word
        fits = self.texts[utterance.id][-1:] == [end] and len(self._text(together)) <= self.recognizer.rules.most_tokens
        return together if fits else (utterance,)

    def _text(self, row: Row) -> list[int]:
        """The tokens of a row: of each utterance in turn, the end behind the last only."""
        assert self.texts is not None
        end = self.recognizer.rules.end[0]
        before = [token for utterance in row[:-1] for token in self.texts[utterance.id] if token != end]
        return [*before, *self.texts[row[-1].id]]

    def _any_trained(self, generator: torch.Generator) -> int:
        return self._trained[int(torch.randint(len(self._trained), (), generator=generator))]

    def _at_another_speed(self, clip: np.ndarray, generator: torch.Generator) -> np.ndarray:
        if not self.augmentation.speed:
            return clip
        bounds, rate = self.model.frontend.bounds, self.model.frontend.sampling_rate
        most = None if bounds.most_seconds is None else int(bounds.most_seconds * rate)
        return at_another_speed(clip, self.augmentation.speed, generator, least=bounds.least_samples, most=most)

    def _in_noise(self, clip: np.ndarray, generator: torch.Generator) -> np.ndarray:
        if not chance(self.augmentation.noise, generator):
            return clip
        if chance(0.5, generator):
            noise = coloured_noise(len(clip), generator)
        else:
            noise = self.recognizer.read(self.corpus.utterances[self._any_trained(generator)].audio)
        return in_noise(clip, noise, uniform(*DECIBELS, generator))

    def _features(
        self, clips: Sequence[np.ndarray], generator: torch.Generator | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
        """What the model is given, augmented by `generator`, and what its teacher is, where that is more."""
        frontend = self.model.frontend
        whole = [torch.from_numpy(frontend.uncompressed_features(clip)) for clip in clips]
        own = [frontend.taken(made, len(clip)) for made, clip in zip(whole, clips, strict=True)]
        if generator is not None and self.augmentation.augment:
            own = [spec_augment(clip, generator) for clip in own]
        if all(mine.shape == all_.shape for mine, all_ in zip(own, whole, strict=True)):
            return tuple(own), None
        behind = [all_[..., mine.shape[-1] :] for mine, all_ in zip(own, whole, strict=True)]
        return tuple(own), tuple(torch.cat(pair, -1) for pair in zip(own, behind, strict=True))


def transcript_tokens(
    recognizer: Recognizer, corpus: Corpus, own: Mapping[str, Sequence[int]] | None = None
) -> dict[str, list[int]]:
    """The tokens of every transcript by id, with the end.

    own  the uncompressed model's tokens by id, in whose spelling a transcript is written; None for as it stands

    Raises ValueError for an utterance without text, or whose text cannot be what its audio says: too long for
    the decoder, or faster than anybody speaks.
    """
    text = recognizer.frontend.text
    spelled = {name: text(tokens) for name, tokens in own.items()} if own is not None else {}
    return {each.id: _transcript(recognizer, corpus, each, spelled.get(each.id)) for each in corpus.utterances}


def _transcript(recognizer: Recognizer, corpus: Corpus, utterance: Utterance, own: str | None) -> list[int]:
    if not utterance.text:
        raise ValueError(f"{corpus.path}: {utterance.id} has no transcript to learn; give one, or use distill")
    if too_fast(utterance.text, utterance.seconds):
        raise ValueError(
            f"{corpus.path}: {utterance.id} has {len(utterance.text)} characters for {utterance.seconds:.2f} s, "
            "faster than anybody speaks; its transcript belongs to another recording, or its seconds are wrong"
        )
    tokens = recognizer.frontend.text_tokens(utterance.text if own is None else _respelled(utterance, own))
    most = recognizer.rules.most_tokens
    if len(tokens) + 1 > most:
        raise ValueError(
            f"{corpus.path}: the transcript of {utterance.id} takes {len(tokens)} tokens, and the model writes {most} "
            "at most; cut the utterance"
        )
    return [*tokens, recognizer.rules.end[0]]


def _respelled(utterance: Utterance, own: str) -> str:
    text = utterance.text or ""
    return respelled(text, own, NormalizerChoice("auto").of(text, utterance.language))


def own_tokens(teacher: Recognizer, corpus: Corpus, file: Path, batch: int, track: Track) -> dict[str, list[int]]:
    """The uncompressed model's transcript of every utterance, by id; kept in `file`, and so made once.

    With the end, unless the longest output cut it off: where to stop is not learned from that, nor is a loop.
    """
    known: dict[str, dict[str, Any]] = {row["id"]: row for row in read_json_lines(file)}
    write_text(file, "".join(json.dumps(row) + "\n" for row in known.values()))  # without a line that a kill cut
    missing = [utterance for utterance in corpus.utterances if utterance.id not in known]
    groups = [missing[i : i + batch] for i in range(0, len(missing), batch)]
    with file.open("a", encoding="utf-8") as lines, torch.no_grad():
        for group in track(groups, len(groups), "teacher's transcripts") if groups else ():
            features = [teacher.frontend.features(teacher.read(utterance.audio)) for utterance in group]
            for utterance, decoded in zip(group, teacher.decode(features), strict=True):
                row = {"id": utterance.id, "tokens": list(decoded.tokens), "capped": decoded.capped}
                known[utterance.id] = row
                lines.write(json.dumps(row) + "\n")
            lines.flush()
    end = teacher.rules.end[0]
    return {name: before_loop(row["tokens"]) if row["capped"] else [*row["tokens"], end] for name, row in known.items()}


def check_transcripts(teacher: SpeechModel, batch: Batch, corpus: Corpus) -> None:
    """Raise ValueError if the uncompressed model finds texts no likelier with their own audio than with another's.

    batch  utterances with labels that differ; of a single one nothing can be said
    """
    if len(batch) < 2:
        return
    own = _likelihood(teacher, batch, list(range(len(batch))))
    other = _likelihood(teacher, batch, [*range(1, len(batch)), 0])
    if own <= other:
        raise ValueError(
            f"{corpus.path}: the uncompressed model finds the transcripts no likelier with their own audio ({own:.2f} "
            f"nats a token) than with another's ({other:.2f}); check that each text belongs to its audio"
        )


@torch.no_grad()
def _likelihood(model: SpeechModel, batch: Batch, order: Sequence[int]) -> float:
    """Mean log-likelihood of a label, with the audio in another order."""
    given = batch.of_teacher
    heard = replace(given, features=tuple(given.features[i] for i in order))
    return -float(Objective(model, None, Losses(labels=1.0))(heard)["labels"])
