"""One row of the table: a model under a recipe, with its scores and its cost, or with its error."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sottovoce.files.atomic import json_text, write_text
from sottovoce.files.documents import parse_json
from sottovoce.measure.score import Score
from sottovoce.methods.words import COLUMNS
from sottovoce.recipes.recipe import Recipe

FORMAT = 3
CURVE_POINTS = 200


@dataclass(frozen=True)
class Row:
    """A row as a sweep writes it and a report reads it.

    quantization, activations, sparsity, low_rank, structure, recovery, calibration, trained_on are the table's words,
    "-" where there is nothing. Sizes are in bytes, costs are of one utterance of `workload`; timing is what `timed`
    says, where the sweep file asks for time; scores has one item a data set; curve has points of what was trained. An
    error leaves the measured fields empty.
    """

    key: str
    model: str
    recipe: str
    quantization: str
    sparsity: str
    low_rank: str
    calibration: str
    compressed: bool
    recovery: str = "-"
    trained_on: str = "-"
    activations: str = "-"
    structure: str = "-"
    bytes: int | None = None
    bits_per_weight: float | None = None
    nonzeros: int | None = None
    macs: int | None = None
    bit_operations: int | None = None
    memory_bytes: int | None = None
    workload: Mapping[str, Any] | None = None
    timing: Mapping[str, Any] | None = None
    scores: tuple[Score, ...] = ()
    curve: Sequence[Mapping[str, Any]] = ()
    compress_seconds: float | None = None
    artifact: str | None = None
    error: str | None = None
    recipe_document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def wer(self) -> float | None:
        """The macro average of the WER over data sets, in percent."""
        return sum(score.wer for score in self.scores) / len(self.scores) if self.scores else None

    @property
    def milliseconds(self) -> float | None:
        """What one utterance of `workload` takes; None where no time was asked for, or there is none."""
        return (self.timing or {}).get("milliseconds")

    @property
    def of_uncompressed(self) -> str:
        """Of a compressed model with a time, its share of the uncompressed one's: " (× 0.64)"; else nothing."""
        if not self.compressed or not self.timing or "ratio" not in self.timing:
            return ""
        return f" (× {self.timing['ratio'][0]:.2f})"

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> "Row":
        """The row of a JSON document without its format. Raises TypeError or KeyError if it is none."""
        scores = tuple(Score.of_document(score) for score in document["scores"])
        return Row(**{**document, "curve": tuple(document.get("curve", ())), "scores": scores})

    def write(self, folder: Path) -> None:
        """Keep the row in a sweep's folder, whole or not at all."""
        write_text(folder / "rows" / f"{self.key}.json", json_text({"format": FORMAT, **asdict(self)}))


def read_row(path: Path) -> Row:
    """The row in a file. Raises ValueError if it is damaged or of a newer format."""
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
        found = document.pop("format")
        if found > FORMAT:
            raise ValueError(f"format {found} is newer than {FORMAT}")
        return Row.of_document(document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a row of a sweep ({error}); remove it and run the sweep again") from None


def read_rows(folder: str | Path) -> list[Row]:
    """The rows of the latest sweep in a folder, in its file's order. Raises ValueError if there are none."""
    folder = Path(folder)
    order = folder / "order.json"
    paths = sorted((folder / "rows").glob("*.json"))
    if order.is_file():
        keys = parse_json(order.read_text(encoding="utf-8"))
        paths = [path for key in keys if (path := folder / "rows" / f"{key}.json").is_file()]
    if not paths:
        raise ValueError(f"{folder} holds no rows; give the output folder of a sweep")
    return [read_row(path) for path in paths]


def thinned(curve: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """At most some CURVE_POINTS points of a training curve: every check, and steps between them."""
    stride = -(-len(curve) // CURVE_POINTS)
    kept = [line for i, line in enumerate(curve) if not i % max(1, stride) or "held_out" in line]
    names = ("training", "step", "loss", "held_out")
    return tuple({name: line[name] for name in names if name in line} for line in kept)


def recipe_words(recipe: Recipe) -> dict[str, str]:
    """The table's words for a recipe: what its methods say of their steps, column by column.

    Of the structure it has what is asked, as "drop_layers(encoder=1)"; what is left of a model, Selection.structure.
    """
    said: dict[str, list[str]] = {column: [] for column in COLUMNS}
    for step in recipe.steps:
        if step.method.left:
            said["structure"].append(step.label)
        for column, word in step.method.words(step.method.name, step.options).items():
            said[column].append(word)
    return {column: joined_words(words) for column, words in said.items()}


def joined_words(words: Sequence[str]) -> str:
    """What several steps say in one column, each once."""
    return " + ".join(dict.fromkeys(words)) or "-"
