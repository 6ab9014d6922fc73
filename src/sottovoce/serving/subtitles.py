"""The writers of srt and vtt, which are those of `transcribe`."""

from collections.abc import Mapping
from functools import partial

from sottovoce.serving.answers import Writer
from sottovoce.transcribing.formats import Metadata, srt, vtt


def subtitles() -> Mapping[str, Writer]:
    """By response_format."""
    nothing = Metadata(recording="", seconds=0.0)  # neither format shows any of it
    return {"srt": partial(srt, metadata=nothing), "vtt": partial(vtt, metadata=nothing)}
