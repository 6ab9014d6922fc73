"""What a job has to do for each recording, found out before anything runs: where it goes on, what is in the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.files.atomic import sha256
from sottovoce.speech.decoded import AudioError
from sottovoce.speech.problems import listed
from sottovoce.transcribing.journal import FOLDER, Journal, begin, read_journal
from sottovoce.transcribing.recordings import Recording

ANEW = "--overwrite begins it anew"


@dataclass(frozen=True)
class Job:
    """What is asked of all recordings.

    output     the folder
    formats    names in FORMATS
    model      its name, and digest, its content
    options    what else decides what is written
    split      whether each channel is a speaker
    overwrite  whether what is in the way is replaced: outputs that the job did not write, journals of other options
    """

    output: Path
    formats: tuple[str, ...]
    model: str
    digest: str
    options: Mapping[str, Any]
    split: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Task:
    """What is to be done for one recording.

    journal  where it goes on; None to begin it
    outputs  the files to write, by format
    known    outputs of before, that lie there as they were written, with their hashes
    """

    recording: Recording
    journal: Journal | None
    outputs: Mapping[str, Path]
    known: Mapping[str, str]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to transcribe; an output may be missing."""
        return self.journal is not None and self.journal.finished


def plan(job: Job, recordings: Sequence[Recording]) -> list[Task]:
    """A task for each recording. Raises ValueError that names all that is in the way."""
    tasks, problems = [], []
    for recording in recordings:
        try:
            tasks.append(task_of(job, recording))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError(listed(problems))
    return tasks


def task_of(job: Job, recording: Recording) -> Task:
    """The task of one recording. Raises ValueError, without --overwrite, for what is in the way."""
    path = journal_path(job, recording)
    try:
        journal = read_journal(path)
    except ValueError:
        if not job.overwrite:
            raise
        journal = None
    known = dict(journal.writes) if journal else {}
    if journal and (other := _differences(job, recording, journal)):
        replaced = other == [_CHANGED] and (journal.fault or not journal.made)  # what broke it may be mended now
        if not (job.overwrite or replaced):
            raise ValueError(f"{path} was begun with {', '.join(other)}; take the same, name another output, or {ANEW}")
        journal = None
    outputs = {name: job.output / f"{recording.stem}.{name}" for name in job.formats}
    for output in outputs.values():
        _check_own(job, output, known)
    return Task(recording, journal, outputs, known)


def begun(job: Job, task: Task, channels: Sequence[int | None]) -> Journal:
    """The task's journal, which is begun where there is none. Raises AudioError for a file that cannot be read."""
    if task.journal:
        return task.journal
    header = {
        "model": {"name": job.model, "digest": job.digest},
        "options": dict(job.options),
        "channels": list(channels),
        "audio": _audio(task.recording.path),
    }
    journal = begin(journal_path(job, task.recording), header)
    if task.known:
        journal.announce(task.known)
    return journal


def journal_path(job: Job, recording: Recording) -> Path:
    """Where the journal of a recording lies."""
    return job.output / FOLDER / f"{recording.name}.jsonl"


def below(job: Job, output: Path) -> str:
    """The name of an output in journals."""
    return output.relative_to(job.output).as_posix()


def unchanged(recording: Recording, journal: Journal) -> bool:
    """Whether a recording is what its journal was begun with; by size and time, else by content."""
    audio = journal.header["audio"]
    try:
        found = recording.path.stat()
        if (found.st_size, found.st_mtime_ns) == (audio["size"], audio["mtime"]):
            return True
        return found.st_size == audio["size"] and sha256(recording.path) == audio["sha256"]
    except OSError:
        return False


_CHANGED = "other content of the recording"


def _differences(job: Job, recording: Recording, journal: Journal) -> list[str]:
    """What a journal was begun with that is not so now, in words."""
    model, options = journal.header["model"], journal.header["options"]
    found = []
    if model["digest"] != job.digest:
        found.append(f"the model {model['name']} ({model['digest'][:8]}, now {job.model}, {job.digest[:8]})")
    for name in sorted({*options, *job.options}):
        before, now = options.get(name), job.options.get(name)
        if before != now:
            found.append(f"{name} {_told(before)} (now {_told(now)})")
    if not unchanged(recording, journal):
        found.append(_CHANGED)
    return found


def _told(value: Any) -> str:
    words = {None: "left out", True: "on", False: "off"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)


def _check_own(job: Job, output: Path, known: Mapping[str, str]) -> None:
    """Raise ValueError if a file is there that is not as a job wrote it."""
    if output.is_dir():
        raise ValueError(f"output {output} is a folder; move it, or name another output")
    if not output.exists() or job.overwrite or known.get(below(job, output)) == sha256(output):
        return
    raise ValueError(f"{output} is not what this job wrote; move it, name another output, or replace it by --overwrite")


def _audio(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
        return {"size": found.st_size, "mtime": found.st_mtime_ns, "sha256": sha256(path)}
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}") from error
