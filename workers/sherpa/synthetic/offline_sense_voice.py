"""SenseVoice: CTC over low-frame-rate features, after four tokens that name language, emotion, event and text style."""

from string import ascii_lowercase

import numpy as np

from graph import FLOAT, INT32, Graph, listed
from speech import LOUD, MEL_BINS, SIXTEEN_BITS, SURE, Vocabulary, heard, loudness, pauses, pool, silence_before

WINDOW, SHIFT = 7, 6
# The features are normalized by sherpa-onnx with what the metadata says: (x + NEGATIVE_MEAN) * INVERSE_DEVIATION.
NEGATIVE_MEAN, INVERSE_DEVIATION = -12.0, 0.2
THRESHOLD = (LOUD + SIXTEEN_BITS + NEGATIVE_MEAN) * INVERSE_DEVIATION

# The numbers that the real model gives its languages and styles.
LANGUAGES = dict(auto=0, zh=3, en=4, yue=7, ja=11, ko=12)
WITH_ITN, WITHOUT_ITN = 14, 15

TOKENS = Vocabulary(
    ["<unk>", "<s>", "</s>", *ascii_lowercase, "▁", "<|zh|>", "<|en|>", "<|yue|>", "<|ja|>", "<|ko|>",
     "<|NEUTRAL|>", "<|Speech|>", "<|withitn|>", "<|woitn|>"],
    "<unk>",
    letters=ascii_lowercase,
)


def row(token):
    """Logits that choose one token."""
    return 2 * SURE * np.eye(TOKENS.size, dtype=np.float32)[TOKENS.tokens.index(token)]


def tables():
    """For each of the four tokens, a table from a number that was asked for to logits; unknown languages count as English."""
    asked = np.stack([row("<|en|>")] * 16)
    for language, number in LANGUAGES.items():
        if language != "auto":
            asked[number] = row(f"<|{language}|>")
    style = np.stack([row("<|woitn|>")] * 16)
    style[WITH_ITN] = row("<|withitn|>")
    return asked, np.stack([row("<|NEUTRAL|>")] * 16), np.stack([row("<|Speech|>")] * 16), style


def sense_voice(folder):
    graph = Graph("synthetic-sense-voice")
    x = graph.input("x", FLOAT, ["N", "T", WINDOW * MEL_BINS])
    graph.input("x_length", INT32, ["N"])
    language = graph.input("language", INT32, ["N"])
    text_norm = graph.input("text_norm", INT32, ["N"])

    frames = pool(graph, x, -1, WINDOW)
    loud = loudness(graph, frames, THRESHOLD)
    pause = pauses(graph, loud, silence_before(graph, loud))
    spoken = TOKENS.logits(graph, heard(graph, frames, loud, pause))

    asked = [language, language, language, text_norm]
    head = [graph.op("Gather", table, number, axis=0) for table, number in zip(map(graph.constant, tables()), asked)]
    head = [graph.op("Unsqueeze", logits, graph.integers(1)) for logits in head]
    graph.output(graph.op("Concat", *head, spoken, axis=1), "logits", FLOAT, ["N", "T_plus_4", TOKENS.size])
    graph.save(
        folder / "model.int8.onnx",
        model_type="sense_voice_ctc",
        version=1,
        model_author="repartee",
        comment="SenseVoiceSmall layout",
        vocab_size=TOKENS.size,
        blank_id=TOKENS.blank,
        lfr_window_size=WINDOW,
        lfr_window_shift=SHIFT,
        normalize_samples=0,
        with_itn=WITH_ITN,
        without_itn=WITHOUT_ITN,
        **{f"lang_{language}": number for language, number in LANGUAGES.items()},
        neg_mean=listed([NEGATIVE_MEAN] * WINDOW * MEL_BINS),
        inv_stddev=listed([INVERSE_DEVIATION] * WINDOW * MEL_BINS),
    )
    TOKENS.write(folder)
