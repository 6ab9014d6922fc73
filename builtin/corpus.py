"""The clean training corpus: one file of samples, one line of JSON a clip.

audio.i16    little-endian int16 at 16 kHz, the clips one after the other
index.jsonl  {offset, samples, text, voice, speaker, phones: [[label, start, end], ...]}, offset and samples in samples,
             start and end in samples from the clip's own first
done         there when all clips are
"""

import json
import sys
import time
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from builtin.clips import Clip, clip


def write_corpus(folder: Path, n_clips: int, seed: int, jobs: int, human_share: float | None = None) -> None:
    """Writes the first `n_clips` clips of the seed; continues where an earlier run was stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    n_done, end = _resume(folder)
    started = time.monotonic()
    with (
        (folder / "audio.i16").open("r+b" if n_done else "wb") as audio,
        (folder / "index.jsonl").open("a") as index,
        Pool(jobs) as pool,
    ):
        audio.truncate(2 * end)
        audio.seek(2 * end)
        make = partial(clip, seed=seed, part="corpus", split="train", human_share=human_share)
        for number, made in enumerate(pool.imap(make, range(n_done, n_clips), chunksize=16), n_done + 1):
            end += _append(made, end, audio, index)
            if number % 500 == 0 or number == n_clips:
                audio.flush()
                index.flush()
                rate = (number - n_done) / (time.monotonic() - started)
                print(f"{number}/{n_clips} clips, {end / 16_000 / 3600:.2f} h, {rate:.1f} clips/s", file=sys.stderr)
    (folder / "done").write_text(f"{n_clips}\n")


def _append(made: Clip, offset: int, audio: BinaryIO, index: TextIO) -> int:
    """Writes one clip; samples before their line, so that a line's samples are always there."""
    peak = float(np.abs(made.samples).max())
    samples = made.samples * min(1, 0.97 / peak)
    audio.write(np.round(samples * 32767).astype("<i2").tobytes())
    line = {
        "offset": offset,
        "samples": len(samples),
        "text": made.text,
        "voice": made.voice.name,
        "speaker": made.voice.speaker,
        "phones": made.phones,
    }
    index.write(json.dumps(line) + "\n")
    return len(samples)


def _resume(folder: Path) -> tuple[int, int]:
    """How many clips an earlier run finished and where their samples end; what it left half-written is cut off."""
    index, audio = folder / "index.jsonl", folder / "audio.i16"
    if not index.exists() or not audio.exists():
        index.unlink(missing_ok=True)
        return 0, 0
    there = audio.stat().st_size // 2
    kept, end = [], 0
    for line in index.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        clip_end = (fields := json.loads(line))["offset"] + fields["samples"]
        if clip_end > there:
            break
        kept.append(line)
        end = clip_end
    index.write_text("".join(kept))
    return len(kept), end
