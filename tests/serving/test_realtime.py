"""Live clients: OpenAI's own, and one that sends what it should not."""

import base64
import json
from contextlib import contextmanager
from threading import Semaphore

import httpx2
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from sottovoce.serving.limits import Limits
from tests.serving.servers import Fake, pcm, running, until

COMPLETED = "conversation.item.input_audio_transcription.completed"
FAILED = "conversation.item.input_audio_transcription.failed"


def base64_of(seconds, rate=24_000):
    return base64.b64encode(pcm(seconds, rate)).decode()


def append(seconds, rate=24_000):
    return {"type": "input_audio_buffer.append", "audio": base64_of(seconds, rate)}


COMMIT = {"type": "input_audio_buffer.commit"}


def update(**input):
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": input}}}


class Live:
    """A socket that speaks JSON."""

    def __init__(self, socket):
        self.socket = socket

    def send(self, event):
        self.socket.send(event if isinstance(event, str) else json.dumps(event))

    def hear(self):
        return json.loads(self.socket.recv(timeout=10))

    def ask(self, event):
        self.send(event)
        return self.hear()

    def text(self, *events):
        for event in events:
            self.send(event)
        assert self.ask(COMMIT)["type"] == "input_audio_buffer.committed"
        heard = self.hear()
        assert heard["type"] == COMPLETED, heard
        return heard["transcript"]


@contextmanager
def live(server):
    with connect(server.url.replace("http", "ws", 1) + "/realtime") as socket:
        found = Live(socket)
        assert found.hear()["type"] == "session.created"
        yield found


@pytest.mark.filterwarnings("ignore:connect")
def test_the_official_client_gets_its_text(client, server):
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        assert connection.recv().type == "session.created"
        connection.session.update(
            session={
                "type": "transcription",
                "audio": {"input": {"transcription": {"model": "whisper-1", "language": "de"}, "turn_detection": None}},
            }
        )
        assert connection.recv().session.audio.input.transcription.language == "de"
        for _ in range(4):
            connection.input_audio_buffer.append(audio=base64_of(0.5))
        connection.input_audio_buffer.commit()
        committed, completed = connection.recv(), connection.recv()
        assert (committed.type, committed.previous_item_id) == ("input_audio_buffer.committed", None)
        assert (completed.type, completed.item_id) == (COMPLETED, committed.item_id)
        assert (completed.transcript, completed.usage.seconds) == ("one two", 2)
        assert server.fake.asked[-1].language == "de"


def test_each_commit_is_an_item_after_the_one_before(server):
    with live(server) as client:
        client.send(append(1))
        first = client.ask(COMMIT)
        assert client.hear()["transcript"] == "one"
        client.send(append(2))
        second = client.ask(COMMIT)
        assert (second["previous_item_id"], client.hear()["transcript"]) == (first["item_id"], "one two")


def test_another_rate_can_be_set(server):
    with live(server) as client:
        told = client.ask(update(format={"type": "audio/pcm", "rate": 16_000}))
        assert told["session"]["audio"]["input"]["format"]["rate"] == 16_000
        assert client.text(append(3, 16_000)) == "one two three"
        assert client.ask({"type": "session.update", "session": {"input_audio_format": "pcm16"}})["type"]
        assert client.text(append(2)) == "one two"


def test_what_was_cleared_is_not_transcribed(server):
    with live(server) as client:
        client.send(append(3))
        assert client.ask({"type": "input_audio_buffer.clear"})["type"] == "input_audio_buffer.cleared"
        assert not server.files
        assert client.text(append(1)) == "one"


REFUSED = {
    "no JSON": ("{", "JSON"),
    "no event": ("[]", "the event"),
    "an unknown event": ({"type": "response.create"}, "response.create"),
    "no base64": ({"type": "input_audio_buffer.append", "audio": "%%%"}, "base64"),
    "half a sample": ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "3 bytes"),
    "a commit of nothing": (COMMIT, "no audio to commit"),
    "turn detection": (update(turn_detection={"type": "server_vad"}), "turn_detection"),
    "noise reduction": (update(noise_reduction={"type": "near_field"}), "noise_reduction"),
    "another format": (update(format={"type": "audio/pcmu"}), "format"),
    "a rate for bats": (update(format={"type": "audio/pcm", "rate": 192_000}), "rate"),
    "a conversation": ({"type": "session.update", "session": {"type": "realtime"}}, "transcription"),
    "log probabilities": ({"type": "session.update", "session": {"include": ["logprobs"]}}, "include"),
    "a language that the model does not know": (update(transcription={"language": "xx"}), "unknown language"),
    "a language's name": (update(transcription={"language": "german"}), "german"),
}


@pytest.mark.parametrize(("event", "told"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_effect_here_is_refused_and_the_session_goes_on(server, event, told):
    with live(server) as client:
        heard = client.ask(event)
        assert heard["type"] == "error"
        assert told in heard["error"]["message"]
        assert client.text(append(1)) == "one"


def test_an_error_names_its_event(server):
    with live(server) as client:
        assert client.ask(COMMIT | {"event_id": "mine"})["error"]["event_id"] == "mine"


def test_bytes_are_no_event(server):
    with live(server) as client:
        client.socket.send(b"\x00\x00")
        assert client.hear()["type"] == "error"


def test_the_rate_stays_within_a_recording(server):
    with live(server) as client:
        client.send(append(1))
        assert "commit or clear" in client.ask(update(format={"type": "audio/pcm", "rate": 16_000}))["error"]["message"]


@pytest.mark.parametrize("limits", [Limits(most_seconds=1.5), Limits(most_mb=0.075)])
def test_what_is_added_is_bounded_and_what_was_added_stays(limits):
    with running(limits=limits) as server, live(server) as client:
        client.send(append(1))
        assert client.ask(append(1))["error"]["code"] == "audio_too_long"
        assert client.text() == "one"


def test_a_full_queue_leaves_the_audio_for_another_commit():
    fake = Fake(Semaphore(0))
    with running(fake, Limits(queue=0)) as server, live(server) as client:
        client.send(append(1))
        client.ask(COMMIT)
        client.send(append(2))
        assert client.ask(COMMIT)["error"]["code"] == "queue_full"
        fake.allow()
        assert client.hear()["transcript"] == "one"
        until(lambda: len(server.files) == 1)
        assert client.text() == "one two"


def test_audio_may_be_added_while_a_commit_waits():
    fake = Fake(Semaphore(0))
    with running(fake) as server, live(server) as client:
        client.send(append(1))
        client.ask(COMMIT)
        client.send(append(2))
        client.ask(COMMIT)
        fake.allow()
        assert [client.hear()["transcript"] for _ in range(2)] == ["one", "one two"]


def test_a_client_that_leaves_stops_its_commits():
    fake = Fake(Semaphore(1))
    with running(fake) as server:
        with live(server) as client:
            client.send(append(9))
            client.ask(COMMIT)
            until(lambda: fake.said == 1)
            client.send(append(9))
            client.ask(COMMIT)
            client.send(append(9))
            until(lambda: len(server.files) == 3)
        until(lambda: len(server.files) == 1)
        fake.allow()
        until(lambda: not server.files)
        assert fake.said <= 2


def test_there_are_no_more_sessions_than_places():
    with running(limits=Limits(queue=0)) as server:
        with live(server), pytest.raises(InvalidStatus) as caught, live(server):
            pass
        assert caught.value.response.status_code == 429
        with live(server) as client:
            assert client.text(append(1)) == "one"
        assert 'status="429"} 1' in httpx2.get(f"{server.root}/metrics").text


def test_a_fault_in_a_session_closes_it_and_is_logged_without_its_words(monkeypatch, caplog):
    def broken(self, audio):
        raise RuntimeError("SECRET")

    monkeypatch.setattr("sottovoce.serving.live_audio.LiveAudio.append", broken)
    with running() as server, live(server) as client:
        client.send(append(1))
        with pytest.raises(ConnectionClosedError) as caught:
            client.hear()
        assert caught.value.rcvd.code == 1011
        until(lambda: not server.files)
    assert "RuntimeError at " in caplog.text
    assert "SECRET" not in caplog.text
