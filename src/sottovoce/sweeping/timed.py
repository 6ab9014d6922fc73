"""How long a row's model takes on a runtime, beside the uncompressed one in the same rounds.

A machine is never the same twice, so the ratio is what counts: it is taken within a round. What a runtime cannot hold,
or computes as something else, is not timed, and the row says why.
"""

import tempfile
from pathlib import Path
from typing import Any

from sottovoce.exporting.verb import SelfTestError, export
from sottovoce.recognition.target import Target
from sottovoce.targets.exported import read_exported
from sottovoce.timing.bench import bench
from sottovoce.weights.cost import Workload

ENGINES = ("torch", "onnx", "executorch")
THREADS, ROUNDS = 1, 5


def timed(engine: str, model: Target, artifact: Path | None, workload: Workload, folder: Path) -> dict[str, Any]:
    """What a row says of its time: engine and threads, with milliseconds and ratio, or with the reason for none.

    artifact      the compressed model; None for the uncompressed one itself
    folder        where the uncompressed model's export is kept for the other rows
    milliseconds  of one utterance of `workload`, the median over rounds
    ratio         of its time to the uncompressed model's in the same round: median, least, most
    """
    said: dict[str, Any] = {"engine": engine, "threads": THREADS}
    try:
        with tempfile.TemporaryDirectory(prefix="sottovoce-timed-") as place:
            pair = [_ready(engine, model.name, folder / model.digest)]
            if artifact is not None:
                pair.append(_ready(engine, str(artifact), Path(place) / "export"))
            tokens = None if model.frontend.rules().by_frames else workload.tokens
            found = bench(pair, threads=[THREADS], seconds=workload.seconds, tokens=tokens, rounds=ROUNDS)
    except (ValueError, SelfTestError) as error:
        return {**said, "reason": str(error).replace(str(artifact), "the artifact")}
    speed = found.speeds[-1]
    whole = speed.encoder + speed.first + speed.token * (found.tokens - 1)
    return {**said, "milliseconds": round(whole, 3), "ratio": [round(each, 4) for each in speed.ratio]}


def _ready(engine: str, target: str, place: Path) -> str:
    """A target as its engine runs it: itself, or its export at `place`, which is made where there is none.

    Raises ValueError for one that failed its self-test when an earlier row made it, and as `export` does.
    """
    if engine == "torch":
        return target
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        export(target, to=engine, output=place)
    elif (tested := read_exported(place).tested) is not None and not tested.passed:
        raise ValueError(
            f"the {engine} export of {target} failed its self-test (sottovoce selftest {place} says where)"
        )
    return str(place)
