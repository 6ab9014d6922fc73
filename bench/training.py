"""Training against a plain transformers Trainer: the same clips, batch, precision and optimizer.

    python -m bench.training MODEL MANIFEST [--device cuda]

tells tokens a second of fine-tuning and of label-free distillation (the uncompressed model runs beside) on any
checkpoint, and the Trainer's; `make bench` times the built-in models.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sottovoce.models import open_model
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.speech import audio
from sottovoce.speech.datasets import Corpus, read_corpus
from sottovoce.training.attention import training_attention
from sottovoce.training.augment import Augmentation
from sottovoce.training.batch import IGNORED
from sottovoce.training.latent import PartsLatent
from sottovoce.training.losses import Losses, Objective
from sottovoce.training.settings import Training
from sottovoce.training.student import ModelStudent
from sottovoce.training.trainer import train
from sottovoce.training.utterances import UtteranceBatches, transcript_tokens

BATCH, STEPS, TIMES = 16, 12, 3


def training(family: str) -> dict[str, object]:
    """Steps a second of both on a built-in model, in turn, and the ratio of our time to theirs."""
    task = Task(f"builtin:{family}", "builtin:train")
    pairs = [(ours(task), theirs(task)) for _ in range(TIMES)]
    ratios = sorted(a.seconds / b.seconds for a, b in pairs)
    return {
        "seconds": statistics.median(a.seconds for a, _ in pairs),
        "steps/s": round(STEPS / statistics.median(a.seconds for a, _ in pairs), 2),
        "trainer_steps/s": round(STEPS / statistics.median(b.seconds for _, b in pairs), 2),
        "ratio": round(statistics.median(ratios), 3),
        "spread": f"{ratios[0]:.2f}-{ratios[-1]:.2f}",
    }


@dataclass(frozen=True)
class Task:
    """What is trained, on what, where."""

    model: str
    data: str
    device: str = "cpu"

    def corpus(self) -> Corpus:
        """As many utterances as the steps take, drawn by a seed."""
        return read_corpus(self.data).select(BATCH * (STEPS + 1), 0)


@dataclass
class Clock:
    """When each step ended, and how many tokens it learned, as both loops tell it; the first step is not counted."""

    marks: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def track(self, items: Any, total: int, what: Any) -> Any:
        """As a Track that looks at the time after each item."""
        for item in items:
            yield item
            self.tick()

    def tick(self) -> None:
        """A step has ended."""
        self.marks.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """From the end of the first step to that of the last."""
        return self.marks[STEPS] - self.marks[0]

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return sum(self.tokens[1 : STEPS + 1]) / self.seconds


class Counted:
    """Batches whose tokens a clock counts."""

    def __init__(self, batches: UtteranceBatches, clock: Clock) -> None:
        self.batches, self.clock = batches, clock
        self.steps_per_epoch = batches.steps_per_epoch
        self.held_out = batches.held_out

    def at(self, number: int) -> Any:
        """As the batches', counted."""
        batch = self.batches.at(number)
        self.clock.tokens.append(int((batch.labels != IGNORED).sum()))
        return batch


def ours(task: Task, *, distil: bool = False) -> Clock:
    """STEPS steps of our loop, audio read and featurised on the way; `distil`: from the uncompressed model."""
    model = open_model(task.model)
    model.to(task.device)
    layers = model.layers()
    recognizer = Recognizer.of(model, "en")
    corpus = task.corpus()
    settings = Training(held_out=0.0, batch=BATCH)
    texts = transcript_tokens(recognizer, corpus)
    clock = Clock()
    batches = Counted(UtteranceBatches(model, recognizer, corpus, texts, settings, Augmentation(augment=False)), clock)
    student = ModelStudent(model, layers, {name: PartsLatent(layer) for name, layer in layers.items()})
    teacher = None
    if distil:
        teacher = open_model(task.model)
        teacher.to(task.device)
        teacher.module.requires_grad_(False)
    objective = Objective(model, teacher, Losses(logits=1.0, hidden=1.0) if distil else Losses(labels=1.0))
    with tempfile.TemporaryDirectory() as folder, training_attention(model.module):
        train(student, batches, objective, settings, Path(folder), clock.track, device=task.device)
    return clock


def theirs(task: Task) -> Clock:
    """The same steps of Seq2SeqTrainer."""
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    model = open_model(task.model)
    clock = Clock()

    class Told(TrainerCallback):
        def on_step_end(self, *args: Any, **keywords: Any) -> None:
            clock.tick()

    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            use_cpu=task.device == "cpu",
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
        data = Utterances(model, task.corpus(), clock)
        Seq2SeqTrainer(
            model=model.module, args=arguments, train_dataset=data, data_collator=data.together, callbacks=[Told()]
        ).train()
    return clock


class Utterances(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """What the Trainer reads: audio and tokens of one utterance, made when asked for."""

    def __init__(self, model: Any, corpus: Any, clock: Clock) -> None:
        self.model, self.corpus, self.clock = model, corpus, clock
        self.rules = Recognizer.of(model, "en").rules

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, list[int]]:
        utterance = self.corpus.utterances[place]
        tokens = [*self.model.frontend.text_tokens(utterance.text), self.rules.end[0]]
        return self.model.features(audio.read(utterance.audio))[0], [*self.rules.prompt[1:], *tokens]

    def together(self, items: list[tuple[torch.Tensor, list[int]]]) -> dict[str, torch.Tensor]:
        """A padded batch, as the Trainer's collators make them."""
        self.clock.tokens.append(sum(len(tokens) + 1 - len(self.rules.prompt) for _, tokens in items))
        labels = torch.full((len(items), max(len(tokens) for _, tokens in items)), IGNORED)
        for row, (_, tokens) in zip(labels, items, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        features = [clip for clip, _ in items]
        if features[0].ndim == 2:
            return {"input_features": torch.stack(features), "labels": labels}
        values = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(clip)) for clip in features], batch_first=True)
        return {"input_values": values, "attention_mask": mask.long(), "labels": labels}


def main() -> None:
    """Print tokens a second of each, the loops in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="checkpoint folder")
    parser.add_argument("data", help="manifest with transcripts")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    task = Task(asked.model, asked.data, asked.device)
    runs = {
        "finetune": lambda: ours(task),
        "distil, logits and hidden": lambda: ours(task, distil=True),
        "transformers' Trainer": lambda: theirs(task),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(TIMES):
        for name, run in runs.items():
            found[name].append(run().rate)
    base = statistics.median(found["transformers' Trainer"])
    for name, rates in found.items():
        middle, spread = statistics.median(rates), f"{min(rates):,.0f} to {max(rates):,.0f}"
        print(f"{name}: {middle:,.0f} tokens/s ({spread}), {middle / base:.2f} of the Trainer's")


if __name__ == "__main__":
    main()
