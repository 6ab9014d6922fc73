"""verify-offline: where there is no network, by a namespace or by refusal; what was tried is told."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import sottovoce
from sottovoce.cli.app import app
from sottovoce.speech.datasets import read_corpus
from sottovoce.transcribing.offline import BLOCKED, NAMESPACE, verify_offline

CLIP = read_corpus("builtin:test").utterances[0].audio
TRIES = """
import json, socket, sys
from dataclasses import asdict
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.transcribing import offline
offline._alone = lambda: False
plain = Recognizer.transcribe
def spying(self, speech):
    try:
        socket.create_connection(("192.0.2.7", 80), timeout=1)
    except OSError:
        pass
    return plain(self, speech)
if sys.argv[3] == "spying":
    Recognizer.transcribe = spying
print(json.dumps(asdict(offline._prove(*sys.argv[1:3]))))
"""


def blocked(how):
    done = subprocess.run(
        [sys.executable, "-c", TRIES, "builtin:moonshine", str(CLIP), how], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_transcription_without_network_says_what_one_with_network_says():
    proof = verify_offline("builtin:moonshine", CLIP)
    assert proof.text == sottovoce.load("builtin:moonshine").transcribe(CLIP).text
    assert proof.how in (NAMESPACE, BLOCKED)
    assert proof.attempts == ()
    assert proof.refused
    if proof.how == NAMESPACE:
        assert proof.interfaces == ("lo",)


@pytest.mark.slow
def test_where_no_namespace_is_allowed_connections_are_refused_and_told():
    assert blocked("plain")["attempts"] == []
    found = blocked("spying")
    assert found["how"] == BLOCKED
    assert found["refused"].endswith("allows no network")
    assert any("192.0.2.7" in attempt for attempt in found["attempts"])


def test_a_model_that_is_not_here_is_one_sentence():
    with pytest.raises(ValueError, match="without network the transcription failed: nobody/nothing"):
        verify_offline("nobody/nothing", CLIP)


@pytest.mark.slow
def test_the_command_prints_the_proof():
    told = CliRunner().invoke(app, ["verify-offline", "builtin:moonshine", str(CLIP)])
    assert told.exit_code == 0, told.output
    assert "Connections that the transcription tried: none." in told.output
    assert "were not uploaded" in told.output
