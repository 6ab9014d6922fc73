"""Many clients at once, and for long."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sottovoce.serving.metrics import resident_bytes
from tests.serving.servers import WORDS, running, speech

CLIENTS = 8


def ask(client, seconds, stream):
    made = client.audio.transcriptions.create(file=speech(seconds), model="any", stream=stream)
    return list(made)[-1].text if stream else made.text


def test_eight_clients_at_once_each_get_their_own_text(client):
    expected = [" ".join(WORDS[:seconds]) for seconds in range(1, CLIENTS + 1)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        texts = pool.map(lambda seconds: ask(client, seconds, seconds % 2 == 0), range(1, CLIENTS + 1))
        assert list(texts) == expected


@pytest.mark.slow
def test_a_minute_of_eight_clients_fails_nowhere_and_keeps_no_memory():
    with running() as server, ThreadPoolExecutor(CLIENTS) as pool:

        def use(number, seconds):
            asked, end = 0, time.monotonic() + seconds
            with server.client() as client:
                while time.monotonic() < end:
                    assert ask(client, 3, number % 2 == 0) == "one two three"
                    asked += 1
            return asked

        def round_of(seconds):
            return sum(pool.map(lambda number: use(number, seconds), range(CLIENTS)))

        round_of(15)
        before = resident_bytes()
        assert round_of(45) > CLIENTS
        assert resident_bytes() < before + 20e6
