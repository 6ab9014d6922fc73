"""Transcribing: what a run has not transcribed yet, batch by batch, each kept as soon as it is known."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sottovoce.measure.run import Run, RunData, RunTarget
from sottovoce.measure.transcripts import Transcript, append_transcripts
from sottovoce.models.frontend import Frontend
from sottovoce.progress import Track
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.spoken import Spoken
from sottovoce.recognition.target import Target
from sottovoce.recognition.usable import faults, refuse
from sottovoce.speech.datasets import Corpus, Utterance


@dataclass(frozen=True)
class TestSet:
    """A corpus, the fingerprint of each utterance's audio, and what a run remembers of it."""

    corpus: Corpus
    marks: tuple[str, ...]
    data: RunData

    @staticmethod
    def of(corpus: Corpus) -> "TestSet":
        """Read the audio files' bytes, not yet their samples."""
        marks = corpus.fingerprints()
        return TestSet(corpus, marks, RunData.of(corpus, marks))

    def without(self, done: set[str]) -> list[tuple[Utterance, str]]:
        """The utterances, with their fingerprints, whose ids are not in `done`."""
        return [pair for pair in zip(self.corpus.utterances, self.marks, strict=True) if pair[0].id not in done]

    def check_for(self, target: Target, spoken: Spoken) -> None:
        """Refuse, before a model is opened, clips and languages that it cannot do, and clips that it was fitted to."""
        spoken.check(self.corpus, target.frontend, target.name)
        if faults(self.corpus, [target.frontend], decoded=False):
            self.read_whole([target.frontend])  # which names those too whose headers tell nothing
        fitted = target.fitted_fingerprints
        shared = [u.id for u, mark in zip(self.corpus.utterances, self.marks, strict=True) if mark in fitted]
        if shared:
            raise ValueError(
                f"{target.name} was calibrated or trained on {len(shared)} of the {len(self.corpus)} utterances of "
                f"{self.corpus.name}, first {shared[0]}; "
                "a test set must be disjoint from both"
            )

    def read_whole(self, frontends: Sequence[Frontend]) -> None:
        """Read every clip: what a header does not tell is refused before anything is written."""
        refuse(self.corpus, faults(self.corpus, frontends))


def transcribe(
    run: Run,
    target: RunTarget,
    sets: Sequence[TestSet],
    open_recognizer: Callable[[], Recognizer],
    batch_size: int,
    spoken: Spoken,
    track: Track,
) -> None:
    """Transcribe what is missing; the model is opened only if something is, and the run knows it from then on."""
    missing = [(test, test.without({row.id for row in run.transcripts(target, test.data)})) for test in sets]
    todo = [(test, left) for test, left in missing if left]
    recognizer = open_recognizer() if todo else None
    run.add([target], [test.data for test in sets])
    run.write()
    for test, left in todo:
        assert recognizer is not None
        told = f"{target.name} transcribes {test.corpus.name}"
        for rows in transcribed(left, recognizer, batch_size, spoken, track, told):
            append_transcripts(run.transcripts_path(target, test.data), rows)


def transcribed(
    pairs: Sequence[tuple[Utterance, str]],
    recognizer: Recognizer,
    batch_size: int,
    spoken: Spoken,
    track: Track,
    what: str,
) -> Iterator[list[Transcript]]:
    """Utterances with their fingerprints, transcribed batch by batch."""
    groups = spoken.by_prompt(pairs, lambda pair: pair[0], recognizer)
    batches = [(one, batch) for one, rows in groups for batch in _batches(rows, batch_size)]
    for one, batch in track(batches, len(batches), what):
        yield _transcribe(one, batch, spoken)


def _batches(pairs: Sequence[tuple[Utterance, str]], size: int) -> Iterator[list[tuple[Utterance, str]]]:
    """Longest first, so that a batch holds clips of like length and memory shows its peak at once."""
    ordered = sorted(pairs, key=lambda pair: (-pair[0].seconds, pair[0].id))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _transcribe(recognizer: Recognizer, batch: Sequence[tuple[Utterance, str]], spoken: Spoken) -> list[Transcript]:
    frontend = recognizer.frontend
    clips = [recognizer.read(utterance.audio) for utterance, _ in batch]
    started = time.perf_counter()
    decoded = recognizer.decode([frontend.features(clip) for clip in clips])
    wall = time.perf_counter() - started
    total = sum(len(clip) for clip in clips)
    return [
        Transcript(
            utterance.id,
            utterance.text or "",
            frontend.text(row.tokens),
            round(len(clip) / frontend.sampling_rate, 4),
            wall * len(clip) / total,
            len(row.tokens),
            row.capped,
            utterance.speaker,
            mark,
            frontend.spoken(row.prompt),
            spoken.of_reference(utterance.language),
        )
        for (utterance, mark), clip, row in zip(batch, clips, decoded, strict=True)
    ]
