"""The tokenizer of a checkpoint, by the library that transformers itself calls.

A folder without tokenizer.json has the files of an older one, which transformers converts; an export always has it.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from sottovoce.models.checkpoint import Checkpoint, first_line, read_json
from sottovoce.models.companions import open_processor

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"


def open_tokenizer(checkpoint: Checkpoint) -> "Tokenizer":
    """The tokenizer. Raises ValueError, with the file's name, if it cannot be opened or knows no text."""
    tokenizer = _whole(_opened(checkpoint))
    if tokenizer.get_vocab_size() <= len(tokenizer.get_added_tokens_decoder()):
        raise ValueError(
            f"{checkpoint.name}: its tokenizer knows special tokens and no text; copy {TOKENIZER} from the model "
            "that this one was trained from"
        )
    return tokenizer


def parse_tokenizer(text: str) -> "Tokenizer":
    """The tokenizer of a tokenizer.json."""
    from tokenizers import Tokenizer

    return _whole(Tokenizer.from_str(text))


def _whole(tokenizer: "Tokenizer") -> "Tokenizer":
    """A tokenizer that writes every text as long as it is."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def added_tokens(tokenizer: "Tokenizer") -> dict[str, int]:
    """The tokens beside the vocabulary, with their ids."""
    return {token.content: number for number, token in sorted(tokenizer.get_added_tokens_decoder().items())}


def _opened(checkpoint: Checkpoint) -> "Tokenizer":
    from tokenizers import Tokenizer

    file = checkpoint.folder / TOKENIZER
    if not file.is_file():
        if not find_spec("transformers"):
            raise ValueError(f"{checkpoint.name} holds no {TOKENIZER}, and what it holds takes transformers to read")
        found: Tokenizer = open_processor(checkpoint).tokenizer.backend_tokenizer
        return found
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # of no class of its own
        read_json(file)
        raise ValueError(
            f"{checkpoint.name}: its tokenizer or feature extractor cannot be opened ({first_line(error)}); copy "
            f"{TOKENIZER} and preprocessor_config.json from the model that this one was trained from"
        ) from error
