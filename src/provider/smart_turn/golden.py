"""What `tests.rs` compares the spectrogram with: Whisper's log-mel features of a synthetic sound, computed with numpy.

Usage: python golden.py > golden.f32    (numpy 2.2 was used; it is not part of the set-up)

Written after the description of `transformers.WhisperFeatureExtractor` (chunk_length=8, do_normalize=True, padded at the
start), in the plainest way: whole matrices, 64 bits. Every sixteenth frame of both sounds is kept, 32-bit floats, little
endian, band after band within a frame.
"""

import sys

import numpy as np

RATE, LENGTH, HOP, MELS, WINDOW, STEP = 16_000, 400, 160, 80, 128_000, 16


def sound(count: int) -> np.ndarray:
    """A chirp of triangles over noise: loud, soft, and a second of nothing. Integers only, so that Rust's is the same."""
    samples, seed, phase = [], 1, 0
    for at in range(count):
        seed = (seed * 1_664_525 + 1_013_904_223) % 2**32
        phase = (phase + 2_000_000 + at * 12_000) % 2**32
        triangle = abs((phase >> 16) - 32_768) - 16_384
        noise = (seed >> 16) % 401 - 200
        second = at // RATE
        value = triangle // (1, 8, 64)[second % 3] + noise // (1, 16, 4)[second % 3]
        samples.append(0 if second == 4 else value)
    return np.array(samples, dtype=np.int16)


def mel_filters() -> np.ndarray:
    """Slaney's filter bank, one row a band."""

    def to_mel(hertz):
        return np.where(hertz < 1_000, hertz * 3 / 200, 15 + 27 * np.log(np.maximum(hertz, 1e-9) / 1_000) / np.log(6.4))

    def to_hertz(mel):
        return np.where(mel < 15, mel * 200 / 3, 1_000 * np.exp((mel - 15) * np.log(6.4) / 27))

    corners = to_hertz(np.linspace(to_mel(np.array(0.0)), to_mel(np.array(8_000.0)), MELS + 2))
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.linspace(0, RATE / 2, LENGTH // 2 + 1)[None, :]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return np.maximum(triangles, 0) * 2 / (high - low)


def features(pcm: np.ndarray) -> np.ndarray:
    x = np.pad(pcm.astype(np.float64) / 32_768, (WINDOW - len(pcm), 0))
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
    x = np.pad(x, LENGTH // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(LENGTH) / LENGTH)
    frames = np.stack([x[at : at + LENGTH] * window for at in range(0, WINDOW, HOP)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    log = np.log10(np.maximum(mel_filters() @ power.T, 1e-10))
    return (np.maximum(log, log.max() - 8) + 4) / 4


if __name__ == "__main__":
    for seconds in (8.0, 2.3):
        kept = features(sound(int(seconds * RATE))).T[::STEP]
        sys.stdout.buffer.write(kept.astype("<f4").tobytes())
