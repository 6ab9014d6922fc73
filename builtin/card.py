"""The data card of the shipped sets, its numbers counted from the files."""

import json
from pathlib import Path
from textwrap import fill
from typing import Any

from builtin import domain
from builtin.voices import VOICES


def data_card(out: Path, purposes: dict[str, str]) -> str:
    """Markdown: what the sets are, how they were made, whose voices, under which licences."""
    return CARD.format(
        sets="\n".join(_row(out / name, purpose) for name, purpose in purposes.items()),
        n_words=len(domain.VOCABULARY),
        shortest=domain.SHORTEST,
        longest=domain.LONGEST,
        letters=" ".join(domain.LETTERS),
        voices="\n".join(_voices(out, purposes)),
        words=fill(" ".join(domain.VOCABULARY), 118),
    )


def _row(folder: Path, purpose: str) -> str:
    """One set's line of the table."""
    lines = _lines(folder)
    texts = [line["text"] for line in lines if "text" in line]
    minutes = sum(line["seconds"] for line in lines) / 60
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    seconds = [line["seconds"] for line in lines]
    n_words = f"{sum(len(text.split()) for text in texts):,}" if texts else "not given"
    n_speakers = len({line["speaker"] for line in lines})
    return (
        f"| `{folder.name}` | {purpose} | {len(lines)} | {minutes:.1f} | {min(seconds):.1f} to {max(seconds):.1f} "
        f"| {n_words} | {n_speakers} | {megabytes:.2f} |"
    )


def _voices(out: Path, purposes: dict[str, str]) -> list[str]:
    """A line for each side: its speakers, and how many utterances of the shipped sets each program spoke."""
    rows = []
    by_speaker = {voice.speaker: voice.split for voice in VOICES}
    spoken = [line["speaker"] for name in purposes for line in _lines(out / name)]
    for split in ("train", "test"):
        speakers = [speaker for speaker in spoken if by_speaker[speaker] == split]
        human = [speaker for speaker in speakers if not speaker.startswith("espeak ")]
        people = ", ".join(sorted(set(human)))
        variants = ", ".join(sorted({speaker.removeprefix("espeak ") for speaker in speakers} - set(human)))
        row = (
            f"- {split}: {len(speakers)} utterances. From people's recordings ({people}): {len(human)}. "
            f"espeak-ng variants ({variants}): {len(speakers) - len(human)}."
        )
        rows.append(fill(row, 118, subsequent_indent="  "))
    return rows


def _lines(folder: Path) -> list[dict[str, Any]]:
    """A manifest's lines."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


CARD = """# The built-in speech sets

Synthetic English, one channel, 16 kHz, OGG/Opus. A small task that a small model can learn, so that compression can
be tried and tested offline. It says nothing about how a model hears people.

| set | for | utterances | minutes | seconds each | words | speakers | MB |
|---|---|---|---|---|---|---|---|
{sets}

Each set has a `manifest.jsonl`: `id`, `audio` (relative), `text`, `speaker`, `seconds`. `unlabelled` has no `text`.

## Texts

What a team says after a simulated emergency: times, doses, vital signs, spelled names, roles, feedback. A seeded
grammar (`builtin/domain.py`) over {n_words} words writes phrases of {shortest} to {longest} words, of which an
utterance has one or, three times in four, two; lower case, numbers in words, no punctuation. Letters are words of their
own ({letters}). The article `a` is left out,
so `a` is always the letter. The texts are invented: no person, patient or event is meant, and no dose is advice.

<details><summary>All words</summary>

{words}

</details>

## Voices

{voices}

No speaker is on both sides. A speaker is a person, or an espeak-ng variant in whatever accent. Speed and pitch vary
from clip to clip.

## Sound

Each clip has 0.1 to 0.3 s of silence at both ends, and then, at random: another playing speed (0.95 to 1.06), a small
synthetic room (decay time 0.1 to 0.3 s), a gentle equaliser, noise (white, pink, brown or shaped like speech; 15 to
35 dB below the speech), a level (`builtin/rooms.py`).

## Splits

A text's SHA-256 modulo 10 says where it may be heard: 0 in `test` alone, 1 in the other sets here, 2 to 9 in the
training corpus that is not shipped. No text occurs twice here.

## How to make them again

    apt-get install espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts
    python -m builtin.speak sets OUT --seed 1

Made with Debian 12's espeak-ng 1.51, flite 2.2 and festival 2.5.0. The same seed gives the same texts, voices and
settings; espeak-ng keeps the phase of its flutter from one clip to the next, so its samples are not the same twice.

## Licences

- Texts and this card: the project's licence (Apache-2.0).
- espeak-ng is a program under the GPL, version 3 or later. What it speaks is its output, not a copy of it, and the
  licence of the program does not extend to it. No part of espeak-ng is shipped here.
- flite and its voices kal16, awb, slt, rms: Copyright Carnegie Mellon University (Language Technologies Institute) and
  others; free to use, copy, modify, distribute and sell, if the notice is kept, changes are marked, authors' names are
  not deleted and not used to endorse derived products.
- festival and its voices kal (`festvox-kallpc16k`, Alan W Black and Kevin Lenzo, 1998), kdl (`festvox-kdlpc16k`,
  University of Edinburgh, 1997), slt (`festvox-us-slt-hts`, Carnegie Mellon University, 2003; Nagoya Institute of
  Technology, Tokyo Institute of Technology): the same terms, and the BSD 3-clause licence for parts of the last.
"""
