"""Hand-made rows: no model was asked."""

from dataclasses import replace

from sottovoce.measure.score import Score
from sottovoce.sweeping.row import Row

NASTY = "org/a_b&50%<script>"
ERROR = "RuntimeError: the recipe asks for 2:4 on conv1, whose 3 columns 4 does not divide;\n  leave conv1 out | _docs_"


def make_score(data="test-clean", wer=8.0, delta=None, interval=None, verdict=None, **more):
    score = Score(
        target="t", data=data, wer=wer, substitutions=60, deletions=10, insertions=10, reference_words=1000,
        utterances=100, bytes=1, delta_wer=delta, delta_wer_interval=interval, verdict=verdict,
        resampled="5 speakers" if interval else None, baseline="base" if interval else None, empties=0, loops=1,
        capped=0, length_ratio=0.99, seconds=600.0, rtfx=12.5, normalizer="whisper-english",
        normalizer_version="transformers 5.17", scorer="kaldialign 0.12",
    )  # fmt: skip
    return replace(score, **more)


def make_row(key="r", model="openai/whisper-tiny", quantization="-", megabytes=None, scores=(), **more):
    row = Row(
        key=key, model=model, recipe=key, quantization=quantization, sparsity="-", low_rank="-", calibration="-",
        compressed=True, bytes=None if megabytes is None else round(megabytes * 1e6), scores=tuple(scores),
    )  # fmt: skip
    return replace(row, **more)


def full_row(key, model, quantization, megabytes, bits, scores, **more):
    """A row with costs."""
    return make_row(
        key,
        model,
        quantization,
        megabytes,
        scores,
        **{
            "bits_per_weight": bits,
            "nonzeros": 37_000_000,
            "macs": 10**10,
            "bit_operations": round(bits * 3.2e11),
            "memory_bytes": round(megabytes * 3.4e7),
            "workload": {"seconds": 10.0, "tokens": 32, "beam": 1, "activation_bits": 32},
            "recipe_document": {"steps": [{"rtn": {"bits": 4}}]},
            **more,
        },
    )


def lost(data, wer, delta, low, high):
    verdict = "worse" if low > 0 else "better" if high < 0 else "no significant difference"
    return make_score(data, wer, delta, (low, high), verdict)


def sweep(model="openai/whisper-tiny", sets=("test-clean",), megabytes=151.06, wer=7.54):
    """A baseline and four recipes, one of them broken; not in the table's order."""

    def scores(delta, low, high):
        return [lost(data, wer + i + delta, delta, low, high) for i, data in enumerate(sets)]

    return [
        full_row("int8", model, "rtn 8-bit channel", megabytes / 4, 8.03, scores(-0.02, -0.11, 0.07)),
        full_row(
            "none", model, "-", megabytes, 32.0, [make_score(data, wer + i) for i, data in enumerate(sets)],
            compressed=False,
        ),
        full_row(
            "gptq4", model, "smoothquant + gptq 4-bit g32", megabytes / 6.4, 5.02, scores(0.39, -0.26, 1.03),
            calibration="128 x train-clean",
        ),
        full_row(
            "gptq4-24", model, "gptq 4-bit g32", megabytes / 7, 4.52, scores(3.18, 2.4, 4.01), sparsity="wanda 2:4",
            low_rank="activation r=16", calibration="128 x train-clean",
        ),
        full_row("rtn4", model, "rtn 4-bit g32", megabytes / 6.4, 5.02, scores(1.31, 0.62, 2.07)),
        make_row("broken", model, "rtn 4-bit g32", sparsity="wanda 2:4", error=ERROR),
    ]  # fmt: skip


def nasty():
    """Every text that a user may write holds what some format takes for its own."""
    return [
        full_row(
            "k", NASTY, r"\q{4} ~x^2 #1 $5 a|b `c` *d*", 12.0, 4.0,
            [lost("se_t & 'two' \"<b>\"", 9.0, -0.5, -0.7, -0.1)],
            sparsity="[x](y)", calibration="100 % & more", low_rank="☃",
        ),
        make_row(
            "e_1", "other/[red]m_&",
            error="</td><script>alert('&amp;')</script> \\end{tabular} 100 % | x",
        ),
    ]  # fmt: skip


def by_characters(data="zh", wer=12.0, **more):
    """A score whose counts are of characters."""
    note = "CER: characters are counted, as the language has no spaces between words"
    return make_score(data, wer, unit="character", normalizer="whisper-basic", notes=(note,), **more)
