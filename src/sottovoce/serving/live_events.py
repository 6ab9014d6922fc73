"""The events of a live transcription session: what clients send, checked, and what the server answers.

https://platform.openai.com/docs/api-reference/realtime, of which this is the part that transcription without turn
detection needs. A setting that would have no effect is refused.
"""

import uuid
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sottovoce.serving.asked import Asked, language_asked
from sottovoce.serving.refused import Refused

RATE = 24_000  # OpenAI's


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Format(_Strict):
    type: Literal["audio/pcm"] = "audio/pcm"
    rate: int = Field(default=RATE, ge=8_000, le=48_000)


class _Transcription(_Strict):
    model: str | None = None  # any, as in a request
    language: str | None = None
    prompt: str | None = None


class _Input(_Strict):
    format: _Format = _Format()
    transcription: _Transcription = _Transcription()
    turn_detection: None = None
    noise_reduction: None = None


class _Audio(_Strict):
    input: _Input = _Input()


class _Session(_Strict):
    type: Literal["transcription"] = "transcription"
    audio: _Audio = _Audio()
    input_audio_format: Literal["pcm16"] | None = None  # an older name of the format, at OpenAI's rate
    include: list[Literal[""]] = Field(default=[], max_length=0)


class _Event(_Strict):
    event_id: str | None = None


class Update(_Event):
    """Change the session."""

    type: Literal["session.update"]
    session: _Session


class Append(_Event):
    """Add audio: base64 of 16-bit little-endian samples, mono."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class Commit(_Event):
    """Transcribe what was added."""

    type: Literal["input_audio_buffer.commit"]


class Clear(_Event):
    """Forget what was added."""

    type: Literal["input_audio_buffer.clear"]


ClientEvent = Update | Append | Commit | Clear
_READER: TypeAdapter[ClientEvent] = TypeAdapter(Annotated[ClientEvent, Field(discriminator="type")])


def read_event(text: str) -> ClientEvent:
    """An event of a client. Raises Refused for one that is not known or not possible."""
    try:
        return _READER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"][1:])  # the first is the event's own type
        raise Refused(f"{place or 'the event'}: {first['msg']}", code="invalid_event") from None


@dataclass(frozen=True)
class Settings:
    """Of a session. rate is that of the samples, in Hz."""

    rate: int = RATE
    language: str | None = None
    prompt: str | None = None

    @property
    def asked(self) -> Asked:
        """What is asked of each recording."""
        return Asked(language=self.language, prompt=self.prompt)

    def updated(self, session: _Session) -> "Settings":
        """With what an update names; the rest stays. Raises Refused for a language that is no code."""
        found = self
        sound = session.audio.input
        if session.input_audio_format or "format" in sound.model_fields_set:
            found = replace(found, rate=sound.format.rate)
        if "language" in sound.transcription.model_fields_set:
            found = replace(found, language=language_asked(sound.transcription.language))
        if "prompt" in sound.transcription.model_fields_set:
            found = replace(found, prompt=sound.transcription.prompt)
        return found

    def as_session(self, model: str) -> dict[str, Any]:
        """What the server tells of it."""
        transcription = {"model": model, "language": self.language, "prompt": self.prompt}
        sound = {
            "format": {"type": "audio/pcm", "rate": self.rate},
            "transcription": {name: value for name, value in transcription.items() if value is not None},
            "turn_detection": None,
            "noise_reduction": None,
        }
        return {"type": "transcription", "audio": {"input": sound}}


def server_event(kind: str, **fields: Any) -> dict[str, Any]:
    """An event of the server, with a name of its own."""
    return {"type": kind, "event_id": new_name("event"), **fields}


def new_name(kind: str) -> str:
    """A name that nothing else has."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"
