"""The small sets that are shipped: augmented clips as OGG/Opus, a manifest each, and a data card.

OUT/<set>/manifest.jsonl  {"id", "audio", "text", "speaker", "seconds"}; audio is relative to the manifest
OUT/<set>/0001.ogg ...    one channel, 16 kHz
OUT/README.md             the data card
"""

import json
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from builtin.card import data_card
from builtin.clips import LONGEST, SHORTEST, Clip, clip
from builtin.rooms import RATE, SHIPPED, augment
from builtin.voices import Split

OPUS_COMPRESSION = 0.945  # libsndfile's 0 to 1; some 22 kbit/s for one channel at 16 kHz
LARGEST_BYTES = 12_000_000
TWO_PHRASES = 0.75  # the share of utterances in which a voice says two


class Set(NamedTuple):
    """What a set is made of."""

    n: int
    part: str
    split: Split
    labelled: bool
    purpose: str


SETS = {
    "test": Set(260, "test", "test", True, "to measure word error rate"),
    "calibration": Set(128, "shipped", "train", True, "to collect input statistics for a method"),
    "train": Set(300, "shipped", "train", True, "to recover accuracy by fine-tuning"),
    "unlabelled": Set(120, "shipped", "train", False, "to recover accuracy by distillation, without texts"),
}


def write_sets(out: Path, seed: int, jobs: int) -> None:
    """Writes every set of SETS and the data card; no text occurs twice, within a set or between them.

    Raises ValueError if a folder is there already, or if the sets are larger than LARGEST_BYTES.
    """
    used: set[str] = set()
    for number, (name, what) in enumerate(SETS.items()):
        _write_set(out / name, what, 1000 * seed + number, jobs, used)
    (out / "README.md").write_text(data_card(out, {name: what.purpose for name, what in SETS.items()}))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if size > LARGEST_BYTES:
        raise ValueError(f"the sets are {size} bytes, more than {LARGEST_BYTES}; raise OPUS_COMPRESSION")
    print(f"{size / 1e6:.2f} MB in all")


def write_lessons(out: Path, n: int, seed: int, jobs: int) -> None:
    """Writes one larger set like "train", too large to ship: texts of the training corpus, each once.

    Raises ValueError if the folder is there already.
    """
    _write_set(out, Set(n, "corpus", "train", True, "to recover accuracy"), 1000 * seed, jobs, set())


def _write_set(folder: Path, what: Set, seed: int, jobs: int, used: set[str]) -> None:
    """Writes the clips and the manifest of one set; texts in `used` are left out, and what is written goes there."""
    if folder.exists():
        raise ValueError(f"{folder} is there already; give an empty folder")
    folder.mkdir(parents=True)
    with Pool(jobs) as pool, (folder / "manifest.jsonl").open("w") as manifest:
        n_written = 0
        for made in pool.imap(partial(_heard, seed=seed, what=what), range(20 * what.n), chunksize=8):
            if made is None or made.text in used:
                continue
            used.add(made.text)
            n_written += 1
            manifest.write(json.dumps(_write(folder, folder.name, n_written, made, what.labelled)) + "\n")
            if n_written == what.n:
                break
        pool.terminate()
    assert n_written == what.n, (folder.name, n_written)
    print(f"{folder.name}: {n_written} utterances")


def _heard(number: int, seed: int, what: Set) -> Clip | None:
    """One clip as heard in a room; None if that made it too long or too short."""
    made = clip(number, seed, what.part, what.split, TWO_PHRASES)
    samples, phones = augment(made.samples, made.phones, np.random.default_rng([seed, number, 1]), SHIPPED)
    if not SHORTEST <= len(samples) / RATE <= LONGEST:
        return None
    return Clip(samples, phones, made.text, made.voice)


def _write(folder: Path, name: str, number: int, made: Clip, labelled: bool) -> dict[str, object]:
    """Writes one file and returns its line of the manifest."""
    audio = f"{number:04d}.ogg"
    soundfile.write(
        folder / audio, made.samples, RATE, format="OGG", subtype="OPUS", compression_level=OPUS_COMPRESSION
    )
    line: dict[str, object] = {"id": f"{name}-{number:04d}", "audio": audio}
    if labelled:
        line["text"] = made.text
    return line | {"speaker": made.voice.speaker, "seconds": round(len(made.samples) / RATE, 3)}
