"""Fine-tuning a built-in model against a plain transformers Trainer: the same clips, batch, precision and optimizer."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sottovoce.models import open_model
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.speech import audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.attention import training_attention
from sottovoce.training.latent import PartsLatent
from sottovoce.training.losses import Losses, Objective
from sottovoce.training.settings import Training
from sottovoce.training.student import ModelStudent
from sottovoce.training.trainer import train
from sottovoce.training.utterances import UtteranceBatches, transcript_tokens

BATCH, STEPS, TIMES = 16, 12, 3


def training(family: str) -> dict[str, object]:
    """Steps a second of both, in turn, and the ratio of our time to theirs."""
    pairs = [(ours(family), theirs(family)) for _ in range(TIMES)]
    ratios = sorted(a / b for a, b in pairs)
    return {
        "seconds": statistics.median(a for a, _ in pairs),
        "steps/s": round(STEPS / statistics.median(a for a, _ in pairs), 2),
        "trainer_steps/s": round(STEPS / statistics.median(b for _, b in pairs), 2),
        "ratio": round(statistics.median(ratios), 3),
        "spread": f"{ratios[0]:.2f}-{ratios[-1]:.2f}",
    }


def ours(family: str) -> float:
    """Seconds of STEPS steps of our loop, audio read and featurised on the way, from the second step on."""
    model = open_model(f"builtin:{family}")
    layers = model.layers()
    recognizer = Recognizer.of(model)
    corpus = read_corpus("builtin:train").select(BATCH * (STEPS + 1), 0)
    settings = Training(held_out=0.0, batch=BATCH)
    batches = UtteranceBatches(model, recognizer, corpus, transcript_tokens(recognizer, corpus), settings, False)
    student = ModelStudent(model, layers, {name: PartsLatent(layer) for name, layer in layers.items()})
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, training_attention(model.module):
        train(student, batches, Objective(model, None, Losses(labels=1.0)), settings, Path(folder), clock.track)
    return clock.seconds


class Clock:
    """The time from the end of the first step to the end of the last, as both loops tell it."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def track(self, items: Any, total: int, what: Any) -> Any:
        """As a Track that looks at the time after each item."""
        for item in items:
            yield item
            self.marks.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Between the two marks."""
        return self.marks[STEPS] - self.marks[0]


def theirs(family: str) -> float:
    """Seconds of the same steps of Seq2SeqTrainer."""
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    model = open_model(f"builtin:{family}")
    corpus = read_corpus("builtin:train").select(BATCH * (STEPS + 1), 0)
    clock = Clock()

    class Told(TrainerCallback):
        def on_step_end(self, *args: Any, **keywords: Any) -> None:
            clock.marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            use_cpu=True,
            bf16=True,
            per_device_train_batch_size=BATCH,
            max_steps=STEPS + 1,
            learning_rate=1e-4,
            warmup_steps=1,
            lr_scheduler_type="cosine",
            optim="adamw_torch_fused",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            disable_tqdm=True,
        )
        data = Utterances(model, corpus)
        Seq2SeqTrainer(
            model=model.module, args=arguments, train_dataset=data, data_collator=data.together, callbacks=[Told()]
        ).train()
    return clock.seconds


class Utterances(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """What the Trainer reads: audio and tokens of one utterance, made when asked for."""

    def __init__(self, model: Any, corpus: Any) -> None:
        self.model, self.corpus = model, corpus
        self.rules = model.rules()

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, list[int]]:
        utterance = self.corpus.utterances[place]
        tokens = [*self.model.frontend.text_tokens(utterance.text), self.rules.end[0]]
        return self.model.features(audio.read(utterance.audio))[0], [*self.rules.prompt[1:], *tokens]

    def together(self, items: list[tuple[torch.Tensor, list[int]]]) -> dict[str, torch.Tensor]:
        """A padded batch, as the Trainer's collators make them."""
        labels = torch.full((len(items), max(len(tokens) for _, tokens in items)), -100)
        for row, (_, tokens) in zip(labels, items, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        features = [clip for clip, _ in items]
        if features[0].ndim == 2:
            return {"input_features": torch.stack(features), "labels": labels}
        values = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(clip)) for clip in features], batch_first=True)
        return {"input_values": values, "attention_mask": mask.long(), "labels": labels}
