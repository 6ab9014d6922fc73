"""whisper.cpp, by pywhispercpp, from a ggml file that the user has: of the same model, in any of its formats."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.speech import audio
from sottovoce.tested import tested
from sottovoce.timing.contenders.base import Made, Peer
from sottovoce.timing.contenders.contender import Job, Times

if TYPE_CHECKING:
    from sottovoce.recognition.target import Target


class WhisperCpp:
    """pywhispercpp.Model; its encoder and decoder are timed by the functions that it wraps."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model: Any

    def load(self) -> None:
        """Greedy, one try, on the CPU."""
        from pywhispercpp.model import Model

        self.model = Model(
            self.job.model,
            context_params={"use_gpu": False},
            n_threads=self.job.threads,
            print_progress=False,
            print_timestamps=False,
            greedy={"best_of": 1},
            temperature_inc=0.0,
        )

    def hear(self, clip: str) -> str:
        """In the prompt's language and task; the language is detected where it says none."""
        import _pywhispercpp as lib

        start, *asked = self.job.prompt
        language = asked[0] if len(asked) > 1 else lib.whisper_token_lang(self.model._ctx, 0)  # English-only: no task
        segments = self.model.transcribe(
            audio.read(clip, lib.WHISPER_SAMPLE_RATE),
            language="auto" if language is None else lib.whisper_lang_str(language - (start or 0) - 1),
            translate=lib.whisper_token_translate(self.model._ctx) in asked,
            no_timestamps=True,
            single_segment=True,
            max_tokens=self.job.most,
        )
        return " ".join(segment.text.strip() for segment in segments)

    def time(self) -> Times:
        """The prompt goes in token by token, as the wrapper's decode takes one; any token takes the same time."""
        import _pywhispercpp as lib

        context, threads = self.model._ctx, self.job.threads
        noise = self.job.noise(lib.WHISPER_SAMPLE_RATE)
        _check(lib.whisper_pcm_to_mel(context, noise, len(noise), threads))
        start = time.perf_counter()
        _check(lib.whisper_encode(context, 0, threads))
        encoded = time.perf_counter()
        for place, token in enumerate(self.job.prompt):
            _check(lib.whisper_decode(context, token or 0, 1, place, threads))
        first = time.perf_counter()
        for place in range(self.job.tokens - 1):
            _check(lib.whisper_decode(context, 0, 1, len(self.job.prompt) + place, threads))
        return Times(encoded - start, first - encoded, time.perf_counter() - first)


def _check(code: int) -> None:
    if code:
        raise RuntimeError(f"whisper.cpp failed with code {code}")


def make(base: "Target", folder: Path, file: Path | None) -> Made:
    """The user's file."""
    assert file is not None, "the table says that it needs one"
    return Made(file, file.stat().st_size)


WHISPER_CPP = Peer(
    "whisper.cpp",
    tested("pywhispercpp"),
    ("whisper",),
    f"{__name__}:{WhisperCpp.__name__}",
    make,
    file="a ggml file of the same model",
)
