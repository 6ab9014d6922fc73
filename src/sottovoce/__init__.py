"""sottovoce: make speech recognition small enough to run where the speech is.

The verbs below are what the command line calls; each is documented at its definition. They are
imported when first used, so that `import sottovoce` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sottovoce.analysis.layers import analyze_layers
    from sottovoce.artifact.folder import read_artifact
    from sottovoce.compressing.compress import compress
    from sottovoce.exporting.verb import export
    from sottovoce.measure.compare import compare
    from sottovoce.measure.evaluate import evaluate, rescore
    from sottovoce.measure.inspect import inspect
    from sottovoce.models import open_model
    from sottovoce.recognition.target import load
    from sottovoce.reporting.report import report
    from sottovoce.sweeping.sweep import sweep
    from sottovoce.timing.bench import bench
    from sottovoce.transcribing.verb import transcribe

__version__ = "0.1.0"

_HOMES = {
    "analyze_layers": "sottovoce.analysis.layers",
    "bench": "sottovoce.timing.bench",
    "compare": "sottovoce.measure.compare",
    "compress": "sottovoce.compressing.compress",
    "evaluate": "sottovoce.measure.evaluate",
    "export": "sottovoce.exporting.verb",
    "inspect": "sottovoce.measure.inspect",
    "load": "sottovoce.recognition.target",
    "open_model": "sottovoce.models",
    "read_artifact": "sottovoce.artifact.folder",
    "report": "sottovoce.reporting.report",
    "rescore": "sottovoce.measure.evaluate",
    "sweep": "sottovoce.sweeping.sweep",
    "transcribe": "sottovoce.transcribing.verb",
}
__all__ = [
    "__version__",
    "analyze_layers",
    "bench",
    "compare",
    "compress",
    "evaluate",
    "export",
    "inspect",
    "load",
    "open_model",
    "read_artifact",
    "report",
    "rescore",
    "sweep",
    "transcribe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
