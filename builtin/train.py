"""Train a built-in model from nothing: `python -m builtin.train whisper OUT CORPUS... --steps 4500`.

What a synthesizer knows helps twice, and leaves no trace in the model: the phone of each frame teaches
the encoder, the place of each word teaches the decoder where to look.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from builtin.architectures import FAMILIES, WINDOW_SECONDS
from builtin.batches import LabelledBatch, Spoken, SyntheticBatches
from sottovoce.cli.console import say, track
from sottovoce.training.batch import IGNORED
from sottovoce.training.settings import Training
from sottovoce.training.trainer import train

GUIDED_HEADS = 3
PHONES, PLACES, SMOOTHING = 0.3, 0.1, 0.1  # weights beside the text's 1.0, and label smoothing
TRIMMED = 0.85  # the share of steps in which Whisper hears no more than its clips
FRAMES_A_SECOND = {"whisper": 50.0, "moonshine": 16_000 / 384}
FIRST_FRAME = {"whisper": 0, "moonshine": 447}  # the sample at the middle of frame 0


@dataclass
class Pupil:
    """The model and a head for phones that is thrown away; its own weights are what the optimizer moves."""

    model: Any
    phones: nn.Linear

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that learns."""
        named = {f"model.{name}": p for name, p in self.model.named_parameters() if p.requires_grad}
        return named | {f"phones.{name}": p for name, p in self.phones.named_parameters()}

    def write(self) -> None:
        """Nothing: the parameters are the weights."""

    def pull(self) -> None:
        """Nothing: the weights' gradients are the parameters'."""

    def train(self, mode: bool) -> None:
        """Switch the model."""
        self.model.train(mode)


class Lesson:
    """The losses of one batch: text, phones, places."""

    def __init__(self, pupil: Pupil) -> None:
        self.pupil, self.kind = pupil, pupil.model.config.model_type
        self.looking = pupil.model.model.decoder.layers[-1].encoder_attn

    def __call__(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """The mean losses; on held-out batches the text's alone is "loss"."""
        model = self.pupil.model
        memory = self._encode(torch.cat(batch.features))
        with self._seen() as seen:
            decoded = model.model.decoder(input_ids=batch.inputs, encoder_hidden_states=memory, use_cache=False)
        logits = model.proj_out(decoded.last_hidden_state).float()
        labels = batch.labels.flatten()
        text = cross_entropy(logits.flatten(0, 1), labels, ignore_index=IGNORED, label_smoothing=SMOOTHING)
        phones = self._phones(memory, batch.phones)
        places = self._places(seen["q"], seen["k"], batch.words)
        loss = text if not model.training else text + PHONES * phones + PLACES * places
        return {"loss": loss, "text": text, "phones": phones, "places": places}

    def _encode(self, features: Tensor) -> Tensor:
        """The encoder's output; Whisper's own forward insists on its whole window, which most steps do without."""
        encoder = self.pupil.model.model.encoder
        if self.kind == "moonshine":
            states: Tensor = encoder(features).last_hidden_state
            return states
        hidden = gelu(encoder.conv2(gelu(encoder.conv1(features)))).permute(0, 2, 1)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
        left: Tensor = encoder.layer_norm(hidden)
        return left

    def _phones(self, memory: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the phone at each frame of the encoder."""
        frames = torch.arange(memory.shape[1])
        samples = frames * 16_000 / FRAMES_A_SECOND[self.kind] + FIRST_FRAME[self.kind]
        wanted = labels[:, (samples / 320).long().clamp(max=labels.shape[1] - 1)]
        said = self.pupil.phones(memory).float()
        weight = torch.ones(said.shape[-1])
        weight[0] = 0.3
        return cross_entropy(said.flatten(0, 1), wanted.flatten(), weight=weight)

    @contextmanager
    def _seen(self) -> Iterator[dict[str, Tensor]]:
        """Queries and keys of the last decoder block as it looks at the encoder."""
        seen: dict[str, Tensor] = {}
        hooks = [
            self.looking.q_proj.register_forward_hook(lambda m, x, y: seen.__setitem__("q", y)),
            self.looking.k_proj.register_forward_hook(lambda m, x, y: seen.__setitem__("k", y)),
        ]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def _places(self, queries: Tensor, keys: Tensor, words: Tensor) -> Tensor:
        """-log of the share of attention that some heads give to the frames of the word they write."""
        n, tokens, width = queries.shape
        size = width // self.looking.config.num_attention_heads
        q = queries.view(n, tokens, -1, size)[:, :, :GUIDED_HEADS].transpose(1, 2)
        k = keys.view(n, keys.shape[1], -1, size)[:, :, :GUIDED_HEADS].transpose(1, 2)
        logs = (q @ k.transpose(2, 3)).float().mul(size**-0.5).log_softmax(-1)
        time = torch.arange(keys.shape[1]) / FRAMES_A_SECOND[self.kind] + FIRST_FRAME[self.kind] / 16_000
        known = words[..., 1] > 0
        inside = (time >= words[..., :1] - 0.06) & (time <= words[..., 1:] + 0.06)
        share = logs.masked_fill(~inside[:, None], -30.0).logsumexp(-1)
        return -share.transpose(1, 2)[known].mean()


def main() -> None:
    """Parse, build, train, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("output", type=Path)
    parser.add_argument("corpora", type=Path, nargs="+", help="folders that builtin.speak corpus wrote")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=1.2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    corpus = Spoken(chosen.corpora)
    model, processor = FAMILIES[chosen.family]()
    model.set_attn_implementation("eager")  # five times as fast as torch's fused one in bfloat16 at these lengths
    saved = model.generation_config
    prompt = [saved.decoder_start_token_id]
    if chosen.family == "whisper":
        prompt += [saved.lang_to_id["<|en|>"], saved.task_to_id["transcribe"], saved.no_timestamps_token_id]
    window = WINDOW_SECONDS * 16_000 if chosen.family == "whisper" else None
    batches = SyntheticBatches(corpus, processor, prompt, saved.eos_token_id, chosen.batch, window)
    batches.seed, batches.trimmed = chosen.seed, int(TRIMMED * chosen.steps)
    pupil = Pupil(model, nn.Linear(model.config.hidden_size, len(corpus.phone_set)))
    weights = sum(p.numel() for p in model.parameters())
    say(f"{chosen.family}: {weights:,} weights, {len(corpus.clips):,} clips, {batches.steps_per_epoch} steps an epoch")
    settings = Training(
        epochs=chosen.steps / batches.steps_per_epoch,
        learning_rate=chosen.learning_rate,
        warmup=min(0.05, 300 / chosen.steps),
        batch=chosen.batch,
        weight_decay=0.02,
        checks=max(1, round(batches.steps_per_epoch / 250)),
        patience=1_000_000,
        seed=chosen.seed,
    )
    train(pupil, batches, Lesson(pupil), settings, chosen.output.with_name(f"{chosen.output.name}.training"), track)
    model.half().save_pretrained(chosen.output)
    processor.save_pretrained(chosen.output)
    processor.feature_extractor.save_pretrained(chosen.output)


if __name__ == "__main__":
    main()
