"""What there is to choose from: methods with their options, and built-in recipes, as plain data."""

from collections.abc import Mapping
from typing import Any

from sottovoce.methods import METHODS, find
from sottovoce.nearest import unknown
from sottovoce.recipes.read import built_in_recipes, read_recipe

FAMILIES: Mapping[str, tuple[str, ...]] = {  # what a list of methods is parted into, by the first part that each owns
    "quantization": ("base",),
    "before quantization": ("basis",),
    "activations and cache": ("input", "output"),
    "sparsity": ("mask", "sparsity"),
    "low rank": ("low_rank", "factors"),
    "structure": ("structure", "vocabulary"),
    "training": ("values",),
}


def family_of(part: str) -> str:
    """The family of a method that owns `part`."""
    return next(family for family, parts in FAMILIES.items() if part in parts)


def catalogue() -> dict[str, Any]:
    """Every method and every built-in recipe, a line each."""
    return {
        "methods": [
            {
                "name": name,
                "family": family_of(method.owns),
                "scope": method.scope,
                "owns": list(method.parts),
                "summary": method.summary,
                "paper": method.paper,
                "options": method.options.headings(),
            }
            for name, method in ((name, find(name)) for name in METHODS)
        ],
        "recipes": [{"name": name, "summary": text} for name, text in built_in_recipes().items()],
    }


def describe(name: str) -> dict[str, Any]:
    """One method with its text and options, or one recipe with its steps. Raises ValueError for another name."""
    if name in METHODS:
        method = find(name)
        defaults = method.options.fill(name, {})
        return {
            "name": name,
            "kind": "method",
            "scope": method.scope,
            "owns": list(method.parts),
            "paper": method.paper,
            "needs": sorted(method.needs(defaults)),
            "needs_follow_options": callable(method.needs_of),
            "text": method.text,
            "options": method.options.rows(),
            "where": list(method.where),
        }
    if name in built_in_recipes():
        return {"name": name, "kind": "recipe", "text": built_in_recipes()[name], **read_recipe(name).as_document()}
    raise unknown("method or recipe", name, [*METHODS, *built_in_recipes()])
