"""Writing the self-test that ships in an export: some speech, what the artifact makes of it, what rounding explains."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sottovoce.exporting.answers import Answers, answer_whole, choices
from sottovoce.exporting.expected import Clip, together, write_expected
from sottovoce.exporting.selftest import FOLDER, answered, text_of
from sottovoce.models.base import SpeechModel
from sottovoce.models.frontend import Frontend
from sottovoce.progress import Track, silent
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.speech import audio
from sottovoce.speech.datasets import Utterance, read_corpus
from sottovoce.targets.agreement import errors
from sottovoce.targets.base import Runtime
from sottovoce.targets.engine import AtOnce
from sottovoce.targets.rounded import rounded_inputs, rules_of
from sottovoce.targets.torch import torch_engine
from sottovoce.weights.weight import Layer

CLIPS = 3
TOKENS = 16  # of a clip, at most


def make(
    model: SpeechModel, layers: Mapping[str, Layer], runtime: Runtime, folder: Path, track: Track = silent
) -> None:
    """Write a self-test into the folder of an export: speech that comes with sottovoce, and what the model makes of it.

    The model holds `layers`. How far the runtime may be off is measured with inputs rounded as it rounds them. Raises
    ValueError if the model can transcribe none of the speech.
    """
    into = folder / FOLDER
    into.mkdir()
    speech = fitting_speech(model.frontend)[:CLIPS]
    if not speech:
        raise ValueError(
            f"{model.checkpoint.name} takes {model.frontend.bounds.most_seconds:g} s at most, which is shorter than "
            "any clip of the self-test"
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
                rounded.append(answered(torch_engine(model), model.frontend, clip, into).told(runtime.tells))
    wanted = together(answers)
    write_expected(into, clips, wanted, errors(together(rounded or answers), wanted))


def fitting_speech(frontend: Frontend) -> list[Utterance]:
    """The speech that comes with sottovoce, as far as a model can transcribe it."""
    return [u for u in read_corpus("builtin:test").utterances if frontend.bounds.hold(u.seconds)]


def _expect(model: SpeechModel, file: Path) -> tuple[Clip, Answers]:
    """What the artifact chooses after a clip, and what it answers when it is fed that."""
    recognizer = Recognizer.of(model)
    recognizer = replace(recognizer, rules=replace(recognizer.rules, most_tokens=TOKENS))
    engine = recognizer.engine
    assert isinstance(engine, AtOnce), "torch tells all"
    samples = audio.read(file, model.sampling_rate)
    model.frontend.check_samples(len(samples), str(file))
    features = model.frontend.features(samples)
    [decoded] = recognizer.decode([features])
    frames = model.memory_positions(len(samples))
    fed = () if recognizer.rules.by_frames else decoded.tokens
    made = answer_whole(engine, features, decoded.prompt, fed, frames)
    chosen, margins = choices(made.logits, recognizer.rules)
    told = (tuple(chosen), tuple(margins), text_of(model.frontend, chosen))
    return Clip(file.name, frames, decoded.prompt, fed, *told), made
