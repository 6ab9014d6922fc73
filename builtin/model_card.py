"""Measure a built-in model and write its card: `python -m builtin.model_card whisper`."""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import sottovoce
from builtin.architectures import DECODER_LAYERS, ENCODER_LAYERS, FAMILIES, HEADS, WIDTH
from sottovoce.built_in import built_in_model
from sottovoce.measure.wer import WordErrors, align
from sottovoce.speech.text import normalizer

CARD = """---
license: apache-2.0
language: en
---

# {title}

A {family} that knows 248 words of a made-up domain, spoken by synthesizers. It comes with sottovoce so that compression
can be tried and tested offline.

**What it is for:** trying sottovoce, testing it, comparing methods on something really trained.
**What it is not for:** hearing people. It was never given a person's voice as a microphone has it, knows no word but
its 248, and must not be used where a transcript matters, least of all in medicine: the domain's doses and vital signs
are invented.

| | |
|---|---|
| architecture | `{architecture}`, width {width}, {encoder} encoder and {decoder} decoder layers, {heads} heads |
| weights | {weights:,}, float16, {megabytes:.2f} MB |
| hears | {hears} |
| trained on | {trained} |
| WER on builtin:test | **{wer:.2f} %** ({errors} errors in {words:,} words; greedy, normalizer {normalizer}) |

Every speaker of the test is one that it has not heard in training:

| speaker | words | WER % |
|---|---:|---:|
{speakers}

Opens in transformers with `AutoModelForSpeechSeq2Seq` and `AutoProcessor`, in sottovoce as `builtin:{family_name}`. How
it was trained: `builtin/README.md` in sottovoce's repository. Licence: Apache-2.0, as sottovoce.
"""
HEARS = {
    "whisper": "log-mel of a window of 8 s, 80 bands",
    "moonshine": "raw audio of 16 kHz, as long as it is; trained on up to 7.5 s",
}


def main() -> None:
    """Evaluate on builtin:test and write README.md beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--trained", required=True, help="on what, and for how long, in words")
    chosen = parser.parse_args()
    folder = built_in_model(f"builtin:{chosen.family}")
    assert folder is not None
    Path(folder / "README.md").write_text(card(chosen.family, folder, chosen.trained), encoding="utf-8")


def card(family: str, folder: Path, trained: str) -> str:
    """The card of the model in `folder`, measured on builtin:test."""
    from safetensors import safe_open

    result = sottovoce.evaluate(f"builtin:{family}", data="builtin:test", normalizer="whisper-basic")
    said = normalizer("whisper-basic")
    by_speaker: dict[str, WordErrors] = defaultdict(lambda: WordErrors(0, 0, 0, 0))
    for heard in result.utterances:
        by_speaker[heard.speaker or "?"] += align(said(heard.reference), said(heard.hypothesis))
    total = sum(by_speaker.values(), WordErrors(0, 0, 0, 0))
    rows = [f"| {name} | {count.reference_words} | {count.wer:.2f} |" for name, count in sorted(by_speaker.items())]
    with safe_open(folder / "model.safetensors", "numpy") as file:
        weights = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    return CARD.format(
        title=f"The built-in {family.title()}",
        family=family.title(),
        family_name=family,
        architecture=json.loads((folder / "config.json").read_text())["architectures"][0],
        width=WIDTH,
        encoder=ENCODER_LAYERS,
        decoder=DECODER_LAYERS,
        heads=HEADS,
        weights=weights,
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        hears=HEARS[family],
        trained=trained,
        wer=total.wer,
        errors=total.errors,
        words=total.reference_words,
        normalizer=result.scores[0].normalizer,
        speakers="\n".join(rows),
    )


if __name__ == "__main__":
    main()
