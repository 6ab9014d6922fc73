"""All scores of a run are on the same clips: what one evaluation left out stays out of those that go on with it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sottovoce.measure.run import read_run
from sottovoce.models.frontend import Frontend
from sottovoce.recognition.usable import faults, leave_out, usable
from sottovoce.speech.datasets import Corpus
from sottovoce.speech.problems import listed


def usable_in_run(corpus: Corpus, frontends: Sequence[Frontend], folder: Path | None) -> Corpus:
    """The clips that every model can use; if the run in `folder` knows the corpus, those that it was scored on.

    Raises ValueError for a model that cannot use one of the clips that the run was scored on, and where none is left.
    """
    known = read_run(folder).data if folder is not None and (folder / "run.json").is_file() else []
    before = next((data for data in known if data.name == corpus.name), None)
    if before is None:
        return usable(corpus, frontends, skip=True)
    unused = {clip.id for clip in before.left_out}
    used = replace(
        corpus,
        utterances=tuple(utterance for utterance in corpus.utterances if utterance.id not in unused),
        left_out=tuple(clip for clip in corpus.left_out if clip.id not in unused),
    )
    if found := (*used.left_out, *faults(used, frontends, decoded=False)):
        raise ValueError(
            f"{len(found)} of the {used.clips} clips of {corpus.name} that {folder} is scored on cannot be used now; "
            f"evaluate all targets together, into a new folder:\n{listed([clip.reason for clip in found])}"
        )
    return leave_out(corpus, before.left_out)
