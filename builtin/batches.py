"""What `builtin.speak corpus` wrote, as batches: augmented anew each time, with exact frame labels and word places."""

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from builtin.rooms import augment
from sottovoce.training.batch import Batch, teacher_forced

SAMPLING_RATE = 16_000
FRAME = 320  # samples a phone label stands for
SILENCE = "pau"
MOST_SECONDS = 6.6  # of clips joined; augmentation may slow them down by an eighth

Spans = Sequence[tuple[str, int, int]]


@dataclass(frozen=True)
class Clip:
    """One synthetic utterance: in which corpus and where its samples lie, what was said, by whom, and when."""

    corpus: int
    offset: int
    samples: int
    text: str
    voice: str
    speaker: str
    phones: tuple[tuple[str, int, int], ...]

    @property
    def synthesizer(self) -> str:
        """The first word of the voice."""
        return self.voice.split()[0]


@dataclass(frozen=True)
class LabelledBatch(Batch):
    """A batch with what only a synthesizer knows.

    phones  (n, samples / FRAME) int64: the phone at each 20 ms, 0 is silence
    words   (n, tokens, 2) float32: from when to when, in seconds, the word of each label is spoken; -1 where none is
    """

    phones: Tensor
    words: Tensor


class Spoken:
    """Clips of one or more corpora, each in one raw file, read where they are needed."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.clips: list[Clip] = []
        self.samples: list[np.ndarray] = []
        for number, folder in enumerate(folders):
            for row in map(json.loads, (folder / "index.jsonl").read_text().splitlines()):
                self.clips.append(Clip(number, **{**row, "phones": tuple(map(tuple, row["phones"]))}))
            self.samples.append(np.memmap(folder / "audio.i16", dtype=np.int16, mode="r"))

    def audio(self, clip: Clip) -> np.ndarray:
        """(samples,) float32."""
        return self.samples[clip.corpus][clip.offset : clip.offset + clip.samples].astype(np.float32) / 32768

    def joined(self, numbers: Sequence[int], rng: np.random.Generator) -> tuple[Clip, np.ndarray]:
        """Clips of one voice one after the other, a pause between them, as one clip and its samples."""
        pieces: list[np.ndarray] = []
        phones: list[tuple[str, int, int]] = []
        place = 0
        for clip in (self.clips[i] for i in numbers):
            if pieces:
                pieces.append(np.zeros(int(rng.integers(0, 6400)), dtype=np.float32))
                place += len(pieces[-1])
            pieces.append(self.audio(clip))
            phones += [(phone, start + place, end + place) for phone, start, end in clip.phones]
            place += clip.samples
        text = " ".join(self.clips[i].text for i in numbers)
        first = self.clips[numbers[0]]
        return Clip(0, 0, place, text, first.voice, first.speaker, tuple(phones)), np.concatenate(pieces)

    @cached_property
    def phone_set(self) -> list[str]:
        """Every phone, silence first."""
        found = {phone for clip in self.clips for phone, _, _ in clip.phones}
        return [SILENCE, *sorted(found - {SILENCE})]

    @cached_property
    def phones_in(self) -> dict[str, dict[str, float]]:
        """How many phones each word has in the mouth of each synthesizer, by least squares over all clips."""
        by_synthesizer: dict[str, list[Clip]] = defaultdict(list)
        for clip in self.clips:
            by_synthesizer[clip.synthesizer].append(clip)
        return {name: _phones_of_words(clips) for name, clips in by_synthesizer.items()}

    def word_times(self, clip: Clip, phones: Spans) -> list[tuple[float, float]]:
        """From when to when, in seconds, each word is spoken, to about a phone."""
        spoken = [(start, end) for phone, start, end in phones if phone != SILENCE]
        known = self.phones_in[clip.synthesizer]
        counts = np.array([max(0.5, known.get(word, 4.0)) for word in clip.text.split()])
        edges = np.concatenate([[0.0], np.cumsum(counts)]) * len(spoken) / counts.sum()
        times = []
        for first, last in pairwise(edges):
            start = spoken[min(int(first + 0.3), len(spoken) - 1)][0]
            end = spoken[min(max(int(np.ceil(last - 0.3)) - 1, 0), len(spoken) - 1)][1]
            times.append((start / SAMPLING_RATE, max(end, start + FRAME) / SAMPLING_RATE))
        return times


def _phones_of_words(clips: Sequence[Clip]) -> dict[str, float]:
    words = sorted({word for clip in clips for word in clip.text.split()})
    place = {word: i for i, word in enumerate(words)}
    times = np.zeros((len(clips), len(words)), dtype=np.float32)
    total = np.zeros(len(clips), dtype=np.float32)
    for row, clip in enumerate(clips):
        for word in clip.text.split():
            times[row, place[word]] += 1
        total[row] = sum(phone != SILENCE for phone, _, _ in clip.phones)
    # rare words lean to 4 phones
    gram = times.T @ times + 0.1 * np.eye(len(words), dtype=np.float32)
    counts = np.linalg.solve(gram, times.T @ total + 0.4)
    return dict(zip(words, counts.tolist(), strict=True))


@dataclass
class SyntheticBatches:
    """Batches of clips of like length, each augmented by a generator of its own.

    window   samples of Whisper's window, None for Moonshine; the first `trimmed` batches are as short as their clips
    """

    spoken: Spoken
    processor: Any
    prompt: Sequence[int]
    end: int
    size: int
    window: int | None
    trimmed: int = 0
    seed: int = 0
    held_out_clips: int = 128
    _orders: dict[int, list[list[tuple[int, ...]]]] = field(default_factory=dict, repr=False)
    _pieces: dict[str, list[int]] = field(default_factory=dict, repr=False)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass."""
        return (len(self.spoken.clips) - self.held_out_clips) * 10 // (17 * self.size)

    def at(self, number: int) -> LabelledBatch:
        """The batch of that number."""
        epoch, place = divmod(number, self.steps_per_epoch)
        rng = np.random.default_rng((self.seed, number))
        joined = [self.spoken.joined(numbers, rng) for numbers in self._order(epoch)[place]]
        return self._batch(joined, rng, None if number < self.trimmed else self.window)

    def held_out(self) -> Iterator[LabelledBatch]:
        """The last clips, always with the same augmentation."""
        clips = sorted(self.spoken.clips[-self.held_out_clips :], key=lambda clip: clip.samples)
        for i in range(0, len(clips), self.size):
            batch = [(clip, self.spoken.audio(clip)) for clip in clips[i : i + self.size]]
            yield self._batch(batch, np.random.default_rng((self.seed, 1 << 40, i)), self.window)

    def _order(self, epoch: int) -> list[list[tuple[int, ...]]]:
        """Which clips, joined, make which batches of an epoch: of like length, in random order."""
        if epoch not in self._orders:
            rng = random.Random(f"{self.seed} {epoch}")
            clips = self.spoken.clips
            groups = list(self._groups(rng))
            rng.shuffle(groups)
            pool, batches = 16 * self.size, []
            for first in range(0, len(groups), pool):
                near = sorted(groups[first : first + pool], key=lambda group: sum(clips[i].samples for i in group))
                batches += [near[i : i + self.size] for i in range(0, len(near) - self.size + 1, self.size)]
            rng.shuffle(batches)
            self._orders = {epoch: batches + batches[: max(0, self.steps_per_epoch - len(batches))]}
        return self._orders[epoch]

    def _groups(self, rng: random.Random) -> Iterator[tuple[int, ...]]:
        """One to three clips of a voice, as long as they fit."""
        by_voice: dict[str, list[int]] = defaultdict(list)
        for i, clip in enumerate(self.spoken.clips[: len(self.spoken.clips) - self.held_out_clips]):
            by_voice[clip.voice].append(i)
        for numbers in by_voice.values():
            rng.shuffle(numbers)
            while numbers:
                group = [numbers.pop()]
                for _ in range(rng.choice((0, 0, 0, 1, 1, 1, 2))):
                    together = sum(self.spoken.clips[i].samples for i in [*group, *numbers[-1:]])
                    if numbers and together < MOST_SECONDS * SAMPLING_RATE:
                        group.append(numbers.pop())
                yield tuple(group)

    def _batch(
        self, clips: Sequence[tuple[Clip, np.ndarray]], rng: np.random.Generator, window: int | None
    ) -> LabelledBatch:
        spoken = [augment(samples, list(clip.phones), rng) for clip, samples in clips]
        longest = max(len(samples) for samples, _ in spoken) + int(rng.integers(0, 6400))
        longest = -(-min(window or longest, self.window or longest) // FRAME) * FRAME
        audio = np.zeros((len(clips), longest), dtype=np.float32)
        phones = torch.zeros(len(clips), longest // FRAME, dtype=torch.int64)
        number = {phone: i for i, phone in enumerate(self.spoken.phone_set)}
        texts, places = [], []
        for i, ((clip, _), (samples, spans)) in enumerate(zip(clips, spoken, strict=True)):
            samples = samples[:longest]
            audio[i, : len(samples)] = samples
            if self.window is None:  # the tail goes on as the clip ends: Moonshine hears no padding
                level = float(np.sqrt(np.mean(samples[-800:] ** 2)))
                audio[i, len(samples) :] = level * rng.standard_normal(longest - len(samples))
            for phone, start, end in spans:
                phones[i, round(start / FRAME) : round(end / FRAME)] = number[phone]
            tokens, times = self._tokens(clip, spans)
            texts.append([*tokens, self.end])
            places.append(times)
        inputs, labels = teacher_forced([self.prompt] * len(clips), texts, self.end)
        words = torch.full((*labels.shape, 2), -1.0)
        for i, times in enumerate(places):
            first = len(self.prompt) - 1
            words[i, first : first + len(times)] = torch.tensor(times)
        features = self._features(audio, rng)
        return LabelledBatch(tuple(clip.voice for clip, _ in clips), features, inputs, labels, phones, words)

    def _tokens(self, clip: Clip, spans: Spans) -> tuple[list[int], list[tuple[float, float]]]:
        """The text's tokens, and when each is spoken; both tokenizers write a word with its leading space."""
        tokens: list[int] = []
        times: list[tuple[float, float]] = []
        for word, time in zip(clip.text.split(), self.spoken.word_times(clip, spans), strict=True):
            if word not in self._pieces:
                text = word if self.window is None else f" {word}"  # Moonshine's tokenizer adds the space itself
                self._pieces[word] = list(self.processor.tokenizer(text, add_special_tokens=False).input_ids)
            tokens += self._pieces[word]
            times += [time] * len(self._pieces[word])
        return tokens, times

    def _log_mel(self, audio: Tensor) -> Tensor:
        """(n, samples) -> (n, mels, frames): WhisperFeatureExtractor's, of any length and ten times as fast."""
        filters = torch.from_numpy(self.processor.feature_extractor.mel_filters).float()
        power = torch.stft(audio, 400, 160, window=torch.hann_window(400), return_complex=True)[..., :-1].abs().square()
        logs = (filters.T @ power).clamp(min=1e-10).log10()
        return (torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0

    def _features(self, audio: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, ...]:
        if self.window is None:
            return tuple(torch.from_numpy(audio[:, None]).unbind(0))
        features = self._log_mel(torch.from_numpy(audio))
        for mel in features:
            _mask(mel, rng)
        return tuple(features[:, None].unbind(0))


def _mask(mel: Tensor, rng: np.random.Generator) -> None:
    """SpecAugment (Park et al., 2019, arXiv:1904.08779): two bands and two short times of (mels, frames) go."""
    low = mel.min()
    for size, axis in ((12, 0), (12, 0), (20, 1), (20, 1)):
        width = int(rng.integers(0, size))
        start = int(rng.integers(0, mel.shape[axis] - width))
        mel.narrow(axis, start, width).fill_(low)
