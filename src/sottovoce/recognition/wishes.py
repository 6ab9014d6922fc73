"""How a recording is transcribed: the options of `transcribe`, of `serve`, and of a recognizer in Python."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Wishes(BaseModel):
    """What is asked of a transcription, beside the model, its language and its task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["chunked", "sequential"] = Field(
        default="chunked",
        description="chunked: pieces of speech, several at once; sequential: window after window, each where the last "
        "time token before it points, as Whisper's paper does (Whisper only)",
    )
    vad: bool = Field(default=True, description="leave out what the voice activity detection takes for no speech")
    words: bool = Field(default=False, description="give each word its times")
    prompt: str | None = Field(
        default=None, description="text that is taken to come before: names, spelling, style (Whisper only)"
    )
    condition: bool = Field(
        default=False, description="sequential: take the text of the window before as what comes before"
    )
    batch: int = Field(default=8, ge=1, description="chunked: pieces of speech transcribed together")
    guards: bool = Field(
        default=True, description="notice loops, made-up text and text on silence, and try again or leave it out"
    )
