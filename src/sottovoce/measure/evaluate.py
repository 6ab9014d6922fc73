"""The verbs `evaluate` and `rescore`: targets transcribe data, transcripts are kept, scores follow.

Only what is on disk is measured: an artifact or a checkpoint. A run that was stopped goes on where it was.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from sottovoce.files.atomic import alone_in
from sottovoce.files.writable import check_folder
from sottovoce.measure.run import Run, RunData, RunTarget, check_output, open_run, read_run
from sottovoce.measure.same_clips import usable_in_run
from sottovoce.measure.score import Score, make_score
from sottovoce.measure.transcribe import TestSet, transcribe
from sottovoce.measure.transcripts import Transcript
from sottovoce.models.device import check_device
from sottovoce.progress import Track, silent
from sottovoce.recognition.spoken import Spoken
from sottovoce.recognition.target import find_target
from sottovoce.recognition.usable import usable
from sottovoce.speech.datasets import Corpus, read_corpus
from sottovoce.speech.text import AUTO, NormalizerChoice

DEFAULT_NORMALIZER = AUTO


@dataclass(frozen=True)
class Evaluation:
    """Scores of targets on data sets, and the transcripts that they were made from.

    search  how the tokens were found: "greedy" or "beam 5"
    notes   what transcribed, and where the prompt of a target comes from, if not all from its generation config
    """

    scores: tuple[Score, ...]
    utterances: tuple[Transcript, ...]
    search: str = "greedy"
    notes: tuple[str, ...] = ()

    @property
    def wer(self) -> float:
        """The WER in percent, where one target transcribed one data set."""
        if len(self.scores) != 1:
            raise ValueError(
                f"there are {len(self.scores)} scores here; look at scores, or evaluate one target on one data set"
            )
        return self.scores[0].wer

    def averages(self) -> dict[str, float]:
        """The macro average of the WER over data sets, for each target."""
        by_target: dict[str, list[float]] = {}
        for score in self.scores:
            by_target.setdefault(score.target, []).append(score.wer)
        return {target: sum(wers) / len(wers) for target, wers in by_target.items()}

    def to_frame(self) -> Any:
        """The scores as a pandas DataFrame, one row each. Needs pandas: pip install "sottovoce[frame]"."""
        try:
            import pandas
        except ImportError:
            raise ValueError('to_frame needs pandas; pip install "sottovoce[frame]"') from None
        return pandas.DataFrame([score.as_document() for score in self.scores])

    def as_document(self) -> dict[str, Any]:
        """The scores for JSON."""
        return {
            "search": self.search,
            "scores": [score.as_document() for score in self.scores],
            "average_wer": self.averages(),
            "notes": list(self.notes),
        }


def evaluate(
    targets: str | Path | Sequence[str | Path],
    *,
    data: str | Path | Corpus | Sequence[str | Path | Corpus],
    output: str | Path | None = None,
    normalizer: str = DEFAULT_NORMALIZER,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    language: str | None = None,
    task: str | None = None,
    device: str = "cpu",
    beam: int = 1,
    skip_unusable: bool = False,
    track: Track = silent,
) -> Evaluation:
    """Transcribe every data set with every target, keep the transcripts in `output`, and score them.

    targets     artifacts, checkpoint folders or hub ids; an uncompressed one among them is the baseline of
                the artifacts that were made from it
    data        manifests (JSON lines) or folders, with transcripts
    limit       utterances drawn from each data set by `seed`; all when left out
    batch_size  changes the speed and nothing else; each beam of a clip takes the room of a clip
    language    of all rows, for a multilingual Whisper; left out, each row's own in its manifest, else the checkpoint's
                own setting, else the one that is detected
    normalizer  one of speech/text.py; "auto" chooses one for each row by its language
    beam        beams of the search, as num_beams of transformers' generate; 1 is greedy search
    skip_unusable
                leave out, for all targets alike, the clips that one of them cannot use (missing, damaged, too long),
                and count them in the scores; otherwise they are refused before anything runs

    Raises ValueError for data that cannot be read, for rows in a language that a Whisper does not know, for an artifact
    that was calibrated or trained on an utterance of a test set, and for an `output` that holds another run or a model,
    or that cannot be written.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}")
    check_device(device)
    if output is not None:
        check_output(Path(output))
    choice = NormalizerChoice(normalizer)
    spoken = Spoken(language, task)
    found = [find_target(target) for target in dict.fromkeys(map(str, _listed(targets)))]
    corpora = _named_apart([_read(item) for item in _each_once(_listed(data))])
    if limit is not None:
        corpora = [corpus.select(limit, seed) for corpus in corpora]
    frontends = [target.frontend for target in found]
    if skip_unusable:
        folder = Path(output) if output is not None else None
        corpora = [usable_in_run(corpus, frontends, folder) for corpus in corpora]
    else:
        corpora = [usable(corpus, frontends, skip=False) if corpus.left_out else corpus for corpus in corpora]
    sets = [TestSet.of(corpus) for corpus in corpora]
    for target in found:
        target.check_search(language, task, beam)
        for test in sets:
            test.check_for(target, spoken)

    with _folder(output) as folder:
        search = "greedy" if beam == 1 else f"beam {beam}"
        run = open_run(folder, {"language": language, "task": task, "search": search})
        known = [RunTarget.of(target) for target in found]
        new = run.new_data(known, [test.data for test in sets])
        for test in sets:
            if test.data in new and not skip_unusable:  # which has read them
                test.read_whole(frontends)
        for target, remembered in zip(found, known, strict=True):
            opened = partial(target.recognizer, language, task, device, beam)
            transcribe(run, remembered, sets, opened, batch_size, spoken, track)
        return _score(run, [(target, test.data) for target in known for test in sets], choice)


def rescore(folder: str | Path, *, normalizer: str = DEFAULT_NORMALIZER) -> Evaluation:
    """Score a run's transcripts again, with another normalizer; no model is opened.

    Raises ValueError if the folder holds no run, or a data set was not transcribed to its end.
    """
    choice = NormalizerChoice(normalizer)
    run = read_run(folder)
    check_folder(run.folder)
    pairs = [pair for pair in product(run.targets, run.data) if run.transcripts_path(*pair).exists()]
    if not pairs:
        raise ValueError(f"{folder} holds no transcripts yet; run evaluate again")
    return _score(run, pairs, choice)


def _score(run: Run, pairs: Sequence[tuple[RunTarget, RunData]], choice: NormalizerChoice) -> Evaluation:
    scores: list[Score] = []
    utterances: list[Transcript] = []
    for target, data in pairs:
        transcripts = run.transcripts(target, data)
        if len(transcripts) > data.utterances:
            raise ValueError(
                f"{run.transcripts_path(target, data)} holds {len(transcripts)} transcripts of {data.utterances} "
                "utterances, so some were transcribed twice; remove it and evaluate again"
            )
        if len(transcripts) < data.utterances:
            raise ValueError(
                f"{target.name} transcribed {len(transcripts)} of the {data.utterances} utterances of {data.name}; "
                "run evaluate again to finish"
            )
        base = run.baseline_of(target)
        baseline = (base.name, run.transcripts(base, data)) if base and run.complete(base, data) else None
        score = make_score(target.name, data.name, target.bytes, transcripts, choice, baseline, len(data.left_out))
        run.write_score(target, data, score)
        scores.append(score)
        utterances += transcripts
    targets = dict.fromkeys(target for target, _ in pairs)
    notes = dict.fromkeys([*_engine_notes(targets), *(note for target in targets for note in target.notes)])
    return Evaluation(tuple(scores), tuple(utterances), run.settings.get("search", "greedy"), tuple(notes))


def _engine_notes(targets: Iterable[RunTarget]) -> Iterator[str]:
    """What transcribed: once where it was one engine, else for each target."""
    by_engine: dict[str, list[str]] = {}
    for target in targets:
        if target.engine:  # which older runs do not know
            by_engine.setdefault(target.engine, []).append(target.name)
    for engine, names in by_engine.items():
        yield f"transcribed by {engine}" + (f": {', '.join(names)}" if len(by_engine) > 1 else "")


@contextmanager
def _folder(output: str | Path | None) -> Iterator[Path]:
    """The output folder, held against other processes, or a temporary one that goes when the scores are made."""
    if output is None:
        with tempfile.TemporaryDirectory(prefix="sottovoce-") as temporary:
            yield Path(temporary)
        return
    with alone_in(Path(output)):
        yield Path(output)


def _named_apart(corpora: Sequence[Corpus]) -> list[Corpus]:
    """Data sets of one name told apart by as many of the folders above them as it takes, or by the whole path."""
    above = [corpus.path.resolve().parent.parts for corpus in corpora]
    names = [corpus.name for corpus in corpora]
    for depth in range(1, max(map(len, above))):
        longer = ["/".join([*parts[-depth:], corpus.name]) for parts, corpus in zip(above, corpora, strict=True)]
        names = [long if names.count(name) > 1 else name for name, long in zip(names, longer, strict=True)]
    return [
        replace(corpus, name=str(corpus.path.resolve()) if names.count(name) > 1 else name)
        for corpus, name in zip(corpora, names, strict=True)
    ]


def _read(item: str | Path | Corpus) -> Corpus:
    return item if isinstance(item, Corpus) else read_corpus(item, leave_out=True)


def _each_once(items: Sequence[str | Path | Corpus]) -> list[str | Path | Corpus]:
    """What lies in one place once, as it was first written."""
    places = (item.path if isinstance(item, Corpus) else Path(item) for item in reversed(items))
    return list({place.resolve(): item for place, item in zip(places, reversed(items), strict=True)}.values())[::-1]


def _listed(value: str | Path | Corpus | Sequence[str | Path | Corpus]) -> list[str | Path | Corpus]:
    listed = [value] if isinstance(value, (str, Path, Corpus)) else list(value)
    if not listed:
        raise ValueError("nothing to evaluate: name at least one target and one data set")
    return listed
