"""What every method costs at whisper-tiny's real size: seconds and peak memory, beside gptq's.

    python -m bench.methods [--clips 64] [--only gptq rsq ...]

Every method of METHODS that calibrates or needs no audio is in the table, one that is added later too: with its
default options on all layers, or the first of ALTERNATIVES that the recipe checker takes. Each runs in a process of
its own, with two threads, on random weights and clips of noise of 30 s. Seconds are those of `compress` from end to
end, less the calibration clips' tokens and features, which cost the same for all that need them.
"""

import argparse
import sys
from typing import Any

from bench.run import HERE, measure, write_inputs
from sottovoce.methods import METHODS, TRAINING_NEEDS, find
from sottovoce.models.base import SpeechModel
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.recipe import Recipe
from sottovoce.recipes.select import select

Steps = tuple[object, ...]
ALTERNATIVES: tuple[tuple[Steps, dict[str, object], Steps], ...] = (
    # what comes before it, options, what comes after
    ((), {}, ()),
    ((), {"symmetric": False}, ()),
    ((), {"group_size": 32}, ()),
    ((), {"group_size": 16}, ()),  # the first convolution of Whisper has 240 inputs
    ((), {"where": "*.layers.*"}, ()),
    ((), {"where": "*.layers.*", "group_size": 64}, ()),
    (("rtn",), {}, ()),
    ((), {"encoder": [0]}, ()),
    ((), {"heads": 1}, ()),
    ((), {"calibration": True}, ()),
    ((), {}, ({"wanda": {"where": "blocks", "sparsity": "allocated"}},)),
    (("rtn", "low_rank"), {}, ()),
)
MOST_TIMES_GPTQ = 20.0
MOST_MB = 4000


def main() -> int:
    """Measure, print the table, say what missed its limit; the exit code is 1 if something did or failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--only", nargs="*", help="methods; gptq is measured in any case")
    asked = parser.parse_args()
    names = compressing_methods()
    for name in asked.only or ():
        if name not in names:
            raise SystemExit(f"{name} is none of the methods that compress: {', '.join(names)}")
    write_inputs(asked.clips)
    chosen = [name for name in names if name == "gptq" or not asked.only or name in asked.only]
    results = {name: _measured(name, asked.clips) for name in sorted(chosen, key=lambda name: name != "gptq")}
    gptq = results["gptq"].get("seconds", float("nan"))
    print(f"\n{'method':<18}{'seconds':>9}{'x gptq':>8}{'peak MB':>9}{'MB':>7}   recipe")
    for name in chosen:
        print(_line(name, results[name], gptq))
    missed = [reason for name in chosen for reason in _missed(name, results[name], gptq)]
    print(f"at most {MOST_TIMES_GPTQ:g} times gptq and {MOST_MB} MB: {'; '.join(missed) or 'ok'}")
    return int(bool(missed))


def compressing_methods() -> list[str]:
    """The methods that need no training audio, in the table's order."""
    return [name for name in METHODS if not find(name).needs(find(name).options.fill(name, {})) & TRAINING_NEEDS]


def recipe_of(name: str, layout: SpeechModel) -> Recipe:
    """The first of ALTERNATIVES that works on the model. Raises ValueError with the first reason if none does."""
    reasons = []
    for before, options, after in ALTERNATIVES:
        try:
            recipe = read_recipe({"steps": [*before, {name: options}, *after]})
            select(recipe, layout)
            return recipe
        except ValueError as error:
            reasons.append(error)
    raise ValueError(f"no recipe of bench/methods.py suits {name}: {reasons[0]}; add one to ALTERNATIVES")


def _measured(name: str, clips: int) -> dict[str, Any]:
    try:
        return measure(f"method {name} {clips}")
    except RuntimeError as error:
        return {"failed": str(error).strip().splitlines()[-1]}


def _line(name: str, result: dict[str, Any], gptq: float) -> str:
    if "failed" in result:
        return f"{name:<18}{'-':>9}{'-':>8}{'-':>9}{'-':>7}   {result['failed']}"
    times = result["seconds"] / gptq
    return (
        f"{name:<18}{result['seconds']:>9.1f}{times:>8.2f}{result['peak_mb']:>9.0f}{result['MB']:>7.1f}   "
        f"{result['recipe']}"
    )


def _missed(name: str, result: dict[str, Any], gptq: float) -> list[str]:
    if "failed" in result:
        return [f"{name} failed"]
    missed = []
    if not result["seconds"] <= MOST_TIMES_GPTQ * gptq:
        missed.append(f"{name} takes {result['seconds'] / gptq:.1f} times gptq")
    if result["peak_mb"] > MOST_MB:
        missed.append(f"{name} takes {result['peak_mb']:.0f} MB")
    return missed


if __name__ == "__main__":
    print(f"inputs in {HERE}", file=sys.stderr)
    sys.exit(main())
