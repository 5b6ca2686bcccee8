"""Streaming zipformer2 as icefall exports it: transducer (encoder, decoder, joiner) and CTC, with the same states."""

import numpy as np

from graph import FLOAT, INT64, Graph, listed
from speech import ICEFALL, MEL_BINS, SURE, heard, last_frame, loudness, pauses, placed, pool

# A chunk is 32 new frames, of which the real encoder needs 13 more to look ahead; one output every four frames.
CHUNK, CHUNK_WITH_LOOKAHEAD = 32, 45
SUBSAMPLING = 4
FRAMES_OUT = CHUNK // SUBSAMPLING
# The convolution's left context, whose shape sherpa-onnx fixes: 128 channels, 3 frames, ((80 - 1) / 2 - 1) / 2 bins.
EMBED = (128, 3, 19)
WIDTH = 32
CONTEXT = 2

TINY = dict(
    num_encoder_layers=[1, 1],
    encoder_dims=[16, 16],
    query_head_dims=[4, 4],
    value_head_dims=[4, 4],
    num_heads=[2, 2],
    cnn_module_kernels=[5, 5],
    left_context_len=[8, 4],
)
# As in the English streaming zipformer of June 2023, so that copying states between streams and batches costs what it does there.
FULL = dict(
    num_encoder_layers=[2, 2, 3, 4, 3, 2],
    encoder_dims=[192, 256, 384, 512, 384, 256],
    query_head_dims=[32, 32, 32, 32, 32, 32],
    value_head_dims=[12, 12, 12, 12, 12, 12],
    num_heads=[4, 4, 4, 8, 4, 4],
    cnn_module_kernels=[31, 31, 15, 15, 15, 31],
    left_context_len=[128, 64, 32, 16, 32, 64],
)


def states(layout):
    """The states of each layer in the order of sherpa-onnx: name, shape with N in it, and the axis of N."""
    layer = 0
    for stack, layers in enumerate(layout["num_encoder_layers"]):
        width, heads = layout["encoder_dims"][stack], layout["num_heads"][stack]
        left, half = layout["left_context_len"][stack], layout["cnn_module_kernels"][stack] // 2
        value = [left, "N", layout["value_head_dims"][stack] * heads]
        for _ in range(layers):
            yield f"cached_key_{layer}", [left, "N", layout["query_head_dims"][stack] * heads]
            yield f"cached_nonlin_attn_{layer}", [1, "N", left, 3 * width // 4]
            yield f"cached_val1_{layer}", value
            yield f"cached_val2_{layer}", value
            yield f"cached_conv1_{layer}", ["N", width, half]
            yield f"cached_conv2_{layer}", ["N", width, half]
            layer += 1


def carry_states(graph, layout, level):
    """Halves every state and adds the chunk's level to it: what a stream's states hold is its own past and nobody else's."""
    for name, shape in states(layout):
        old = graph.input(name, FLOAT, shape)
        axes = [-1 if size == "N" else 1 for size in shape]
        yield graph.op("Add", graph.op("Mul", old, 0.5), graph.reshape(level, *axes)), f"new_{name}", shape


def begin(graph):
    return graph.input("x", FLOAT, ["N", CHUNK_WITH_LOOKAHEAD, MEL_BINS])


def hear(graph, x, layout):
    """The letters heard in a chunk, [N, 8, 27], and the chunk's new states in order."""
    frames = pool(graph, graph.slice(x, 0, CHUNK, 1), FRAMES_OUT, SUBSAMPLING)
    loud = loudness(graph, frames)
    level = graph.op("ReduceMean", loud, axes=[1, 2], keepdims=1)
    new_states = list(carry_states(graph, layout, level))
    # The loudness of the last frame is what one chunk must know of the one before: it is kept in every place of embed_states.
    embed = graph.input("embed_states", FLOAT, ["N", *EMBED])
    processed = graph.input("processed_lens", INT64, ["N"])
    previous = graph.op("ReduceMean", embed, axes=[1, 2, 3], keepdims=0)
    letters = heard(graph, frames, loud, pauses(graph, loud, graph.reshape(previous, -1, 1, 1)))
    last = graph.op("Mul", graph.reshape(last_frame(graph, loud), -1, 1, 1, 1), np.ones((1, *EMBED)))
    new_states.append((last, "new_embed_states", ["N", *EMBED]))
    return letters, new_states, processed


def finish(graph, new_states, processed):
    for value, name, shape in new_states:
        graph.output(value, name, FLOAT, shape)
    counted = graph.op("Add", processed, graph.constant(CHUNK // 2, np.int64))
    graph.output(counted, "new_processed_lens", INT64, ["N"])


def metadata(layout, comment):
    return dict(
        model_type="zipformer2",
        version="1",
        model_author="repartee",
        comment=comment,
        T=CHUNK_WITH_LOOKAHEAD,
        decode_chunk_len=CHUNK,
        **{key: listed(values) for key, values in layout.items()},
    )


def feed_forward(graph, letters, layers, width, hidden):
    """Real work that leaves the letters as they are: residual layers over 16 frames, whose sum is scaled to near nothing."""
    random = np.random.default_rng(2023)

    def weights(rows, columns):
        return (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)

    # Zipformer's stacks run at 50 frames a second and halve the rate at the end only.
    x = graph.op("Concat", letters, letters, axis=1)
    x = graph.op("MatMul", x, weights(27, width))
    for _ in range(layers):
        inner = graph.op("Relu", graph.op("MatMul", x, weights(width, hidden)))
        x = graph.op("Tanh", graph.op("Add", x, graph.op("MatMul", inner, weights(hidden, width))))
    x = graph.slice(graph.op("MatMul", x, weights(width, 27)), 0, FRAMES_OUT, 1)
    return graph.op("Add", letters, graph.op("Mul", x, 1e-6))


def encoder(path, layout, layers=0, width=WIDTH, hidden=0):
    graph = Graph("synthetic-zipformer2-encoder")
    letters, new_states, processed = hear(graph, begin(graph), layout)
    if layers:
        letters = feed_forward(graph, letters, layers, width, hidden)
    out = graph.op("MatMul", letters, placed(range(27), width))
    graph.output(out, "encoder_out", FLOAT, ["N", FRAMES_OUT, width])
    finish(graph, new_states, processed)
    graph.save(path, **metadata(layout, "streaming zipformer2"))


def decoder(path, width=WIDTH):
    """Marks the last token: [N, 2] to [N, width], one at the token's place. Tokens before the first are -1 and count as blank."""
    graph = Graph("synthetic-zipformer2-decoder")
    y = graph.input("y", INT64, ["N", CONTEXT])
    last = graph.op("Max", graph.slice(y, CONTEXT - 1, CONTEXT, 1), graph.constant(0, np.int64))
    embedding = np.eye(ICEFALL.size, width, dtype=np.float32)
    out = graph.op("Gather", graph.constant(embedding), graph.reshape(last, -1), axis=0)
    graph.output(out, "decoder_out", FLOAT, ["N", width])
    graph.save(path, context_size=CONTEXT, vocab_size=ICEFALL.size)


def joiner(path, width=WIDTH):
    """What was heard, but no letter twice in a row and no space after a space or before the first letter."""
    graph = Graph("synthetic-zipformer2-joiner")
    encoder_out = graph.input("encoder_out", FLOAT, ["N", width])
    decoder_out = graph.input("decoder_out", FLOAT, ["N", width])
    again = np.zeros((width, ICEFALL.size), dtype=np.float32)
    for token in [*ICEFALL.letters, ICEFALL.space]:
        again[token, token] = -3 * SURE
    again[ICEFALL.blank, ICEFALL.space] = -3 * SURE
    logits = ICEFALL.logits(graph, graph.slice(encoder_out, 0, 27, 1))
    logits = graph.op("Add", logits, graph.op("MatMul", decoder_out, again))
    graph.output(logits, "logit", FLOAT, ["N", ICEFALL.size])
    graph.save(path, joiner_dim=width)


def transducer(folder):
    """File names as k2-fsa publishes its streaming zipformers."""
    suffix = "epoch-99-avg-1-chunk-16-left-128.onnx"
    encoder(folder / f"encoder-{suffix}", TINY)
    decoder(folder / f"decoder-{suffix}")
    joiner(folder / f"joiner-{suffix}")
    ICEFALL.write(folder)


def kroko(folder):
    """The same layout under the plain names that Kroko's models have."""
    encoder(folder / "encoder.onnx", TINY)
    decoder(folder / "decoder.onnx")
    joiner(folder / "joiner.onnx")
    ICEFALL.write(folder)


def bench(folder):
    """Costs about what a small real one does: 8.4 million weights over 16 frames a chunk, and states of full size."""
    encoder(folder / "encoder.onnx", FULL, layers=4, width=512, hidden=2048)
    decoder(folder / "decoder.onnx", width=512)
    joiner(folder / "joiner.onnx", width=512)
    ICEFALL.write(folder)


def ctc(folder):
    graph = Graph("synthetic-zipformer2-ctc")
    letters, new_states, processed = hear(graph, begin(graph), TINY)
    log_probs = graph.op("LogSoftmax", ICEFALL.logits(graph, letters), axis=2)
    graph.output(log_probs, "log_probs", FLOAT, ["N", FRAMES_OUT, ICEFALL.size])
    finish(graph, new_states, processed)
    graph.save(folder / "ctc-epoch-20-avg-1-chunk-16-left-128.onnx", **metadata(TINY, "streaming ctc zipformer2"))
    ICEFALL.write(folder)
