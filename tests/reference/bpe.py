"""Byte-pair encoding by its definition, and what stays of it, one merge after the other."""


def tokens_of(word, merges):
    """The tokens of a word: the first pair of the list that is there is joined where it stands first, until none is."""
    pieces = list(word)
    while True:
        for a, b in merges:
            places = [i for i in range(len(pieces) - 1) if (pieces[i], pieces[i + 1]) == (a, b)]
            if places:
                pieces[places[0] : places[0] + 2] = [a + b]
                break
        else:
            return pieces


def reached_by(token, merges):
    """All pieces that are there at any time while a token is made; None if it is not made."""
    pieces, seen = list(token), set(token)
    joined = True
    while joined:
        joined = False
        for a, b in merges:
            places = [i for i in range(len(pieces) - 1) if (pieces[i], pieces[i + 1]) == (a, b)]
            if places:
                pieces[places[0] : places[0] + 2] = [a + b]
                seen.add(a + b)
                joined = True
                break
    return seen if pieces == [token] else None


def left(merges, tokens):
    """The merges of which both parts and what they make are among `tokens`."""
    return [(a, b) for a, b in merges if a in tokens and b in tokens and a + b in tokens]
