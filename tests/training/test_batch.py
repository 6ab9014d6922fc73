"""Batches: what the decoder reads and what it should say."""

import torch

from sottovoce.training.batch import IGNORED, teacher_forced


def test_each_label_is_what_the_decoder_says_after_the_input_at_its_place():
    inputs, labels = teacher_forced([(7, 8), (7, 9)], [[1, 2, 3, 5], [5]], padding=5)
    assert inputs.tolist() == [[7, 8, 1, 2, 3], [7, 9, 5, 5, 5]]
    x = IGNORED
    assert labels.tolist() == [[x, 1, 2, 3, 5], [x, 5, x, x, x]]
    assert inputs.dtype == labels.dtype == torch.int64


def test_a_batch_adds_padding_to_a_row_and_nothing_else():
    rows = [((1,), [2, 3]), ((1,), [4]), ((1,), [5, 6, 7, 8])]
    inputs, labels = teacher_forced(*zip(*rows, strict=True), padding=0)
    for i, (prompt, text) in enumerate(rows):
        alone, wanted = teacher_forced([prompt], [text], padding=0)
        length = alone.shape[1]
        assert torch.equal(inputs[i, :length], alone[0])
        assert torch.equal(labels[i, :length], wanted[0])
        assert (inputs[i, length:] == 0).all()
        assert (labels[i, length:] == IGNORED).all()


def test_a_text_that_was_cut_off_teaches_no_end():
    _, labels = teacher_forced([(7,), (7,)], [[1, 2], [1, 5]], padding=5)
    assert labels.tolist() == [[1, 2], [1, 5]]
