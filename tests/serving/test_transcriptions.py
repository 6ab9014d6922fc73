"""OpenAI's own client against a real server."""

from threading import Semaphore

import httpx2
import openai
import pytest

from tests.serving.servers import Fake, running, speech


def test_the_text_is_what_the_model_says(client):
    made = client.audio.transcriptions.create(file=speech(3), model="whisper-1")
    assert (made.text, made.usage.seconds) == ("one two three", 3)


def test_text_is_plain(client):
    made = client.audio.transcriptions.create(file=speech(2), model="any", response_format="text")
    assert made == "one two\n"


@pytest.mark.parametrize(("format", "text"), [("srt", "1\none\n2\ntwo\n"), ("vtt", "WEBVTT\none\ntwo\n")])
def test_subtitles_are_written_by_their_writer(client, format, text):
    assert client.audio.transcriptions.create(file=speech(2), model="any", response_format=format) == text


def test_verbose_json_has_segments(client):
    made = client.audio.transcriptions.create(file=speech(2.5), model="any", response_format="verbose_json")
    assert (made.text, made.language, made.duration, made.words) == ("one two", "en", 2.5, None)
    second = made.segments[1]
    assert (second.id, second.seek, second.start, second.end, second.text) == (1, 100, 1, 2, "two")
    assert (second.tokens, second.avg_logprob, second.no_speech_prob) == ([1], -0.5, None)


def test_words_have_times_if_they_are_asked_for(client):
    made = client.audio.transcriptions.create(
        file=speech(2), model="any", response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert [(word.word, word.start, word.end) for word in made.words] == [("one", 0.25, 0.75), ("two", 1.25, 1.75)]
    assert made.segments is None


def test_both_granularities_may_be_asked_for(client):
    made = client.audio.transcriptions.create(
        file=speech(1), model="any", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert len(made.words) == len(made.segments) == 1


def test_a_stream_tells_each_stretch_and_then_the_whole(client):
    events = list(client.audio.transcriptions.create(file=speech(3), model="any", stream=True))
    assert [event.type for event in events] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
    assert [event.delta for event in events[:-1]] == ["one", " two", " three"]
    assert events[-1].text == "one two three"


def test_a_stream_tells_a_stretch_before_the_next_is_done():
    fake = Fake(Semaphore(1))
    with running(fake) as server, server.client() as client:
        events = iter(client.audio.transcriptions.create(file=speech(2), model="any", stream=True))
        assert next(events).delta == "one"
        assert fake.said == 1
        fake.allow()
        assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]


def test_silence_is_an_empty_text(client):
    assert client.audio.transcriptions.create(file=speech(0.5), model="any").text == ""
    assert [event.type for event in client.audio.transcriptions.create(file=speech(0.5), model="any", stream=True)] == [
        "transcript.text.done"
    ]


def test_language_and_prompt_reach_the_model(client, server):
    client.audio.transcriptions.create(file=speech(1), model="any", language="de", prompt="Names", temperature=0)
    assert (server.fake.asked[-1].language, server.fake.asked[-1].prompt) == ("de", "Names")


REFUSED = {
    "a format that is not there": ({"response_format": "diarized_json"}, "response_format"),
    "a temperature that would draw": ({"temperature": 0.5}, "temperature"),
    "log probabilities": ({"include": ["logprobs"]}, "include"),
    "speakers": ({"known_speaker_names": ["me"]}, "known_speaker_names"),
    "times without a format for them": ({"timestamp_granularities": ["word"]}, "verbose_json"),
    "a stream of subtitles": ({"stream": True, "response_format": "srt"}, "stream"),
    "detection of one's own": ({"chunking_strategy": {"type": "server_vad"}}, "chunking_strategy"),
    "a language's name": ({"language": "german"}, "german"),
    "a language that the model does not know": ({"language": "xx"}, "unknown language"),
    "what nobody knows": ({"extra_body": {"speed": "2"}}, "speed"),
}


@pytest.mark.parametrize(("options", "told"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_effect_here_is_refused(client, options, told):
    with pytest.raises(openai.BadRequestError, match=told) as caught:
        client.audio.transcriptions.create(file=speech(1), model="any", **options)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code


@pytest.mark.filterwarnings("ignore:deprecated")
def test_a_model_that_cannot_translate_says_so(client):
    with pytest.raises(openai.BadRequestError, match="can only transcribe"):
        client.audio.translations.create(file=speech(1), model="any")


@pytest.mark.filterwarnings("ignore:deprecated")
def test_a_translation_has_no_language(client):
    with pytest.raises(openai.BadRequestError, match="language"):
        client.audio.translations.create(file=speech(1), model="any", extra_body={"language": "de"})


@pytest.mark.parametrize("content", [b"no audio at all", b""])
def test_what_is_no_audio_is_refused_without_a_path(client, server, content):
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(file=("speech.wav", content), model="any")
    assert caught.value.message.count("the recording")
    assert str(server.service.folder) not in str(caught.value)


def test_the_models_are_one(client):
    assert [model.id for model in client.models.list()] == ["fake"]
    assert client.models.retrieve("fake").owned_by == "sottovoce"
    with pytest.raises(openai.NotFoundError, match="this server has fake"):
        client.models.retrieve("other")


def test_an_unknown_address_has_the_shape_of_an_error(server):
    for made in (httpx2.get(f"{server.url}/chat/completions"), httpx2.get(f"{server.url}/audio/transcriptions")):
        assert made.status_code in (404, 405)
        assert set(made.json()["error"]) == {"message", "type", "code", "param"}


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_no_page_that_loads_scripts_from_elsewhere_is_served(server, path):
    assert httpx2.get(server.root + path).status_code == 404
