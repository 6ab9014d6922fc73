"""Writing a folder that CTranslate2 and faster-whisper open: model.bin, its vocabulary, its own words in config.json.

An int8 of CTranslate2 is a level counted from the middle; its scale is kept as the reciprocal, in float32.
"""

from collections import defaultdict
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sottovoce.files.atomic import json_text, write_text
from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import read_json
from sottovoce.models.names import TABLE
from sottovoce.numbers.grid import Quantized
from sottovoce.progress import Track, silent
from sottovoce.targets.ctranslate2.places import POSITIONS, order, place
from sottovoce.targets.levels import each_row, kept_codes
from sottovoce.weights.weight import Layer

CONFIG = "config.json"


def write(model: SpeechModel, layers: Mapping[str, Layer], folder: Path, track: Track = silent) -> None:
    """The files of a Whisper that holds `layers`, all of its products at 8 bits or fewer, or none."""
    from ctranslate2.converters.transformers import WhisperLoader

    loader = WhisperLoader()
    spec = loader.get_model_spec(model.module)
    coded = {name for name, layer in layers.items() if isinstance(layer.weight.base, Quantized)} - set(POSITIONS)
    if coded:
        _put_integers(spec, {name: layers[name] for name in layers if name in coded}, model.tied, track)
    spec.register_vocabulary(loader.get_vocabulary(model.module, model.processor.tokenizer))
    spec.validate()
    spec.optimize("float16" if not coded and _fit_halves(model) else None)
    document = read_json(folder / CONFIG)  # CTranslate2 writes its own words to a file of that name
    spec.save(str(folder))
    write_text(folder / CONFIG, json_text(document | _words(model)))
    if not (folder / "preprocessor_config.json").is_file():
        write_text(folder / "preprocessor_config.json", json_text(model.frontend.extractor))


def _put_integers(spec: Any, layers: Mapping[str, Layer], tied: bool, track: Track) -> None:
    from ctranslate2.specs.model_spec import index_spec

    at: dict[str, list[Layer]] = defaultdict(list)
    for name, layer in track(layers.items(), len(layers), "layers"):
        path = place(name)
        assert path is not None, "refused before"
        at[path].append(layer)
        if tied and name == TABLE:
            at["decoder/projection"].append(layer)
    for path, held in at.items():
        found = index_spec(spec, path)
        rows = [integers(layer) for layer in sorted(held, key=lambda layer: order(layer.name))]
        weight = torch.cat([codes for codes, _ in rows])
        found.weight = weight.reshape(found.weight.shape)
        found.weight_scale = torch.cat([scale for _, scale in rows])


def integers(layer: Layer) -> tuple[Tensor, Tensor]:
    """(rows, columns) int8 and (rows,) float32 of a layer on a symmetric grid by rows: a weight is their quotient."""
    base = layer.weight.base
    assert isinstance(base, Quantized), "refused before"
    codes = kept_codes(base, layer.weight.mask).to(torch.int16) - base.grid.middle
    return codes.to(torch.int8), 1 / each_row(base.scales(), len(codes))[:, 0]


def _fit_halves(model: SpeechModel) -> bool:
    return all(torch.equal(tensor.half().float(), tensor) for tensor in model.module.state_dict().values())


def _words(model: SpeechModel) -> dict[str, Any]:
    """What CTranslate2 reads in config.json, beside what transformers reads there."""
    rules, saved, config = model.rules(), model.frontend.generation, model.module.config
    later_half = product(
        range(config.decoder_layers // 2, config.decoder_layers), range(config.decoder_attention_heads)
    )
    return {
        "suppress_ids": list(rules.suppressed),
        "suppress_ids_begin": list(rules.suppressed_first),
        "lang_ids": sorted(saved.get("lang_to_id", {}).values()),
        "alignment_heads": saved.get("alignment_heads") or [list(pair) for pair in later_half],
    }
