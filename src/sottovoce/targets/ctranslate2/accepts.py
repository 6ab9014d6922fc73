"""Which artifacts CTranslate2 can hold as they are; told from the table, before any weight is read."""

from collections.abc import Sequence

from sottovoce.targets.ctranslate2.places import POSITIONS, place
from sottovoce.targets.run_time import beside_integers, changed_at_run_time, kept_otherwise
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry

_FLOAT_BYTES = 4
_USUAL_FRAMES, _SECONDS_A_FRAME = 1500, 0.02


def refusals(entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> dict[str, str]:
    """The layers that cannot be held, each with the reason."""
    coded = any(_multiplied(entry) and entry.bits is not None for entry in entries)
    reasons = {entry.name: reason for entry in entries if (reason := _reason(entry, coded))}
    return reasons | changed_at_run_time([entry for entry in entries if not _rounded_anyway(entry)], turns)


def notes(entries: Sequence[Entry]) -> list[str]:
    """What is held, but not as small as in the artifact, or computed otherwise."""
    coded = [entry for entry in entries if _multiplied(entry) and entry.bits is not None]
    told = []
    if coded:
        told.append("inputs of quantized layers are quantized to 8 bits at run time, by CTranslate2's own rule")
        told.append(
            "on an x86 CPU without VNNI CTranslate2's sums of 8-bit products saturate; `selftest` says if one is such"
        )
    if tables := [entry for entry in entries if not _multiplied(entry) and entry.bits is not None]:
        now, then = sum(_FLOAT_BYTES * entry.weights for entry in tables), sum(entry.bytes for entry in tables)
        told.append(f"position tables are written as floats: {now / 1e6:.2f} MB, in the artifact {then / 1e6:.2f}")
    told += kept_otherwise(entries, coded, (8,))
    for frames in (entry.rows for entry in entries if entry.name == "encoder.embed_positions"):
        if frames != _USUAL_FRAMES:
            told.append(
                f"faster-whisper pads every clip to 30 s, and this window is of {frames * _SECONDS_A_FRAME:g} s: only "
                "CTranslate2's own interface runs it"
            )
    return told


def _multiplied(entry: Entry) -> bool:
    """Whether CTranslate2 has integers for it: tables of positions are floats there."""
    return entry.name not in POSITIONS


def _rounded_anyway(entry: Entry) -> bool:
    """Whether all that happens to what it reads is what CTranslate2 does to what every layer of integers reads."""
    found = entry.input
    if (
        entry.bits is None
        or found is None
        or found.rounding is None
        or found.turn
        or found.divisor
        or found.zeroing
        or entry.output
    ):
        return False
    return found.rounding.bits == 8 and found.rounding.per == "token" and found.rounding.threshold is None


def _reason(entry: Entry, coded: bool) -> str | None:
    if place(entry.name) is None:
        return "CTranslate2 has no such layer; it runs Whisper only"
    if not _multiplied(entry) or not coded:
        return None
    if entry.bits is None:
        return (
            "it is float, and CTranslate2 would quantize it like the others as it loads; 8 bits for all layers, or none"
        )
    if reason := beside_integers(entry):
        return reason
    if not entry.symmetric:
        return "asymmetric grid (zero point); symmetric: true would work"
    if isinstance(entry.group_size, int):
        return f"groups of {entry.group_size}: CTranslate2 has one scale for a row; group_size: channel would work"
    return None
