"""What all requests of a server share: its model, its worker, its limits, its counters, and a folder for recordings."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sottovoce.serving.answers import Writer
from sottovoce.serving.asked import Asked
from sottovoce.serving.limits import Limits
from sottovoce.serving.metrics import Metrics
from sottovoce.serving.model import Served
from sottovoce.serving.refused import Refused
from sottovoce.serving.worker import Job, Transcribing, Worker


@dataclass(frozen=True)
class Service:
    """folder is the server's own, readable by nobody else; subtitles has a writer each for srt and vtt."""

    model: Served
    limits: Limits
    subtitles: Mapping[str, Writer]
    folder: Path
    worker: Worker
    metrics: Metrics = field(default_factory=Metrics)

    @contextmanager
    def recording(self) -> Iterator[Path]:
        """A new empty file for a recording; deleted afterwards, however that ends."""
        descriptor, name = tempfile.mkstemp(dir=self.folder)
        path = Path(name)
        try:
            with open(descriptor, "wb"):
                pass
            yield path
        finally:
            path.unlink(missing_ok=True)

    def transcriber(self, asked: Asked) -> Transcribing:
        """For one request. Raises Refused for what the model cannot do."""
        try:
            return self.model.transcriber(asked)
        except ValueError as error:
            raise Refused(str(error), code="unsupported") from None

    def job(self, transcriber: Transcribing, path: Path) -> Job:
        """A recording that the worker can take."""
        return Job(transcriber, path, self.model.sampling_rate, self.model.blocks, self.limits.most_seconds)


@contextmanager
def serving(model: Served, limits: Limits, subtitles: Mapping[str, Writer]) -> Iterator[Service]:
    """A service with its worker at work, until the block ends; the folder goes with it."""
    metrics = Metrics()
    with tempfile.TemporaryDirectory(prefix="sottovoce-serve-") as folder:
        worker = Worker(limits.queue, metrics)
        worker.start()
        try:
            yield Service(model, limits, subtitles, Path(folder), worker, metrics)
        finally:
            worker.close()
