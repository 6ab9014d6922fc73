"""Which artifacts whisper.cpp can hold as they are; told from the table, before any weight is read."""

from collections.abc import Iterable, Sequence

from sottovoce.models.names import HEAD, TABLE
from sottovoce.targets.ggml.blocks import BLOCK, BLOCK_TYPES, BlockType, smallest
from sottovoce.targets.ggml.names import POSITIONS, name_of
from sottovoce.targets.run_time import beside_integers, changed_at_run_time
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry

_FLOAT_BYTES = 4
_USUAL_FRAMES, _SECONDS_A_FRAME = 1500, 0.02
_LEAST_VOCABULARY = 51_864  # OpenAI's English one
_MLP = 4  # times the model's width


def refusals(entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> dict[str, str]:
    """The layers that cannot be held, each with the reason."""
    coded = any(_in_blocks(entry) for entry in entries)
    reasons = {entry.name: reason for entry in entries if (reason := _reason(entry, coded))}
    return reasons | changed_at_run_time(entries, turns)


def notes(entries: Sequence[Entry]) -> list[str]:
    """What is held, but not as small as in the artifact, or computed otherwise, or not by all who read the format."""
    told = []
    if held := [entry for entry in entries if _in_blocks(entry)]:
        told.append("inputs of quantized layers are quantized to 8 bits at run time, by whisper.cpp's own rule")
        told.append(_one_type(held))
    if tables := [entry for entry in entries if entry.name in POSITIONS and entry.bits is not None]:
        now, then = sum(_FLOAT_BYTES * entry.weights for entry in tables), sum(entry.bytes for entry in tables)
        told.append(f"position tables are written as floats: {now / 1e6:.2f} MB, in the artifact {then / 1e6:.2f}")
    if any(entry.mask for entry in entries):
        told.append("a sparsity mask is written as zeros: it saves neither bytes nor time")
    return told + _of_our_own(entries)


def type_of(grids: Iterable[tuple[int, bool]]) -> BlockType:
    """The blocks that hold all grids, each given by its bits and whether it is symmetric."""
    wanted = set(grids)
    return next(each for each in BLOCK_TYPES if all(each.holds(*grid) for grid in wanted))


def _one_type(held: Sequence[Entry]) -> str:
    """That there is one type for all, and what that costs."""
    kind = type_of((entry.bits or 0, bool(entry.symmetric)) for entry in held)
    now, then = sum(kind.bytes * entry.weights // BLOCK for entry in held), sum(entry.bytes for entry in held)
    fit = [entry for entry in held if smallest(entry.bits or 0, bool(entry.symmetric)) != kind]
    fewer = f"; {len(fit)} of the {len(held)} would fit a smaller one" if fit else ""
    return (
        f"linears and the embedding are {kind.name}, the one type that holds all of them: {now / 1e6:.2f} MB, in the "
        f"artifact {then / 1e6:.2f}{fewer}"
    )


def _of_our_own(entries: Iterable[Entry]) -> list[str]:
    """What whisper.cpp's own programs do not run."""
    rows = {entry.name: entry.rows for entry in entries}
    found = []
    if (frames := rows.get("encoder.embed_positions", _USUAL_FRAMES)) != _USUAL_FRAMES:
        found.append(f"a window of {frames * _SECONDS_A_FRAME:g} s, not 30")
    if (tokens := rows.get(TABLE, _LEAST_VOCABULARY)) < _LEAST_VOCABULARY:
        found.append(f"a vocabulary of {tokens} tokens, not OpenAI's")
    if not found:
        return []
    return [f"whisper.cpp's own programs do not run {' and '.join(found)}: its encoder and decoder by themselves do"]


def _in_blocks(entry: Entry) -> bool:
    """Whether a layer's integers are in the file; what else there is becomes floats."""
    return entry.bits is not None and entry.kind != "conv" and entry.name not in POSITIONS


def _reason(entry: Entry, coded: bool) -> str | None:
    if entry.name == HEAD:
        return "an untied head: whisper.cpp's head is always the embedding"
    if name_of(entry.name) is None:
        return "whisper.cpp has no such layer; it runs Whisper only"
    if (width := _other_width(entry)) is not None:
        return width
    if entry.name in POSITIONS or not coded:
        return None
    if entry.kind == "conv":
        if entry.bits is None and entry.rank is None:
            return None
        return (
            'beside integer layers it has to be float16, which does not hold these values; exclude it: where: "!stem"'
        )
    if entry.bits is None:
        return "it is float and others are integers: whisper.cpp has one type for all linear layers and the embedding"
    return _no_blocks(entry)


def _other_width(entry: Entry) -> str | None:
    """That whisper.cpp derives this layer's shape from the width of the model, and finds another."""
    own = entry.name.rsplit(".", 1)[-1]
    if own.startswith("fc"):
        wide, narrow = (entry.rows, entry.columns) if own == "fc1" else (entry.columns, entry.rows)
        return None if wide == _MLP * narrow else f"{wide} in an MLP: whisper.cpp takes {_MLP} times {narrow}"
    if entry.kind == "linear" and entry.rows != entry.columns:
        return f"{entry.rows} rows of {entry.columns}: whisper.cpp's attention is as wide as the model"
    return None


def _no_blocks(entry: Entry) -> str | None:
    """Why no blocks hold such a weight."""
    if reason := beside_integers(entry):
        return reason
    if entry.zero == "fractional" or entry.scale_bits is not None:
        return "fractional zero points and quantized scales do not fit its blocks"
    if entry.scale_dtype not in ("float16", "bfloat16"):  # which is a float16 but where it is tiny or huge
        return f"scales in {entry.scale_dtype}: scale_dtype: float16 would work"
    if isinstance(entry.group_size, int) and entry.group_size % BLOCK:
        return f"groups of {entry.group_size}: a multiple of {BLOCK}, or channel, would work"
    if entry.columns % BLOCK:
        return f"{entry.columns} inputs are not a multiple of {BLOCK}"
    assert entry.bits is not None
    if smallest(entry.bits, bool(entry.symmetric)) is None:
        return f"{entry.bits} bits on an asymmetric grid (zero point): 7 bits, or symmetric: true, would work"
    return None
