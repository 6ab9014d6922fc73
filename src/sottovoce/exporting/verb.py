"""The verb `export`: from an artifact to a runtime's files, which are declared good only when they compute the same."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from sottovoce.exporting import make_selftest, selftest
from sottovoce.exporting.causes import causes
from sottovoce.exporting.held import not_held
from sottovoce.files.replacing import new_folder
from sottovoce.files.sealed import check_replaceable, unchanged
from sottovoce.models.companions import is_companion
from sottovoce.models.widths import own_widths
from sottovoce.models.window import shorten, window_frames
from sottovoce.progress import Track, silent
from sottovoce.recipes.target import table_of
from sottovoce.recognition.target import Target, find_target
from sottovoce.targets import find_runtime
from sottovoce.targets.base import Runtime, WriteOptions
from sottovoce.targets.exported import MANIFEST, Exported, Source, check_installed

SHORTENED = "the window is shorter than the one that the model was trained on, so its accuracy may differ: evaluate it"


class SelfTestError(Exception):
    """An export that computes something else than its artifact; its folder stays and says so."""

    def __init__(self, message: str, exported: Exported) -> None:
        super().__init__(message)
        self.exported = exported


def export(
    model: str | Path,
    *,
    to: str,
    output: str | Path,
    revision: str | None = None,
    seconds: float | None = None,
    portable: Sequence[str] = (),
    threads: int | None = None,
    track: Track = silent,
) -> Exported:
    """Write a model for a runtime at `output`, with the integers that its artifact holds, and test it there.

    model    an artifact, or an uncompressed checkpoint
    to       the runtime: "executorch", "onnx", "ctranslate2" for faster-whisper, "ggml" for whisper.cpp,
             "compressed-tensors" for transformers and vLLM, or "safetensors" for all that loads transformers' folders
    seconds  of audio at most: the window of a model that has one, which then costs less; memory for so much where the
             model takes any length and the runtime plans its memory (ExecuTorch: 30)
    portable  products that ExecuTorch may leave to slow kernels, by name; else they are refused
    threads  of the runtime while it is tested

    Raises ValueError, before any weight is read, for a runtime that is unknown, not installed or of an untested
    version, a model that it cannot hold, and an output that holds something else; SelfTestError if the runtime computes
    something else than the artifact, by more than rounding explains: the folder is kept and says so.
    """
    output, runtime = Path(output), find_runtime(to)
    own = (MANIFEST, *runtime.files)
    check_replaceable(output, "an export", MANIFEST, lambda name: name in own or is_companion(name))
    target = find_target(model, revision)
    target.check_open("export")
    runtime.check_search(target.frontend)
    options = _options(runtime, target, seconds, portable)
    entries = target.entries()
    turns = target.artifact.turns if target.artifact else ()
    narrow = runtime.refused_widths(own_widths(target.checkpoint))
    _check_held(target, runtime.title, {**runtime.refusals(entries, turns), **narrow})
    versions = check_installed(runtime)
    with new_folder(output, lambda older: unchanged(older / MANIFEST)) as folder:
        opened, layers = target.open()
        if shortened := seconds is not None and opened.most_seconds is not None:
            shorten(opened, layers, seconds)
        bounds = opened.frontend.runtime_bounds = runtime.bounds(opened, options)
        make_selftest.make(opened, layers, runtime, folder, track)
        as_opened = {name: replace(layer) for name, layer in layers.items()}
        opened.write_companions(folder)
        opened.frontend.save_tokenizer(folder)
        runtime.write(opened, layers, folder, options, track)
        notes = (*runtime.notes(entries), *([SHORTENED] if shortened else []))
        made = Exported(folder, to, target.base, _source(target), notes, versions, {}, bounds=bounds)
        missing = not_held(runtime, as_opened, folder, track)
        tested, _ = selftest.run(made, threads, track)
        tested = replace(tested, missing=missing)
        made = replace(made, tested=tested).write()
        cause = causes(tested, runtime.engine, folder)
    made = replace(made, folder=output)
    if not tested.passed:
        raise SelfTestError(
            f"{output} failed its self-test: {'; '.join(cause)}; {tested.same} of {tested.tokens} next tokens match. "
            f"It is kept and marked as failed: evaluate it beside {target.name} before you use it, or choose another "
            "runtime",
            made,
        )
    return made


def _options(runtime: Runtime, target: Target, seconds: float | None, portable: Sequence[str]) -> WriteOptions:
    if portable and "portable" not in runtime.options:
        raise ValueError(f"{runtime.title} leaves no product to portable kernels; leave portable out")
    if seconds is not None:
        if target.frontend.most_seconds is not None:
            window_frames(target.layout(), seconds)
            if runtime.whole_seconds and seconds != int(seconds):
                raise ValueError(
                    f"seconds={seconds:g}: transformers' feature extractor, which reads {runtime.title}, takes whole "
                    f"seconds; {ceil(seconds)} would work"
                )
        elif "seconds" not in runtime.options:
            raise ValueError(f"{target.name} takes audio of any length on {runtime.title}; leave --seconds out")
        elif seconds <= 0:
            raise ValueError(f"seconds={seconds:g}: more than 0 would work")
    return WriteOptions(seconds, tuple(portable))


def _check_held(target: Target, title: str, refused: Mapping[str, str]) -> None:
    if not refused:
        return
    head = f"{title} cannot hold {len(refused)} of the layers of {target.name} as they are:"
    raise ValueError(f"{head}\n{table_of(refused)}")


def _source(target: Target) -> Source:
    recipes = target.artifact.recipes if target.artifact else ()
    return Source(target.name, target.digest, tuple(recipes), tuple(sorted(target.fitted_fingerprints)))
