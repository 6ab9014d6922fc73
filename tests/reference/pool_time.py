"""Frames pooled by the book: group after group in plain floats."""


def pooled(frames, factor, by):
    """A list of frames, each a list of floats, to fewer: each group's mean, or its first."""
    groups = [frames[i : i + factor] for i in range(0, len(frames), factor)]
    if by == "drop":
        return [group[0] for group in groups]
    return [[sum(column) / len(group) for column in zip(*group, strict=True)] for group in groups]
