import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.speech.datasets import Corpus, Utterance, read_corpus


def record(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(16_000 * seconds), 0.1), 16_000)
    return path


def manifest(folder: Path, *rows: object) -> Path:
    """A manifest of these rows (text as it is, anything else as JSON) beside a.wav and b.wav."""
    record(folder / "a.wav")
    record(folder / "b.wav", 0.25)
    path = folder / "set.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def corpus(n: int) -> Corpus:
    rows = tuple(Utterance(f"u{i}", Path(f"u{i}.wav"), "text", None, 0.1) for i in range(n))
    return Corpus("made", Path("made.jsonl"), rows)


def refuses(path: Path, *sayings: str, need_text: bool = True) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_corpus(path, need_text=need_text)
    for saying in sayings:
        assert saying in str(caught.value)


A, B = {"audio": "a.wav", "text": "one two"}, {"audio": "b.wav", "text": "three"}


def test_a_manifest_is_read_in_order_with_what_it_says_and_what_it_leaves_out(tmp_path):
    full = {**B, "speaker": "s1", "seconds": 9, "id": "second", "licence": "ignored", "text": "drei"}
    path = manifest(tmp_path, A, full)
    assert read_corpus(path) == Corpus(
        "set",
        path,
        (
            Utterance("a.wav", tmp_path / "a.wav", "one two", None, 0.5),
            Utterance("second", tmp_path / "b.wav", "drei", "s1", 9.0),
        ),
    )


def test_the_language_of_a_row_was_ignored(tmp_path):
    rows = [{**A, "id": str(i), "language": text} for i, text in enumerate(["de", "zh-CN", "German", "", None])]
    languages = [utterance.language for utterance in read_corpus(manifest(tmp_path, *rows, B)).utterances]
    assert languages == ["de", "zh", "de", None, None, None]


@pytest.mark.parametrize(
    ("language", "saying"),
    [("klingon", "line 1: unknown language 'klingon'; a code such as de"), (7, "line 1: 'language' must be a string")],
)
def test_what_is_no_language_is_refused_by_its_line(language, saying, tmp_path):
    refuses(manifest(tmp_path, {**A, "language": language}), saying)


def test_audio_may_be_absolute_or_relative_to_the_manifest(tmp_path, monkeypatch):
    elsewhere = record(tmp_path / "elsewhere" / "c.wav")
    path = manifest(tmp_path / "here", A, {"audio": str(elsewhere), "text": ""})
    monkeypatch.chdir(tmp_path)
    for given in (path, str(path), path.relative_to(tmp_path)):
        assert [u.audio.resolve() for u in read_corpus(given).utterances] == [
            (tmp_path / "here" / "a.wav").resolve(),
            elsewhere.resolve(),
        ]


@pytest.mark.parametrize("text", ["", "line\u2028separator", "größer 数"])
def test_any_string_is_a_text(tmp_path, text):
    assert read_corpus(manifest(tmp_path, {**A, "text": text}, B)).utterances[0].text == text


def test_the_folder_of_a_manifest_jsonl_is_that_manifest(tmp_path):
    path = manifest(tmp_path / "lessons", A, B)
    path.rename(path.with_name("manifest.jsonl"))
    found = read_corpus(tmp_path / "lessons")
    assert (found.name, [utterance.text for utterance in found.utterances]) == ("lessons", ["one two", "three"])


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path):
    path = manifest(tmp_path, "\ufeff" + json.dumps(A), "", "  ", B)
    assert len(read_corpus(path)) == 2


@pytest.mark.parametrize(
    ("row", "sayings"),
    [
        ('{"audio": "b.wav", ', ["not JSON", "column", "one object a line"]),
        ("b.wav three", ["not JSON"]),
        (["b.wav", "three"], ["an object is needed, not a list", '"audio"']),
        ("null", ["an object is needed, not null"]),
        ({"text": "three"}, ["lacks the key 'audio'", "give the path"]),
        ({"audio": "", "text": "three"}, ["lacks the key 'audio'"]),
        ({"audio": "b.wav"}, ["lacks the key 'text'", "give what is said"]),
        ({"audio": "b.wav", "text": None}, ["lacks the key 'text'"]),
        ({"audio": 7, "text": "three"}, ["'audio' must be a string, not a number", "in quotes"]),
        ({"audio": "b.wav", "text": ["three"]}, ["'text' must be a string, not a list"]),
        ({**B, "speaker": 84}, ["'speaker' must be a string, not a number", "in quotes"]),
        ({**B, "id": True}, ["'id' must be a string, not a boolean"]),
        ({**B, "seconds": "1.5"}, ["'seconds' must be a positive number", '"1.5"', "leave it out"]),
        ({**B, "seconds": True}, ["'seconds' must be a positive number"]),
        ({**B, "seconds": 0}, ["'seconds' must be a positive number"]),
        ({**B, "seconds": float("nan")}, ["'seconds' must be a positive number, not NaN"]),
        ({"audio": "c.wav", "text": "three"}, ["c.wav is missing", "relative to the folder"]),
        ({"audio": ".", "text": "three"}, ["is missing"]),
        ({"audio": "set.jsonl", "text": "three"}, ["set.jsonl is not audio", "convert it"]),
        (A, ["id 'a.wav' was used in", "set.jsonl line 1;", "an id of its own"]),
        ({**B, "id": "a.wav"}, ["id 'a.wav' was used in", "set.jsonl line 1;"]),
    ],
)
def test_a_wrong_row_is_refused_with_its_file_and_line(tmp_path, row, sayings):
    refuses(manifest(tmp_path, A, row), "set.jsonl line 2: ", *sayings)


def test_all_lines_are_checked_before_the_refusal_and_the_first_ten_problems_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = manifest(tmp_path, {}, A, {}, "x", B, *[{}] * 9)
    refuses(path, "line 1: lacks", "line 3: lacks", "line 4: not JSON", "... and 2 more; ", "lists all 12")


HALF = '{"audio": "b.wav", "text": "three", "id": "b"}'


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (HALF.replace("three", "three \\ud83d"), "'text'"),
        (HALF.replace("three", "\\udc80"), "'text'"),
        (HALF.replace('"b"', '"\\ud83d"'), "'id'"),
        (HALF.replace("b.wav", "\\udc80.wav"), "'audio'"),
        (HALF.replace('"id"', '"speaker": "\\ud83d", "id"'), "'speaker'"),
    ],
)
def test_half_a_character_is_refused_with_its_file_and_line(tmp_path, row, key):
    refuses(manifest(tmp_path, A, row), "set.jsonl line 2: ", f"{key} holds half a character, \\ud", "the whole one")


def test_a_whole_character_in_two_escapes_is_text(tmp_path):
    path = manifest(tmp_path, A, HALF.replace("three", "\\ud83d\\ude00"))
    assert read_corpus(path).utterances[1].text == "\U0001f600"


def test_a_name_that_is_not_text_is_refused(tmp_path):
    name = os.fsdecode(b"gr\xfc\xdfe.wav")
    try:
        record(tmp_path / "a.wav").rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    (tmp_path / name).with_suffix(".txt").write_text("one")
    refuses(tmp_path, "has a name that is not text in UTF-8; rename it")


@pytest.mark.parametrize("opening", ["[", '{"audio": '])
def test_a_row_that_is_nested_too_deeply_is_refused_with_its_file_and_line(tmp_path, opening):
    refuses(manifest(tmp_path, A, opening * 100_000), "set.jsonl line 2: ", "nested too deeply", "one object a line")


def test_seconds_beyond_any_recording_are_refused(tmp_path):
    refuses(manifest(tmp_path, A, HALF.replace('"id"', f'"seconds": 1{"0" * 400}, "id"')), "line 2: 'seconds' must be")


def test_clips_that_cannot_be_used_may_be_left_out_each_with_its_reason(tmp_path):
    (tmp_path / "empty.wav").touch()
    gone, empty = {"audio": "gone.wav", "text": "", "id": "g"}, {"audio": "empty.wav", "text": ""}
    path = manifest(tmp_path, gone, A, empty, B)
    refuses(path, "line 1: audio file", "line 3: ", "is empty")
    found = read_corpus(path, leave_out=True)
    assert [utterance.id for utterance in found.utterances] == ["a.wav", "b.wav"]
    assert [(clip.id, clip.audio) for clip in found.left_out] == [
        ("g", str(tmp_path / "gone.wav")),
        ("empty.wav", str(tmp_path / "empty.wav")),
    ]
    assert "is missing" in found.left_out[0].reason
    assert "is empty" in found.left_out[1].reason


@pytest.mark.parametrize("row", [{}, "x", {"audio": "b.wav"}, {"audio": "gone.wav", "text": "", "id": "a.wav"}])
def test_a_wrong_row_is_refused_even_where_clips_may_be_left_out(tmp_path, row):
    with pytest.raises(ValueError, match="line 2: "):
        read_corpus(manifest(tmp_path, A, row), leave_out=True)


@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".webm", ".aac", ".mka", ".mov", ".wma", ".sph", ".au", ".M4A"])
def test_a_folder_sees_every_kind_of_audio(tmp_path, suffix):
    (tmp_path / f"talk{suffix}").write_bytes(b"not what it seems" * 10)
    (tmp_path / "talk.txt").write_text("one")
    refuses(tmp_path, f"talk{suffix}")


@pytest.mark.parametrize("rows", [[], ["", " "]])
def test_a_manifest_without_rows_is_refused(tmp_path, rows):
    refuses(manifest(tmp_path, *rows), "set.jsonl holds no utterance", "one JSON object a line")


def test_an_audio_file_given_as_a_corpus_is_refused(tmp_path):
    refuses(record(tmp_path / "a.flac"), "a.flac is not text in UTF-8", "manifest")


def test_a_path_that_is_nothing_is_refused_with_what_would_work(tmp_path):
    refuses(tmp_path / "nowhere", "no corpus", "nowhere", "JSON-lines manifest", ".txt beside each", "LibriSpeech")


def test_rows_without_text_are_taken_where_text_is_not_needed(tmp_path):
    path = manifest(tmp_path, {"audio": "a.wav"}, B)
    assert [u.text for u in read_corpus(path, need_text=False).utterances] == [None, "three"]


def test_a_folder_is_its_audio_with_the_text_beside_each(tmp_path):
    folder = tmp_path / "talks"
    record(folder / "b.wav").with_suffix(".txt").write_text("  two words\n")
    record(folder / "a" / "deep.FLAC").with_suffix(".txt").write_text("größer\n", encoding="utf-8")
    (folder / "README.txt").write_text("no audio of this name")
    assert read_corpus(folder) == Corpus(
        "talks",
        folder,
        (
            Utterance("a/deep.FLAC", folder / "a" / "deep.FLAC", "größer", None, 0.5),
            Utterance("b.wav", folder / "b.wav", "two words", None, 0.5),
        ),
    )


def test_audio_without_its_text_is_refused_unless_text_is_not_needed(tmp_path):
    record(tmp_path / "a.wav").with_suffix(".txt").write_text("one")
    record(tmp_path / "b.wav")
    refuses(tmp_path, "b.wav: ", "b.txt is missing", "write it")
    assert [u.text for u in read_corpus(tmp_path, need_text=False).utterances] == ["one", None]


def test_a_text_that_is_not_utf_8_is_refused(tmp_path):
    record(tmp_path / "a.wav").with_suffix(".txt").write_bytes("größer".encode("latin-1"))
    refuses(tmp_path, "a.txt is not text in UTF-8")


def test_a_folder_without_audio_is_refused(tmp_path):
    refuses(tmp_path, str(tmp_path), "holds no utterance", ".wav, .flac")


def test_damaged_audio_in_a_folder_is_refused_by_name(tmp_path):
    record(tmp_path / "a.wav").with_suffix(".txt").write_text("one")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-1_000])
    refuses(tmp_path, "a.wav is cut short")


def librispeech(folder: Path, *lines: str) -> Path:
    chapter = folder / "84" / "121123"
    record(chapter / "84-121123-0000.flac")
    record(chapter / "84-121123-0001.flac", 0.25)
    (chapter / "84-121123.trans.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_librispeech_is_known_by_its_transcripts_and_the_speaker_is_the_first_number(tmp_path):
    folder = librispeech(tmp_path / "test-clean", "84-121123-0000 GO DO YOU HEAR", "84-121123-0001 BUT")
    chapter = folder / "84" / "121123"
    assert read_corpus(folder) == Corpus(
        "test-clean",
        folder,
        (
            Utterance("84-121123-0000", chapter / "84-121123-0000.flac", "GO DO YOU HEAR", "84", 0.5),
            Utterance("84-121123-0001", chapter / "84-121123-0001.flac", "BUT", "84", 0.25),
        ),
    )


@pytest.mark.parametrize(
    ("line", "sayings"),
    [
        ("84-121123-0001", ["no text after '84-121123-0001'", "WORDS"]),
        ("84-121123-0002 AND", ["84-121123-0002.flac is missing"]),
        ("84-121123-0000 AGAIN", ["id '84-121123-0000' was used in"]),
    ],
)
def test_a_wrong_line_of_librispeech_is_refused_with_its_file_and_line(tmp_path, line, sayings):
    refuses(librispeech(tmp_path, "84-121123-0000 GO", line), "84-121123.trans.txt line 2: ", *sayings)


def test_a_selection_is_a_sample_without_replacement_in_the_corpus_order():
    selected = corpus(100).select(10, seed=0)
    numbers = [int(u.id[1:]) for u in selected.utterances]
    assert len(selected) == len(set(numbers)) == 10
    assert numbers == sorted(numbers)
    assert numbers != list(range(10))
    assert (selected.name, selected.path) == ("made", Path("made.jsonl"))


def test_a_selection_depends_on_its_seed_only():
    assert corpus(100).select(10, seed=1) == corpus(100).select(10, seed=1)
    assert corpus(100).select(10, seed=1) != corpus(100).select(10, seed=2)


def test_a_smaller_selection_lies_within_a_larger_one():
    assert set(corpus(100).select(10, seed=0).utterances) < set(corpus(100).select(20, seed=0).utterances)


@pytest.mark.parametrize("limit", [None, 7])
def test_no_limit_and_the_whole_limit_select_all(limit):
    assert corpus(7).select(limit, seed=0) == corpus(7)


@pytest.mark.parametrize("limit", [8, 0, -1])
def test_a_limit_outside_the_corpus_is_refused_with_its_size(limit):
    with pytest.raises(ValueError, match=rf"{limit} utterances asked of made.jsonl, which has 7; 1 to 7 work"):
        corpus(7).select(limit, seed=0)


def test_total_seconds_are_the_sum():
    assert corpus(10).total_seconds == 1.0
