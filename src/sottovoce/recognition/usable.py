"""Which clips models can transcribe whole. The others are all named, and refused or left out."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from sottovoce.models.frontend import Frontend
from sottovoce.progress import Track, silent
from sottovoce.speech import audio
from sottovoce.speech.datasets import Corpus, LeftOut, Utterance
from sottovoce.speech.problems import listed


def usable(corpus: Corpus, frontends: Sequence[Frontend], *, skip: bool, track: Track = silent) -> Corpus:
    """The corpus with the clips alone that every model can use; each is read to its end.

    skip  leave the others out, with a warning that names them; otherwise they are refused

    Raises ValueError that names every clip that is refused, or where none is left.
    """
    found = (*corpus.left_out, *faults(corpus, frontends, track=track))
    if not skip:
        refuse(corpus, found)
    return leave_out(corpus, found)


def faults(
    corpus: Corpus, frontends: Sequence[Frontend], *, decoded: bool = True, track: Track = silent
) -> tuple[LeftOut, ...]:
    """The clips that one of the models cannot use, each with the sentence that says why: damaged, too long, too short.

    decoded=False goes by lengths alone, as manifest and header tell them; otherwise each clip is read to its end.
    """
    utterances = corpus.utterances
    if decoded:
        with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock to the others
            checked = pool.map(lambda utterance: _fault(utterance, frontends, decoded=True), utterances)
            reasons = list(track(checked, len(utterances), f"clips of {corpus.name} read"))
    else:
        reasons = [_fault(utterance, frontends, decoded=False) for utterance in utterances]
    return tuple(LeftOut(u.id, str(u.audio), why) for u, why in zip(utterances, reasons, strict=True) if why)


def refuse(corpus: Corpus, found: Sequence[LeftOut]) -> None:
    """Raise ValueError that names every clip of `found`, if there is any."""
    if len(found) == 1:
        raise ValueError(f"{found[0].reason}; --skip-unusable leaves it out")
    if found:
        raise ValueError(f"{_counted(corpus, found)} cannot be used; --skip-unusable leaves them out:\n{_told(found)}")


def leave_out(corpus: Corpus, found: Sequence[LeftOut]) -> Corpus:
    """The corpus without the clips of `found`, of which a warning tells. Raises ValueError if no other is left."""
    unused = {clip.id for clip in found}
    utterances = tuple(utterance for utterance in corpus.utterances if utterance.id not in unused)
    if not utterances:
        raise ValueError(f"{_counted(corpus, found)} cannot be used, so nothing is left of it:\n{_told(found)}")
    if found:
        gap = " " if len(found) == 1 else "\n"
        warnings.warn(f"{_counted(corpus, found)} left out:{gap}{_told(found)}", stacklevel=1)  # once, whoever asks
    return replace(corpus, utterances=utterances, left_out=tuple(found))


def _counted(corpus: Corpus, found: Sequence[LeftOut]) -> str:
    return f"{len(found)} of the {corpus.clips} clips of {corpus.name}"


def _told(found: Sequence[LeftOut]) -> str:
    return listed([clip.reason for clip in found])


def _fault(utterance: Utterance, frontends: Sequence[Frontend], *, decoded: bool) -> str | None:
    """Why one of the models cannot use a clip; None if all can."""
    name = str(utterance.audio)
    try:
        for frontend in frontends:
            frontend.check_seconds(utterance.seconds, name)
        for rate in sorted({frontend.sampling_rate for frontend in frontends}) if decoded else ():
            samples = len(audio.read(utterance.audio, rate))
            for frontend in frontends:
                if frontend.sampling_rate == rate:
                    frontend.check_samples(samples, name)
    except ValueError as error:
        return str(error)
    return None
