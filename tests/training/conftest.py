"""Untouched toys and their lessons as batches."""

from functools import cache

import pytest

from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.augment import Augmentation
from sottovoce.training.settings import Training
from sottovoce.training.utterances import UtteranceBatches, transcript_tokens

PLAIN = {"batch": 3, "precision": "fp32", "held_out": 0.25}


@pytest.fixture(scope="session")
def teacher(toy):
    """The untouched toy of a name, opened once: to be looked at, not to be trained."""

    @cache
    def opened(name):
        return find_target(toy(name)).open()[0]

    return opened


@pytest.fixture(scope="session")
def lessons_of(teacher, lessons):
    """The lessons of a toy as batches, with the transcripts as its tokens."""

    def made(name, augmented=False, texts=True, noise=0, join=0, **settings):
        recognizer, corpus = Recognizer.of(teacher(name)), read_corpus(lessons(name))
        tokens = transcript_tokens(recognizer, corpus) if texts else None
        how = Augmentation(augment=augmented, speed=0.1 if augmented else 0, noise=noise, join=join)
        return UtteranceBatches(teacher(name), recognizer, corpus, tokens, Training(**{**PLAIN, **settings}), how)

    return made
