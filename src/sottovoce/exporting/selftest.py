"""The self-test that ships in an export: some speech, what the artifact makes of it, and how far a runtime may differ.

A transcript alone would be a bad test: on speech that a model does not know a rounding error changes words, and on
speech that it knows a broken layer may change none. So the runtime is fed the very tokens that the artifact chose, and
what its encoder puts out and its logits are held against the artifact's; a difference has to be explained by rounding.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sottovoce.exporting.answers import Answers, answer, answer_whole, choices
from sottovoce.exporting.expected import Clip, Expected, read_expected, together, write_expected
from sottovoce.models import open_layout
from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import Checkpoint
from sottovoce.progress import Track, silent
from sottovoce.recognition.greedy import greedy
from sottovoce.speech import audio
from sottovoce.speech.datasets import Utterance, read_corpus
from sottovoce.targets import find_runtime
from sottovoce.targets.agreement import CLEAR, SelfTest, errors, outputs_of
from sottovoce.targets.base import Engine, Runtime, WholeEngine
from sottovoce.targets.exported import Exported
from sottovoce.targets.rounded import rounded_inputs, rules_of
from sottovoce.targets.torch import TorchEngine
from sottovoce.weights.weight import Layer

FOLDER = "selftest"
CLIPS = 3
TOKENS = 16  # of a clip, at most


@dataclass(frozen=True)
class Heard:
    """What a runtime would have chosen where `clip` says what the artifact did, and that as a text."""

    clip: Clip
    chosen: tuple[int, ...]
    text: str


def make(
    model: SpeechModel, layers: Mapping[str, Layer], runtime: Runtime, folder: Path, track: Track = silent
) -> None:
    """Write a self-test into the folder of an export: speech that comes with sottovoce, and what the model makes of it.

    The model holds `layers`. How far the runtime may be off is measured with inputs rounded as it rounds them. Raises
    ValueError if the model hears none of the speech.
    """
    into = folder / FOLDER
    into.mkdir()
    speech = fitting_speech(model)[:CLIPS]
    if not speech:
        raise ValueError(
            f"{model.checkpoint.name} hears {model.bounds.most_seconds:g} s at most, which is shorter than any clip of "
            "the self-test"
        )
    clips, answers, rounded = [], [], []
    rules = rules_of(model, layers, runtime.rounding)
    for utterance in track(speech, len(speech), "self-test of the artifact"):
        shutil.copyfile(utterance.audio, into / utterance.audio.name)
        clip, made = _expect(model, utterance.audio)
        clips.append(clip)
        answers.append(made.told(runtime.tells))
        if rules:
            with rounded_inputs(model, layers, rules):
                rounded.append(_answer(TorchEngine(model), model, clip, into).told(runtime.tells))
    wanted = together(answers)
    write_expected(into, clips, wanted, errors(together(rounded or answers), wanted))


def fitting_speech(model: SpeechModel) -> list[Utterance]:
    """The speech that comes with sottovoce, as far as the model can hear it."""
    return [u for u in read_corpus("builtin:test").utterances if model.bounds.hold(u.seconds)]


def run(exported: Exported, threads: int | None = None, track: Track = silent) -> tuple[SelfTest, list[Heard]]:
    """The self-test of an export with its own engine, here and now. Raises ValueError if it has none.

    Where it fails, what each block puts out is looked at as well, if the runtime can tell.
    """
    place, runtime = exported.folder / FOLDER, find_runtime(exported.runtime)
    expected = read_expected(place)
    model = open_layout(Checkpoint(str(exported.folder), exported.folder, None))
    model.runtime_bounds = exported.bounds
    tested, heard = _held_against(expected, exported.open(threads), model, runtime.tolerance, place, track)
    if not tested.passed and (telling := runtime.telling(exported.folder, threads)):
        closer, _ = _held_against(expected, telling, model, runtime.tolerance, place, track)
        tested = replace(tested, outputs=closer.outputs)
    return tested, heard


def _held_against(
    expected: Expected, engine: Engine | WholeEngine, model: SpeechModel, tolerance: float, place: Path, track: Track
) -> tuple[SelfTest, list[Heard]]:
    heard, answers, rules = [], [], model.rules()
    for clip in track(expected.clips, len(expected.clips), "self-test"):
        made = _answer(engine, model, clip, place)
        chosen, _ = choices(made.logits, rules)
        heard.append(Heard(clip, tuple(chosen), _text(model, chosen)))
        answers.append(made.kept)
    outputs = outputs_of(together(answers), expected.values, expected.explained, tolerance)
    [logits] = (output for output in outputs if output.name == "logits")
    doubtful = CLEAR * logits.allowed * float(expected.values["logits"].std())
    pairs = [pair for each in heard for pair in zip(each.chosen, each.clip.chosen, each.clip.margins, strict=True)]
    other = [margin for found, wanted, margin in pairs if found != wanted]
    clear = sum(margin > doubtful for margin in other)
    return SelfTest(outputs, len(heard), len(pairs), len(pairs) - len(other), clear), heard


def _expect(model: SpeechModel, file: Path) -> tuple[Clip, Answers]:
    """What the artifact chooses after a clip, and what it answers when it is fed that."""
    engine, rules = TorchEngine(model), replace(model.rules(), most_tokens=TOKENS)
    samples = audio.read(file, model.sampling_rate)
    model.check_samples(len(samples), str(file))
    features = model.features(samples)
    [decoded] = greedy(engine, engine.encode([features]), rules)
    frames = model.valid_positions(len(samples))["frames"]
    made = answer_whole(engine, features, decoded.prompt, decoded.tokens, frames)
    chosen, margins = choices(made.logits, rules)
    told = (tuple(chosen), tuple(margins), _text(model, chosen))
    return Clip(file.name, frames, decoded.prompt, decoded.tokens, *told), made


def _text(model: SpeechModel, chosen: Sequence[int]) -> str:
    return model.text([token for token in chosen if token not in model.end_tokens()])


def _answer(engine: Engine | WholeEngine, model: SpeechModel, clip: Clip, place: Path) -> Answers:
    features = model.features(audio.read(place / clip.audio, model.sampling_rate))
    given = (features, clip.prompt, clip.tokens, clip.frames)
    return answer_whole(engine, *given) if isinstance(engine, TorchEngine) else answer(engine, *given)
