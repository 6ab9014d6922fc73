"""What methods that change a model as a whole have in common: no choice of layers."""

from collections.abc import Sequence

from sottovoce.models.base import SpeechModel


def refuse_where(method: str, model: SpeechModel, names: Sequence[str]) -> str | None:
    """Why a method that knows no layers cannot take a `where` that leaves some out."""
    if len(names) == len(model.shapes):
        return None
    return f"{method} changes the model as a whole, so where has no meaning for it; leave where out"
