"""docs/architecture.md: the rooms by their floors, and one line for each file: `python -m tools.architecture`."""

import ast
from pathlib import Path

from tools.imports import PACKAGE, floors, graphs

BEFORE = """# Architecture

Written by `make docs` from the package itself; do not edit it.

A checkpoint, a recipe and some audio go in at the top; what comes out is a folder, and only what is in such a folder is
ever measured:

```
recipe.yaml -> recipes: read, checked against the model's layers; a wrong one fails here, before any weight is read
checkpoint  -> models: a module, its layers, its sites, its units
audio       -> calibration: clips, then sums over what each layer reads
               compressing: unit by unit, each method (methods) replaces one part of a weight (weights)
               artifact: the parts packed in a folder, with a table and a seal
               targets: the same integers in a runtime's own format, tested (exporting)
               recognition -> measure: transcripts, then scores with intervals
               sweeping: a row for each model and recipe -> reporting: tables, pictures, a page
```

A folder of the package is a room. It may import from rooms on lower floors only, which `make test` checks: there is no
ring, of files or of rooms. [adding-a-method.md](adding-a-method.md) and [adding-a-model.md](adding-a-model.md) walk
through what is added most.

"""


def first_line(path: Path) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def page() -> str:
    """The whole document."""
    _, rooms = graphs()
    by_floor: dict[int, list[str]] = {}
    for room, floor in sorted(floors(rooms).items()):
        by_floor.setdefault(floor, []).append(room.removeprefix("sottovoce.") if "." in room else "(the package)")
    stairs = "\n".join(f"| {floor} | {', '.join(by_floor[floor])} |" for floor in sorted(by_floor, reverse=True))
    table = f"## Floors\n\n| floor | rooms |\n|---:|---|\n{stairs}\n"
    return f"{BEFORE}{table}\n## Files\n\n```\n{_tree(PACKAGE, 0)}```\n"


def _tree(folder: Path, depth: int) -> str:
    indent = "  " * depth
    files = sorted(folder.glob("*.py"))
    width = max(len(file.name) for file in files)
    lines = [f"{indent}{folder.name}/\n"]
    lines += [f"{indent}  {file.name:{width}}  {first_line(file)}\n" for file in files]
    inner = sorted(path for path in folder.iterdir() if (path / "__init__.py").exists())
    return "".join(lines) + "".join(_tree(path, depth + 1) for path in inner)


if __name__ == "__main__":
    print(page(), end="")
