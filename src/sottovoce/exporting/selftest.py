"""The self-test that ships in an export: some speech, what the artifact makes of it, and how far a runtime may differ.

A transcript alone would be a bad test: on speech that a model does not know a rounding error changes words, and on
speech that it knows a broken layer may change none. So the runtime is fed the very tokens that the artifact chose, and
what its encoder puts out and its logits are held against the artifact's; a difference has to be explained by rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sottovoce.exporting.answers import Answers, answer, answer_whole, choices
from sottovoce.exporting.expected import Clip, Expected, read_expected, together
from sottovoce.models.frontend import Frontend
from sottovoce.progress import Track, silent
from sottovoce.recognition.ctc import collapsed
from sottovoce.speech import audio
from sottovoce.targets.agreement import CLEAR, SelfTest, outputs_of
from sottovoce.targets.engine import AnyEngine, AtOnce
from sottovoce.targets.exported import Exported

FOLDER = "selftest"


@dataclass(frozen=True)
class Heard:
    """What a runtime would have chosen where `clip` says what the artifact did, and that as a text."""

    clip: Clip
    chosen: tuple[int, ...]
    text: str


def run(exported: Exported, threads: int | None = None, track: Track = silent) -> tuple[SelfTest, list[Heard]]:
    """The self-test of an export with its own engine, here and now. Raises ValueError if it has none.

    Where it fails, what each block puts out is looked at as well, if the runtime can tell.
    """
    place, kind = exported.folder / FOLDER, exported.kind
    expected, frontend = read_expected(place), exported.frontend()
    tested, heard = _held_against(expected, exported.open(threads), frontend, kind.tolerance, place, track)
    if not tested.passed and kind.telling:
        telling = kind.telling(exported.folder, threads)
        closer, _ = _held_against(expected, telling, frontend, kind.tolerance, place, track)
        tested = replace(tested, outputs=closer.outputs)
    return tested, heard


def _held_against(
    expected: Expected, engine: AnyEngine, frontend: Frontend, tolerance: float, place: Path, track: Track
) -> tuple[SelfTest, list[Heard]]:
    heard, answers, rules = [], [], frontend.rules()
    for clip in track(expected.clips, len(expected.clips), "self-test"):
        made = answered(engine, frontend, clip, place)
        chosen, _ = choices(made.logits, rules)
        heard.append(Heard(clip, tuple(chosen), text_of(frontend, chosen)))
        answers.append(made.kept)
    outputs = outputs_of(together(answers), expected.values, expected.explained, tolerance)
    [logits] = (output for output in outputs if output.name == "logits")
    doubtful = CLEAR * logits.allowed * float(expected.values["logits"].std(ddof=1))
    pairs = [pair for each in heard for pair in zip(each.chosen, each.clip.chosen, each.clip.margins, strict=True)]
    other = [margin for found, wanted, margin in pairs if found != wanted]
    clear = sum(margin > doubtful for margin in other)
    return SelfTest(outputs, len(heard), len(pairs), len(pairs) - len(other), clear), heard


def text_of(frontend: Frontend, chosen: Sequence[int]) -> str:
    """What was preferred at each place, as a text."""
    blank = frontend.rules().blank
    if blank is not None:
        return frontend.text(collapsed(chosen, blank))
    return frontend.text([token for token in chosen if token not in frontend.end_tokens()])


def answered(engine: AnyEngine, frontend: Frontend, clip: Clip, place: Path) -> Answers:
    """What an engine answers to a clip of the self-test in the folder `place`."""
    features = frontend.features(audio.read(place / clip.audio, frontend.sampling_rate))
    given = (features, clip.prompt, clip.tokens, clip.frames)
    return answer_whole(engine, *given) if isinstance(engine, AtOnce) else answer(engine, *given)
