"""One sentence for a name that does not exist: what was asked, what is near, what there is."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """A ValueError that says that there is no `what` called `name`, with the nearest of `known`."""
    names = sorted(known)
    near = get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return ValueError(f"unknown {what} {name!r}{hint} there are: {', '.join(names)}")
