"""T-one: a streaming CTC for telephone speech that takes 8 kHz samples, 300 ms at a time, with a state of 16-bit floats."""

import numpy as np

from graph import FLOAT, FLOAT16, INT32, Graph
from speech import LETTERS, Vocabulary, last_frame, pauses, spelled, waveform_levels, waveform_loudness

RATE, CHUNK_MILLISECONDS = 8000, 300
FRAMES_OUT = 10
FRAME = RATE * CHUNK_MILLISECONDS // 1000 // FRAMES_OUT
STATE = 16

ALPHABET = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
TOKENS = Vocabulary([*ALPHABET, " ", "<blk>"], "<blk>", space=" ", letters=ALPHABET[:LETTERS])


def t_one(folder):
    graph = Graph("synthetic-t-one")
    signal = graph.input("signal", INT32, ["N", FRAME * FRAMES_OUT, 1])
    state = graph.input("state", FLOAT16, ["N", STATE])
    samples = graph.op("Div", graph.cast(signal, FLOAT), 32768.0)
    frames = graph.reshape(samples, -1, FRAMES_OUT, FRAME)
    loud = waveform_loudness(graph, frames)
    # The first number of the state is the loudness of the frame before.
    previous = graph.reshape(graph.slice(graph.cast(state, FLOAT), 0, 1, 1), -1, 1, 1)
    levels = waveform_levels(graph, frames, FRAME, RATE)
    letters = spelled(graph, levels, loud, pauses(graph, loud, previous))
    log_probs = graph.op("LogSoftmax", TOKENS.logits(graph, letters), axis=2)
    graph.output(log_probs, "logprobs", FLOAT, ["N", FRAMES_OUT, TOKENS.size])
    last = graph.reshape(last_frame(graph, loud), -1, 1)
    new = graph.cast(graph.op("Mul", last, np.ones((1, STATE))), FLOAT16)
    graph.output(new, "state_next", FLOAT16, ["N", STATE])
    graph.save(
        folder / "model.onnx",
        model_type="t-one",
        comment="synthetic T-one",
        frame_length_ms=CHUNK_MILLISECONDS,
        state_dim=STATE,
        sample_rate=RATE,
        vocab_size=TOKENS.size,
    )
    TOKENS.write(folder)
