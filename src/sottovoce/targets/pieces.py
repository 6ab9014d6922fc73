"""The bytes that each token of a vocabulary adds to a text, for runtimes that write text themselves."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any


def token_bytes(tokenizer: Any, count: int) -> list[bytes]:
    """The bytes that each of `count` tokens adds to a text, none for special ones and timestamps.

    Raises ValueError for a tokenizer whose tokens are no pieces of bytes.
    """
    decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"])
    silent = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
    if "ByteLevel" in decoder:
        read: Callable[[str], bytes] = _visible_bytes
    elif "ByteFallback" in decoder:
        read = _fallback_bytes
    else:
        raise ValueError(f"a tokenizer that decodes by {decoder}; ByteLevel or ByteFallback would work")
    pieces = tokenizer.convert_ids_to_tokens(range(min(count, len(tokenizer))))
    told = [b"" if number in silent else read(piece) for number, piece in enumerate(pieces)]
    return told + [b""] * (count - len(told))


def _fallback_bytes(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _visible_bytes(piece: str) -> bytes:
    return bytes(_byte_of()[character] for character in piece)


@cache
def _byte_of() -> dict[str, int]:
    """How byte-level tokenizers write each byte: printable ones as themselves, the rest from 256 on (GPT-2)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(rest)}
