"""What `/metrics` tells, in the text format of Prometheus: counts, seconds, bytes, and nothing of what was said.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import os
import threading
from collections import Counter
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters since the start; the worker and the event loop both write them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: Counter[int] = Counter()
        self._jobs = 0
        self._audio = self._work = 0.0

    def answered(self, status: int) -> None:
        """A request was answered with this status."""
        with self._lock:
            self._statuses[status] += 1

    def worked(self, audio: float, work: float) -> None:
        """A job has ended, finished or not: seconds of audio that were decoded, and seconds that it took."""
        with self._lock:
            self._jobs += 1
            self._audio += audio
            self._work += work

    @property
    def seconds_a_job(self) -> float:
        """What a job took on average; 0 before the first."""
        with self._lock:
            return self._work / self._jobs if self._jobs else 0.0

    def text(self, waiting: int) -> str:
        """All of it, with the jobs that wait now."""
        with self._lock:
            statuses, audio, work = dict(self._statuses), self._audio, self._work
        lines = _metric("sottovoce_requests_total", "counter", "Requests by HTTP status; 499: the client left.")
        lines += [f'sottovoce_requests_total{{status="{status}"}} {n}' for status, n in sorted(statuses.items())]
        lines += _metric("sottovoce_audio_seconds_total", "counter", "Seconds of audio that were decoded.", audio)
        lines += _metric("sottovoce_work_seconds_total", "counter", "Seconds that the worker was busy.", work)
        lines += _metric("sottovoce_queue_length", "gauge", "Recordings that wait for the worker.", waiting)
        if (memory := resident_bytes()) is not None:
            lines += _metric("process_resident_memory_bytes", "gauge", "Resident memory in bytes.", memory)
        return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, told: str, value: float | None = None) -> list[str]:
    value_line = [] if value is None else [f"{name} {value:.15g}"]
    return [f"# HELP {name} {told}", f"# TYPE {name} {kind}", *value_line]


def resident_bytes() -> int | None:
    """The memory of this process that is in RAM; None where the system does not tell, which is all but Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
