"""docs/methods.md, written from the methods themselves: `python -m sottovoce.recipes.manual > docs/methods.md`."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sottovoce.calibration.sums import STATISTICS
from sottovoce.recipes.catalogue import catalogue, describe

SCOPES = {
    "layer": "one layer after the other, each by itself",
    "block": "all layers of a block together",
    "model": "the whole model at once; the steps before it are finished everywhere",
}
PARTS = {
    "base": "the stored weight: integers on a grid, or floats",
    "mask": "which weights are kept",
    "low_rank": "two thin factors whose product is added to the masked base",
    "factors": "how these two factors are stored, and which of their numbers are kept",
    "wrappers": "two block-diagonal matrices by which the masked base is multiplied, before and behind",
    "basis": "the channels in which weights and activations are written; the float model computes the same as before",
    "input": "what happens to a layer's input at run time",
    "output": "the grid on which the decoder's cache holds what a layer puts out",
    "structure": "which layers there are and how wide they are, or how many positions the encoder takes",
    "vocabulary": "which tokens there are, and so the rows of the token table and the head",
    "values": "the numbers in the parts that are there: through training, or to make up for what is dropped",
    "sparsity": "the share of each layer that a pruner after it drops",
}
NEEDS = {
    **{name: f"calibration audio: {statistic.words}" for name, statistic in STATISTICS.items()},
    "head": "calibration audio: how what the head reads goes together",
    "data": "calibration audio",
    "audio": "training audio; no texts",
    "transcripts": "training audio with its texts",
}
_HEAD = """\
# Methods

Written by `make docs` from the methods themselves; do not edit it. `sottovoce methods` lists them in a terminal,
`sottovoce methods NAME` shows one. How to add one: [adding-a-method.md](adding-a-method.md).

A recipe names methods in order. Each works on the layers that its `where` selects (`*`, all of them, by default;
`!` takes out), and replaces one part of their weights:
"""


def methods_page() -> str:
    """The whole page. Raises KeyError for a part or a need that no line above explains."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield _HEAD
    listed = catalogue()["methods"]
    owned = {part for method in listed for part in method["owns"]}
    yield from _table(("part", "what it is"), [(f"`{part}`", PARTS[part]) for part in PARTS if part in owned])
    yield ""
    rows = [(f"[{m['name']}](#{m['name']})", _quoted(m["owns"]), m["summary"], _link(m["paper"])) for m in listed]
    yield from _table(("method", "replaces", "what it does", "paper"), rows)
    for method in listed:
        yield from _section(describe(method["name"]))


def _section(method: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {method['name']}\n"
    for paragraph in method["text"].split("\n\n"):
        yield f"{' '.join(paragraph.split())}\n"
    needs = "; ".join(f"`{need}`, {NEEDS[need]}" for need in method["needs"]) or "no audio"
    yield f"- paper: {_link(method['paper'])}"
    yield f"- replaces: {'; '.join(f'`{part}`, {PARTS[part]}' for part in method['owns'])}"
    yield f"- works on: `where: {' '.join(method['where'])}` unless a recipe says otherwise"
    yield f"- sees: {SCOPES[method['scope']]}"
    yield f"- needs: {needs}{' (with these defaults)' if method['needs_follow_options'] else ''}\n"
    rows = [
        (f"`{option['option']}`", option["type"], f"`{option['default']}`", option["text"])
        for option in method["options"]
    ]
    yield from _table(("option", "type", "default", "what it means"), rows)


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _link(paper: str) -> str:
    """A paper or a repository as a link."""
    address = re.sub("^arXiv:", "arxiv.org/abs/", paper)
    return f"[{paper}](https://{address})"


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


if __name__ == "__main__":
    print(methods_page(), end="")
