"""Moonshine, first version: four graphs, of which the last two decode one token after another from whole recordings."""

from string import ascii_lowercase

import numpy as np

from graph import FLOAT, INT32, Graph
from speech import (
    SURE, Vocabulary, collapsed, pauses, placed, silence_before, spelled, waveform_levels, waveform_loudness,
)

RATE = 16000
# The real preprocessor makes one feature of so many samples; from that sherpa-onnx works out how long a text may get.
STRIDE = 384
# One letter at most in eight features, which stays below that limit of about seven.
GROUP = 8
WIDTH = 32
LAYERS = 2
TOKENS = Vocabulary(["<unk>", "<s>", "</s>", *ascii_lowercase, "▁"], "<unk>", letters=ascii_lowercase)
END = TOKENS.tokens.index("</s>")


def preprocessor(path):
    """[1, samples] to [1, T, 384]: the samples themselves, cut up; what doesn't fill the last piece is padded with silence."""
    graph = Graph("synthetic-moonshine-preprocess")
    audio = graph.input("args_0", FLOAT, [1, "samples"])
    padded = graph.op("Pad", audio, graph.integers(0, 0, 0, STRIDE - 1))
    count = graph.op("Div", graph.dimension(padded, 1), graph.integers(STRIDE))
    cut = graph.op("Slice", padded, graph.integers(0), graph.op("Mul", count, graph.integers(STRIDE)), graph.integers(1))
    graph.output(graph.reshape(cut, 1, -1, STRIDE), "sequential", FLOAT, [1, "T", STRIDE])
    graph.save(path)


def encoder(path):
    """[1, T, 384] to [1, T, 32]: in the first rows the letters and spaces to be said, the others empty."""
    graph = Graph("synthetic-moonshine-encode")
    features = graph.input("args_0", FLOAT, [1, "T", STRIDE])
    graph.input("args_1", INT32, [1])
    padded = graph.op("Pad", features, graph.integers(0, 0, 0, 0, GROUP - 1, 0))
    count = graph.op("Div", graph.dimension(padded, 1), graph.integers(GROUP))
    cut = graph.op("Slice", padded, graph.integers(0), graph.op("Mul", count, graph.integers(GROUP)), graph.integers(1))
    frames = graph.reshape(cut, 1, -1, GROUP * STRIDE)
    loud = waveform_loudness(graph, frames)
    levels = waveform_levels(graph, frames, GROUP * STRIDE, RATE)
    said = collapsed(graph, spelled(graph, levels, loud, pauses(graph, loud, silence_before(graph, loud))))
    rows = graph.op("MatMul", said, placed(range(27), WIDTH))
    missing = graph.op("Sub", graph.dimension(features, 1), count)
    pads = graph.op("Concat", graph.integers(0, 0, 0, 0), missing, graph.integers(0), axis=0)
    graph.output(graph.op("Pad", rows, pads), "layer_normalization", FLOAT, [1, "T", WIDTH])
    graph.save(path)


def decoder(path, cached):
    """The next token: the n-th that the encoder wants said, or the end. How many were said is in the states."""
    graph = Graph(f"synthetic-moonshine-{'cached' if cached else 'uncached'}-decode")
    graph.input("args_0", INT32, [1, 1])
    encoded = graph.input("args_1", FLOAT, [1, "T", WIDTH])
    graph.input("args_2", INT32, [1])
    shape = [1, 1, 1]
    if cached:
        states = [graph.input(f"args_{3 + layer}", FLOAT, shape) for layer in range(LAYERS)]
        place = graph.op("Add", states[0], 1.0)
    else:
        place = graph.constant(np.ones(shape))
    rows = graph.slice(encoded, 0, 27, 2)
    said = graph.op("ReduceMax", rows, axes=[2], keepdims=1)
    number = graph.op("CumSum", said, graph.constant(1, np.int64))
    here = graph.cast(graph.op("Less", graph.op("Abs", graph.op("Sub", number, place)), 0.5), FLOAT)
    chosen = graph.op("ReduceSum", graph.op("Mul", rows, graph.op("Mul", said, here)), graph.integers(1), keepdims=1)
    logits = graph.op("MatMul", chosen, placed([*TOKENS.letters, TOKENS.space], TOKENS.size) * 2 * SURE)
    rest = np.zeros(TOKENS.size)
    rest[END] = SURE
    graph.output(graph.op("Add", logits, rest), "logits", FLOAT, [1, 1, TOKENS.size])
    for layer in range(LAYERS):
        graph.output(place, f"state_{layer}", FLOAT, shape)
    graph.save(path)


def moonshine(folder):
    preprocessor(folder / "preprocess.onnx")
    encoder(folder / "encode.int8.onnx")
    decoder(folder / "uncached_decode.int8.onnx", cached=False)
    decoder(folder / "cached_decode.int8.onnx", cached=True)
    TOKENS.write(folder)
