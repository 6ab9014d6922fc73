"""What a transcriber refuses, and what it tells a model before a recording."""

from dataclasses import replace

import numpy as np
import pytest

from sottovoce.recognition.chunked import chunked
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.sequential import sequential
from sottovoce.recognition.target import find_target
from sottovoce.recognition.transcriber import Transcriber, marks_of
from sottovoce.recognition.window import Window
from sottovoce.recognition.wishes import Wishes
from sottovoce.speech import audio
from tests.measure.manifests import rows_of
from tests.recognition.test_chunked import holds
from tests.recognition.test_searches import Whole


@pytest.fixture(scope="module")
def heard(toy):
    """A recognizer of a toy by its name."""
    return lambda name: Recognizer.of(find_target(toy(name)).open()[0])


class Blind:
    """A torch engine that does not tell where it looks, as an export's."""

    def __init__(self, engine):
        self.together, self.encode, self.step, self.branch = None, engine.encode, engine.step, engine.branch


REFUSED = [
    (
        "moonshine",
        {"method": "sequential"},
        "method sequential follows the time tokens.*moonshine writes none.*chunked",
    ),
    ("wav2vec2", {"method": "sequential"}, "method sequential .*wav2vec2 writes none"),
    ("whisper", {"condition": True}, "condition takes the text of the window before.*method sequential would work"),
    ("moonshine", {"condition": True}, "condition takes the text of the window before"),
    ("moonshine", {"prompt": "Lund"}, "moonshine cannot be told what comes before.*a Whisper in torch or ONNX Runtime"),
    ("wav2vec2", {"prompt": ""}, "wav2vec2 cannot be told what comes before"),
    ("whisper", {"prompt": "the old man " * 9}, r"the prompt takes \d+ tokens, and 11 are left for it; a shorter one"),
]


@pytest.mark.parametrize(("name", "wishes", "message"), REFUSED)
def test_what_a_model_cannot_do_is_refused(name, wishes, message, heard):
    with pytest.raises(ValueError, match=message):
        Transcriber.of(heard(name), Wishes(**wishes))


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"method": "sequential"}, "method sequential follows the time tokens of a Whisper"),
        ({"prompt": "Lund"}, "cannot be told what comes before"),
        ({"words": True}, "does not tell where its decoder looks, so words get no times"),
    ],
)
def test_a_runtime_with_a_search_of_its_own_knows_neither_times_nor_prompts(wishes, message, heard):
    whole = replace(heard("whisper"), engine=Whole())
    assert marks_of(Transcriber.of(whole, Wishes()).search) is None
    with pytest.raises(ValueError, match=message):
        Transcriber.of(whole, Wishes(**wishes))


def test_words_are_refused_of_an_engine_that_does_not_tell_where_it_looks(heard):
    own = heard("whisper")
    blind = replace(own, engine=Blind(own.engine))
    assert Transcriber.of(blind, Wishes())
    with pytest.raises(ValueError, match="the artifact or the checkpoint that it was made from would work"):
        Transcriber.of(blind, Wishes(words=True))


@pytest.mark.parametrize("name", ["whisper", "moonshine", "wav2vec2"])
def test_what_needs_nothing_of_a_model_is_taken_by_all(name, heard):
    own = heard(name)
    for wishes in ({}, {"vad": False}, {"guards": False}, {"batch": 1}, {"words": True}):
        made = Transcriber.of(own, Wishes(**wishes))
        assert made.before == ()
        assert made.search.engine is own.engine


def test_a_prompt_stands_behind_the_token_for_what_was_said_before(heard):
    own = heard("whisper")
    made = Transcriber.of(own, Wishes(prompt="the old", method="sequential", condition=True))
    assert made.before == (own.frontend.marks.before, *own.frontend.text_tokens("the old"))
    assert own.frontend.text(made.before[1:]) == "the old"
    assert len(made.before) <= own.rules.most_tokens // 2


@pytest.mark.parametrize("guards", [True, False])
@pytest.mark.parametrize("method", ["chunked", "sequential"])
def test_a_toy_transcribes_windows_of_speech(method, guards, heard, speech):
    own, rate = heard("whisper"), 16_000
    parts = [audio.read(speech.parent / row["audio"]) for row in rows_of(speech)[:3]]
    starts = np.cumsum([0, *(len(part) / rate for part in parts)]).tolist()
    windows = [
        Window.of(start, part, rate, [(start, end)])
        for part, start, end in zip(parts, starts, starts[1:], strict=False)
    ]
    search = Transcriber.of(own, Wishes(method=method, guards=guards)).search
    ask = Ask(marks=own.frontend.marks, watch_loops=guards)
    run = chunked if method == "chunked" else sequential
    found = list(run(search, windows, ask, Wishes(method=method, guards=guards)))
    holds(found, (0.0, starts[-1]))
    assert guards or any(one.segments for one in found)
    assert all(segment.language == "en" for one in found for segment in one.segments)
