"""A job: one recording after the other; what is broken is told and the rest goes on."""

import errno
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sottovoce.speech.decoded import AudioError
from sottovoce.transcribing.follow import Follow
from sottovoce.transcribing.one import Ears, transcribe_one, write_again
from sottovoce.transcribing.plan import Job, Task, plan, task_of
from sottovoce.transcribing.recordings import Recording, find_recordings, named
from sottovoce.transcribing.summary import RecordingSummary, Summary
from sottovoce.transcribing.watching import Arrivals, Named

Report = Callable[[RecordingSummary], None]
Open = Callable[[], Ears]


class StoppedError(OSError):
    """The output cannot be written any more; what is finished is kept, and the message is one sentence."""


def run(job: Job, inputs: Sequence[Path], open_ears: Open, follow: Follow, report: Report) -> Summary:
    """Transcribe all recordings; the model is opened where something is left to transcribe.

    Raises ValueError before anything runs for what cannot work, and StoppedError.
    """
    tasks = plan(job, named(find_recordings(inputs)))
    ears = None if all(task.finished for task in tasks) else open_ears()
    done = [_attempt(job, task, ears, follow, report) for task in tasks]
    return Summary(str(job.output), tuple(done))


def watch(
    job: Job, folders: Sequence[Path], open_ears: Open, follow: Follow, report: Report, arrivals: Arrivals | None = None
) -> Summary:
    """Transcribe what lies in folders and what comes there, until Ctrl-C while nothing is transcribed.

    Raises as `run` does for what is there at the beginning; what is wrong with a later recording is reported.
    """
    plan(job, named(find_recordings(folders, may_be_empty=True)))
    ears = open_ears()
    taken: list[Recording] = []
    done: list[RecordingSummary] = []
    arrivals = arrivals or Arrivals(folders)
    for together in arrivals:
        for entered in _entered(job, together, taken):
            if isinstance(entered, Task):
                found = _attempt(job, entered, ears, follow, report)
            else:
                found = entered
                report(found)
            done = [*(one for one in done if one.recording != found.recording), found]
            if found.error:  # it may have been read while it was still being written
                path = Path(found.recording)
                arrivals.again(path)
                taken[:] = [one for one in taken if one.path != path]
    return Summary(str(job.output), tuple(done))


def _entered(job: Job, together: Sequence[Named], taken: list[Recording]) -> Iterator[Task | RecordingSummary]:
    """The tasks of recordings that came, which are `taken` then; or why one cannot be."""
    try:
        recordings = named(together, taken)
    except ValueError as error:
        if len(together) > 1:
            for one in together:
                yield from _entered(job, [one], taken)
        else:
            yield _failed(*together[0], error)
        return
    taken += recordings
    for recording in recordings:
        try:
            yield task_of(job, recording)
        except ValueError as error:
            yield _failed(recording.path, recording.name, error)


def _failed(path: Path, name: object, error: ValueError) -> RecordingSummary:
    """An AudioError names its file, others may not."""
    told = str(error) if isinstance(error, AudioError) or str(path) in str(error) else f"{path}: {error}"
    return RecordingSummary(str(path), str(name), "failed", error=told)


def _attempt(job: Job, task: Task, ears: Ears | None, follow: Follow, report: Report) -> RecordingSummary:
    """One recording, with one sentence if it fails."""
    path = task.recording.path
    try:
        if task.finished:
            found = write_again(job, task)
        else:
            assert ears is not None
            found = transcribe_one(job, task, ears, follow)
    except ValueError as error:
        found = _failed(path, task.recording.name, error)
    except OSError as error:
        raise StoppedError(_stopped(job, error)) from error
    report(found)
    return found


def _stopped(job: Job, error: OSError) -> str:
    why = "the disk is full" if error.errno == errno.ENOSPC else f"it cannot be written: {error.strerror or error}"
    return f"output {job.output}: {why}; what is finished is kept, and the same command goes on once that is mended"
