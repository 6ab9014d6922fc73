"""Recordings of any length to text with times: windows of speech, searched, guarded, written.

A recording comes in as blocks of samples and goes out as stretches that are finished, so memory does not grow with it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sottovoce.models.decoding import TimeMarks
from sottovoce.recognition.chunked import chunked
from sottovoce.recognition.drafts import Draft, Opened
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.searches import Search
from sottovoce.recognition.segment import Stretch
from sottovoce.recognition.sequential import PIECE_SECONDS, sequential
from sottovoce.recognition.windows import windows
from sottovoce.recognition.wishes import Wishes
from sottovoce.targets.engine import WholeEngine

ANY_LENGTH_SECONDS = 20.0  # pieces for a model that takes clips of any length, and learned from short ones


@dataclass(frozen=True)
class Transcriber:
    """A model and what is asked of it."""

    search: Search
    wishes: Wishes
    before: tuple[int, ...] = ()

    @staticmethod
    def of(recognizer: Opened, wishes: Wishes, draft: Opened | None = None) -> "Transcriber":
        """Raises ValueError for wishes that the model cannot do, and for a draft that does not fit."""
        drafting = None if draft is None else Draft.of(draft, recognizer)
        search = Search(recognizer.frontend, recognizer.engine, recognizer.rules, recognizer.beam, drafting)
        check(search, wishes)
        return Transcriber(search, wishes, _told(search, wishes.prompt))

    @property
    def window_seconds(self) -> float:
        """The longest piece of speech that is heard at once."""
        return self.search.frontend.bounds.most_seconds or ANY_LENGTH_SECONDS

    def ask(self, *, times: bool) -> Ask:
        """How a batch is searched; with time tokens, where the model has any."""
        return Ask(self.before, marks_of(self.search), times, watch_loops=self.wishes.guards)

    def stretches(self, blocks: Iterable[np.ndarray], start: float = 0.0) -> Iterator[Stretch]:
        """What is finished of a recording, in order and without a gap.

        blocks  (samples,) float32 each, one channel at the model's rate
        start   second of the recording at which they begin
        """
        frontend = self.search.frontend
        one_by_one = self.wishes.method == "sequential"
        # text without times has fewer errors; where words can be aligned, they tell when it was said
        ask = self.ask(times=one_by_one or not self.search.aligns)
        found = windows(
            blocks,
            frontend.sampling_rate,
            most_seconds=PIECE_SECONDS if one_by_one else self.window_seconds,
            least_samples=frontend.bounds.least_samples,
            vad=self.wishes.vad,
            start=start,
        )
        return (sequential if one_by_one else chunked)(self.search, found, ask, self.wishes)


def marks_of(search: Search) -> TimeMarks | None:
    """The marks of times that a search can ask for: a runtime with a search of its own writes none."""
    return None if isinstance(search.engine, WholeEngine) else search.frontend.marks


def check(search: Search, wishes: Wishes) -> None:
    """Raise ValueError for wishes that a model cannot do."""
    name, marks = search.frontend.checkpoint.name, marks_of(search)
    if wishes.method == "sequential" and marks is None:
        raise ValueError(
            f"method sequential follows the time tokens of a Whisper, and {name} writes none; method chunked would work"
        )
    if wishes.condition and wishes.method != "sequential":
        raise ValueError(
            "condition takes the text of the window before, and method chunked knows no window before; "
            "method sequential would work"
        )
    if wishes.words and not search.aligns:
        raise ValueError(
            f"{name} is an export that does not tell where its decoder looks, so words get no times; the artifact or "
            "the checkpoint that it was made from would work"
        )
    if (wishes.condition or wishes.prompt is not None) and (marks is None or marks.before is None):
        raise ValueError(
            f"{name} cannot be told what comes before, as prompt and condition ask for; a Whisper in torch or ONNX "
            "Runtime can"
        )


def _told(search: Search, prompt: str | None) -> tuple[int, ...]:
    """The tokens in front of the prompt that say what came before. Raises ValueError for a text that is too long."""
    marks = marks_of(search)
    if prompt is None or marks is None or marks.before is None:
        return ()
    tokens = search.frontend.text_tokens(prompt)
    room = search.rules.most_tokens // 2 - 1
    if len(tokens) > room:
        raise ValueError(f"the prompt takes {len(tokens)} tokens, and {room} are left for it; a shorter one would work")
    return (marks.before, *tokens)
