"""With a model that listens."""

import subprocess
import sys

import openai
import pytest

import sottovoce
from sottovoce.built_in import built_in_set
from sottovoce.recognition.transcriber import Transcriber
from sottovoce.recognition.wishes import Wishes
from sottovoce.serving.model import served
from sottovoce.serving.subtitles import subtitles
from sottovoce.speech.stream import blocks
from tests.serving.servers import running

CLIP = built_in_set("builtin:test") / "0001.ogg"


@pytest.fixture(scope="module")
def listening():
    model = served("builtin:moonshine", None, Wishes())
    with running(model=model, subtitles=subtitles()) as server, server.client() as client:
        yield client


def test_what_is_answered_is_what_the_model_hears(listening):
    transcriber = Transcriber.of(sottovoce.load("builtin:moonshine"), Wishes())
    heard = [segment.text for stretch in transcriber.stretches(blocks(CLIP)) for segment in stretch.segments]
    assert len(" ".join(heard)) > 10
    assert listening.audio.transcriptions.create(file=CLIP, model="any").text == " ".join(heard)


def test_words_come_with_the_model_s_own_times(listening):
    made = listening.audio.transcriptions.create(
        file=CLIP, model="any", response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert " ".join(word.word.strip() for word in made.words) == made.text
    assert 0 <= made.words[0].start < made.words[-1].end <= made.duration


@pytest.mark.parametrize(("format", "first"), [("srt", "1\n00:00:0"), ("vtt", "WEBVTT\n\n00:00:0")])
def test_subtitles_are_those_of_transcribe(listening, format, first):
    made = listening.audio.transcriptions.create(file=CLIP, model="any", response_format=format)
    assert made.startswith(first)
    assert " --> 00:00:0" in made


@pytest.mark.parametrize(
    ("options", "told"), [({"language": "en"}, "takes no language"), ({"prompt": "Names"}, "what comes before")]
)
def test_what_this_model_cannot_do_is_refused(listening, options, told):
    with pytest.raises(openai.BadRequestError, match=told):
        listening.audio.transcriptions.create(file=CLIP, model="any", **options)


@pytest.mark.filterwarnings("ignore:deprecated")
def test_this_model_does_not_translate(listening):
    with pytest.raises(openai.BadRequestError, match="can only transcribe"):
        listening.audio.translations.create(file=CLIP, model="any")


def test_wishes_that_a_model_cannot_do_are_refused_before_it_serves():
    with pytest.raises(ValueError, match="sequential"):
        served("builtin:moonshine", None, Wishes(method="sequential"))


def test_of_a_folder_clients_see_the_name_and_not_the_path(toy):
    folder = toy("moonshine")
    assert served(str(folder), None, Wishes()).name == folder.name


def test_a_server_needs_neither_torch_nor_transformers():
    script = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; "
        "import sottovoce.serving.model, sottovoce.serving.server, sottovoce.cli.serving"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
