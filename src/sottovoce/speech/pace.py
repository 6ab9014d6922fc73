"""How fast people speak: what no text of a recording can exceed."""

FASTEST = 40.0  # characters a second; auctioneers reach 30
_SHORTEST = 5  # characters that the shortest clip may have


def too_fast(text: str, seconds: float) -> bool:
    """Whether a text is more than anybody says in so many seconds."""
    return len(text) > FASTEST * seconds + _SHORTEST
