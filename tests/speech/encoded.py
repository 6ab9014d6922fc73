"""Audio encoded with PyAV, for tests of what reads it."""

from pathlib import Path

import numpy as np


def encode(
    path: Path,
    samples: np.ndarray,
    rate: int,
    codec: str,
    *,
    container: str | None = None,
    layout: str | None = None,
    tracks: int = 1,
    picture: bool = False,
    bit_rate: int | None = None,
    **options: str,
) -> Path:
    """Write (frames, channels) samples; `picture` adds a track of pictures, two a second; options go to the muxer."""
    import av

    frames = np.ascontiguousarray(np.atleast_2d(samples.T), np.float32)
    layout = layout or {1: "mono", 2: "stereo", 4: "quad", 8: "7.1"}[len(frames)]
    with av.open(str(path), "w", format=container, container_options=options) as file:
        sound = [file.add_stream(codec, rate=rate, layout=layout) for _ in range(tracks)]
        film = file.add_stream("mpeg4", rate=2, width=32, height=32, pix_fmt="yuv420p") if picture else None
        for stream in sound:
            if bit_rate:
                stream.bit_rate = bit_rate
            if not stream.codec_context.is_open:
                stream.codec_context.open()
            context = stream.codec_context
            resampler = av.AudioResampler(
                context.format, context.layout, context.sample_rate, frame_size=context.frame_size or 1024
            )
            whole = av.AudioFrame.from_ndarray(frames.T.reshape(1, -1).copy(), format="flt", layout=layout)
            whole.sample_rate, whole.pts = rate, 0
            for part in [*resampler.resample(whole), *resampler.resample(None)]:
                file.mux(stream.encode(part))
            file.mux(stream.encode(None))
        if film:
            for number in range(2 * round(frames.shape[1] / rate)):
                image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * number % 255, np.uint8), format="rgb24")
                image.pts = number
                file.mux(film.encode(image))
            file.mux(film.encode(None))
    return path
