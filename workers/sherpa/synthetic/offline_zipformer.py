"""Offline zipformers as icefall exports them: transducer and CTC."""

from graph import FLOAT, INT64, Graph
from speech import ICEFALL, MEL_BINS, heard, lengths, loudness, pauses, placed, pool_all, silence_before
from streaming_zipformer import SUBSAMPLING, WIDTH, decoder, joiner


def hear(graph):
    x = graph.input("x", FLOAT, ["N", "T", MEL_BINS])
    x_lens = graph.input("x_lens", INT64, ["N"])
    frames = pool_all(graph, x, SUBSAMPLING)
    loud = loudness(graph, frames)
    letters = heard(graph, frames, loud, pauses(graph, loud, silence_before(graph, loud)))
    return letters, lengths(graph, x_lens, SUBSAMPLING)


def transducer(folder):
    graph = Graph("synthetic-zipformer2-offline-encoder")
    letters, counted = hear(graph)
    graph.output(graph.op("MatMul", letters, placed(range(27), WIDTH)), "encoder_out", FLOAT, ["N", "frames", WIDTH])
    graph.output(counted, "encoder_out_lens", INT64, ["N"])
    graph.save(folder / "encoder-epoch-99-avg-1.onnx", model_type="zipformer2", version="1", comment="synthetic zipformer2")
    decoder(folder / "decoder-epoch-99-avg-1.onnx")
    joiner(folder / "joiner-epoch-99-avg-1.onnx")
    ICEFALL.write(folder)


def ctc(folder):
    graph = Graph("synthetic-zipformer2-offline-ctc")
    letters, counted = hear(graph)
    log_probs = graph.op("LogSoftmax", ICEFALL.logits(graph, letters), axis=2)
    graph.output(log_probs, "log_probs", FLOAT, ["N", "frames", ICEFALL.size])
    graph.output(counted, "log_probs_len", INT64, ["N"])
    graph.save(folder / "model.int8.onnx", model_type="zipformer2_ctc", version="1", comment="synthetic zipformer2 CTC")
    ICEFALL.write(folder)
