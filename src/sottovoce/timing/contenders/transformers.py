"""transformers: the model's own generate, in float32."""

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


class Transformers:
    """One call of generate, with a look at the clock whenever the encoder or the head is done."""

    def __init__(self, job: Job) -> None:
        import torch

        torch.set_num_threads(job.threads)
        self.job = job
        self.model: Any
        self._seen: list[float] = []

    def load(self) -> None:
        """With the imports of transformers."""
        from sottovoce.recognition.target import find_target

        self.model, _ = find_target(self.job.model).open()
        module = self.model.module
        for part in (module.get_encoder(), module.get_output_embeddings()):
            part.register_forward_hook(lambda *_: self._seen.append(time.perf_counter()))

    def hear(self, clip: str) -> str:
        """By the checkpoint's generation_config."""
        features = self.model.features(audio.read(clip, self.model.sampling_rate))
        return str(self.model.text(self._written(features)))

    def time(self) -> Times:
        """The language is given, so that none is detected."""
        noise, options = self._noise, self._options
        self._seen.clear()
        start = time.perf_counter()
        self._written(noise, **options)
        whole = time.perf_counter() - start
        encoded, first, *rest = self._seen
        if 1 + len(rest) != self.job.tokens:
            raise RuntimeError(f"generate wrote {1 + len(rest)} tokens where {self.job.tokens} were asked for")
        return Times(encoded - start, first - encoded, whole - (first - start))

    def _written(self, features: Any, **options: Any) -> list[int]:
        import torch

        with torch.inference_mode():
            return list(self.model.module.generate(features, do_sample=False, num_beams=1, **options)[0].tolist())

    @cached_property
    def _noise(self) -> Any:
        return self.model.features(self.job.noise(self.model.sampling_rate))

    @cached_property
    def _options(self) -> dict[str, Any]:
        known = self.model.frontend.generation.get("lang_to_id", {})
        language = {"language": next(iter(known))} if None in self.job.prompt else {}
        return {"min_new_tokens": self.job.tokens, "max_new_tokens": self.job.tokens, **language}


def make(base: "Target", folder: Path, file: Path | None) -> Made:
    """The checkpoint as it is."""
    return Made(base.checkpoint.folder, base.bytes)


TRANSFORMERS = Peer(
    "transformers", tested("transformers"), ("whisper", "moonshine"), f"{__name__}:{Transformers.__name__}", make
)
