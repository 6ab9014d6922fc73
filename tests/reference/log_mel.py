"""Whisper's log-mel spectrogram as its definition says it: a frame, a frequency, a band at a time."""

import cmath
import math


def log_mel(samples, window, bins, n_fft=400, hop=160, rate=16_000):
    """[bins][frames] of a list of samples, silence behind them up to the window."""
    audio = [*samples[:window], *[0.0] * (window - len(samples))]
    half = n_fft // 2
    mirrored = [*audio[half:0:-1], *audio, *audio[-2 : -half - 2 : -1]]
    hann = [math.sin(math.pi * i / n_fft) ** 2 for i in range(n_fft)]
    turns = [cmath.exp(-2j * math.pi * i / n_fft) for i in range(n_fft)]
    told = []
    for start in range(0, window - window % hop, hop):
        frame = [value * weight for value, weight in zip(mirrored[start : start + n_fft], hann, strict=True)]
        power = [abs(sum(value * turns[i * k % n_fft] for i, value in enumerate(frame))) ** 2 for k in range(half + 1)]
        told.append([math.log10(max(1e-10, sum(map(math.prod, zip(power, band, strict=True))))) for band in
                     triangles(bins, n_fft, rate)])  # fmt: skip
    loudest = max(map(max, told))
    return [[(max(frame[band], loudest - 8) + 4) / 4 for frame in told] for band in range(bins)]


def triangles(bins, n_fft, rate):
    """[bins][frequencies]: each rises from the middle of the one before and falls to that of the next; area 1."""
    edges = [hertz(mels(8000) * i / (bins + 1)) for i in range(bins + 2)]
    bands = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        at = [rate * k / n_fft for k in range(n_fft // 2 + 1)]
        rising, falling = [(f - low) / (middle - low) for f in at], [(high - f) / (high - middle) for f in at]
        bands.append([max(0, min(pair)) * 2 / (high - low) for pair in zip(rising, falling, strict=True)])
    return bands


def mels(frequency):
    return 3 * frequency / 200 if frequency < 1000 else 15 + 27 * math.log(frequency / 1000) / math.log(6.4)


def hertz(mel):
    return 200 * mel / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)
