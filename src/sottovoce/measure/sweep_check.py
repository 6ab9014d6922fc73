"""What every row of a sweep needs, checked before the first; and which errors are not a row's own."""

from collections.abc import Iterable, Sequence

from sottovoce.compression import read_calibration
from sottovoce.measure.hear import TestSet
from sottovoce.measure.row import Row
from sottovoce.measure.sweep_file import CalibrationPlan, SweepPlan
from sottovoce.models.base import SpeechModel
from sottovoce.speech.datasets import read_corpus
from sottovoce.target import Target
from sottovoce.versions import versions

SAME = 3  # rows in a row that fail in one way, for one cause


def check_rows(plan: SweepPlan, targets: Sequence[Target], tests: Sequence[TestSet]) -> None:
    """Raise ValueError for what would fail every row, or every row of one model, after work.

    Each model's folder, language and bounds are held against every test set, every calibration and the training
    audio; the clips of tests and calibrations are read whole.
    """
    versions("sottovoce", "torch", "transformers", "safetensors")
    layouts = []
    for target in targets:
        target.check_open("compress")
        target.check_search(plan.language, None, 1)
        for test in tests:
            test.check_for(target)
        layouts.append(target.layout())
    for test in tests:
        test.read_whole(layouts)
    for calibration in plan.calibrations:
        _check_calibration(calibration, layouts)
    if plan.train is not None and any(recipe.trains for recipe in plan.recipes):
        for utterance in read_corpus(plan.train, need_text=False).utterances:
            for layout in layouts:
                layout.check_seconds(utterance.seconds, str(utterance.audio))


def _check_calibration(plan: CalibrationPlan, layouts: Sequence[SpeechModel]) -> None:
    for layout in layouts:
        corpus = read_calibration(plan.data, plan.limit, plan.seed, layout)
    TestSet.of(corpus).read_whole(layouts)


class Causes:
    """Tells, row by row, whether an error is the row's own or would come again in every row that follows."""

    def __init__(self, earlier: Iterable[Row]) -> None:
        self.succeeded = any(row.error is None for row in earlier)
        self.held: list[Row] = []

    def settled(self, row: Row, error: Exception | None) -> list[Row]:
        """The rows that may be kept now that `row` is known: it, and those before it that had failed in one way.

        A row that fails is held back until another one tells whether the cause was its own. Raises ValueError where
        it was not: nothing that failed for that cause is kept, so that the same command tries it again.
        """
        if isinstance(error, (OSError, ImportError)):
            raise _stopped(row, f"{row.error}")
        same = [held for held in self.held if held.error == row.error]
        before = [] if same else self.held
        self.succeeded |= error is None
        if error is None or _own(error, self.succeeded):
            self.held = []
            return [*same, *before, row]
        self.held = [*same, row]
        if len(self.held) == SAME:
            raise _stopped(row, f"{SAME} rows in turn have failed with {row.error!r}")
        return before


def _own(error: Exception, succeeded: bool) -> bool:
    """Whether an error is surely the row's: its memory, or what a recipe asks for where others have worked."""
    memory = isinstance(error, MemoryError) or "out of memory" in str(error)
    return memory or (succeeded and isinstance(error, ValueError))


def _stopped(row: Row, why: str) -> ValueError:
    return ValueError(
        f"the sweep stopped at {row.model}, {row.recipe}: {why}; that is not this recipe's fault, and the next rows "
        "would fail too. What is complete is kept, and the same command goes on from there"
    )
