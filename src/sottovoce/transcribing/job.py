"""A job: one recording after the other; what is broken is told and the rest goes on."""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

from sottovoce.speech.decoded import AudioError
from sottovoce.transcribing.follow import Follow
from sottovoce.transcribing.one import Ears, transcribe_one, write_again
from sottovoce.transcribing.plan import Job, Task, plan, task_of
from sottovoce.transcribing.recordings import Recording, find_recordings, named
from sottovoce.transcribing.summary import RecordingSummary, Summary
from sottovoce.transcribing.watching import Arrivals

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
    for together in arrivals or Arrivals(folders):
        for each in [together] if not taken else [[one] for one in together]:
            try:
                recordings = named(each, taken)
                tasks = [task_of(job, recording) for recording in recordings]
            except ValueError as error:
                done.append(RecordingSummary(", ".join(str(path) for path, _ in each), "failed", error=str(error)))
                report(done[-1])
                continue
            taken += recordings
            done += [_attempt(job, task, ears, follow, report) for task in tasks]
    return Summary(str(job.output), tuple(done))


def _attempt(job: Job, task: Task, ears: Ears | None, follow: Follow, report: Report) -> RecordingSummary:
    """One recording, with one sentence if it fails."""
    path = task.recording.path
    try:
        if task.finished:
            found = write_again(job, task)
        else:
            assert ears is not None
            found = transcribe_one(job, task, ears, follow)
    except ValueError as error:  # an AudioError names its file, others may not
        told = str(error) if isinstance(error, AudioError) or str(path) in str(error) else f"{path}: {error}"
        found = RecordingSummary(str(path), "failed", error=told)
    except OSError as error:
        raise StoppedError(_stopped(job, error)) from error
    report(found)
    return found


def _stopped(job: Job, error: OSError) -> str:
    why = "the disk is full" if error.errno == errno.ENOSPC else f"it cannot be written: {error.strerror or error}"
    return f"output {job.output}: {why}; what is finished is kept, and the same command goes on once that is mended"
