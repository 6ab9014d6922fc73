"""Where a model may run: a torch device that exists here."""

import torch


def check_device(name: str) -> str:
    """The name itself. Raises ValueError, before anything is opened, if torch cannot use that device here."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used ({reason}); cpu would work") from None
    return name
