"""What happens to a clean voice before a microphone has it: another rate, a room, an equaliser, noise, a gain.

All with numpy's FFT, a few milliseconds for a clip of 16 kHz samples.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.float32]
Phone = tuple[str, int, int]  # label, first sample, sample after the last

RATE = 16_000


@dataclass(frozen=True)
class Conditions:
    """Ranges and probabilities to draw from.

    speed     factor on the playing speed, which moves pitch and formants too, so a new speaker of sorts
    snr_db    speech over noise
    decay     RT60 of the room in seconds
    direct_db direct sound over reverberation
    tilt_db   largest gain or loss of the equaliser
    level_db  root mean square of the result, full scale 0
    """

    speed: tuple[float, float] = (0.88, 1.14)
    snr_db: tuple[float, float] = (12, 40)
    decay: tuple[float, float] = (0.1, 0.4)
    direct_db: tuple[float, float] = (3, 15)
    tilt_db: float = 5
    level_db: tuple[float, float] = (-34, -16)
    p_speed: float = 0.8
    p_noise: float = 0.8
    p_room: float = 0.5
    p_tilt: float = 0.8


TRAINING = Conditions()
SHIPPED = Conditions(
    speed=(0.95, 1.06), snr_db=(15, 35), decay=(0.1, 0.3), direct_db=(5, 15), tilt_db=4, level_db=(-28, -20)
)


def augment(
    samples: Samples, phones: list[Phone], rng: np.random.Generator, conditions: Conditions = TRAINING
) -> tuple[Samples, list[Phone]]:
    """The clip as heard under conditions drawn from `conditions`, and its phones where they are now.

    samples  (n,) float32 at 16 kHz; the result has another length if the speed was changed, and a peak below 1
    """
    if rng.random() < conditions.p_speed:
        samples, phones = faster(samples, phones, rng.uniform(*conditions.speed))
    room = _impulse_response(rng, conditions) if rng.random() < conditions.p_room else None
    tilt = conditions.tilt_db if rng.random() < conditions.p_tilt else 0
    heard = _filter(samples, room, tilt, rng)
    if rng.random() < conditions.p_noise:
        heard = heard + _noise(heard, rng) * _rms(heard) * 10 ** (-rng.uniform(*conditions.snr_db) / 20)
    heard *= 10 ** (rng.uniform(*conditions.level_db) / 20) / max(_rms(heard), 1e-6)
    peak = float(np.abs(heard).max())
    if peak > 0.97:
        heard *= 0.97 / peak
    return heard.astype(np.float32), phones


def faster(samples: Samples, phones: list[Phone], factor: float) -> tuple[Samples, list[Phone]]:
    """The clip played `factor` times as fast, pitch and formants with it."""
    factor = round(factor, 2)
    out = soxr.resample(samples, RATE * factor, RATE, quality="MQ")
    return out, [(label, min(round(a / factor), len(out)), min(round(b / factor), len(out))) for label, a, b in phones]


def _impulse_response(rng: np.random.Generator, conditions: Conditions) -> Samples:
    """A direct path at 0, then, some milliseconds later, noise that falls by 60 dB in the decay time."""
    n = int(rng.uniform(*conditions.decay) * RATE)
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail[: int(rng.uniform(0.001, 0.006) * RATE)] = 0
    tail *= 10 ** (-rng.uniform(*conditions.direct_db) / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1
    return tail.astype(np.float32)


def _filter(samples: Samples, room: Samples | None, tilt_db: float, rng: np.random.Generator) -> Samples:
    """Room and equaliser in one multiplication of spectra; as long as `samples`."""
    size = _fft_size(len(samples) + (0 if room is None else len(room)))
    spectrum = np.fft.rfft(samples, size)
    if room is not None:
        spectrum *= np.fft.rfft(room, size)
    if tilt_db:
        octave = np.log2(np.maximum(np.arange(len(spectrum)) * RATE / size, 60) / 60) / 7.06  # 0 at 60 Hz, 1 at 8 kHz
        waves = [np.cos(np.pi * (k * octave + rng.uniform(0, 2))) * rng.uniform(0, 1) for k in (1, 2, 3)]
        curve = sum(waves) / 2
        spectrum *= 10 ** (tilt_db * curve / 20)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def _noise(speech: Samples, rng: np.random.Generator) -> Samples:
    """As long as `speech`, root mean square 1: white, pink, brown, or with the spectrum and swell of speech."""
    kind = rng.choice(["white", "pink", "brown", "babble"])
    n = len(speech)
    size = _fft_size(n)
    if kind == "babble":
        magnitude = np.abs(np.fft.rfft(speech, size))
    else:
        hertz = np.maximum(np.arange(size // 2 + 1) * RATE / size, 50)
        magnitude = hertz ** {"white": 0.0, "pink": -0.5, "brown": -1.0}[str(kind)]
    phase = rng.uniform(0, 2 * np.pi, len(magnitude)).astype(np.float32)
    noise = np.fft.irfft(magnitude * np.exp(1j * phase), size)[:n]
    if kind == "babble":
        knots = rng.uniform(0.3, 1, n // 1600 + 2)  # ten syllables' worth of level a second
        noise *= np.interp(np.arange(n) / 1600, np.arange(len(knots)), knots)
    return (noise / max(_rms(noise), 1e-9)).astype(np.float32)


def _rms(samples: npt.NDArray[np.floating]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def _fft_size(n: int) -> int:
    """The smallest even 5-smooth number that is not below n; the FFT is fast there."""
    best = 1 << max(n - 1, 1).bit_length()
    for fives in range(6):
        for threes in range(6):
            odd = 5**fives * 3**threes
            best = min(best, odd << max((-(-n // odd) - 1).bit_length(), 1))
    return best
