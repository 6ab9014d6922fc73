"""Three speech synthesizers that also say when they said which phone: espeak-ng, flite, festival.

All three are programs of the system (Debian: espeak-ng, flite, festival with its voices); the corpus needs none of
them once it is made. Phones carry one set of labels, ARPAbet's, whatever the program calls them.
"""

import ctypes
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from builtin.voices import Voice

Samples = npt.NDArray[np.float32]

RATE = 16_000
ESPEAK_WORDS_A_MINUTE = 175  # its own default

PHONES = (
    *("pau", "aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"),
    *("b", "ch", "d", "dh", "f", "g", "hh", "jh", "k", "l", "m", "n", "ng", "p", "r", "s", "sh", "t", "th", "v"),
    *("w", "y", "z", "zh"),
)

# A diphthong or an r-coloured vowel takes the nearest single label.
FROM_ESPEAK = {
    **dict.fromkeys(("_", "_:", "_|", "_!", "_^_", "?"), "pau"),
    "0": "aa",
    "A:": "aa",
    "A@": "aa",
    "A": "aa",
    "a": "ae",
    "V": "ah",
    "VR": "er",
    "IR": "er",
    "3": "er",
    "3:": "er",
    "O:": "ao",
    "O@": "ao",
    "o@": "ao",
    "O": "ao",
    "O2": "ao",
    "aU": "aw",
    "aI": "ay",
    "aI2": "ay",
    "aI@": "ay",
    "aI3": "ay",
    "@": "ax",
    "@2": "ax",
    "@5": "ax",
    "@-": "ax",
    "a#": "ax",
    "E": "eh",
    "e@": "eh",
    "eI": "ey",
    "I": "ih",
    "I2": "ih",
    "I#": "ih",
    "i": "iy",
    "i:": "iy",
    "i@": "iy",
    "i@3": "iy",
    "oU": "ow",
    "OI": "oy",
    "U": "uh",
    "U@": "uh",
    "u:": "uw",
    "u": "uw",
    "@L": "l",
    "ER": "er",
    "b": "b",
    "tS": "ch",
    "d": "d",
    "d#": "d",
    "D": "dh",
    "f": "f",
    "g": "g",
    "h": "hh",
    "dZ": "jh",
    "k": "k",
    "l": "l",
    "l#": "l",
    "m": "m",
    "m-": "m",
    "n": "n",
    "n-": "n",
    "N": "ng",
    "p": "p",
    "r": "r",
    "r-": "r",
    "s": "s",
    "S": "sh",
    "t": "t",
    "t2": "t",
    "t#": "t",
    "t[": "t",
    "T": "th",
    "v": "v",
    "w": "w",
    "w#": "w",
    "j": "y",
    "z": "z",
    "z#": "z",
    "Z": "zh",
    "s#": "s",
    "k-": "k",
}
GLIDE = ";"  # the tail of the vowel before it

# The vowel of `ask`, long in the south of England alone.
BROAD_ACCENTS = ("gmw/en+", "gmw/en-GB-x-rp+")

# Words that a synthesizer would read as another: the letter a as the article, drugs by their spelling.
TO_ESPEAK = {
    "a": "[[eI]]",
    "fentanyl": "[[f'Ent@nI2l]]",
    "amiodarone": "[[,amI2'oUd@r,oUn]]",
    "lorazepam": "[[l@r'azI2pam]]",
}
TO_FESTIVAL = {"a": "ay", "litre": "liter", "litres": "liters", "millilitres": "milliliters"}


@dataclass(frozen=True)
class Spoken:
    """A clip: (n,) float32 samples at 16 kHz, and its phones as (label, first sample, sample after the last)."""

    samples: Samples
    phones: list[tuple[str, int, int]]


def speak(text: str, voice: Voice, rng: np.random.Generator) -> Spoken:
    """The text in that voice, at a speed and a pitch drawn from its ranges.

    Raises FileNotFoundError or OSError if the program is not installed.
    """
    return {"espeak": espeak, "flite": flite, "festival": festival}[voice.engine](text, voice, rng)


def flite(text: str, voice: Voice, rng: np.random.Generator) -> Spoken:
    """Spoken by one run of flite, some 50 ms."""
    pitch = "int_f0_target_mean" if voice.model == "kal16" else "f0_shift"
    with tempfile.NamedTemporaryFile(suffix=".wav", dir=_scratch()) as wav:
        command = ["flite", "-voice", voice.model, "-psdur"]
        command += ["--setf", f"duration_stretch={1 / rng.uniform(*voice.speed):.3f}"]
        command += ["--setf", f"{pitch}={rng.uniform(*voice.pitch):.3f}"]
        command += ["-t", _respelled(text, TO_FESTIVAL), "-o", wav.name]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        samples = _read(wav.name)
    ends = [segment.rsplit(":", 1) for segment in printed.split()]
    return _from_ends(samples, [(label, float(end)) for label, end in ends])


def festival(text: str, voice: Voice, rng: np.random.Generator) -> Spoken:
    """Spoken by a festival that stays alive, one for each voice and process."""
    process = _festival(voice.model, os.getpid())
    with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
        wav, segments = f"{folder}/x.wav", f"{folder}/x.segs"
        stretch, pitch = 1 / rng.uniform(*voice.speed), rng.uniform(*voice.pitch)
        command = f'(say "{_respelled(text, TO_FESTIVAL)}" "{wav}" "{segments}" {stretch:.3f} {pitch:.2f})\n'
        process.stdin.write(command)
        process.stdin.flush()
        while (line := process.stdout.readline()) != "said\n":
            if not line:
                raise OSError(f"festival ended while it said {text!r} as {voice.name}")
        samples = _read(wav)
        fields = [line.split() for line in Path(segments).read_text().splitlines() if not line.startswith("#")]
    late = HTS_LATE_SECONDS if voice.model.endswith("hts") else 0
    return _from_ends(samples, [(label, float(end) + late) for end, _, label in fields])


# HTS takes speed and semitones in its own parameters; its duration model does not listen to Duration_Stretch.
SAY = """
(voice_{model})
(define base_params (if (boundp 'hts_engine_params) hts_engine_params nil))
(define (say text wav segments stretch pitch)
  (if (string-matches "{model}" ".*hts")
      (set! hts_engine_params (append base_params (list (list "-fm" pitch) (list "-r" (/ 1.0 stretch)))))
      (begin
        (Parameter.set 'Duration_Stretch stretch)
        (set! int_lr_params (cons (list 'target_f0_mean pitch) (cdr int_lr_params)))))
  (let ((utterance (eval (list 'Utterance 'Text text))))
    (utt.synth utterance)
    (utt.wave.resample utterance 16000)
    (utt.save.wave utterance wav 'riff)
    (utt.save.segs utterance segments)
    (format t "said\\n")
    (fflush nil)))
"""

# By how much its sound comes after its labels, measured: the shift that makes its s and sh hissiest. The same at the
# start of a clip and at the end; below 10 ms for the other voices.
HTS_LATE_SECONDS = 0.02


@cache
def _festival(model: str, pid: int) -> Any:
    """A festival that reads Scheme from a pipe, with `say` defined; `pid` keeps forks from sharing one."""
    process = subprocess.Popen(
        ["festival", "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin
    process.stdin.write(SAY.format(model=model))
    return process


class _Id(ctypes.Union):
    """espeak_EVENT.id: for a phone its mnemonic, at most eight bytes."""

    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT; `sample` counts from the start of the text."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
SYNCHRONOUS, PHONEME_EVENTS, END_OF_LIST, PHONEME = 2, 1, 0, 7
UTF8_WITH_PHONEMES = 0x101
WORDS_A_MINUTE, PITCH = 1, 3


class _Espeak:
    """libespeak-ng in this process; one at a time, as its state is global."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS)
        if self.rate <= 0:
            raise OSError("libespeak-ng does not find its data; install the package espeak-ng-data")
        self.blocks: list[npt.NDArray[np.int16]] = []
        self.events: list[tuple[str, int]] = []
        self.callback = CALLBACK(self._heard)  # kept here, or it is collected while the library still has it
        self.library.espeak_SetSynthCallback(self.callback)

    def _heard(self, samples: Any, n: int, events: Any) -> int:
        if n > 0:
            self.blocks.append(np.ctypeslib.as_array(samples, (n,)).copy())
        i = 0
        while events[i].type != END_OF_LIST:
            if events[i].type == PHONEME:
                self.events.append((events[i].id.string.decode(), events[i].sample))
            i += 1
        return 0

    def say(self, text: str, model: str, rate: int, pitch: int) -> tuple[Samples, list[tuple[str, int]]]:
        """Samples at `self.rate`, and (mnemonic, first sample) of each phone."""
        self.blocks, self.events = [], []
        if self.library.espeak_SetVoiceByName(model.encode()):
            raise ValueError(f"espeak-ng has no voice {model!r}; `espeak-ng --voices=variant` lists the variants")
        self.library.espeak_SetParameter(WORDS_A_MINUTE, rate, 0)
        self.library.espeak_SetParameter(PITCH, pitch, 0)
        data = text.encode()
        self.library.espeak_Synth(data, len(data) + 1, 0, 1, 0, UTF8_WITH_PHONEMES, None, None)
        samples: Samples = np.concatenate(self.blocks).astype(np.float32) / np.float32(32768)
        return samples, self.events


@cache
def _espeak() -> _Espeak:
    return _Espeak()


def espeak(text: str, voice: Voice, rng: np.random.Generator) -> Spoken:
    """Spoken by libespeak-ng in this process, some 5 ms.

    Raises ValueError for a mnemonic that FROM_ESPEAK has no label for.
    """
    program = _espeak()
    words_a_minute = round(ESPEAK_WORDS_A_MINUTE * rng.uniform(*voice.speed))
    pitch = round(rng.uniform(*voice.pitch))
    raw, events = program.say(_respelled(text, TO_ESPEAK), voice.model, words_a_minute, pitch)
    samples = soxr.resample(raw, program.rate, RATE, quality="HQ")
    broad = voice.model.startswith(BROAD_ACCENTS)
    ends = [start / program.rate for _, start in events[1:]] + [len(samples) / RATE]
    phones: list[tuple[str, float]] = []
    for (mnemonic, _), end in zip(events, ends, strict=True):
        if mnemonic == GLIDE and phones:
            phones[-1] = (phones[-1][0], end)
        elif mnemonic == "aa":
            phones.append(("aa" if broad else "ae", end))
        elif mnemonic in FROM_ESPEAK:
            phones.append((FROM_ESPEAK[mnemonic], end))
        else:
            raise ValueError(f"FROM_ESPEAK has no label for {mnemonic!r}, heard in {text!r} as {voice.name}")
    return _from_ends(samples, phones)


def _from_ends(samples: Samples, ends: list[tuple[str, float]]) -> Spoken:
    """Phones from their labels and ends in seconds; empty ones are dropped."""
    phones, start = [], 0
    for label, seconds in ends:
        assert label in PHONES, label
        end = min(round(seconds * RATE), len(samples))
        if end > start:
            phones.append((label, start, end))
            start = end
    return Spoken(samples, phones)


def _respelled(text: str, spellings: dict[str, str]) -> str:
    """The text with each word that the synthesizer would misread written as it should be read."""
    return " ".join(spellings.get(word, word) for word in text.split())


def _read(path: str) -> Samples:
    """The samples of a 16 kHz file."""
    samples: Samples
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE, (path, rate)
    return samples


def _scratch() -> str | None:
    """A folder in memory, if the system has one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
