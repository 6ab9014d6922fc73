"""Writing a checkpoint in the format "pack-quantized": the artifact's own levels, 32 bits of them in an integer.

A row's codes follow each other from the lowest bit on, as in an artifact; zeros are packed in the same way along the
rows. A grid for a whole matrix is written as one for each row, with the same scale.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from sottovoce.files.atomic import json_text, write_text
from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import WEIGHTS, read_json
from sottovoce.models.names import HEAD
from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.packing import pack
from sottovoce.progress import Track, silent
from sottovoce.targets.dense import narrow_state
from sottovoce.targets.levels import each_row, kept_codes
from sottovoce.weights.weight import Layer

CONFIG = "config.json"


def write(model: SpeechModel, layers: Mapping[str, Layer], folder: Path, track: Track = silent) -> None:
    """model.safetensors, and in the config.json of `folder` the scheme of each layer that is packed."""
    from safetensors.torch import save_file

    state = narrow_state(model)
    schemes: dict[str, list[str]] = {}
    floats = [HEAD] if model.tied else []
    for name, layer in track(layers.items(), len(layers), "layers"):
        base, module = layer.weight.base, model.full_name(name)
        if layer.kind != "linear":
            continue
        if not isinstance(base, Quantized):
            floats.append(module)
            continue
        del state[f"{module}.weight"]
        state |= {f"{module}.{suffix}": tensor for suffix, tensor in packed(base, layer.weight.mask).items()}
        schemes.setdefault(json.dumps(scheme(base)), []).append(module)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    document = read_json(folder / CONFIG) | {"quantization_config": quantization_config(schemes, floats)}
    write_text(folder / CONFIG, json_text(document))


def quantization_config(schemes: Mapping[str, list[str]], floats: list[str]) -> dict[str, Any]:
    """What config.json says: a group of modules for each scheme, given as JSON, and the linears that are floats."""
    groups = {
        f"group_{i}": {"targets": modules, "weights": json.loads(weights)}
        for i, (weights, modules) in enumerate(schemes.items())
    }
    return {
        "quant_method": "compressed-tensors",
        "version": version("compressed-tensors"),
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": floats,
        "dequantize": True,  # as it is loaded: transformers' generate() asks the encoder before it would unpack a model
    }


def scheme(base: Quantized) -> dict[str, Any]:
    """How a weight's grid is said in a group of the config."""
    grid = base.grid
    grouped = isinstance(grid.group_size, int)
    return {
        "num_bits": grid.bits,
        "type": "int",
        "symmetric": base.zero_point is None,
        "strategy": "group" if grouped else "channel",
        **({"group_size": grid.group_size} if grouped else {}),
    }


def packed(base: Quantized, mask: Tensor | None) -> dict[str, Tensor]:
    """The tensors of one weight.

    weight_packed      (rows, ceil(columns * bits / 32)) int32, codes, and the level of zero where a mask drops
    weight_scale       (rows, groups) in the stored dtype; float32 where scales are rounded themselves
    weight_zero_point  (ceil(rows * bits / 32), groups) int32 levels; absent where the grid is symmetric
    weight_shape       (2,) int64 rows, columns
    """
    rows, columns = base.codes.shape
    scale = base.scale if isinstance(base.scale, Tensor) else base.scales()
    found = {
        "weight_packed": _words(kept_codes(base, mask), base.bits),
        "weight_scale": each_row(scale, rows).contiguous(),
        "weight_shape": torch.tensor([rows, columns]),
    }
    if (zeros := base.zeros()) is not None:
        along_rows = each_row(zeros, rows).T.to(torch.uint8)
        found["weight_zero_point"] = _words(along_rows, base.bits).T.contiguous()
    return found


def _words(codes: Tensor, bits: int) -> Tensor:
    """(n, codes) uint8 to (n, ceil(codes * bits / 32)) int32."""
    row = pack(codes, bits)
    return pad(row, (0, -row.shape[1] % 4)).contiguous().view(torch.int32)
