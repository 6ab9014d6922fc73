"""The verb `sweep`: every row of a sweep file, one after the other, each kept as soon as it is known.

A row's key covers checkpoint, recipe, calibration, data and formats. A key that has its file is not
computed again, so a sweep that was killed goes on where it stopped. A row that fails says so, and the
others go on; an error that is not the row's own stops the sweep.
"""

import hashlib
import json
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sottovoce.artifact import folder as artifacts
from sottovoce.artifact.base import is_artifact
from sottovoce.calibration.clips import Calibration, calibrate
from sottovoce.compressing.compress import compress, draw_calibration, read_calibration, select_on
from sottovoce.files.atomic import alone_in, write_text
from sottovoce.measure.evaluate import evaluate
from sottovoce.measure.inspect import inspect_target
from sottovoce.measure.run import RunData, check_output
from sottovoce.methods.words import COLUMNS
from sottovoce.models.device import check_device
from sottovoce.progress import Track, silent
from sottovoce.recipes.recipe import Recipe
from sottovoce.recognition.spoken import Spoken
from sottovoce.recognition.target import Target, find_target
from sottovoce.recognition.usable import usable
from sottovoce.speech.datasets import Corpus, read_corpus
from sottovoce.speech.text import NormalizerChoice
from sottovoce.speech.units import unit_of
from sottovoce.sweeping.check import Causes, check_rows
from sottovoce.sweeping.row import FORMAT, Row, joined_words, read_row, recipe_words, thinned
from sottovoce.sweeping.sweep_file import CalibrationPlan, SweepPlan, read_sweep
from sottovoce.sweeping.timed import timed
from sottovoce.weights.cost import Workload


@dataclass(frozen=True)
class Job:
    """One row to compute: recipe None is the uncompressed model, calibration None needs no data.

    artifact is the key of what is compressed, from model, recipe and calibration; key, the row's, covers what
    is measured too, so that new test data or another normalizer compresses nothing again.
    """

    target: Target
    recipe: Recipe | None
    calibration: CalibrationPlan | None
    artifact: str
    key: str

    @property
    def label(self) -> str:
        """What a progress line calls it."""
        words = recipe_words(self.recipe) if self.recipe else {}
        said = ", ".join(word for word in words.values() if word != "-") or "uncompressed"
        return f"{Path(self.target.name).name}: {said}"


def sweep(
    file: str | Path | Mapping[str, Any],
    *,
    output: str | Path,
    overrides: Sequence[str] = (),
    retry_failed: bool = False,
    device: str = "cpu",
    skip_unusable: bool = False,
    track: Track = silent,
) -> list[Row]:
    """Compute the missing rows of a sweep file in `output`; returns all rows, in the file's order.

    retry_failed computes the rows with an error again. skip_unusable, which the file may say too, leaves out clips that
    cannot be used: of a test set those that one of the models cannot, so that all rows are scored on the same.
    Raises ValueError for a file that no row could work with, for an output that cannot be written, while another
    process computes rows in the same folder, and for an error that every further row would have too (a full disk, a
    package that is missing, the same error three times); an error of one row is in that row.
    """
    check_device(device)
    plan = read_sweep(file, overrides)
    plan = replace(plan, skip_unusable=plan.skip_unusable or skip_unusable)
    folder = Path(output)
    check_output(folder)
    corpora = _corpora(plan)
    tests = _tests(plan, corpora)
    jobs = list(_jobs(plan, tests, corpora))
    with alone_in(folder):
        _check_order(folder / "order.json")
        done = {job.key: row for job in jobs if (row := _done(folder, job, retry_failed)) is not None}
        missing = [job for job in jobs if job.key not in done]
        if missing:
            check_rows(plan, list({job.target.name: job.target for job in jobs}.values()), corpora)
        write_text(folder / "order.json", json.dumps([job.key for job in jobs]) + "\n")
        worker = _Worker(plan, corpora, folder, folder / "evaluations" / tests, device, track)
        causes = Causes(done.values())
        for job in track(missing, len(missing), "rows"):
            for row in causes.settled(*worker.row(job)):
                row.write(folder)
        for row in causes.held:
            row.write(folder)
    return [read_row(folder / "rows" / f"{job.key}.json") for job in jobs]


def _check_order(path: Path) -> None:
    """Raise ValueError if a file of that name is no sweep's, which would be overwritten."""
    try:
        order = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except (ValueError, OSError):
        order = None
    if not isinstance(order, list) or not all(isinstance(key, str) for key in order):
        raise ValueError(f"{path} is not a sweep's and would be overwritten; move it, or name another output")


def _done(folder: Path, job: Job, retry_failed: bool) -> Row | None:
    """The row that is there already; None if it has to be computed."""
    path = folder / "rows" / f"{job.key}.json"
    row = read_row(path) if path.is_file() else None
    return None if row is None or (retry_failed and row.error) else row


def _jobs(plan: SweepPlan, tests: str, corpora: Sequence[Corpus]) -> Iterator[Job]:
    """The rows in order, each key once: for each model the uncompressed one, then its recipes.

    Raises ValueError for a test set in languages that a model does not know.
    """
    measured: dict[str, Any] = {"format": FORMAT, "tests": tests} | _scoring(plan, corpora)
    if plan.workload:
        measured["workload"] = asdict(plan.workload)
    if plan.time:
        measured["time"] = plan.time
    seen: set[str] = set()
    fitted: tuple[dict[str, str], dict[CalibrationPlan, str]] | None = None
    for target in map(find_target, plan.models):
        for corpus in corpora:
            Spoken(plan.language).check(corpus, target.frontend, target.name)
        if fitted is None or plan.skip_unusable:  # what is left out depends on the model
            calibrated = {drawn: _calibration_digest(plan, drawn, target) for drawn in plan.calibrations}
            fitted = _training(plan, target), calibrated
        training, digests = fitted
        made: dict[str, Any] = {"format": artifacts.LEAST_FORMAT, "model": target.digest}
        choices: list[tuple[Recipe | None, CalibrationPlan | None]] = [(None, None)]
        for wanted in plan.recipes:
            choices += [(wanted, calibration) for calibration in (plan.calibrations if wanted.needs else [None])]
        for recipe, calibration in choices:
            content = made | {"recipe": recipe.key if recipe else None}
            if recipe is not None and recipe.trains:
                content |= training | {"language": plan.language}
            if calibration is not None:
                drawn = {"data": digests[calibration], "language": plan.language}
                content["calibration"] = asdict(calibration) | drawn
            artifact = _key(content)
            key = _key(measured | {"artifact": artifact})
            if key not in seen:
                seen.add(key)
                yield Job(target, recipe, calibration, artifact, key)


def _corpora(plan: SweepPlan) -> list[Corpus]:
    """The test sets; with skip_unusable the clips alone that all models can use."""
    corpora = [read_corpus(path, leave_out=plan.skip_unusable) for path in plan.data]
    if not plan.skip_unusable:
        return corpora
    frontends = [find_target(model).frontend for model in plan.models]
    return [usable(corpus, frontends, skip=True) for corpus in corpora]


def _training(plan: SweepPlan, target: Target) -> dict[str, str]:
    """The identity of what rows of a model are trained on; nothing if none trains."""
    learning = [recipe for recipe in plan.recipes if recipe.trains]
    if plan.train is None or not learning:
        return {}
    need_text = any("transcripts" in recipe.trains for recipe in learning)
    corpus = read_corpus(plan.train, need_text=need_text, leave_out=plan.skip_unusable)
    if plan.skip_unusable:
        corpus = usable(corpus, [target.frontend], skip=True)
    return {"training": RunData.of(corpus, corpus.fingerprints()).digest}


def _tests(plan: SweepPlan, corpora: Sequence[Corpus]) -> str:
    """The identity of what every row is evaluated on: the test sets and the language."""
    tests = [RunData.of(corpus, corpus.fingerprints()).digest for corpus in corpora]
    return _key({"data": tests, "language": plan.language})


def _scoring(plan: SweepPlan, corpora: Sequence[Corpus]) -> dict[str, Any]:
    """How every row is scored: the normalizers that its references get, and whether any is scored by characters.

    So "auto" is for English data what whisper-english is, and their rows are the same rows.
    """
    spoken, choice = Spoken(plan.language), NormalizerChoice(plan.normalizer)
    rows = [(u.text or "", spoken.of_reference(u.language)) for corpus in corpora for u in corpus.utterances]
    by_characters = any(unit_of(*row) == "character" for row in rows)
    names = sorted({choice.of(*row).name for row in rows})
    return {"normalizer": " + ".join(names)} | ({"characters": True} if by_characters else {})


def _key(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _calibration_digest(plan: SweepPlan, drawn: CalibrationPlan, target: Target) -> str:
    """The identity of what a row is calibrated on: ids, texts and audio of the utterances drawn."""
    if plan.skip_unusable:
        corpus = read_calibration(drawn.data, drawn.limit, drawn.seed, target.frontend, skip_unusable=True)
    else:
        corpus = draw_calibration(drawn.data, drawn.limit, drawn.seed)
    return RunData.of(corpus, corpus.fingerprints()).digest


class _Worker:
    """Computes rows; keeps the calibration of the model at hand, which many rows share."""

    def __init__(
        self, plan: SweepPlan, corpora: Sequence[Corpus], folder: Path, evaluation: Path, device: str, track: Track
    ) -> None:
        self.plan, self.corpora, self.folder, self.evaluation = plan, corpora, folder, evaluation
        self.device, self.track = device, track
        self.kept: tuple[tuple[str, CalibrationPlan], Calibration] | None = None

    def row(self, job: Job) -> tuple[Row, Exception | None]:
        """The row of a job, and its error if it failed."""
        words: dict[str, Any] = dict.fromkeys(COLUMNS, "-")
        if job.recipe:
            words |= recipe_words(job.recipe)
            if job.recipe.trains:
                words["trained_on"] = Path(str(self.plan.train)).stem
        row = Row(
            key=job.key,
            model=job.target.name,
            recipe=job.recipe.name if job.recipe else "uncompressed",
            calibration=_calibration_words(job.calibration),
            compressed=job.recipe is not None,
            recipe_document=job.recipe.as_document() if job.recipe else {},
            **words,
        )
        try:
            if job.recipe and (left := select_on(job.recipe, job.target).structure):
                row = replace(row, structure=joined_words(left))
            return self._measured(job, row), None
        except Exception as error:
            write_text(self.folder / "errors" / f"{job.key}.txt", traceback.format_exc())
            said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            return replace(row, error=said), error

    def _measured(self, job: Job, row: Row) -> Row:
        path = self.folder / "artifacts" / job.artifact
        seconds = None
        if job.recipe is not None and not is_artifact(path):
            data = self._calibration(job)
            started = time.perf_counter()
            compress(
                job.target.name,
                recipe=job.recipe,
                data=data,
                train=self.plan.train if job.recipe.trains else None,
                output=path,
                language=self.plan.language if job.recipe.trains else None,
                device=self.device,
                heard=self.folder / "heard",
                skip_unusable=self.plan.skip_unusable,
                track=self.track if job.recipe.trains else silent,  # what takes long says so
            )
            seconds = round(time.perf_counter() - started, 3)
        curve = () if job.recipe is None else thinned(artifacts.read_artifact(path).curve())
        names = [job.target.name] if job.recipe is None else [job.target.name, str(path)]
        evaluation = evaluate(
            names,
            data=self.corpora,
            output=self.evaluation,
            normalizer=self.plan.normalizer,
            language=self.plan.language,
            device=self.device,
            skip_unusable=self.plan.skip_unusable,
        )
        seen = inspect_target(find_target(names[-1]), self.plan.workload)
        timing = self._timing(job, path, seen.workload)
        if job.recipe is not None and not self.plan.keep_artifacts:
            artifacts.remove(path)
        return replace(
            row,
            bytes=seen.bytes,
            bits_per_weight=seen.bits_per_weight,
            nonzeros=seen.nonzeros,
            macs=seen.cost.macs,
            bit_operations=seen.cost.bit_operations,
            memory_bytes=seen.cost.memory_bytes,
            workload=asdict(seen.workload),
            timing=timing,
            scores=tuple(score for score in evaluation.scores if score.target == names[-1]),
            compress_seconds=seconds,
            curve=curve,
            artifact=str(path) if job.recipe is not None and self.plan.keep_artifacts else None,
        )

    def _timing(self, job: Job, path: Path, workload: Workload) -> dict[str, Any] | None:
        if self.plan.time is None:
            return None
        return timed(self.plan.time, job.target, path if job.recipe else None, workload, self.folder / "timed")

    def _calibration(self, job: Job) -> Calibration | None:
        if job.calibration is None:
            return None
        wanted = (job.target.digest, job.calibration)
        if self.kept is None or self.kept[0] != wanted:
            plan = job.calibration
            model, _ = job.target.open()
            corpus = read_calibration(plan.data, plan.limit, plan.seed, model.frontend, self.plan.skip_unusable)
            model.to(self.device)
            tokens = plan.tokens
            assert tokens in ("own", "transcript")
            made = calibrate(model, corpus, tokens=tokens, seed=plan.seed, language=self.plan.language)  # type: ignore[arg-type]
            self.kept = (wanted, made)
        return self.kept[1]


def _calibration_words(plan: CalibrationPlan | None) -> str:
    if plan is None:
        return "-"
    amount = f"{plan.limit} of " if plan.limit else ""
    seed = f", seed {plan.seed}" if plan.seed else ""
    driven = ", transcripts" if plan.tokens == "transcript" else ""
    return f"{amount}{Path(plan.data).stem}{seed}{driven}"
