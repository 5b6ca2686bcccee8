"""NeMo's exports, streaming and offline: CTC, transducers, and transducers that also say how far to skip (TDT)."""

import numpy as np

from graph import FLOAT, INT32, INT64, Graph
from speech import (
    LOUD, MEL_BINS, NEMO, SURE, heard, last_frame, loudness, loudness_of_normalized, pauses, placed, pool, pool_all,
    silence_before,
)

SUBSAMPLING = 8
# A chunk of the 480 ms models: 48 new frames, and nine more as context.
SHIFT, WINDOW = 48, 57
FRAMES_OUT = SHIFT // SUBSAMPLING
WIDTH = 32
# Attention's cache (layers, left context, width) and the convolution's (layers, width, kernel - 1).
CHANNEL_CACHE, TIME_CACHE = (2, 24, 16), (2, 16, 8)
# Layers and width of the prediction network's LSTM.
LAYERS, HIDDEN = 1, WIDTH
# NeMo's models get features computed as librosa does, without a pre-emphasis and with the bands' areas made equal: so much
# quieter are they.
LIBROSA_LOUD = LOUD - 6.0
# Parakeet's features, and how far its TDT may skip: nought to four frames.
PARAKEET_BINS = 128
DURATIONS = 5

STREAMING = dict(
    version="1",
    model_author="NeMo",
    normalize_type="NA",
    # NeMo doesn't count the blank.
    vocab_size=NEMO.size - 1,
    window_size=WINDOW,
    chunk_shift=SHIFT,
    subsampling_factor=SUBSAMPLING,
    **{f"cache_last_channel_dim{axis + 1}": size for axis, size in enumerate(CHANNEL_CACHE)},
    **{f"cache_last_time_dim{axis + 1}": size for axis, size in enumerate(TIME_CACHE)},
)


def hear_chunk(graph):
    """The letters of a chunk, [N, 6, 27], and what closes the graph by writing its caches after the first outputs."""
    signal = graph.input("audio_signal", FLOAT, ["N", MEL_BINS, WINDOW])
    graph.input("length", INT64, ["N"])
    channel = graph.input("cache_last_channel", FLOAT, ["N", *CHANNEL_CACHE])
    time = graph.input("cache_last_time", FLOAT, ["N", *TIME_CACHE])
    filled = graph.input("cache_last_channel_len", INT64, ["N"])
    features = graph.slice(graph.op("Transpose", signal, perm=[0, 2, 1]), 0, SHIFT, 1)
    frames = pool(graph, features, FRAMES_OUT, SUBSAMPLING)
    loud = loudness(graph, frames, LIBROSA_LOUD)
    # The loudness of the chunk before is kept in every place of the convolution's cache.
    previous = graph.reshape(graph.op("ReduceMean", time, axes=[1, 2, 3], keepdims=0), -1, 1, 1)
    letters = heard(graph, frames, loud, pauses(graph, loud, previous))

    def finish(name):
        all_of_it = graph.op("Add", graph.op("Mul", filled, number(graph, 0)), number(graph, FRAMES_OUT))
        graph.output(all_of_it, name, INT64, ["N"])
        level = graph.reshape(graph.op("ReduceMean", loud, axes=[1, 2], keepdims=0), -1, 1, 1, 1)
        graph.output(graph.op("Add", graph.op("Mul", channel, 0.5), level), f"{channel}_next", FLOAT, ["N", *CHANNEL_CACHE])
        last = graph.reshape(last_frame(graph, loud), -1, 1, 1, 1)
        graph.output(graph.op("Mul", last, np.ones((1, *TIME_CACHE))), f"{time}_next", FLOAT, ["N", *TIME_CACHE])
        grown = graph.op("Min", graph.op("Add", filled, number(graph, FRAMES_OUT)), number(graph, CHANNEL_CACHE[1]))
        graph.output(grown, "cache_last_channel_next_len", INT64, ["N"])

    return letters, finish


def number(graph, value):
    return graph.constant(value, np.int64)


def streaming_ctc(folder):
    graph = Graph("synthetic-nemo-streaming-ctc")
    letters, finish = hear_chunk(graph)
    log_probs = graph.op("LogSoftmax", NEMO.logits(graph, letters), axis=2)
    graph.output(log_probs, "logprobs", FLOAT, ["N", FRAMES_OUT, NEMO.size])
    finish("encoded_lengths")
    graph.save(folder / "model.onnx", model_type="EncDecHybridRNNTCTCBPEModel", comment="synthetic streaming CTC", **STREAMING)
    NEMO.write(folder)


def encoder_out(graph, letters):
    """[N, T, 27] to NeMo's [N, width, T]."""
    return graph.op("Transpose", graph.op("MatMul", letters, placed(range(27), WIDTH)), perm=[0, 2, 1])


def streaming_transducer(folder):
    graph = Graph("synthetic-nemo-streaming-encoder")
    letters, finish = hear_chunk(graph)
    graph.output(encoder_out(graph, letters), "outputs", FLOAT, ["N", WIDTH, FRAMES_OUT])
    finish("encoded_lengths")
    graph.save(
        folder / "encoder.onnx",
        model_type="EncDecHybridRNNTCTCBPEModel",
        comment="synthetic streaming transducer",
        pred_rnn_layers=LAYERS,
        pred_hidden=HIDDEN,
        **STREAMING,
    )
    decoder(folder / "decoder.onnx")
    joiner(folder / "joiner.onnx")
    NEMO.write(folder)


def decoder(path):
    """Marks the last token, and lets its states fade: [N, 1] to [N, hidden, 1]."""
    graph = Graph("synthetic-nemo-decoder")
    targets = graph.input("targets", INT32, ["N", 1])
    length = graph.input("target_length", INT32, ["N"])
    old = [graph.input(name, FLOAT, [LAYERS, "N", HIDDEN]) for name in ("states.1", "onnx::LSTM_3")]
    embedding = graph.constant(np.eye(NEMO.size, HIDDEN))
    last = graph.op("Gather", embedding, graph.reshape(targets, -1), axis=0)
    graph.output(graph.op("Unsqueeze", last, graph.integers(2)), "outputs", FLOAT, ["N", HIDDEN, 1])
    graph.output(length, "prednet_lengths", INT32, ["N"])
    for state, name in zip(old, ("states", "162")):
        graph.output(graph.op("Add", graph.op("Mul", state, 0.5), last), name, FLOAT, [LAYERS, "N", HIDDEN])
    graph.save(path, vocab_size=NEMO.size - 1, pred_rnn_layers=LAYERS, pred_hidden=HIDDEN)


def joiner(path, durations=0):
    """What was heard, but nothing twice in a row. With durations, letters stay in their frame and a blank moves on by one."""
    graph = Graph("synthetic-nemo-joiner")
    encoded = graph.input("encoder_outputs", FLOAT, ["N", WIDTH, 1])
    decoded = graph.input("decoder_outputs", FLOAT, ["N", HIDDEN, 1])
    again = np.zeros((HIDDEN, NEMO.size), dtype=np.float32)
    for token in [*NEMO.letters, NEMO.space]:
        again[token, token] = -3 * SURE
    again[NEMO.blank, NEMO.space] = -3 * SURE
    logits = NEMO.logits(graph, graph.slice(graph.reshape(encoded, 0, WIDTH), 0, 27, 1))
    logits = graph.op("Add", logits, graph.op("MatMul", graph.reshape(decoded, 0, HIDDEN), again))
    if durations:
        # To stay is worth the best token's logit and to move on by one frame is worth one: a letter's is more, the blank's less.
        stay = graph.op("ReduceMax", logits, axes=[1], keepdims=1)
        others = graph.op("Add", graph.op("Mul", stay, 0.0), np.array([[1.0, *[-SURE] * (durations - 2)]]))
        logits = graph.op("Concat", logits, stay, others, axis=1)
    graph.output(graph.reshape(logits, 0, 1, 1, -1), "outputs", FLOAT, ["N", 1, 1, NEMO.size + durations])
    graph.save(path)


def hear_all(graph, bins):
    """The letters of whole recordings whose features are normalized per band: [N, T', 27], and how many of them count."""
    signal = graph.input("audio_signal", FLOAT, ["N", bins, "T"])
    length = graph.input("length", INT64, ["N"])
    frames = pool_all(graph, graph.op("Transpose", signal, perm=[0, 2, 1]), SUBSAMPLING, bins)
    # A last group that isn't full doesn't count: in a batch it would be part padding.
    counted = graph.op("Max", graph.op("Div", length, number(graph, SUBSAMPLING)), number(graph, 1))
    loud = loudness_of_normalized(graph, frames, counted)
    letters = heard(graph, frames, loud, pauses(graph, loud, silence_before(graph, loud)), bins)
    return letters, counted


def ctc(folder):
    graph = Graph("synthetic-nemo-ctc")
    letters, _ = hear_all(graph, MEL_BINS)
    log_probs = graph.op("LogSoftmax", NEMO.logits(graph, letters), axis=2)
    graph.output(log_probs, "logprobs", FLOAT, ["N", "frames", NEMO.size])
    graph.save(
        folder / "model.onnx",
        model_type="EncDecCTCModelBPE",
        version="1",
        model_author="NeMo",
        comment="synthetic CTC",
        vocab_size=NEMO.size - 1,
        subsampling_factor=SUBSAMPLING,
        normalize_type="per_feature",
    )
    NEMO.write(folder)


def offline_transducer(folder, bins, suffix, durations, **metadata):
    graph = Graph("synthetic-nemo-encoder")
    letters, encoded = hear_all(graph, bins)
    graph.output(encoder_out(graph, letters), "outputs", FLOAT, ["N", WIDTH, "frames"])
    graph.output(encoded, "encoded_lengths", INT64, ["N"])
    graph.save(
        folder / f"encoder{suffix}",
        version="1",
        model_author="NeMo",
        vocab_size=NEMO.size - 1,
        subsampling_factor=SUBSAMPLING,
        normalize_type="per_feature",
        pred_rnn_layers=LAYERS,
        pred_hidden=HIDDEN,
        feat_dim=bins,
        **metadata,
    )
    decoder(folder / f"decoder{suffix}")
    joiner(folder / f"joiner{suffix}", durations)
    NEMO.write(folder)


def parakeet_tdt(folder):
    """Parakeet's layout as k2-fsa publishes it: 128 bands, 8-bit files' names, a joiner that says how far to skip."""
    metadata = dict(model_type="EncDecRNNTBPEModel", comment="synthetic Parakeet TDT", url="synthetic-parakeet-tdt")
    offline_transducer(folder, PARAKEET_BINS, ".int8.onnx", DURATIONS, **metadata)


def transducer(folder):
    metadata = dict(model_type="EncDecHybridRNNTCTCBPEModel", comment="synthetic transducer", url="synthetic-nemo-transducer")
    offline_transducer(folder, MEL_BINS, ".onnx", 0, **metadata)
