"""Files as people have them, where they are at hand: the folder that SOTTOVOCE_SPEECH names."""

import json
import os
from pathlib import Path

import pytest

from sottovoce.speech import audio

HOME = Path(os.environ.get("SOTTOVOCE_SPEECH", "nowhere"))
LIST = HOME / "originals.jsonl"
ROWS = [json.loads(line) for line in LIST.read_text(encoding="utf-8").splitlines()] if LIST.is_file() else []


@pytest.mark.skipif(not ROWS, reason="SOTTOVOCE_SPEECH names no folder with originals.jsonl")
@pytest.mark.parametrize("row", ROWS, ids=[row["audio"] for row in ROWS])
def test_every_original_is_read_and_as_long_as_ffmpeg_decodes_it(row):
    av = pytest.importorskip("av")
    path = HOME / row["audio"]
    with av.open(str(path)) as container:
        decoded = [(frame.samples, frame.sample_rate) for frame in container.decode(audio=0)]
    longest = sum(samples for samples, _ in decoded) / decoded[0][1]
    last = decoded[-1][0] / decoded[-1][1]  # of which MP4 says how much is padding
    assert longest - last < audio.seconds(path) <= longest + 1e-9
    assert len(audio.read(path)) == pytest.approx(16_000 * audio.seconds(path), abs=1)
