"""Voices whose speakers are style vectors in voices.bin: Kokoro and Kitten."""

import numpy as np

from graph import FLOAT, INT64, Graph
from voice import PHONEMES, speakers, tone, write_lexicon, write_tokens

RATE = 24000
TOKEN_MILLISECONDS = 80
WIDTH = 8
# Kokoro has a style for every length of a text, in tokens; that is also the longest that it takes at once.
KOKORO_LENGTHS = 510
NAMES = ["af_synthetic", "am_synthetic", "bf_synthetic"]
# Kokoro and Kitten start and end a text with token 0, the pad.
TOKENS = ["$", *(phoneme for phoneme in PHONEMES if phoneme != "$")]


def model(path, names, **metadata):
    """The style's first number multiplies the pitch."""
    tokens, out = names
    graph = Graph("synthetic-styled")
    ids = graph.input(tokens, INT64, [1, "L"])
    style = graph.input("style", FLOAT, [1, WIDTH])
    speed = graph.input("speed", FLOAT, [1])
    pitch = graph.slice(style, 0, 1, 1)
    samples = tone(graph, ids, graph.op("Div", 1.0, speed), RATE, TOKEN_MILLISECONDS, len(TOKENS), seed=4, raise_by=pitch)
    graph.output(samples, out, FLOAT, ["samples"])
    graph.save(path, **metadata)


def write_voices(folder, lengths):
    """voices.bin: for each speaker `lengths` styles."""
    styles = np.zeros((len(NAMES), lengths, WIDTH), dtype="<f4")
    styles[:, :, 0] = 1.0 + 0.5 * np.arange(len(NAMES))[:, None]
    (folder / "voices.bin").write_bytes(styles.tobytes())


def kokoro_of(folder, version, language):
    model(
        folder / "model.onnx",
        ("tokens", "audio"),
        model_type="kokoro",
        language=language,
        has_espeak=1,
        sample_rate=RATE,
        version=version,
        voice="en-us",
        style_dim=f"{KOKORO_LENGTHS},1,{WIDTH}",
        comment="synthetic Kokoro",
        **speakers(NAMES),
    )
    write_voices(folder, KOKORO_LENGTHS)
    write_tokens(folder, TOKENS)


def kokoro(folder):
    """Kokoro 0.19 as it is published: English, and no lexicon."""
    kokoro_of(folder, 1, "English")


def kokoro_multi(folder):
    """Kokoro 1.0: several languages, a lexicon for each."""
    kokoro_of(folder, 2, "multi-lang, e.g., English, Chinese")
    write_lexicon(folder / "lexicon-us-en.txt")


def kitten(folder):
    model(
        folder / "model.fp16.onnx",
        ("input_ids", "waveform"),
        model_type="kitten-tts",
        language="English",
        has_espeak=1,
        sample_rate=RATE,
        version=1,
        voice="en-us",
        style_dim=f"1,{WIDTH}",
        comment="synthetic Kitten",
        **speakers(NAMES),
    )
    write_voices(folder, 1)
    write_tokens(folder, TOKENS)
    write_lexicon(folder / "lexicon.txt")
