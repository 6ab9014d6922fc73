"""What every row of a sweep needs, checked before the first; and which errors are not a row's own."""

from collections.abc import Iterable, Sequence

from sottovoce.compressing.compress import draw_calibration
from sottovoce.measure.transcribe import TestSet
from sottovoce.recognition.spoken import Spoken
from sottovoce.recognition.target import Target
from sottovoce.recognition.usable import usable
from sottovoce.speech.datasets import Corpus, read_corpus
from sottovoce.sweeping.row import Row
from sottovoce.sweeping.sweep_file import SweepPlan
from sottovoce.versions import versions

SAME = 3  # rows in a row that fail in one way, for one cause


def check_rows(plan: SweepPlan, targets: Sequence[Target], corpora: Sequence[Corpus]) -> None:
    """Raise ValueError for what would fail every row, or every row of one model, after work.

    Each model's folder, language and bounds are held against every test set, every calibration and the training
    audio; all clips are read whole. With skip_unusable the test sets hold none that a model cannot use.
    """
    versions("sottovoce", "torch", "transformers", "safetensors")
    spoken = Spoken(plan.language)
    frontends = [target.frontend for target in targets]
    tests = [TestSet.of(corpus) for corpus in corpora]
    for target in targets:
        target.check_open("compress")
        target.check_search(plan.language, None, 1)
        for test in tests:
            test.check_for(target, spoken)
    if not plan.skip_unusable:  # which has read them
        for test in tests:
            test.read_whole(frontends)
    fitted = [draw_calibration(drawn.data, drawn.limit, drawn.seed, leave_out=True) for drawn in plan.calibrations]
    if plan.train is not None and any(recipe.trains for recipe in plan.recipes):
        fitted.append(read_corpus(plan.train, need_text=False, leave_out=True))
    for corpus in fitted:
        for target in targets:
            spoken.check(corpus, target.frontend, target.name)
            usable(corpus, [target.frontend], skip=plan.skip_unusable)


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
