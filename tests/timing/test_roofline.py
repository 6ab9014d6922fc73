import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import sottovoce
from sottovoce.recognition.target import find_target
from sottovoce.targets.exported import Exported, Source
from sottovoce.timing.bench import Bench, Plan, Speed
from sottovoce.timing.peaks import READ_BYTES, Peak, Peaks, _fastest, measure_peaks
from sottovoce.timing.roofline import _closeness, _work, roofline
from tests.reference.cost import count


def peak(value):
    return Peak("kernel", value, value, value)


PEAKS = Peaks(1, {"int8": peak(4e9), "bf16": peak(2e9), "fp32": peak(1e9)}, {10**6: peak(2e9), 10**8: peak(1e9)})
SPEED = Speed("toy", 1, 0, 0, 30, 10, 5, 0, (1, 1, 1), 0, 0, 0)


def closeness(target, tokens=11):
    return _closeness(SPEED, PEAKS, _work(target), Plan((target,), (1,), 1, tokens))


@pytest.fixture
def eight(toy, tmp_path):
    """A target that says it is an ONNX export of an artifact of 8 bits, and the artifact."""
    made = find_target(sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=tmp_path / "eight").folder)
    source = Source(made.name, made.digest, tuple(made.artifact.recipes), ())
    exported = Exported(made.checkpoint.folder, "onnx", made.base, source, (), {}, {})
    return replace(made, artifact=None, exported=exported), made


@pytest.mark.parametrize("family", ["whisper", "moonshine"])
def test_operations_to_the_first_token_are_those_that_are_done(family, toy):
    target = find_target(toy(family))
    model, _ = target.open()
    done = count(model, np.zeros(model.sampling_rate, np.float32), 1)
    found = closeness(target)
    assert found.operations == {"fp32": 2 * (done.macs.total() + done.attention_macs)}
    assert found.start == 40
    assert found.start_floor == 1000 * found.operations["fp32"] / 1e9


def test_a_token_reads_the_decoder_s_weights_and_all_keys_and_values(toy):
    target = find_target(toy("whisper"))
    shapes = target.layout().shapes
    made_once = ("encoder_attn.k_proj", "encoder_attn.v_proj", "embed_positions")
    weights = sum(
        s.rows * s.columns for n, s in shapes.items() if n.startswith("decoder") and not n.endswith(made_once)
    )
    cross = 2 * 2 * 100 * 32  # of two blocks, keys and values of 100 frames
    found = closeness(target)
    assert 4 * (weights + cross) < found.token_bytes < 1.15 * 4 * (weights + cross)
    assert found.read_bytes == 10**6
    assert found.token_floor == 1000 * found.token_bytes / 2e9


def test_an_export_multiplies_its_integers_as_int8_and_reads_a_byte_of_each(eight, toy):
    exported, artifact = eight
    found, floats = closeness(exported), closeness(find_target(toy("whisper")))
    assert sum(found.operations.values()) == floats.operations["fp32"]
    linears = [s for s in exported.layout().shapes.values() if s.kind == "linear" and s.name.startswith("encoder.")]
    assert found.operations["int8"] > 2 * 100 * sum(s.rows * s.columns for s in linears)  # for each of 100 frames
    assert found.start_floor == pytest.approx(found.operations["int8"] / 4e6 + found.operations["fp32"] / 1e6)
    assert found.token_bytes < 0.6 * floats.token_bytes
    assert closeness(artifact).operations == floats.operations  # torch multiplies what the integers stand for
    assert closeness(artifact).token_bytes == floats.token_bytes


def test_an_export_of_floats_is_counted_without_its_checkpoint(eight, toy):
    exported, _ = eight
    made = replace(exported.exported, source=Source("gone", "0" * 64, (), ()))
    assert closeness(replace(exported, exported=made)).operations == closeness(find_target(toy("whisper"))).operations


def test_an_export_whose_artifact_is_gone_or_another_is_refused(eight):
    exported, artifact = eight
    table = artifact.artifact.folder / "sottovoce.json"
    changed = Source(artifact.name, "0" * 64, exported.exported.source.recipes, ())
    with pytest.raises(ValueError, match="which has changed since; export it again"):
        _work(replace(exported, exported=replace(exported.exported, source=changed)))
    table.write_text(json.dumps({**json.loads(table.read_text()), "format": 0}))
    with pytest.raises(ValueError, match="table of layers says what it multiplies as integers, and that cannot be"):
        _work(exported)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": True, "tokens": 1}, "tokens=1: 2 or more would work, since a token after the first is timed"),
        ({"targets": True, "seconds": 500}, "noise of 500 s"),
        ({"seconds": 2}, "seconds and tokens are of targets, and none is named"),
        ({"threads": [0]}, "threads=0: 1 or more would work"),
        ({"rounds": 0}, "rounds=0: 1 or more would work"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_measured(options, message, toy, monkeypatch):
    monkeypatch.setattr("sottovoce.timing.roofline.measure_peaks", lambda *_: pytest.fail("measured"))
    targets = [toy("whisper")] if options.pop("targets", False) else []
    with pytest.raises(ValueError, match=message):
        roofline(targets, **options)


def test_every_target_is_held_against_the_peaks_of_its_number_of_threads(toy, monkeypatch):
    def timed(targets, *, threads, **options):
        [number] = threads
        return Bench(1, 3, 1, tuple(replace(SPEED, target=name, threads=number) for name in targets))

    half = {kind: peak(each.middle / 2) for kind, each in PEAKS.products.items()}
    measured = {1: PEAKS, 2: replace(PEAKS, threads=2, products=half)}
    monkeypatch.setattr("sottovoce.timing.roofline.measure_peaks", lambda threads, _: measured[threads])
    monkeypatch.setattr("sottovoce.timing.roofline.bench", timed)
    found = roofline([toy("whisper"), toy("moonshine")], seconds=1, tokens=3)
    assert found.peaks == tuple(measured.values())
    assert [(each.target, each.threads) for each in found.targets] == [
        (str(toy(family)), threads) for threads in (1, 2) for family in ("whisper", "moonshine")
    ]
    one, other, two, _ = found.targets
    assert two.start_floor == 2 * one.start_floor != 2 * other.start_floor
    assert json.loads(json.dumps(found.as_document()))["targets"][0]["token"] == SPEED.token


def test_the_fastest_kernel_is_the_peak_and_is_named():
    kernels = {"slow": lambda: time.sleep(0.02), "fast": lambda: time.sleep(0.001)}
    found = _fastest(kernels, 1000, rounds=3)
    assert found.kernel == "fast"
    assert 1000 / 0.02 < found.least <= found.middle <= found.most <= 1000 / 0.001


def test_bytes_are_held_against_the_next_larger_read():
    assert [PEAKS.read(count)[0] for count in (1, 10**6, 10**6 + 1, 10**9)] == [10**6, 10**6, 10**8, 10**8]


def test_peaks_of_this_machine_are_measured_and_threads_put_back():
    before = torch.get_num_threads()
    found = measure_peaks(before, rounds=1)
    assert set(found.products) == {"int8", "bf16", "fp32"}
    assert tuple(found.reads) == READ_BYTES
    for each in (*found.products.values(), *found.reads.values()):
        assert each.kernel
        assert 1e8 < each.least <= each.most < 1e15
    assert torch.get_num_threads() == before
