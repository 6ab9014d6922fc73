"""The engines: two graphs, one clip at a time, a token at a time, caches never copied to Python; or one, of frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sottovoce.models.names import is_block
from sottovoce.targets.engine import EngineKind, OneClip
from sottovoce.targets.onnx.graph import NODE, OUTPUT, parts, texts, with_outputs
from sottovoce.targets.onnx.signed import fit_for_here
from sottovoce.targets.threads import default_threads
from sottovoce.tested import tested

ENCODER, DECODER, MODEL = "encoder.onnx", "decoder.onnx", "model.onnx"
Values = dict[str, Any]  # a graph's inputs or outputs by name, in ONNX Runtime's memory


@dataclass(frozen=True)
class Cross(OneClip):
    """Keys and values of one clip for every cross-attention, under the decoder's names for them.

    blocks  what blocks put out, where the engine tells: the encoder's for the clip, the decoder's token by token
    """

    values: Values
    blocks: dict[str, list[np.ndarray]] = field(default_factory=dict)


class OnnxEngine:
    """Runs an exported folder.

    threads  of one operator; `default_threads()` if None
    telling  whether it keeps what each block puts out, which a self-test asks for to find where two models part
    """

    together = 1

    def __init__(self, folder: Path, threads: int | None = None, telling: bool = False) -> None:
        import onnxruntime

        encoder = fit_for_here((folder / ENCODER).read_bytes())
        graphs: tuple[bytes | Path, bytes | Path] = (encoder, folder / DECODER)
        if telling:
            graphs = (telling_blocks(encoder), telling_blocks((folder / DECODER).read_bytes()))
        self._encoder, self._decoder = (_session(graph, threads) for graph in graphs)
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._made = [output.name for output in self._encoder.get_outputs()]
        self._told = [output.name for output in self._decoder.get_outputs()]
        past = [entry for entry in self._decoder.get_inputs() if entry.name.startswith("past")]
        self._empty = {e.name: self._value(np.zeros((1, e.shape[1], 0, e.shape[3]), np.float32)) for e in past}

    def encode(self, features: Sequence[np.ndarray]) -> Cross:
        """One clip's features (1, ...)."""
        [clip] = features
        made = self._encoder.run_with_ort_values(None, {"features": self._value(np.ascontiguousarray(clip))})
        values = dict(zip(self._made, made, strict=True))
        blocks = {name: [values.pop(name).numpy()[0]] for name in self._made if is_block(name)}
        return Cross(values, blocks)

    def step(
        self, tokens: np.ndarray, memory: Cross, cache: Sequence[Values] | None
    ) -> tuple[np.ndarray, list[Values]]:
        """(n, k) tokens, row by row and one after another: logits (n, vocabulary), and each row's own cache."""
        held = [self._empty] * len(tokens) if cache is None else cache
        fed = [self._feed(row, memory, values) for row, values in zip(tokens.tolist(), held, strict=True)]
        return np.concatenate([logits for logits, _ in fed]), [values for _, values in fed]

    def outputs(self, memory: Cross) -> Mapping[str, np.ndarray]:
        """Keys and values of one clip, and what blocks put out, the decoder's at each token that was fed."""
        made = {name: value.numpy()[0].swapaxes(0, 1) for name, value in memory.values.items()}
        blocks = {name: np.concatenate(rows) for name, rows in memory.blocks.items()}
        return {name: value.reshape(len(value), -1) for name, value in made.items()} | blocks

    def branch(self, memory: Cross, cache: Sequence[Values], parents: np.ndarray) -> tuple[Cross, list[Values]]:
        """All rows are of one clip; a row's cache is never changed, so that rows can share it."""
        return memory, [cache[parent] for parent in parents.tolist()]

    def cut(self, cache: Sequence[Values], length: int) -> list[Values]:
        """As Cutting's: the first positions of each row's, copied."""
        return [
            {name: self._value(np.ascontiguousarray(value.numpy()[:, :, :length])) for name, value in row.items()}
            for row in cache
        ]

    def _feed(self, tokens: Sequence[int], memory: Cross, held: Values) -> tuple[np.ndarray, Values]:
        logits = None
        for token in tokens:
            given = {"token": self._value(np.array([[token]], np.int64)), **held, **memory.values}
            logits, *kept = self._decoder.run_with_ort_values(None, given)
            held = dict(zip(self._empty, kept, strict=False))  # what blocks put out follows
            for name, told in zip(self._told[1 + len(held) :], kept[len(held) :], strict=True):
                memory.blocks.setdefault(name, []).append(told.numpy()[0])
        assert logits is not None, "there is a token"
        return logits.numpy(), held


@dataclass(frozen=True)
class Scored(OneClip):
    """The logits of one clip's frames, (frames, vocabulary), and what blocks put out, where the engine tells."""

    logits: np.ndarray
    blocks: dict[str, np.ndarray]


class OnnxFrameEngine:
    """Runs an exported folder of a CTC model; as OnnxEngine."""

    together = 1

    def __init__(self, folder: Path, threads: int | None = None, telling: bool = False) -> None:
        graph = fit_for_here((folder / MODEL).read_bytes())
        self._model = _session(telling_blocks(graph) if telling else graph, threads)
        self._made = [output.name for output in self._model.get_outputs()]

    def encode(self, features: Sequence[np.ndarray]) -> Scored:
        """One clip's features (1, ...)."""
        [clip] = features
        made = self._model.run(None, {"features": np.ascontiguousarray(clip)})
        blocks = dict(zip(self._made, (each[0] for each in made), strict=True))
        return Scored(blocks.pop("logits"), blocks)

    def frame_logits(self, memory: Scored) -> list[np.ndarray]:
        """Of the clip."""
        return [memory.logits]

    def outputs(self, memory: Scored) -> Mapping[str, np.ndarray]:
        """What blocks put out."""
        return memory.blocks


def _open(folder: Path, threads: int | None = None, telling: bool = False) -> OnnxEngine | OnnxFrameEngine:
    try:
        if (folder / MODEL).is_file():
            return OnnxFrameEngine(folder, threads, telling)
        return OnnxEngine(folder, threads, telling)
    except OSError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no class in common
        raise RuntimeError(str(error)) from error


def _session(graph: bytes | Path, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # else the second clip's plan lies beside what the first one took
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def telling_blocks(graph: bytes) -> bytes:
    """A graph that puts out what its blocks do, under the names that `write` gave them."""
    names = [name for node in parts(graph, NODE) for name in texts(graph, node, OUTPUT)]
    return with_outputs(graph, [name for name in names if is_block(name)])


ENGINE = EngineKind(
    "ONNX Runtime",
    tested("onnxruntime"),
    (ENCODER, DECODER, MODEL),
    _open,
    telling=partial(_open, telling=True),
)
