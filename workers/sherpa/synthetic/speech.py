"""What the synthetic recognizers share: how they hear letters, and their vocabularies.

They name the loudest band of a frame by a letter (A lowest, Z highest), say nothing in silence, and put a space where loudness
ends. So a recording yields a text that grows while it plays, depends on what was said, and is the same on every machine.
"""

from pathlib import Path
from string import ascii_uppercase

import numpy as np

import graph as onnx_graph

MEL_BINS = 80
LETTERS = len(ascii_uppercase)

# The features are natural logarithms of the power in mel bands. Speech at -25 dBFS peaks above -1 in most of its frames, a tone at
# -30 dBFS near 0, white noise at -60 dBFS near -5: so this lies between silence and speech, for samples in -1..1.
LOUD = -3.5
# What the logarithm grows by when samples are scaled to 16-bit integers instead: ln(32768 squared).
SIXTEEN_BITS = float(2 * np.log(32768.0))

# Logits: letters must beat the blank's zero when it is loud and lose to it when it isn't, by margins no rounding closes.
SURE = 10.0


def bands(bins=MEL_BINS):
    """A [bins, letters] matrix that measures the level around each letter's centre; the triangles overlap by half."""
    centres = (np.arange(LETTERS) + 0.5) * bins / LETTERS
    width = 2.0 * bins / LETTERS
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(bins)[:, None] + 0.5 - centres[None, :]) / width)
    return (weights / weights.sum(axis=0)).astype(np.float32)


def pool(graph, features, frames, factor, bins=MEL_BINS):
    """[N, frames * factor, bins] to [N, frames, bins], each the mean of `factor`; `frames` -1 keeps it dynamic."""
    return graph.op("ReduceMean", graph.reshape(features, 0, frames, factor, bins), axes=[2], keepdims=0)


def pool_all(graph, features, factor, bins=MEL_BINS):
    """[N, T, bins] to [N, ceil(T / factor), bins]: the last frame is repeated to fill the last group."""
    padded = graph.op("Pad", features, graph.integers(0, 0, 0, 0, factor - 1, 0), mode="edge")
    whole = graph.op("Div", graph.dimension(padded, 1), graph.integers(factor))
    end = graph.op("Mul", whole, graph.integers(factor))
    cut = graph.op("Slice", padded, graph.integers(0), end, graph.integers(1))
    return pool(graph, cut, -1, factor, bins)


def lengths(graph, counted, factor):
    """How many frames `pool_all` makes of so many: [N] to [N], int64."""
    return graph.op("Div", graph.op("Add", counted, graph.constant(factor - 1, np.int64)), graph.constant(factor, np.int64))


def silence_before(graph, loud):
    """[N, T, 1] to [N, 1, 1] of zeros: nothing was loud before a whole recording."""
    return graph.op("Mul", graph.slice(loud, 0, 1, 1), 0.0)


def loudness(graph, pooled, threshold=LOUD):
    """[N, T, bins] to [N, T, 1]: one where the loudest band is above the threshold, zero elsewhere."""
    peak = graph.op("ReduceMax", pooled, axes=[2], keepdims=1)
    return graph.cast(graph.op("Greater", peak, threshold), onnx_graph.FLOAT)


def loudness_of_normalized(graph, pooled, counted):
    """As `loudness`, of features normalized to a mean of zero for each band: what is louder than the recording's average.

    The mean of the first `counted` [N] frames is taken off once more, since of perfect silence the normalization leaves rounding
    errors, much enlarged. What follows them is padding.
    """
    mean = graph.op("ReduceMean", pooled, axes=[2], keepdims=1)
    count = graph.op("Squeeze", graph.dimension(pooled, 1))
    places = graph.op("Range", graph.constant(0, np.int64), count, graph.constant(1, np.int64))
    real = graph.op("Less", graph.reshape(places, 1, -1, 1), graph.reshape(counted, -1, 1, 1))
    total = graph.op("ReduceSum", graph.op("Mul", mean, graph.cast(real, onnx_graph.FLOAT)), graph.integers(1), keepdims=1)
    average = graph.op("Div", total, graph.cast(graph.reshape(counted, -1, 1, 1), onnx_graph.FLOAT))
    return graph.cast(graph.op("Greater", graph.op("Sub", mean, average), 0.2), onnx_graph.FLOAT)


def pauses(graph, loud, previous):
    """One where a frame is quiet and the one before it was loud; `previous` [N, 1, 1] is the loudness before the first."""
    before = graph.op("Concat", previous, graph.slice(loud, 0, -1, 1), axis=1)
    return graph.op("Mul", before, graph.op("Sub", 1.0, loud))


def heard(graph, pooled, loud, pause, bins=MEL_BINS):
    """[N, T, bins] to [N, T, 27]: the logits of the letters and of the space, to be compared with a blank of zero."""
    return spelled(graph, graph.op("MatMul", pooled, bands(bins)), loud, pause)


def spelled(graph, levels, loud, pause):
    """As `heard`, from the levels of the 26 bands. Only the loudest band's letter beats the blank, so that a transducer that asks
    again in the same frame hears nothing more."""
    best = graph.op("Equal", levels, graph.op("ReduceMax", levels, axes=[2], keepdims=1))
    letters = graph.op("Mul", graph.cast(best, onnx_graph.FLOAT), loud)
    chosen = graph.op("Concat", letters, pause, axis=2)
    return graph.op("Mul", graph.op("Sub", chosen, 0.5), 2 * SURE)


def collapsed(graph, frames):
    """[N, T, 27] logits to ones where a letter or space begins: what a CTC decoder would write, and nothing where it goes on."""
    said = graph.cast(graph.op("Greater", frames, 0.0), onnx_graph.FLOAT)
    first = graph.op("Mul", graph.slice(said, 0, 1, 1), 0.0)
    before = graph.op("Concat", first, graph.slice(said, 0, -1, 1), axis=1)
    return graph.op("Relu", graph.op("Sub", said, before))


def waveform_levels(graph, frames, size, rate):
    """[N, T, size] samples in -1..1 to the logarithmic levels [N, T, 26] of 26 tones, for the models that hear samples."""
    hertz = 100.0 + (3600.0 - 100.0) * np.arange(LETTERS) / (LETTERS - 1)
    angle = 2 * np.pi * hertz[None, :] * np.arange(size)[:, None] / rate
    window = np.hanning(size)[:, None] / size
    parts = [graph.op("MatMul", frames, (window * wave(angle)).astype(np.float32)) for wave in (np.cos, np.sin)]
    power = graph.op("Add", *(graph.op("Mul", part, part) for part in parts))
    return graph.op("Log", graph.op("Add", power, 1e-12))


# A frame of samples is loud above this power: -45 dBFS.
LOUD_POWER = 10 ** -4.5


def waveform_loudness(graph, frames):
    """[N, T, size] samples in -1..1 to [N, T, 1]: one where the frame's power is above the threshold."""
    power = graph.op("ReduceMean", graph.op("Mul", frames, frames), axes=[2], keepdims=1)
    return graph.cast(graph.op("Greater", power, LOUD_POWER), onnx_graph.FLOAT)


def last_frame(graph, value):
    """[N, T, D] to [N, 1, D]: the last frame."""
    return graph.slice(value, -1, np.iinfo(np.int64).max, 1)


def placed(columns, width):
    """A matrix that puts row i into column columns[i] of `width`."""
    matrix = np.zeros((len(columns), width), dtype=np.float32)
    matrix[np.arange(len(columns)), columns] = 1.0
    return matrix


class Vocabulary:
    """Tokens of a kind: where its blank, its letters and its space are."""

    def __init__(self, tokens, blank, space="▁", letters=ascii_uppercase):
        self.tokens = tokens
        self.size = len(tokens)
        self.blank = tokens.index(blank)
        self.space = tokens.index(space)
        self.letters = [tokens.index(letter) for letter in letters]

    def logits(self, graph, heard_frames):
        """[.., 27] to [.., vocabulary]; tokens never said get a logit that never wins."""
        columns = [*self.letters, self.space]
        never = np.full(self.size, -3 * SURE, dtype=np.float32)
        never[[self.blank, *columns]] = 0.0
        return graph.op("Add", graph.op("MatMul", heard_frames, placed(columns, self.size)), never)

    def write(self, folder):
        lines = [f"{token} {number}" for number, token in enumerate(self.tokens)]
        Path(folder, "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


# As icefall writes them: blank first.
ICEFALL = Vocabulary(["<blk>", "<sos/eos>", "<unk>", *ascii_uppercase, "▁"], "<blk>")
# As NeMo does: blank last, lower case. vocab_size in the metadata leaves the blank out.
NEMO = Vocabulary(["<unk>", *ascii_uppercase.lower(), "▁", "<blk>"], "<blk>", letters=ascii_uppercase.lower())
