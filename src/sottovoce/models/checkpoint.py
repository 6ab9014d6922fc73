"""Where a model comes from: a folder, or a repository on the Hugging Face hub at one commit.

Only JSON, text, tokenizer models and safetensors are fetched: nothing that runs code when it is opened.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sottovoce.built_in import built_in_model
from sottovoce.files.atomic import sha256
from sottovoce.files.documents import parse_json

FETCHED = ["*.json", "*.txt", "*.model", "*.safetensors"]
# The same weights again: "model.fp32-00001-of-00002.safetensors", and subfolders for other runtimes.
NOT_FETCHED = ["*.fp16*", "*.fp32*", "*/*"]
# What decides a transcript, beside the weights.
IDENTITY = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "normalizer.json",
)  # fmt: skip
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}  # safetensors' names and torch's
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


@dataclass(frozen=True)
class Checkpoint:
    """A folder that can be opened, and what to call it.

    name      as the user wrote it, without @revision
    folder    holds config.json and model.safetensors (or an index and its shards)
    revision  the commit of a hub repository, None for a local folder
    """

    name: str
    folder: Path
    revision: str | None

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of the names and contents of all files that decide a transcript.

        The folder's path, its README and weights of another precision are not part of it.
        """
        files = [self.folder / name for name in IDENTITY if (self.folder / name).is_file()]
        lines = sorted(f"{path.name} {sha256(path)}\n" for path in [*files, *weight_files(self.folder)])
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """The size of the weights on disk."""
        return sum(path.stat().st_size for path in weight_files(self.folder))

    @cached_property
    def dtypes(self) -> dict[str, Any]:
        """The torch dtype in which each tensor is stored, by name."""
        import torch
        from safetensors import safe_open

        found = {}
        for path in weight_files(self.folder):
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118, a file and no dict
                    found[name] = getattr(torch, FLOATS[tensors.get_slice(name).get_dtype()])
        return found


def resolve(model: str | Path, revision: str | None = None) -> Checkpoint:
    """The checkpoint that `model` names: builtin:whisper, a folder here, else owner/name[@revision] on the hub.

    A hub repository is fetched into the hub's own cache; without a connection the cache answers. The hub is
    `HF_ENDPOINT` and the cache `HF_HUB_CACHE` where these are set. Raises ValueError for a name that leads
    nowhere, a revision of a local folder, and a folder without a config and readable safetensors.
    """
    if (own := built_in_model(model)) is not None:
        if revision:
            raise ValueError(f"{model} comes with sottovoce and has no revision {revision!r}; leave it out")
        return Checkpoint(str(model), own, None)
    name, at, suffix = str(model).partition("@")
    if os.path.exists(os.path.expanduser(model)):  # a folder may have an @ in its name
        name, at, suffix = str(model), "", ""
    if at and (revision or not suffix):
        raise ValueError(f"{str(model)!r}, revision {revision!r}: write one revision, after the @ or as an option")
    revision = suffix or revision

    folder = Path(os.path.expanduser(name))
    if name and folder.is_dir():
        if revision:
            raise ValueError(f"{name} is a local folder and has no revision {revision!r}; leave it out")
        checkpoint = Checkpoint(name, folder, None)
        check(checkpoint, (path.name for path in folder.iterdir()))
        return checkpoint
    if name and folder.exists():
        raise ValueError(f"{name} is a file; give the folder that holds it, config.json and the tokenizer")
    if isinstance(model, Path) or not re.fullmatch(r"\w[\w.-]*/[\w.-]*\w", name, re.ASCII):
        raise ValueError(
            f"{name!r} is neither a folder here nor a hub id; owner/name, owner/name@revision and "
            "builtin:whisper would work"
        )
    return fetch(name, revision)


def fetch(name: str, revision: str | None) -> Checkpoint:
    """The repository `name` at the commit that `revision` (None: main) is on the hub, or was in the cache."""
    import httpx2
    from huggingface_hub import constants, get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import (
        CachedRepoTreeNotFoundError,
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The client reads these when it is imported; read here, they may be set later. None is its default.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    cache = os.environ.get("HF_HUB_CACHE") or None
    hub = endpoint or constants.ENDPOINT

    def download(local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                endpoint=endpoint,
                cache_dir=cache,
                allow_patterns=FETCHED,
                ignore_patterns=NOT_FETCHED,
                local_files_only=local_files_only,
            )
        )

    try:
        folder = download(local_files_only=False)
    except HFValidationError as error:
        raise ValueError(f"{name!r} is neither a folder here nor a hub id: {error}") from error
    except GatedRepoError as error:
        raise ValueError(f"{name} is gated; accept its conditions at {hub}/{name}, then run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{name} is not a folder here, and {hub} has no such repository, or a private one; check the "
            f"spelling, or run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"{name} has no revision {revision!r}; a branch, a tag or a full commit hash at {hub} works"
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        try:
            folder = download(local_files_only=True)
        except OSError:
            wanted = f"{name}@{revision}" if revision else name
            raise ValueError(
                f"{wanted} is not complete in the cache, and {hub} cannot be reached ({first_line(error)}); "
                f"go online once, or give a local folder"
            ) from error

    commit = folder.name
    try:
        found = [file.path for file in get_cached_repo_tree(name, revision=commit, cache_dir=cache)]
    except CachedRepoTreeNotFoundError:
        found = [path.name for path in folder.iterdir()]
    checkpoint = Checkpoint(name, folder, commit)
    check(checkpoint, found)
    return checkpoint


def check(checkpoint: Checkpoint, found: Iterable[str]) -> None:
    """Raise ValueError unless the folder has the config of a model in floats, and weights whose headers say so.

    found    names of all files there, those that were not fetched too: they explain what is missing
    """
    from safetensors import SafetensorError, safe_open

    names = sorted(found)
    if not (checkpoint.folder / "config.json").is_file():
        raise ValueError(f"{checkpoint.name} holds no config.json; {no_config(names)}")
    if (quantizer := quantized_by(checkpoint.folder)) is not None:
        raise ValueError(
            f"{checkpoint.name} is quantized already ({quantizer}); give the checkpoint that it was made from"
        )
    weights = weight_files(checkpoint.folder)
    if not weights:
        raise ValueError(no_weights(checkpoint.name, names))
    for path in weights:
        if not path.is_file():
            raise ValueError(f"{checkpoint.name}: {INDEX} names {path.name}, which is missing; fetch it again")
        try:
            with safe_open(path, framework="numpy") as tensors:
                kinds = {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{checkpoint.name}: {path.name}, {path.stat().st_size:,} bytes, is not a safetensors file "
                f"({first_line(error)}); fetch it again, with `git lfs pull` if it came by git"
            ) from error
        if strange := next((name for name, kind in kinds.items() if kind not in FLOATS), None):
            raise ValueError(f"{path}: {strange} is {kinds[strange]}; float16, bfloat16 and float32 would work")


def no_config(found: list[str]) -> str:
    """What to do about a folder without config.json, from the names of the files it holds."""
    if "adapter_config.json" in found:
        return "it is an adapter; merge it into its model (merge_and_unload in peft), and give what that saves"
    return "give the folder that a model was saved in"


def quantized_by(folder: Path) -> str | None:
    """The method by which another tool has quantized a checkpoint ("gptq"), as its files tell; None if none did."""
    scheme = read_json(folder / "config.json").get("quantization_config")
    for name in ("quantize_config.json", "quant_config.json"):  # as AutoGPTQ and AutoAWQ wrote them
        if not scheme and (folder / name).is_file():
            scheme = {"quant_method": name, **read_json(folder / name)}
    if not scheme:
        return None
    method = scheme.get("quant_method") if isinstance(scheme, dict) else None
    return str(method or "quantization_config in config.json")


def no_weights(name: str, found: list[str]) -> str:
    """Why `name` cannot be opened, from the names of the files it holds."""
    loose = [file for file in found if file.endswith(".safetensors") and "/" not in file]
    if loose:
        return f"{name} holds {', '.join(loose)}, but neither {WEIGHTS} nor {INDEX}; rename or save it again"
    pickled = [file for file in found if file.endswith(PICKLED) and "/" not in file]
    if pickled:
        return f"{name} holds {', '.join(pickled)} only, which may run code when opened; convert to safetensors"
    return f"{name} holds no {WEIGHTS}; give the folder that a model was saved in"


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads weights from: model.safetensors, else the shards of the index.

    Raises ValueError for an index that is not one. The shards need not exist.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        return []
    shards = read_json(folder / INDEX).get("weight_map")
    names = list(shards.values()) if isinstance(shards, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ValueError(f"{folder / INDEX} has no weight_map from tensors to files beside it; fetch it again")
    return [folder / name for name in sorted(set(names))]


def model_type(checkpoint: Checkpoint) -> str:
    """What config.json calls the architecture ("whisper"); ValueError if it cannot be read or lacks it."""
    config = read_json(checkpoint.folder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise ValueError(f"config.json of {checkpoint.name} has no model_type; a model that transformers saved has one")
    return kind


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ValueError, with the path, if there is none."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} is not JSON ({first_line(error)}); fetch or save it again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}, not an object; fetch or save it again")
    return value


def first_line(error: Exception) -> str:
    """The first line of an error's message, which a sentence can hold."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(" .")
