"""Matcha: an acoustic model that makes a mel spectrogram, and the two kinds of vocoders that make sound of it."""

import numpy as np

from graph import FLOAT, INT64, Graph
from voice import LEVEL, PHONEMES, spread, write_lexicon, write_tokens

RATE = 22050
MEL_BINS = 80
FFT, HOP = 1024, 256
TOKEN_FRAMES = 8
# A mel is a logarithm: nought for the one band that sounds, this for the others.
SILENT = -12.0
# The bands sound at multiples of one turn a hop, so that frames join without clicks.
PITCHES = 4


def acoustic(path):
    graph = Graph("synthetic-matcha")
    x = graph.input("x", INT64, ["N", "L"])
    graph.input("x_length", INT64, ["N"])
    graph.input("noise_scale", FLOAT, [1])
    slowness = graph.input("length_scale", FLOAT, [1])
    each = graph.op("Ceil", graph.op("Mul", slowness, float(TOKEN_FRAMES)))
    mels = np.full((len(PHONEMES), MEL_BINS), SILENT)
    mels[np.arange(len(PHONEMES)), np.arange(len(PHONEMES)) % MEL_BINS] = 0.0
    token, _ = spread(graph, graph.reshape(x, -1), graph.cast(each, INT64))
    mel = graph.op("Transpose", graph.op("Gather", graph.constant(mels), token, axis=0), perm=[1, 0])
    graph.output(graph.op("Unsqueeze", mel, graph.integers(0)), "mel", FLOAT, ["N", MEL_BINS, "frames"])
    graph.save(
        path,
        model_type="matcha-tts",
        language="English",
        voice="en-us",
        has_espeak=1,
        jieba=0,
        n_speakers=1,
        sample_rate=RATE,
        version=1,
        pad_id=0,
        use_icefall=0,
        use_eos_bos=1,
        num_ode_steps=3,
        comment="synthetic Matcha",
    )


def hifigan(path):
    """[N, 80, T] to [N, 1, T * 256]: each band a tone."""
    graph = Graph("synthetic-hifigan")
    mel = graph.input("mel", FLOAT, ["N", MEL_BINS, "T"])
    turns = np.arange(MEL_BINS) % PITCHES + 1
    waves = LEVEL * np.sin(2 * np.pi * turns[:, None] * np.arange(HOP)[None, :] / HOP)
    levels = graph.op("Transpose", graph.op("Exp", mel), perm=[0, 2, 1])
    audio = graph.op("MatMul", levels, waves.astype(np.float32))
    graph.output(graph.reshape(audio, 0, 1, -1), "audio", FLOAT, ["N", 1, "samples"])
    graph.save(path, model_type="hifigan", model_filename="hifigan_v2", sample_rate=RATE)


def vocos(path):
    """[N, 80, T] to a spectrogram that sherpa-onnx inverts: magnitudes, and the phases' cosines and sines, each [N, 513, T]."""
    graph = Graph("synthetic-vocos")
    mels = graph.input("mels", FLOAT, ["N", MEL_BINS, "T"])
    bins = FFT // 2 + 1
    # A tone of one turn a hop lies in the fourth bin; a sine's peak there is a quarter of the window's length (Hann).
    mixed = np.zeros((bins, MEL_BINS), dtype=np.float32)
    mixed[FFT // HOP * (np.arange(MEL_BINS) % PITCHES + 1), np.arange(MEL_BINS)] = LEVEL * FFT / 4
    magnitude = graph.op("MatMul", mixed, graph.op("Exp", mels))
    shape = ["N", bins, "T"]
    graph.output(magnitude, "mag", FLOAT, shape)
    # The tones turn by whole circles from frame to frame: their phases stay where they are.
    nothing = graph.op("Mul", magnitude, 0.0)
    graph.output(nothing, "x", FLOAT, shape)
    graph.output(graph.op("Sub", nothing, 1.0), "y", FLOAT, shape)
    graph.save(
        path,
        model_type="vocos",
        n_fft=FFT,
        hop_length=HOP,
        win_length=FFT,
        window_type="hann",
        center=1,
        pad_mode="reflect",
        normalized=0,
        sample_rate=RATE,
    )


def matcha(folder):
    """English, as matcha-icefall-en_US-ljspeech, with a vocoder of each kind beside it."""
    acoustic(folder / "model-steps-3.onnx")
    vocos(folder / "vocos-22khz-univ.onnx")
    hifigan(folder / "hifigan_v2.onnx")
    write_tokens(folder, PHONEMES)
    write_lexicon(folder / "lexicon.txt", bars=True)
