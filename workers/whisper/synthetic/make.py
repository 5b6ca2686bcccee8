"""Makes the synthetic Whisper files for the tests of the whisper worker. See README.md beside this file.

Usage: make.py FOLDER
"""

import struct
import sys
from pathlib import Path

import numpy as np

from weights import AUDIO_CONTEXT, BYTES, HEADS, LAYERS, MELS, STATE, TEXT_CONTEXT, WORDS, Layout, tensors

MAGIC = 0x67676D6C
# ggml's numbers: the type of a tensor, and the kind of a whole file. The version of the quantisation is added to the latter.
TYPE_F32, TYPE_F16, TYPE_Q8_0 = 0, 1, 8
FILE_F16, FILE_Q8_0 = 1, 7
QUANTISATION_VERSION = 2 * 1000
# Values in a block of Q8_0, which share one scale.
BLOCK = 32

RATE, TRANSFORM = 16_000, 400


def mel_filters():
    """The triangles of Slaney's mel scale over the bins of a transform of 400 points at 16 kHz, each of area one: what OpenAI uses."""
    # Linear up to 1 kHz, then logarithmic with 27 steps to a factor of 6.4.
    step, corner, ratio = 200 / 3, 1000.0, np.log(6.4) / 27

    def to_hertz(mel):
        return np.where(mel < corner / step, mel * step, corner * np.exp(ratio * (mel - corner / step)))

    highest = corner / step + np.log(RATE / 2 / corner) / ratio
    edges = to_hertz(np.linspace(0, highest, MELS + 2))
    bins = np.fft.rfftfreq(TRANSFORM, 1 / RATE)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def vocabulary(layout):
    """The text of each token below the end of text: bytes, words, and nothing for the rest. whisper.cpp names the special ones itself."""
    texts = [b""] * layout.end
    for number, byte in enumerate(BYTES):
        texts[number] = bytes([byte])
    for token, word in layout.words():
        texts[token] = WORDS[word].encode()
    return texts


def quantise(values):
    """Q8_0: for each 32 values of a row the scale as a half, then 32 signed bytes."""
    blocks = values.reshape(-1, BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    quants = np.rint(np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)).astype(np.int8)
    return b"".join(np.hstack([scale.astype(np.float16).view(np.int8).reshape(len(blocks), 2), quants]))


def encode(name, values, file_kind):
    """The type of a tensor, which its name and shape decide, and its bytes."""
    if values.ndim == 3:
        return TYPE_F16, values.astype("<f2").tobytes()
    if values.ndim == 2 and name.endswith(".weight"):
        if file_kind == FILE_Q8_0:
            return TYPE_Q8_0, quantise(values.astype(np.float32))
        return TYPE_F16, values.astype("<f2").tobytes()
    return TYPE_F32, values.astype("<f4").tobytes()


def make(path, tokens, file_kind):
    layout = Layout(tokens)
    kind = file_kind + (QUANTISATION_VERSION if file_kind == FILE_Q8_0 else 0)
    with path.open("wb") as file:
        file.write(
            struct.pack(
                "<12I", MAGIC, tokens, AUDIO_CONTEXT, STATE, HEADS, LAYERS, TEXT_CONTEXT, STATE, HEADS, LAYERS, MELS, kind
            )
        )
        filters = mel_filters().astype("<f4")
        file.write(struct.pack("<2I", *filters.shape) + filters.tobytes())
        texts = vocabulary(layout)
        file.write(struct.pack("<I", len(texts)))
        file.writelines(struct.pack("<I", len(text)) + text for text in texts)
        for name, values in tensors(layout).items():
            kind, data = encode(name, values, file_kind)
            encoded = name.encode()
            file.write(struct.pack("<3I", values.ndim, len(encoded), kind))
            # ggml names the fastest dimension first.
            file.write(struct.pack(f"<{values.ndim}I", *reversed(values.shape)) + encoded + data)


def main():
    folder = Path(sys.argv[1])
    make(folder / "synthetic-tiny.en.bin", 51864, FILE_F16)
    make(folder / "synthetic-tiny.bin", 51865, FILE_F16)
    make(folder / "synthetic-tiny.en-q8_0.bin", 51864, FILE_Q8_0)


if __name__ == "__main__":
    main()
