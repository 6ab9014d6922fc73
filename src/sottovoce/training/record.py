"""What an artifact keeps of the audio it was trained on, so that a test set can be held against it."""

import hashlib
from dataclasses import asdict, dataclass

from sottovoce.speech.datasets import Corpus


@dataclass(frozen=True)
class TrainingRecord:
    """One training set; fingerprints, digest and left_out are as in a calibration's record."""

    dataset: str
    utterances: int
    seconds: float
    fingerprints: tuple[str, ...]
    digest: str
    left_out: int = 0

    @staticmethod
    def of(corpus: Corpus) -> "TrainingRecord":
        """The record of a corpus; reads every file's bytes."""
        marks = corpus.fingerprints()
        lines = [f"{mark}\t{utterance.text}" for mark, utterance in zip(marks, corpus.utterances, strict=True)]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        seconds = round(corpus.total_seconds, 3)
        return TrainingRecord(corpus.name, len(corpus), seconds, marks, digest, len(corpus.left_out))

    def as_document(self) -> dict[str, object]:
        """The record for JSON."""
        return asdict(self)
