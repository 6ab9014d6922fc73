"""The README of an artifact: what it is, what was done to it, how to use it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any


def model_card(document: Mapping[str, Any], weight_bytes: int) -> str:
    """Markdown for a person who finds the folder; `document` is the content of sottovoce.json."""
    base, layers = document["base"], document["layers"]
    revision = f" at revision `{base['revision']}`" if base["revision"] else ""
    done = Counter(" then ".join(layer.get("steps", ())) or "as it was" for layer in layers)
    calibrations = [
        f"{_amount(record)}, decoder driven by "
        + ("the model's own tokens" if record["tokens"] == "own" else "the transcripts")
        for record in document["calibrations"]
    ]
    trainings = [_amount(record) for record in document["trainings"]]
    rows = "\n".join(f"| {count} | {steps} |" for steps, count in done.items())
    return f"""# A speech recogniser compressed by sottovoce

Made from `{base["model"]}`{revision}: {base["bytes"] / 1e6:.2f} MB of weights before, {weight_bytes / 1e6:.2f} MB now.

| layers | done |
|---|---|
{rows}

Calibration: {"; ".join(calibrations) or "none: the recipe needs no data"}. Training: {"; ".join(trainings) or "none"}.

```python
import sottovoce

model = sottovoce.load("path/to/this/folder")
print(model.transcribe("speech.wav"))
```

`sottovoce inspect FOLDER` shows every layer, `sottovoce evaluate FOLDER --data test.jsonl` measures it. The weights
are packed: transformers cannot open them by itself. `sottovoce.json` holds the recipe, the calibration's ids, the
versions and the SHA-256 of each file. The licence of the base model applies.
"""


def _amount(record: Mapping[str, Any]) -> str:
    """The audio of a compression in words."""
    unused = f", {record['left_out']} unusable clips left out" if record.get("left_out") else ""
    return f"{record['utterances']} utterances ({record['seconds']:.0f} s) of {record['dataset']}{unused}"
