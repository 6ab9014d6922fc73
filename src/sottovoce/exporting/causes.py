"""Why a self-test failed, in sentences: what differs first, by how much, and what this CPU has to do with it."""

from pathlib import Path

from sottovoce.targets.agreement import FACTOR, SelfTest
from sottovoce.targets.engine import EngineKind
from sottovoce.targets.exported import saturation


def causes(tested: SelfTest, kind: EngineKind, folder: Path) -> list[str]:
    """A sentence for each thing that is wrong, the cause last if it is known; none if the test passed."""
    told = []
    if tested.missing:
        others = f" and {len(tested.missing) - 1} other layers" if len(tested.missing) > 1 else ""
        told.append(f"its files do not contain the integers, scales and zero points of {tested.missing[0]}{others}")
    if apart := tested.apart:
        told.append(
            f"{apart.name} is the first output that differs from the artifact's: by {100 * apart.error:.2g} % of its "
            f"norm, where {_allowed(apart.explained, apart.allowed)}"
        )
    if tested.clear:
        told.append(
            f"{tested.clear} of {tested.tokens} next tokens differ from the artifact's, which chose its own by a "
            "larger margin than rounding explains"
        )
    if told and kind.saturates(folder):
        told.append(saturation(kind))
    return told


def _allowed(explained: float, allowed: float) -> str:
    if not explained:
        return f"{100 * allowed:.2g} % is allowed, since nothing is rounded"
    return f"{100 * allowed:.2g} % is allowed: {FACTOR:g} times what rounding the inputs to 8 bits explains"
