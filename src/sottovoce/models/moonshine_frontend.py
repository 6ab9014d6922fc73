"""Moonshine's speech and text: samples as they are, of any length; one language, one task."""

import numpy as np
import numpy.typing as npt

from sottovoce.models.decoding import DecodingRules
from sottovoce.models.frontend import Audio, Frontend
from sottovoce.models.samples import normed


class MoonshineFrontend(Frontend):
    """What its stem needs is one frame, and it takes no language."""

    usual_end = 2

    @property
    def most_seconds(self) -> float | None:
        """Any length."""
        return None

    @property
    def least_samples(self) -> int:
        """What the three convolutions need for one frame."""
        return 895

    def features(self, audio: Audio) -> npt.NDArray[np.float32]:
        """(samples,) -> the same samples (1, samples), of mean 0 and variance 1 if the feature extractor says so."""
        return normed(audio, self.extractor.get("do_normalize", True))

    @property
    def frame_seconds(self) -> float:
        """Of three convolutions with strides 64, 3 and 2."""
        return 64 * 3 * 2 / self.sampling_rate

    @property
    def vocabulary(self) -> int:
        """The tokens that the head scores."""
        return int(self.config.get("vocab_size", 32_768))

    def rules(self, language: str | None = None, task: str | None = None) -> DecodingRules:
        """[start]; a Moonshine model knows one language and transcription only."""
        if task not in (None, "transcribe"):
            raise ValueError(f"{self.checkpoint.name} can only transcribe, found task={task}")
        if language is not None:
            raise ValueError(f"{self.checkpoint.name} takes no language: each Moonshine model knows one; leave it out")
        saved, config = self.generation, self.config
        start = saved.get("decoder_start_token_id", config.get("decoder_start_token_id", 1))
        room = config.get("max_position_embeddings", 512) - 1
        most = saved.get("max_new_tokens") or (saved.get("max_length") or room + 1) - 1  # max_length counts the start
        return DecodingRules((start,), self.end_tokens(), min(most, room))
