"""Fewer tokens: the rows of the token table and the head that a language or a corpus never reads are left out.

Abdaoui, Pradel, Sigel, "Load What You Need: Smaller Versions of Multilingual BERT", 2020, arXiv:2010.05609, section 3.
In a small recognizer the table is half of all weights, and the head reads it for every token that is written. What
stays are the tokens that the prompt and the settings name, those in which any text can be written (bytes, letters,
digits), those of the texts that are given with the pieces that lead to them, and as many others as there is room for:
those that the model finds likeliest in the calibration clips, or without any those of the earliest merges. Tokenizer,
settings and numbers of tokens follow. A logit of a token that stays is the one that it was; a text that used a token
that went can be written with smaller ones, but a model that was not trained to often writes another word. So what
matters is that the texts are many and of the kind that will be heard.

Rows know nothing of each other in any format, so it works on what is rounded, masked or factored, and may stand
anywhere: what follows is calibrated and trained with the tokens that stayed. A training behind it teaches the model to
write the words whose tokens went with smaller ones.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from sottovoce.calibration.likely_tokens import mean_log_probability
from sottovoce.methods import method
from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import EncoderDecoder, with_decoder
from sottovoce.models.frontend import Frontend
from sottovoce.models.vocabulary import Vocabulary
from sottovoce.nearest import unknown
from sottovoce.speech.languages import language_code
from sottovoce.training.data import Material
from sottovoce.weights.weight import Layer


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    return frozenset({"data"}) if options["calibration"] else frozenset()


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    name = model.checkpoint.name
    if not isinstance(model, EncoderDecoder):
        return f"{name} has no decoder (CTC): its head scores single characters, of which none can be spared"
    if set(names) != set(model.token_layers):
        return f"trim_vocabulary cuts the rows of {' and '.join(model.token_layers)} and no others; leave where out"
    if options["size"] is None and options["text"] is None and not options["calibration"]:
        return (
            "trim_vocabulary is not told which tokens to keep; size: 8000, text: FILE or calibration: true would work"
        )
    if not options["timestamps"] and not model.frontend.time_tokens:
        return f"timestamps: false has no effect on {name}, which has no tokens of times; leave it out"
    vocabulary = Vocabulary(model.frontend)
    left_out = dropped(vocabulary, options["languages"], options["timestamps"])
    required = obligatory(vocabulary, left_out)
    size = options["size"]
    if size is not None and size < len(required):
        return (
            f"size {size} is less than the {len(required)} tokens of {name} that have to stay (prompt, settings, "
            f"times, bytes and letters); {len(required)} and more would work"
        )
    if size is not None and size >= vocabulary.size:
        return f"size {size} keeps all {vocabulary.size} tokens of {name}; fewer would work"
    if options["text"] is not None and next(_lines(Path(options["text"])), None) is None:
        return f"text {options['text']} holds no text"
    return None


def _left(layout: SpeechModel, names: object, options: Mapping[str, Any]) -> str:
    if options["size"] is not None:  # fewer stay where some that no text is written with make up the difference
        vocabulary = Vocabulary(layout.frontend)
        left_out = dropped(vocabulary, options["languages"], options["timestamps"])
        return f"{len(chosen(vocabulary, {}, options['size'], left_out)):,} of {vocabulary.size:,} tokens"
    told = [Path(options["text"]).name] if options["text"] is not None else []
    return f"tokens of {' and '.join([*told, *(['calibration'] if options['calibration'] else [])])}"


@method(
    scope="model",
    owns="vocabulary",
    needs=_needs,
    refuse_model=_refuse,
    where=("~embeddings", "~head"),
    left=_left,
)
def trim_vocabulary(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    size: Annotated[
        int | None,
        Field(ge=1, description="tokens to keep in all; null: those of the texts and those that have to stay"),
    ] = None,
    text: Annotated[
        str | None,
        Field(description="a file of text as the model would write it, or a manifest (.jsonl) with texts, to count"),
    ] = None,
    calibration: Annotated[
        bool, Field(description="count the tokens of the calibration clips, then take those likely in them, up to size")
    ] = False,
    languages: Annotated[
        list[str] | None,
        Field(description="the languages that a prompt can name, as [en, de]; null: all that there are"),
    ] = None,
    timestamps: Annotated[bool, Field(description="keep the tokens of times, where there are such")] = True,
) -> None:
    """Cut the vocabulary, and the rows of every layer that has one for each token."""
    vocabulary = Vocabulary(model.frontend)
    counts: Counter[int] = Counter()
    if text is not None:
        for line in _lines(Path(text)):
            counts.update(model.frontend.text_tokens(line))
    for clip in material.clips if calibration else ():
        counts.update(clip.tokens[0].tolist())
    decoder = with_decoder(model)
    likely = mean_log_probability(decoder, material.clips).tolist() if calibration and size is not None else None
    kept = chosen(vocabulary, counts, size, dropped(vocabulary, languages, timestamps), likely)
    decoder.keep_tokens(kept)
    for layer in layers.values():
        layer.weight = layer.weight.take_rows(torch.tensor(kept, device=layer.target.device))


def dropped(vocabulary: Vocabulary, languages: Sequence[str] | None, timestamps: bool) -> frozenset[int]:
    """The tokens of languages and times that are not wanted.

    Raises ValueError for a language that there is not, one that the prompt names, and times that are asked for.
    """
    frontend = vocabulary.frontend
    gone = frozenset(frontend.time_tokens) if not timestamps else frozenset()
    if gone and frontend.generation.get("return_timestamps"):
        raise ValueError(
            f"generation_config.json of {frontend.checkpoint.name} says return_timestamps: true; timestamps: true, or "
            "false there, would work"
        )
    if languages is not None:
        gone |= _other_languages(frontend, languages)
    for token in sorted(gone & vocabulary.control.keys()):
        named = next((code for code, number in frontend.language_tokens.items() if number == token), None)
        raise ValueError(
            f"{vocabulary.control[token]} names {named or 'a time'} ({frontend.checkpoint.name}), which would be left "
            f"out; {f'languages with {named} in it' if named else 'timestamps: true'} would work"
        )
    return gone


def _other_languages(frontend: Frontend, languages: Sequence[str]) -> frozenset[int]:
    known = frontend.languages
    if known is None:
        raise ValueError(f"{frontend.checkpoint.name} takes no language; leave languages out")
    if not languages:
        raise ValueError("languages: [] leaves no language that a prompt could name; one at least would work")
    for language in languages:
        if language_code(language) not in known:
            raise unknown("language", language, known)
    wanted = {language_code(language) for language in languages}
    return frozenset(token for code, token in frontend.language_tokens.items() if code not in wanted)


def obligatory(vocabulary: Vocabulary, gone: Collection[int]) -> set[int]:
    """The tokens that stay whatever the texts are: control tokens, languages, times, bytes and letters."""
    frontend = vocabulary.frontend
    beside = {*frontend.language_tokens.values(), *frontend.time_tokens}
    found = {*vocabulary.control, *vocabulary.pairs.letters, *(beside - set(gone))}
    return {token for token in found if token < vocabulary.size}


def chosen(
    vocabulary: Vocabulary,
    counts: Mapping[int, int],
    size: int | None,
    gone: Collection[int],
    likely: Sequence[float] | None = None,
) -> list[int]:
    """The tokens that stay, in rising order.

    counts  how often each token was found in texts: the most frequent come first, each with the pieces that lead to it
    likely  how likely each token is: where `size` leaves room, the likeliest follow, without it those of early merges;
            not those that are never chosen

    Raises ValueError if all stay.
    """
    room = vocabulary.size if size is None else size
    kept, pairs = obligatory(vocabulary, gone), vocabulary.pairs
    written = {number: token for token, number in pairs.numbers.items() if number < vocabulary.size}
    frequent = sorted((-count, token) for token, count in counts.items() if token in written and token not in gone)
    wanted = [token for _, token in frequent]
    if size is not None:
        others = pairs.by_rank() if likely is None else sorted(written, key=lambda token: (-likely[token], token))
        wanted += [token for token in others if token in written and token not in vocabulary.suppressed | set(gone)]
    for token in wanted:
        if len(kept) == room:
            break
        way = pairs.way(written[token])
        if way is None and token not in counts:  # no text is written with it
            continue
        way = way or frozenset({token})
        if len(kept | way) <= room:
            kept |= way
    if len(kept) == vocabulary.size:
        raise ValueError(
            f"the texts use all {vocabulary.size} tokens of {vocabulary.frontend.checkpoint.name}; size, or fewer "
            "texts, would work"
        )
    return sorted(kept)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text that are not empty, or the texts of a manifest.

    Raises ValueError for a file that is not there, or is none of these.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"text {path} cannot be read ({error.strerror}); a file of text would work") from None
    except UnicodeDecodeError:
        raise ValueError(f"text {path} is not text in UTF-8; a file of text or a manifest would work") from None
    for number, line in enumerate(lines, 1):
        said = _said(path, number, line) if path.suffix == ".jsonl" else line
        if said.strip():
            yield said


def _said(path: Path, number: int, line: str) -> str:
    """The text of a manifest's row, nothing where it has none."""
    try:
        row = json.loads(line) if line.strip() else {}
    except ValueError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("text") or "", str):
        raise ValueError(f'{path}, line {number}, is no row of a manifest; {{"text": "..."}} would work')
    return row.get("text") or ""
