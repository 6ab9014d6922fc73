"""Who imports whom in the package: modules, the rooms (folders) they stand in, rings, floors.

Imports inside functions count: they run too. Imports for type checkers do not.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "sottovoce"
Graph = Mapping[str, frozenset[str]]


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Every module by its dotted name, "sottovoce.cli.app"; a package by its folder's."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str, files: Mapping[str, Path]) -> str:
    """The folder that a module stands in; a file of the package's own folder is a room by itself."""
    if files[module].name == "__init__.py":
        return module
    parent = module.rpartition(".")[0]
    return module if "." not in parent else parent


def imported(module: str, files: Mapping[str, Path]) -> Iterator[str]:
    """The modules of the package that a module imports when it runs."""
    tree = ast.parse(files[module].read_text(encoding="utf-8"))
    unseen = {id(inner) for node in ast.walk(tree) if _for_checkers(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom) and (origin := node.module or "") in files:
            inside = (f"{origin}.{alias.name}" for alias in node.names)
            yield from (name if name in files else origin for name in inside)


def _for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def graphs(package: Path = PACKAGE) -> tuple[Graph, Graph]:
    """(between modules, between rooms): each with those that it imports."""
    files = modules(package)
    between = {module: frozenset(imported(module, files)) - {module} for module in files}
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, others in between.items():
        here = room_of(module, files)
        rooms[here] |= {room_of(other, files) for other in others} - {here}
    return between, {room: frozenset(others) for room, others in rooms.items()}


def floors(graph: Graph) -> dict[str, int]:
    """How far above those that import nothing each stands. Raises ValueError that names the first ring."""
    found: dict[str, int] = {}
    below: list[str] = []

    def floor(name: str) -> int:
        if name in below:
            raise ValueError(" -> ".join([*below[below.index(name) :], name]))
        if name not in found:
            below.append(name)
            found[name] = max((floor(other) + 1 for other in graph.get(name, ())), default=0)
            below.pop()
        return found[name]

    for name in graph:
        floor(name)
    return found
