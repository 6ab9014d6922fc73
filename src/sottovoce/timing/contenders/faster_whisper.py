"""faster-whisper: CTranslate2 with int8 weights, as it comes and in its best case.

Its best case on x86: kernels for AVX512, which CTranslate2 keeps to Intel unless it is told, and huge pages, since its
encoder allocates the scores of each attention anew.
"""

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.speech import audio
from sottovoce.tested import tested
from sottovoce.timing.contenders.base import Made, Peer
from sottovoce.timing.contenders.contender import Job, Times

if TYPE_CHECKING:
    from sottovoce.recognition.target import Target

WEIGHTS = "model.bin"


class FasterWhisper:
    """faster_whisper.WhisperModel, whose own encoder and generate are timed, with the prompt that all have."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model: Any

    def load(self) -> None:
        """One worker with the job's threads."""
        from faster_whisper import WhisperModel

        self.model = WhisperModel(
            self.job.model, device="cpu", compute_type="int8", cpu_threads=self.job.threads, local_files_only=True
        )

    def hear(self, clip: str) -> str:
        """One window, greedy, with the tokens suppressed that the checkpoint suppresses."""
        encoded = self.model.encode(self._features(audio.read(clip, self._rate)))
        prompt = list(self.job.prompt)
        if None in prompt:
            [(language, _), *_] = self.model.model.detect_language(encoded)[0]
            prompt[prompt.index(None)] = self.model.hf_tokenizer.token_to_id(language)
        [heard] = self.model.model.generate(
            encoded, [prompt], beam_size=1, max_length=_longest(self.job.most, len(prompt))
        )
        return str(self.model.hf_tokenizer.decode(heard.sequences_ids[0], skip_special_tokens=True)).strip()

    def time(self) -> Times:
        """All tokens are written by one call; the first is what a call for one takes after it."""
        start = time.perf_counter()
        encoded = self.model.encode(self._noise)
        heard = time.perf_counter()
        self._write(encoded, self.job.tokens)
        whole = time.perf_counter()
        self._write(encoded, 1)
        first = time.perf_counter() - whole
        return Times(heard - start, first, whole - heard - first)

    def _write(self, encoded: Any, tokens: int) -> None:
        prompt = [token or 0 for token in self.job.prompt]
        [made] = self.model.model.generate(
            encoded,
            [prompt],
            beam_size=1,
            max_length=_longest(tokens, len(prompt)),
            suppress_blank=False,
            suppress_tokens=list(self.job.end),
        )
        written = len(made.sequences_ids[0])
        if written != tokens:
            raise RuntimeError(f"faster-whisper wrote {written} tokens where {tokens} were asked for")

    @property
    def _rate(self) -> int:
        return int(self.model.feature_extractor.sampling_rate)

    @cached_property
    def _noise(self) -> Any:
        return self._features(self.job.noise(self._rate))

    def _features(self, samples: Any) -> Any:
        from faster_whisper.audio import pad_or_trim

        extractor = self.model.feature_extractor
        return pad_or_trim(extractor(samples), extractor.nb_max_frames)


def _longest(tokens: int, prompt: int) -> int:
    """The max_length of CTranslate2 for that many: half of it, and what the prompt without its last token leaves."""
    return max(2 * tokens, tokens + prompt - 1)


def make(base: "Target", folder: Path, file: Path | None) -> Made:
    """The checkpoint in CTranslate2's format with int8 weights, written once."""
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoProcessor
    from transformers.utils import logging

    into = folder / "ctranslate2"
    if not into.exists():
        logging.disable_progress_bar()
        source = str(base.checkpoint.folder)
        TransformersConverter(source).convert(str(into), quantization="int8")
        processor = AutoProcessor.from_pretrained(source, local_files_only=True)
        processor.feature_extractor.save_pretrained(into)
        processor.tokenizer.backend_tokenizer.save(str(into / "tokenizer.json"))
    return Made(into, (into / WEIGHTS).stat().st_size)


_PACKAGES = tested("faster-whisper", "ctranslate2")
_RUNS = f"{__name__}:{FasterWhisper.__name__}"
FASTER_WHISPER = Peer("faster-whisper", _PACKAGES, ("whisper",), _RUNS, make)
FASTER_WHISPER_BEST = Peer(
    "faster-whisper",
    _PACKAGES,
    ("whisper",),
    _RUNS,
    make,
    environment={"CT2_FORCE_CPU_ISA": "AVX512", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
)
