"""Results as tables for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sottovoce.cli.console import plain
from sottovoce.cli.shortened import shortened
from sottovoce.measure.by_language import LanguageScore
from sottovoce.measure.compare import Comparison
from sottovoce.measure.evaluate import Evaluation
from sottovoce.measure.inspect import Inspection
from sottovoce.measure.score import Score, left_out_words
from sottovoce.recipes.catalogue import FAMILIES
from sottovoce.speech.units import RATES, unit_of_all

_WIDE = 96  # columns of a terminal in which the longest layer name of a Whisper fits whole


def scores_table(evaluation: Evaluation) -> RenderableType:
    """WER or CER with its counts, the difference to the baseline, the damage that it hides; then by language."""
    rate = RATES[unit_of_all(score.unit for score in evaluation.scores)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("target", "data"):
        table.add_column(title, overflow="fold", min_width=8)
    delta = f"Δ {rate} [95 %]" if rate in ("WER", "CER") else "Δ [95 %]"
    for title in (f"{rate} %", "S D I", "MB", delta, "damage", "RTFx"):
        table.add_column(plain(title), justify="right", no_wrap=title[0] != "Δ")
    short = _short_names([score.target for score in evaluation.scores])
    for s in evaluation.scores:
        table.add_row(
            escape(short[s.target]),
            escape(s.data),
            f"{s.wer:.2f}" + (f" {RATES[s.unit]}" if RATES[s.unit] != rate else ""),
            f"{s.substitutions} {s.deletions} {s.insertions}",
            f"{s.bytes / 1e6:.2f}",
            _delta(s),
            f"{s.empties} {s.loops} {s.capped}",
            f"{s.rtfx:.0f}",
        )
    said = {(s.data, f"{s.normalizer} ({s.normalizer_version})"): None for s in evaluation.scores}
    texts = dict.fromkeys(text if len({told for _, told in said}) == 1 else f"{text} for {data}" for data, text in said)
    notes = [
        f"normalizer {', '.join(texts)}, {evaluation.scores[0].scorer}",
        "damage: empty, looping, cut off",
        *([] if evaluation.search == "greedy" else [evaluation.search]),
        *dict.fromkeys(map(left_out_words, filter(lambda score: score.left_out, evaluation.scores))),
    ]
    drawn = sorted({s.resampled for s in evaluation.scores if s.resampled})
    if drawn:
        notes.append(f"interval: paired bootstrap, 10,000 resamples of {' and '.join(drawn)}; n.s. = it spans 0")
    several = len({s.data for s in evaluation.scores}) > 1
    told = [f"{s.data}: {note}" if several else note for s in evaluation.scores for note in s.notes]
    more = dict.fromkeys([*told, *evaluation.notes])
    below = [Text(line, style="dim") for line in ("; ".join(notes), *more)]
    return Group(table, *below, *_language_tables(evaluation.scores, short))


def _language_tables(scores: Sequence[Score], short: Mapping[str, str]) -> Iterator[RenderableType]:
    """The rates of each language, a table for each data set that has several."""
    for data in dict.fromkeys(score.data for score in scores if score.languages):
        here = [score for score in scores if score.data == data]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in (f"{data}: language", "rows", "rate"):
            table.add_column(escape(title), justify="right" if title == "rows" else "left", overflow="fold")
        for score in here:
            table.add_column(escape(f"{short[score.target]} %"), justify="right", overflow="fold")
        for parts in zip(*(score.languages for score in here), strict=True):
            first = parts[0]
            rates = (_percent(part) for part in parts)
            table.add_row(first.language or "not named", str(first.utterances), RATES[first.unit], *rates)
        yield Text("")
        yield table


def _percent(part: LanguageScore) -> str:
    return "-" if part.wer is None else f"{part.wer:.2f}"


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """The last part of each path, where that tells them apart."""
    short = {name: Path(name).name for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in names}


def _delta(score: Score) -> str:
    if score.delta_wer is None or score.delta_wer_interval is None:
        return "-"
    low, high = score.delta_wer_interval
    mark = "" if score.verdict in ("worse", "better") else " n.s."
    return f"{score.delta_wer:+.2f} [{low:+.2f}, {high:+.2f}]{mark}"


def comparison_table(c: Comparison) -> RenderableType:
    """One target against its baseline."""
    low, high = c.interval
    style = {"worse": "red", "better": "green"}.get(c.verdict, "bold")
    lines: list[RenderableType] = [
        f"[bold]{escape(c.target)}[/] against {escape(c.baseline)} on {escape(c.data)}",
        f"  {RATES[c.unit]} {c.baseline_wer:.2f} -> {c.wer:.2f} %: {c.difference:+.2f} points, "
        f"95 % [{low:+.2f}, {high:+.2f}] "
        f"over {c.resampled}: [{style}]{c.verdict}[/]",
        f"  {c.baseline_bytes / 1e6:.2f} -> {c.bytes / 1e6:.2f} MB; utterances: {c.worse} worse, "
        f"{c.better} better, {c.equal} equal; "
        f"empty {c.empties:+d}, loops {c.loops:+d}, cut off {c.capped:+d}",
        *(Text(f"  {note}", style="dim") for note in c.notes),
    ]
    if c.examples:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
        for title in ("  most lost", "said", "baseline", "target"):
            table.add_column(title, overflow="fold")
        for e in c.examples:
            table.add_row(
                f"  +{e.more_errors}", *(escape(shortened(text)) for text in (e.reference, e.baseline, e.hypothesis))
            )
        lines.append(table)
    return Group(*lines)


def inspection_view(seen: Inspection, width: int) -> Iterator[RenderableType]:
    """The table of layers, then the totals; a narrow terminal folds the layers' names."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", no_wrap=width >= _WIDE, overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("parts", overflow="fold", min_width=18)
    integer = any(row.activations != "-" for row in seen.rows)
    if integer:
        table.add_column("activations", overflow="fold", min_width=12)
    for title in ("bits", "bytes", "%"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in seen.rows:
        shape = " x ".join(map(str, row.shape))
        words = [row.name, shape, row.parts, *([row.activations] if integer else [])]
        table.add_row(*words, f"{row.bits:.2f}", f"{row.bytes:,}", f"{100 * row.share:.1f}")
    table.add_row(
        "everything else",
        "",
        "norms, biases, header",
        *([""] if integer else []),
        "",
        f"{seen.rest_bytes:,}",
        f"{100 * seen.rest_bytes / seen.bytes:.1f}",
    )
    yield table
    work, cost = seen.workload, seen.cost
    written = f" and {work.tokens} tokens, beam {work.beam}" if seen.writes_tokens else ""
    smaller = f" (base {seen.base}: {seen.base_bytes / 1e6:.2f} MB)" if seen.base_bytes != seen.bytes else ""
    yield Text(
        f"{seen.bytes:,} bytes{smaller}; {seen.weights:,} weights in layers, {seen.nonzeros:,} kept, "
        f"{seen.bits_per_weight:.2f} bits each"
    )
    yield Text(
        f"one utterance of {work.seconds:g} s{written}: {cost.macs / 1e9:.3f} GMAC, "
        f"{cost.bit_operations / 1e9:.1f} GBOP, {cost.memory_bytes / 1e6:.1f} MB of memory traffic"
    )
    if cost.skippable_bytes:
        yield Text(
            f"{cost.skippable_bytes / 1e6:.1f} MB of that are weights whose input is 0, which a kernel that skips them "
            "would not read; no runtime here does"
        )
    yield from map(Text, seen.notes)


def catalogue_view(listed: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A line for each method, under its family, then for each recipe; what is wider than the terminal ends in "…"."""
    families: dict[str, list[Mapping[str, Any]]] = {family: [] for family in FAMILIES}
    for method in listed["methods"]:
        families[method["family"]].append(method)
    parted = {f"methods: {family}": of for family, of in families.items()}
    names = max(len(entry["name"]) for entry in (*listed["methods"], *listed["recipes"]))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for heading, entries in {**parted, "recipes": listed["recipes"]}.items():
        table.add_row(Text(heading, style="bold"))
        for entry in entries:
            table.add_row(Text(f"  {entry['name']:{names}}  {' '.join(entry['summary'].split())}"))
    yield table
    yield Text("sottovoce methods NAME shows one whole, with its source and its options", style="dim")


def description_view(described: Mapping[str, Any]) -> Iterator[RenderableType]:
    """One method or recipe."""
    for paragraph in described["text"].split("\n\n"):
        yield Text(" ".join(paragraph.split()) + "\n")
    if described["kind"] == "recipe":
        yield Text(yaml.safe_dump({"steps": described["steps"]}, sort_keys=False, default_flow_style=None, width=100))
        return
    needs = " and ".join(described["needs"]) or "no data"
    if described["needs_follow_options"]:
        needs += " (with these defaults)"
    replaced = " and ".join(described["owns"])
    facts = f"scope {described['scope']}, replaces {replaced}, needs {needs}, from {described['paper']}"
    yield Text(f"{facts}\n", style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("option", "type", "default", "what it means"):
        table.add_column(title, overflow="fold")
    for option in described["options"]:
        table.add_row(*(escape(option[key]) for key in ("option", "type", "default", "text")))
    usual = escape(" ".join(described["where"]))
    table.add_row("where", "pattern | list", usual, "layers it works on; ! takes out, ~ may match nothing")
    yield table
