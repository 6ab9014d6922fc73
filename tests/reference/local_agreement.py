"""LocalAgreement-2 as its paper says it: word by word, of whole texts that keep what is certain."""


def common_prefix(one, other):
    same = []
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        same.append(left)
    return same


def committed(texts):
    """What is certain after all of `texts`, each of which begins with what was certain before it."""
    certain = []
    for before, text in zip([[], *texts[:-1]], texts, strict=True):
        same = common_prefix(before, text)
        certain = same if len(same) > len(certain) else certain
    return certain
