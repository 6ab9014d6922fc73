"""One recording: on from where its journal ends, stretch by stretch, and then its outputs."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from sottovoce.files.atomic import sha256, write_text
from sottovoce.recognition.segment import Segment, Stretch
from sottovoce.speech.decoded import AudioError
from sottovoce.speech.told_length import told_seconds
from sottovoce.transcribing.follow import Follow
from sottovoce.transcribing.formats import FORMATS, Metadata
from sottovoce.transcribing.journal import Journal, Made
from sottovoce.transcribing.plan import Job, Task, begun, below, unchanged
from sottovoce.transcribing.summary import RecordingSummary, counted, looks_lost

Block = npt.NDArray[np.float32]


class Blocks(Protocol):
    """The samples of a recording from a second on, of one channel, counted from 0, or of their mean."""

    def __call__(  # noqa: D102
        self, path: Path, rate: int, channel: int | None = None, start: float = 0.0
    ) -> Iterable[Block]: ...


@dataclass(frozen=True)
class Ears:
    """What transcribes blocks at its rate, which begin at a second of a recording; and what decodes files to them.

    stretches  of blocks and the second at which they begin
    blocks     of a file; channels, how many a file has
    """

    stretches: Callable[[Iterable[Block], float], Iterator[Stretch]]
    rate: int
    blocks: Blocks
    channels: Callable[[Path], int]


def transcribe_one(job: Job, task: Task, ears: Ears, follow: Follow) -> RecordingSummary:
    """Transcribe what is left of a recording and write its outputs.

    Of one that breaks off, what is there is transcribed and written, and the summary says "failed"; what lies behind
    its last whole stretch is not kept in the journal. Raises AudioError for one of which nothing can be read, and
    OSError where the output cannot be written.
    """
    journal = begun(job, task, _channels(job, task.recording.path, ears))
    faults, rest = [], list[Made]()
    for channel in journal.header["channels"]:
        if channel not in journal.ended:
            fault, behind = _channel(journal, task, channel, ears, follow)
            rest += behind
            faults += [fault] if fault else []
    if not faults and not unchanged(task.recording, journal):
        faults = [f"{task.recording.path} changed while it was transcribed; the same command begins it anew"]
    if faults:
        journal.broken(faults[0])
        if not (journal.made or rest):
            raise AudioError(faults[0])
    return _written(job, task, journal, rest, "failed" if faults else "done", faults[0] if faults else None)


def write_again(job: Job, task: Task) -> RecordingSummary:
    """The summary of a recording that a job before has finished; outputs that are missing are written."""
    assert task.journal is not None
    return _written(job, task, task.journal, (), "earlier", None)


def _channel(
    journal: Journal, task: Task, channel: int | None, ears: Ears, follow: Follow
) -> tuple[str | None, list[Made]]:
    """Transcribe a channel to its end: why it breaks off, and what was made after that was found."""
    path, start = task.recording.path, journal.reached(channel)
    blocks = _UntilFault(ears.blocks(path, ears.rate, None if channel is None else channel - 1, start))
    what = path.name if channel is None else f"{path.name}, channel {channel}"
    behind = []
    began = time.perf_counter()
    for stretch in follow(_of(blocks, ears, start), what, told_seconds(path), start):
        own = tuple(replace(segment, channel=channel) for segment in stretch.segments)
        made = Made(channel, replace(stretch, segments=own), time.perf_counter() - began)
        if blocks.fault:
            behind.append(made)
        else:
            journal.add(made)
        began = time.perf_counter()
    if not blocks.fault:
        journal.end(channel)
    return blocks.fault, behind


class _UntilFault:
    """Blocks up to where a recording breaks off; `fault` says why, once that is reached."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.fault: str | None = None
        self._blocks = iter(blocks)

    def __iter__(self) -> Iterator[Block]:
        try:
            yield from self._blocks
        except AudioError as error:
            self.fault = str(error)


def _of(blocks: _UntilFault, ears: Ears, start: float) -> Iterator[Stretch]:
    """The stretches of blocks; none where there is no sample."""
    left = iter(blocks)
    first = next((block for block in left if len(block)), None)
    if first is not None:
        yield from ears.stretches(chain([first], left), start)


def _channels(job: Job, path: Path, ears: Ears) -> Sequence[int | None]:
    return list(range(1, ears.channels(path) + 1)) if job.split else [None]


def _written(
    job: Job,
    task: Task,
    journal: Journal,
    rest: Sequence[Made],
    state: Literal["done", "earlier", "failed"],
    error: str | None,
) -> RecordingSummary:
    """Write the outputs that are not there as they should be."""
    made, path = [*journal.made, *rest], task.recording.path
    segments = tuple(sorted((s for one in made for s in one.stretch.segments), key=lambda s: (s.start, s.channel or 0)))
    counts = counted(made, segments)
    metadata = Metadata(
        str(path), counts["seconds"], _language(segments), job.model, job.digest, job.options, _kept(counts)
    )
    texts = {output: FORMATS[name](segments, metadata) for name, output in task.outputs.items()}
    digests = {output: hashlib.sha256(text.encode()).hexdigest() for output, text in texts.items()}
    journal.announce({below(job, output): digest for output, digest in digests.items()})
    for output, text in texts.items():
        if not output.is_file() or sha256(output) != digests[output]:
            write_text(output, text)
    notes = looks_lost(str(path), counts, vad=bool(job.options.get("vad")), split=job.split)
    wall, outputs = sum(one.wall for one in made), tuple(map(str, texts))
    return RecordingSummary(
        str(path), task.recording.name, state, **counts, wall=wall, outputs=outputs, error=error, notes=notes
    )


def _kept(counts: Mapping[str, Any]) -> dict[str, Any]:
    """What an output says of a recording: nothing that differs from run to run."""
    rounded = {name: round(counts[name], 3) for name in ("seconds", "speech", "dropped")}
    return {**rounded, "words": counts["words"], "guards": counts["guards"]}


def _language(segments: Sequence[Segment]) -> str | None:
    """That of most seconds."""
    lengths: dict[str, float] = {}
    for segment in segments:
        if segment.language is not None:
            lengths[segment.language] = lengths.get(segment.language, 0.0) + segment.end - segment.start
    return max(lengths, key=lambda code: lengths[code], default=None)
