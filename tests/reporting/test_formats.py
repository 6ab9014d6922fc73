import csv as standard_csv
import io
import json as standard_json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from sottovoce.measure.by_language import LanguageScore
from sottovoce.reporting.csv import csv
from sottovoce.reporting.html import html
from sottovoce.reporting.json import json
from sottovoce.reporting.latex import latex
from sottovoce.reporting.markdown import markdown
from sottovoce.reporting.narrow import narrow
from sottovoce.reporting.pareto import on_front
from sottovoce.reporting.table import arrange, make_table
from sottovoce.reporting.terminal import terminal
from sottovoce.sweeping.row import Row
from tests.reporting.sample import NASTY, by_characters, make_row, make_score, nasty, sweep

SWEEPS = {
    "one set": sweep(),
    "several sets": sweep(sets=("clean", "other")),
    "two models": sweep() + sweep("moonshine/base", megabytes=246, wer=3.3),
    "structure": [
        *sweep(),
        replace(
            sweep()[3],
            key="cut",
            structure="encoder 5 of 6 + decoder 3 of 6 blocks + 1,152 of 1,536 neurons (obs) + 8,000 of 51,864 tokens",
            recovery="distill encoder+logits 8 ep lr auto",
        ),
    ],
    "nasty": nasty(),
    "all failed": [make_row(error="no")],
    "no baseline": [make_row("x", megabytes=3, scores=[make_score()])],
    "characters": [make_row("x", megabytes=3, scores=[by_characters()])],
    "several languages": [
        make_row(
            "x",
            megabytes=3,
            scores=[make_score(unit="mixed", languages=(LanguageScore("zh", "character", 4, 2, 40, 5.0),))],
        )
    ],
}
every_sweep = pytest.mark.parametrize("rows", SWEEPS.values(), ids=SWEEPS.keys())


# Markdown


def cells_of(line):
    return re.split(r"(?<!\\)\|", line)[1:-1]


@every_sweep
def test_every_markdown_line_has_the_columns_of_the_header(rows):
    table = make_table(rows)
    lines = markdown(table).split("\n\n")[0].splitlines()
    assert len(lines) == len(rows) + 2
    assert {len(cells_of(line)) for line in lines} == {len(table.columns)}
    assert len({len(line) for line in lines}) == 1


def test_markdown_shows_text_as_it_is():
    table = make_table(nasty())
    line = markdown(table).splitlines()[2]
    assert cells_of(line)[0].strip() == r"a\_b\&50%\<script\>"
    assert r"a\|b \`c\` \*d\*" in line
    assert "](" not in line
    shown = [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell).strip() for cell in cells_of(line)]  # as CommonMark reads it
    assert shown == [cell.text for cell in table.lines[0]]


def test_markdown_leans_numbers_to_the_right():
    rule = cells_of(markdown(make_table(sweep())).splitlines()[1])
    assert re.fullmatch(r" :-+ ", rule[0])
    assert re.fullmatch(r" -+: ", rule[5])
    assert re.fullmatch(r" :-+: ", rule[-1])


# LaTeX


@every_sweep
def test_latex_is_balanced_and_every_line_has_its_columns(rows):
    table = make_table(rows)
    text = latex(table)
    bare = re.sub(r"\\[%_&#${}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#~^<>|`_]", bare)
    assert len(re.search(r"\\begin\{tabular\}\{([lrc]+)\}", text)[1]) == len(table.columns)
    lines = bare[bare.index(r"\toprule") : bare.index(r"\bottomrule")].splitlines()
    lines = [line for line in lines if line.endswith(r"\\")]
    assert len(lines) == len(rows) + 1
    assert {line.count("&") for line in lines} == {len(table.columns) - 1}
    for line in text.splitlines():
        assert not line.startswith(("*", "[")), r"\\ would take it"


def test_latex_shows_special_characters_stars_and_minus_signs():
    text = latex(make_table(nasty()))
    assert r"a\_b\&50\%\textless{}script\textgreater{}" in text
    assert r"\textbackslash{}q\{4\} \textasciitilde{}x\textasciicircum{}2 \#1 \$5 a\textbar{}b" in text
    assert r"$-$0.50 [$-$0.70, $-$0.10]" in text
    assert r"$\star$ \\" in text
    assert re.findall(r"\\end\{\w+\}", text) == [r"\end{tabular}"]


def test_latex_hyphens_in_names_stay_hyphens():
    text = latex(make_table(sweep()))
    assert "gptq 4-bit" in text
    assert "whisper-tiny & -- & -- & -- & -- & 151.1 & " in text  # a dash where there is nothing


# CSV and JSON


@every_sweep
def test_csv_parsed_back_has_the_numbers_of_the_rows(rows):
    lines = list(standard_csv.DictReader(io.StringIO(csv(rows))))
    assert len(lines) == len(rows)
    for line, row, kept in zip(lines, rows, on_front(rows), strict=True):
        for name in ("bytes", "bits_per_weight", "nonzeros", "macs", "bit_operations", "memory_bytes"):
            assert (float(line[name]) if line[name] else None) == getattr(row, name)
        for name in ("key", "model", "recipe", "quantization", "sparsity", "low_rank", "calibration", "error"):
            assert line[name] == (getattr(row, name) or "")
        for score in row.scores:
            for name, value in score.as_document().items():
                if isinstance(value, int | float):
                    assert float(line[f"{name} {score.data}"]) == value
                elif isinstance(value, tuple):
                    ends = [float(line[f"delta_wer_{end} {score.data}"]) for end in ("low", "high")]
                    assert tuple(ends) == value
        assert (float(line["wer"]) if line["wer"] else None) == (row.wer if row.scores else None)
        assert standard_json.loads(line["recipe_document"]) == row.recipe_document
        assert line["pareto"] == str(int(kept))


def test_csv_keeps_its_columns_where_the_first_row_failed():
    rows = sweep(sets=("clean", "other"))
    first = csv([rows[-1], *rows[:-1]]).splitlines()[0]
    assert first == csv(rows).splitlines()[0]


@every_sweep
def test_json_gives_the_rows_back(rows):
    records = standard_json.loads(json(rows))["rows"]
    assert [record.pop("pareto") for record in records] == on_front(rows)
    assert list(map(Row.of_document, records)) == list(rows)


def test_json_has_no_word_for_infinity():
    def refuse(word):
        raise AssertionError(word)

    row = make_row(scores=[make_score(wer=math.inf)], bits_per_weight=math.nan)
    record = standard_json.loads(json([row]), parse_constant=refuse)["rows"][0]
    assert record["scores"][0]["wer"] is None
    assert record["bits_per_weight"] is None


# Terminal


def printed(rows, width):
    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(terminal(make_table(rows)))
    return console


def test_terminal_takes_no_text_for_markup():
    text = printed(nasty(), 250).export_text()
    assert "[red]m_&" in text
    assert "a_b&50%<script>" in text


@every_sweep
@pytest.mark.parametrize("width", [80, 100, 120, 250])
def test_terminal_stays_within_its_width(rows, width):
    assert max(map(len, printed(rows, width).export_text().splitlines())) <= width


def test_terminal_of_100_columns_breaks_no_number():
    for rows in (sweep(), sweep(sets=("test-clean", "test-other"))):
        words = printed(rows, 100).export_text().split()
        assert words.count("whisper-tiny") == len(rows)
        assert {"151.1", "+1.03]", "[+2.40,", "10.72"} <= set(words)


def test_a_wide_terminal_shows_the_table_as_it_is_and_a_narrow_one_tells_what_it_leaves_out():
    table = make_table(sweep(sets=("test-clean", "test-other")))
    assert narrow(table, 300) is table
    folded = narrow(table, 100)
    left_out = {"memory I/O MB", "GBOPs", "bits/weight"} - {column.title for column in folded.columns}
    assert left_out
    assert set(folded.notes[-1].removeprefix("Left out for want of width: ").removesuffix(".").split(", ")) == left_out
    assert folded.columns[1].title == "Quantization, Sparsity, Low rank, Calibration"
    assert folded.lines[3][1].text == "gptq 4-bit g32, wanda 2:4, activation r=16, 128 x train-clean"


def test_terminal_colours_only_stars_losses_and_failures():
    text = printed(sweep(), 250).export_text(styles=True)
    coloured = re.findall(r"\x1b\[(?:2;)?3[0-7]m([^\x1b]*)", text)
    assert [word.strip() for word in coloured if word.strip()] == [
        "★", "★", "+3.18 [+2.40, +4.01]", "★", "+1.31 [+0.62, +2.07]",
        *[word for word in coloured if word.startswith("failed")],
    ]  # fmt: skip


# HTML


class Page(HTMLParser):
    """Tags in pairs, words by the element they stand in."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.cells, self.titles, self.problems = [], [], [], [], []
        self.attributes = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data
        if self.open and self.open[-1] == "title":
            self.titles.append(data)


def page(rows):
    rows = arrange(rows)
    return html(make_table(rows), rows)


@every_sweep
def test_html_is_balanced_and_holds_the_table(rows):
    table, read = make_table(rows), Page(page(rows))
    assert not read.problems
    assert not read.open
    head, *lines = read.cells
    assert head == [column.title for column in table.columns]
    for shown, line in zip(lines, table.lines, strict=True):
        assert shown == [cell.text for cell in line][: len(shown)]
        assert all(cell.text in ("", "-") for cell in line[len(shown) :])  # an error took their place


@every_sweep
def test_html_asks_for_nothing_from_elsewhere(rows):
    text = page(rows)
    assert "http://" not in text
    assert "https://" not in text
    read = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(read.tags)
    assert not {"src", "href"} & {name for name, _ in read.attributes}
    assert "url(" not in text
    assert "@import" not in text


def test_html_shows_a_nasty_name_as_it_is():
    assert "a_b&50%<script>" in [line[0] for line in Page(page(nasty())).cells]
    assert "<script" not in page(nasty())
    assert any(NASTY.removeprefix("org/") in title for title in Page(page(nasty())).titles)


def test_every_measured_row_is_a_point_with_its_words():
    rows = [*sweep(), replace(sweep()[0], key="inf", scores=(make_score(wer=math.inf),))]
    titles = Page(page(rows)).titles[1:]
    assert len(titles) == 5
    assert "whisper-tiny, rtn 8-bit channel: 37.77 MB, WER 7.52 %" in titles


def test_a_page_without_points_says_so():
    assert "there is no plot" in page(SWEEPS["all failed"])
    assert "<svg" not in page(SWEEPS["all failed"])


@pytest.mark.parametrize(
    ("name", "words", "label"),
    [
        ("one set", "Size and word error rate", "WER in %"),
        ("characters", "Size and character error rate", "CER in %"),
        ("several languages", "Size and error rate", "WER/CER in %"),
    ],
)
def test_the_page_and_its_plot_say_what_is_counted(name, words, label):
    rows = SWEEPS[name]
    page = html(make_table(rows), rows)
    assert f"<h1>{words}</h1>" in page
    assert label in page


def test_csv_says_what_is_counted_and_each_language_s_rate():
    [line] = standard_csv.DictReader(io.StringIO(csv(SWEEPS["several languages"])))
    assert line["unit test-clean"] == "mixed"
    assert standard_json.loads(line["languages test-clean"])[0]["wer"] == 5.0
