"""What one request may cost, how many may wait, and what is left behind: nothing."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from threading import Semaphore

import httpx2
import openai
import pytest

from sottovoce.serving.limits import Limits
from sottovoce.serving.model import Served
from tests.serving.servers import RATE, BrokenTranscriber, Fake, blocks, running, speech, until


def transcribe(client, **options):
    return client.audio.transcriptions.create(file=speech(3), model="any", **options)


def metric(server, name):
    lines = httpx2.get(f"{server.root}/metrics").text.splitlines()
    [line] = [line for line in lines if line.startswith(f"{name} ")]
    return float(line.split()[1])


def test_a_file_that_is_too_large_is_refused():
    with running(limits=Limits(most_mb=0.05)) as server, server.client() as client:
        with pytest.raises(openai.APIStatusError, match=r"larger than 0\.05 MB") as caught:
            transcribe(client)
        assert caught.value.status_code == 413
        assert server.fake.asked == []


def test_a_file_that_does_not_say_how_large_it_is_is_refused_all_the_same():
    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(1000)
        yield b"\r\n--x--\r\n"

    with running(limits=Limits(most_mb=0.05)) as server:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        made = httpx2.post(f"{server.url}/audio/transcriptions", content=body(), headers=headers)
        assert (made.status_code, made.json()["error"]["code"]) == (413, "file_too_large")


def test_decoding_stops_where_a_recording_is_too_long():
    decoded = []

    def counted(path, rate):
        for block in blocks(path, rate):
            decoded.append(block)
            yield block

    fake = Fake()
    limits = Limits(most_seconds=1.2)
    with running(limits=limits, model=Served("fake", RATE, fake.transcriber, counted)) as server:
        with server.client() as client, pytest.raises(openai.APIStatusError, match=r"longer than 1\.2 s") as caught:
            transcribe(client)
        assert (caught.value.status_code, caught.value.code) == (413, "audio_too_long")
        assert len(decoded) == 3


def test_a_stream_ends_with_an_error_where_a_recording_turns_out_too_long():
    with running(limits=Limits(most_seconds=2.2)) as server, server.client() as client:
        events = transcribe(client, stream=True)
        with pytest.raises(openai.APIError, match="longer than"):
            assert [event.delta for event in events] == ["one", " two"]


def test_who_comes_when_the_queue_is_full_is_told_when_to_come_again():
    fake = Fake(Semaphore(0))
    with running(fake, Limits(queue=1)) as server, server.client() as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(transcribe, client)
        assert fake.at_work.wait(5)
        second = pool.submit(transcribe, client)
        until(lambda: server.service.worker.waiting == 1)
        assert metric(server, "sottovoce_queue_length") == 1
        with pytest.raises(openai.RateLimitError, match="queue of 1 is full") as caught:
            transcribe(client)
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
        assert len(server.files) == 2
        fake.allow()
        assert first.result().text == second.result().text == "one two three"


def test_the_client_comes_again_by_itself():
    fake = Fake(Semaphore(0))
    with running(fake, Limits(queue=0)) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(transcribe, server.client())
        assert fake.at_work.wait(5)
        second = pool.submit(transcribe, server.client(max_retries=3))
        until(lambda: 'status="429"' in httpx2.get(f"{server.root}/metrics").text)
        fake.allow()
        assert first.result().text == second.result().text == "one two three"


def begun(server, seconds=60):
    """A request that is sent whole and whose answer nobody waits for."""
    content = speech(seconds).read()
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = head + content + b"\r\n--x--\r\n"
    host, port = server.root.removeprefix("http://").split(":")
    made = socket.create_connection((host, int(port)))
    made.sendall(
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode()
    )
    made.sendall(body)
    return made


def test_a_client_that_leaves_stops_the_work_at_the_next_stretch():
    fake = Fake(Semaphore(2))
    with running(fake) as server:
        connection = begun(server)
        until(lambda: fake.said == 2)
        connection.close()
        until(lambda: server.service.worker._running._why)
        fake.allow()
        until(lambda: not server.files)
        assert fake.said <= 3
        assert server.client().audio.transcriptions.create(file=speech(1), model="any").text == "one"
        assert 'status="499"} 1' in httpx2.get(f"{server.root}/metrics").text


def test_a_client_that_leaves_while_it_waits_leaves_the_queue():
    fake = Fake(Semaphore(0))
    with running(fake, Limits(queue=1)) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(transcribe, server.client())
        assert fake.at_work.wait(5)
        connection = begun(server)
        until(lambda: server.service.worker.waiting == 1)
        connection.close()
        until(lambda: server.service.worker.waiting == 0 and len(server.files) == 1)
        fake.allow()
        assert first.result().text == "one two three"
        assert fake.said == 3


def test_a_client_that_leaves_in_the_middle_of_its_file_leaves_nothing():
    with running(limits=Limits(queue=0)) as server:
        host, port = server.root.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as made:
            made.sendall(
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
                b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
            )
            until(lambda: server.files)
        until(lambda: not server.files)
        assert server.client().audio.transcriptions.create(file=speech(1), model="any").text == "one"


def test_a_stopped_server_gives_up_what_is_at_work(monkeypatch):
    monkeypatch.setattr("sottovoce.serving.server.GRACE_SECONDS", 0)
    fake = Fake(Semaphore(1))
    with running(fake, idle=False) as server:
        connection = begun(server)
        until(lambda: fake.said == 1)
    connection.close()
    assert fake.said == 2
    assert not server.service.worker._thread.is_alive()


def test_a_fault_is_told_and_logged_without_its_words(caplog):
    model = Served("broken", RATE, lambda asked: BrokenTranscriber(), blocks)
    with running(model=model) as server, server.client() as client:
        with pytest.raises(openai.InternalServerError, match="its log says where") as caught:
            transcribe(client)
        assert "SECRET" not in str(caught.value)
        assert caught.value.type == "server_error"
    assert "RuntimeError at " in caplog.text
    assert "SECRET" not in caplog.text


def test_nothing_of_a_request_is_logged(caplog, capfd):
    with caplog.at_level("INFO"), running() as server, server.client() as client:
        transcribe(client, prompt="SECRET")
    ours = [record for record in caplog.records if record.name.startswith(("sottovoce", "uvicorn", "fastapi"))]
    assert not [record for record in ours if "transcriptions" in record.getMessage()]
    assert "SECRET" not in "".join(record.getMessage() for record in ours) + "".join(capfd.readouterr())


def test_metrics_count(server, client):
    audio = metric(server, "sottovoce_audio_seconds_total")
    transcribe(client)
    with suppress(openai.BadRequestError):
        transcribe(client, temperature=1)
    assert metric(server, "sottovoce_audio_seconds_total") == audio + 3
    assert metric(server, "sottovoce_work_seconds_total") > 0
    assert metric(server, "process_resident_memory_bytes") > 1e7
    text = httpx2.get(f"{server.root}/metrics").text
    assert 'sottovoce_requests_total{status="400"}' in text
    assert 'sottovoce_requests_total{status="200"}' in text


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"most_mb": 0}, "--most-mb 0"),
        ({"most_seconds": float("nan")}, "--most-seconds nan"),
        ({"queue": -1}, "--queue -1"),
    ],
)
def test_a_limit_under_which_nothing_works_is_refused(values, told):
    with pytest.raises(ValueError, match=told):
        Limits(**values)


FORMS = {
    "no form": (b"{}", "application/json", "multipart"),
    "a form without a boundary": (b"--x--", "multipart/form-data", "multipart"),
    "a form without a file": (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--x--\r\n', None, "no `file`"
    ),
    "a file that is a field": (
        b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n--x--\r\n', None, "one file, named `file`"
    ),
    "two files": (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\na\r\n' * 2 + b"--x--\r\n",
        None,
        "one file, named `file`",
    ),
    "a form that ends early": (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\na', None, "ends in the middle"
    ),
    "a part without a name": (b"--x\r\nContent-Type: text/plain\r\n\r\na\r\n--x--\r\n", None, "no name"),
    "what is no form at all": (b"hello", None, "cannot be parsed"),
    "long parameters": (
        b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + b"a" * 70_000 + b"\r\n--x--\r\n",
        None,
        "longer than 65536 bytes",
    ),
    "many parameters": (
        b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n' * 65 + b"--x--\r\n",
        None,
        "more than 64 fields",
    ),
    "a parameter that is no text": (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\na\r\n'
        b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--x--\r\n',
        None,
        "not UTF-8",
    ),
    "a parameter given twice": (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\na\r\n'
        + b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n' * 2
        + b"--x--\r\n",
        None,
        "prompt is given 2 times",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "told"), FORMS.values(), ids=FORMS)
def test_a_form_that_cannot_be_used_is_refused(server, body, kind, told):
    headers = {"Content-Type": kind or "multipart/form-data; boundary=x"}
    made = httpx2.post(f"{server.url}/audio/transcriptions", content=body, headers=headers)
    assert made.status_code == 400
    assert told in made.json()["error"]["message"]
    assert not server.files


def test_a_form_that_stops_coming_is_given_up(monkeypatch):
    monkeypatch.setattr("sottovoce.serving.upload.STALLED_SECONDS", 0.2)
    with running() as server:
        host, port = server.root.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as made:
            made.sendall(
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            )
            assert made.recv(1000).startswith(b"HTTP/1.1 408")
        assert not server.files


def test_a_file_is_what_was_sent_whatever_the_pieces(server):
    kept = []

    def remembering(path, rate):
        kept.append(path.read_bytes())
        yield from blocks(path, rate)

    fake = Fake()
    content = speech(1).read()
    with running(model=Served("fake", RATE, fake.transcriber, remembering)) as server:
        form = httpx2.Request("POST", "http://localhost", files={"file": ("a", BytesIO(content))})
        body, headers = form.read(), {"Content-Type": form.headers["Content-Type"]}
        pieces = (body[start : start + 777] for start in range(0, len(body), 777))
        assert httpx2.post(f"{server.url}/audio/transcriptions", content=pieces, headers=headers).status_code == 200
    assert kept == [content]
