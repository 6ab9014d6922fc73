"""`sottovoce serve` as a process: what it says, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx2
import pytest

from tests.tiers import slow_ones

# a model that says nothing, in the place of one that takes seconds to open
STARTS = """
import signal
import sottovoce.serving.model as model
from sottovoce.cli import main

class Silent:
    def stretches(self, blocks, start=0.0):
        return iter(())

def served(target, *asked):
    return model.Served(target, 16_000, lambda asked: Silent(), model.blocks)

model.served = served
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and so these tests, may ignore it
main()
"""


@pytest.fixture
def serve(tmp_path):
    """Start `sottovoce serve` and wait for its first line: the process and the line."""
    started = []

    def run(*words, stream="stderr"):
        made = subprocess.Popen(
            [sys.executable, "-c", STARTS, "serve", "out", "--port", "0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200", "TMPDIR": str(tmp_path)},
        )
        started.append(made)
        return made, getattr(made, stream).readline()

    yield run
    for made in started:
        made.kill()
        made.communicate()


def test_it_tells_its_address_and_limits_and_ends_with_ctrl_c(serve):
    process, line = serve("--most-mb", "7", "--queue", "3")
    url = line.split()[1].removesuffix(":")
    assert line == f"serving: {url}: at most 7 MB and 7200 s a file, and 3 waiting; Ctrl-C stops\n"
    assert httpx2.get(f"{url}/models").json()["data"][0]["id"] == "out"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err == "stopped: what was under way is given up\n"


def test_json_tells_it_to_a_program(serve):
    process, text = serve("--json", "--token", "secret", stream="stdout")
    while not text.endswith("}\n"):
        text += process.stdout.readline()
    found = json.loads(text)
    assert found["url"].startswith("http://127.0.0.1:")
    assert (found["most_mb"], found["most_seconds"], found["queue"]) == (200, 7200, 16)


@pytest.mark.parametrize("number", [signal.SIGINT, *slow_ones(signal.SIGTERM, signal.SIGHUP)])
def test_whatever_ends_it_leaves_no_recording(serve, number, tmp_path):
    process, line = serve()
    host, port = line.split()[1].removesuffix("/v1:").removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as made:
        made.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
        )
        while not list(tmp_path.glob("*/*")):
            time.sleep(0.01)
        process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == (130 if number == signal.SIGINT else 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "without a token by everybody"),
        (["--token", "a b"], "--token has to be"),
        (["--port", "70000"], "--port 70000"),
        (["--most-mb", "0"], "--most-mb 0"),
        (["--queue", "-1"], "--queue -1"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_opened(command, options, told):
    found = command("serve", "there-is-no-such-model", *options)
    assert found.code == 2
    assert told in found.err


def test_an_address_that_is_taken_is_told_before_anything_is_opened(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = command("serve", "there-is-no-such-model", "--port", taken.getsockname()[1])
    assert found.code == 2
    assert "Address already in use" in found.err


def test_what_is_not_installed_is_told(command, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else name)
    found = command("serve", "there-is-no-such-model")
    assert found.code == 2
    assert 'serve needs uvicorn, which is not installed; pip install "sottovoce[serve]"' in found.err
