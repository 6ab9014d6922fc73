"""The verb `transcribe`: files and folders of recordings to transcripts, with a model that runs here."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.files.atomic import alone_in
from sottovoce.files.writable import check_folder
from sottovoce.recognition.wishes import Wishes
from sottovoce.transcribing.follow import Follow, silent
from sottovoce.transcribing.formats import checked_formats
from sottovoce.transcribing.job import Report, run, watch
from sottovoce.transcribing.one import Ears
from sottovoce.transcribing.plan import Job
from sottovoce.transcribing.recordings import checked_choice, checked_inputs
from sottovoce.transcribing.summary import Summary

if TYPE_CHECKING:
    from sottovoce.recognition.recognizer import Recognizer

CHANNELS = ("mix", "split")
_WITHOUT_EFFECT = {"batch"}  # on the text: a job may go on with another


def transcribe(
    target: str | Path,
    recordings: str | Path | Sequence[str | Path],
    *,
    output: str | Path,
    formats: Sequence[str] = ("txt",),
    language: str | None = None,
    task: str | None = None,
    wishes: Wishes | None = None,
    beam: int = 1,
    device: str = "cpu",
    draft: str | Path | None = None,
    channels: str = "mix",
    overwrite: bool = False,
    watching: bool = False,
    follow: Follow = silent,
    report: Report = lambda done: None,
) -> Summary:
    """Transcribe recordings of any length and write their transcripts below `output`.

    target      an artifact, an export, a checkpoint's folder or a hub id
    recordings  files, and folders, which are walked; outputs keep the folders' structure
    formats     names in FORMATS: txt, srt, vtt, json, tsv
    language    "auto" is detected, stretch by stretch; left out, the checkpoint's own setting holds
    task        "transcribe" or "translate", for a multilingual Whisper
    draft       a smaller model of the same family and vocabulary that proposes tokens; it changes no text
    channels    "mix" for their mean; "split" where each is a speaker, who is transcribed alone
    overwrite   replace outputs that are not this job's, and begin anew what was begun with other options
    watching    go on with what comes into the folders, until Ctrl-C
    follow      is told how far each recording is; report, what became of it

    What is finished is kept in `output`/.sottovoce, and the same call goes on from there. A recording that cannot be
    transcribed is in the summary with its reason, and the rest goes on. Raises ValueError, before anything runs, for
    what cannot work or would be overwritten; StoppedError, an OSError, when the output can no longer be written.
    """
    from sottovoce.recognition.target import find_target

    chosen = checked_formats([formats] if isinstance(formats, str) else formats)
    checked_choice("value of channels", channels, CHANNELS)
    inputs = checked_inputs([recordings] if isinstance(recordings, (str, Path)) else recordings, only_folders=watching)
    output, asked, found = Path(output), wishes or Wishes(), find_target(target)
    check_folder(output)
    found.check_search(None if language == "auto" else language, task, beam)
    options = {"language": language, "task": task, "beam": beam, "channels": channels}
    options |= asked.model_dump(exclude=_WITHOUT_EFFECT)
    job = Job(output, chosen, found.name, found.digest, options, channels == "split", overwrite)

    def opened() -> Ears:
        recognizer = found.recognizer(language, task, device, beam)
        return _ears(recognizer, asked, None if draft is None else recognizer.drafting(draft))

    with alone_in(output):
        return (watch if watching else run)(job, inputs, opened, follow, report)


def _ears(recognizer: "Recognizer", wishes: Wishes, draft: "Recognizer | None") -> Ears:
    from sottovoce.recognition.transcriber import Transcriber
    from sottovoce.speech.stream import blocks, channels

    transcriber = Transcriber.of(recognizer, wishes, draft)
    return Ears(transcriber.stretches, recognizer.frontend.sampling_rate, blocks, channels)
