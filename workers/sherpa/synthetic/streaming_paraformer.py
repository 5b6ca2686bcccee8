"""Streaming Paraformer: an encoder that says how much of a token each frame is, and a decoder for the tokens summed up so far."""

from string import ascii_lowercase

import numpy as np

from graph import FLOAT, INT32, INT64, Graph, listed
from speech import LOUD, MEL_BINS, SIXTEEN_BITS, Vocabulary, bands, loudness, placed, pool

WINDOW, SHIFT = 7, 6
WIDTH, BLOCKS, KERNEL = 32, 2, 11
# The features are normalized by sherpa-onnx as (x + NEGATIVE_MEAN) * INVERSE_DEVIATION * sqrt(WIDTH), and positions of size one
# are added to them: so large must the features be that positions don't matter.
NEGATIVE_MEAN, INVERSE_DEVIATION = -12.0, 1.0
THRESHOLD = (LOUD + SIXTEEN_BITS + NEGATIVE_MEAN) * INVERSE_DEVIATION * float(np.sqrt(WIDTH))
# A loud frame of 60 ms is half a token.
WEIGHT = 0.5

# A piece that ends in @@ is joined to the next one, as in the English tokens of the real models. The lower half of the letters goes
# on, the upper half ends a word.
PIECES = [f"{letter}@@" if letter < "n" else letter for letter in ascii_lowercase]
TOKENS = Vocabulary(["<blank>", "<s>", "</s>", *PIECES, "<unk>"], "<blank>", space="<unk>", letters=PIECES)


def encoder(path):
    graph = Graph("synthetic-paraformer-encoder")
    speech = graph.input("speech", FLOAT, ["N", "T", WINDOW * MEL_BINS])
    counted = graph.input("speech_lengths", INT32, ["N"])
    frames = pool(graph, speech, -1, WINDOW)
    loud = loudness(graph, frames, THRESHOLD)
    letters = graph.op("MatMul", frames, bands())
    graph.output(graph.op("MatMul", letters, placed(range(len(PIECES)), WIDTH)), "enc", FLOAT, ["N", "T", WIDTH])
    graph.output(counted, "enc_len", INT32, ["N"])
    graph.output(graph.op("Mul", graph.op("Squeeze", loud, graph.integers(2)), WEIGHT), "alphas", FLOAT, ["N", "T"])
    graph.save(
        path,
        model_type="paraformer",
        model_author="repartee",
        comment="synthetic streaming paraformer",
        vocab_size=TOKENS.size,
        lfr_window_size=WINDOW,
        lfr_window_shift=SHIFT,
        encoder_output_size=WIDTH,
        decoder_num_blocks=BLOCKS,
        decoder_kernel_size=KERNEL,
        neg_mean=listed([NEGATIVE_MEAN] * WINDOW * MEL_BINS),
        inv_stddev=listed([INVERSE_DEVIATION] * WINDOW * MEL_BINS),
    )


def decoder(path):
    graph = Graph("synthetic-paraformer-decoder")
    graph.input("enc", FLOAT, ["N", "T", WIDTH])
    graph.input("enc_len", INT32, ["N"])
    embeds = graph.input("acoustic_embeds", FLOAT, ["N", "tokens", WIDTH])
    graph.input("acoustic_embeds_len", INT32, ["N"])
    caches = [graph.input(f"in_cache_{block}", FLOAT, ["N", WIDTH, KERNEL - 1]) for block in range(BLOCKS)]
    levels = graph.slice(embeds, 0, len(PIECES), 2)
    best = graph.op("ArgMax", levels, axis=2, keepdims=0)
    never = np.full(TOKENS.size, -1e4)
    never[TOKENS.letters] = 0.0
    logits = graph.op("Add", graph.op("MatMul", levels, placed(TOKENS.letters, TOKENS.size)), never)
    graph.output(logits, "logits", FLOAT, ["N", "tokens", TOKENS.size])
    # The letters follow one another in the vocabulary, which makes a token's number of a letter's.
    first = graph.constant(TOKENS.letters[0], np.int64)
    graph.output(graph.op("Add", best, first), "sample_ids", INT64, ["N", "tokens"])
    level = graph.op("ReduceMean", embeds, axes=[1, 2], keepdims=1)
    for block, cache in enumerate(caches):
        new = graph.op("Add", graph.op("Mul", cache, 0.5), level)
        graph.output(new, f"out_cache_{block}", FLOAT, ["N", WIDTH, KERNEL - 1])
    graph.save(path)


def paraformer(folder):
    encoder(folder / "encoder.int8.onnx")
    decoder(folder / "decoder.int8.onnx")
    TOKENS.write(folder)
