"""The tables of `analyze layers`: every block by every ranking, then the capacity sweep of each stack."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sottovoce.analysis.layers import Capacity, LayerAnalysis, Without
from sottovoce.cli.console import plain


def layers_view(analysis: LayerAnalysis) -> Iterator[RenderableType]:
    """One table of blocks, one of the sweep, and what they were measured on."""
    yield _blocks(analysis)
    yield Text("")
    yield _sweep(analysis)
    data, utterances = analysis.calibration
    told = [f"{utterances} utterances of {data}; KL: divergence of next-token distributions, in nats a token"]
    if analysis.test is not None:
        name, rows = analysis.test
        told.append(
            f"WER on {rows} utterances of {name}, normalizer {analysis.normalizer}; interval: paired bootstrap, n.s. = "
            "it spans 0; damage: empty, looping, cut off"
        )
    by = "WER" if analysis.test is not None else "KL"
    told.append(f"blocks go in the order of {analysis.rank_by}; knee: the {by} becomes steep behind it")
    yield from (Text(line, style="dim") for line in told)


def _blocks(analysis: LayerAnalysis) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("block", overflow="fold", min_width=16)
    for title in ("goes", "influence", "mse", "outliers %", "KL", *_word_titles(analysis)):
        table.add_column(plain(title), justify="right", overflow="fold")
    for block in analysis.blocks:
        change = block.change
        table.add_row(
            escape(block.name),
            str(block.place + 1),
            f"{change.influence:.4f}",
            f"{change.mse:.4f}",
            f"{100 * change.outliers:.1f}",
            f"{block.without.divergence:.4f}",
            *_words(block.without),
        )
    return table


def _sweep(analysis: LayerAnalysis) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("stack", "left out", "blocks"):
        table.add_column(title, overflow="fold", justify="right" if title == "left out" else "left")
    for title in ("MB saved", "KL", *_word_titles(analysis), ""):
        table.add_column(plain(title), justify="right", overflow="fold")
    for capacity in analysis.capacities:
        for count, step in enumerate(capacity.steps):
            table.add_row(*_step(capacity, count, step))
    return table


def _step(capacity: Capacity, count: int, step: Without) -> list[str]:
    numbers = " ".join(name.rpartition(".")[2] for name in step.blocks)
    knee = "knee" if count == capacity.knee else ""
    row = [capacity.stack, str(count), numbers, f"{step.bytes / 1e6:.2f}", f"{step.divergence:.4f}"]
    return [*row, *_words(step), knee]


def _word_titles(analysis: LayerAnalysis) -> tuple[str, ...]:
    return ("WER %", "Δ [95 %]", "damage") if analysis.test is not None else ()


def _words(step: Without) -> list[str]:
    words = step.words
    if words is None:
        return []
    low, high = words.interval
    mark = " n.s." if words.verdict == "no significant difference" else ""
    delta = f"{words.delta_wer:+.2f} [{low:+.2f}, {high:+.2f}]{mark}" if step.blocks else "-"
    return [f"{words.wer:.2f}", escape(delta), f"{words.empties} {words.loops} {words.capped}"]
