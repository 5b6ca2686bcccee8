"""What the synthetic voices share: how they sound, and espeak-ng's data for those that need phonemes."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np

from graph import FLOAT, INT64

LEVEL = 0.3
# Pitches that a voice may have, in Hz.
LOWEST, HIGHEST = 110.0, 330.0


def pitches(tokens, seed):
    """A pitch for each token of a vocabulary, in Hz."""
    return np.random.default_rng(seed).uniform(LOWEST, HIGHEST, tokens).astype(np.float32)


def spread(graph, values, each):
    """Repeats every one of `values` [P] `each` times (an int64 tensor of one number): which sample belongs to which token."""
    count = graph.op("Mul", graph.op("Shape", values), each)
    scalar = graph.op("Squeeze", count)
    index = graph.op("Range", graph.constant(0, np.int64), scalar, graph.constant(1, np.int64))
    place = graph.op("Div", index, each)
    within = graph.op("Sub", index, graph.op("Mul", place, each))
    return graph.op("Gather", values, place, axis=0), graph.cast(within, FLOAT)


def tone(graph, ids, slowness, rate, milliseconds, vocabulary, seed, raise_by=None):
    """[1, P] token numbers to [samples]: a short swelling tone for each token, its pitch the token's.

    `slowness` stretches it (1 leaves it), `raise_by` (a tensor of one number) multiplies the pitch: that is how speakers differ.
    """
    flat = graph.reshape(ids, -1)
    each = graph.op("Floor", graph.op("Mul", graph.reshape(slowness, -1), rate * milliseconds / 1000))
    hertz = graph.op("Gather", graph.constant(pitches(vocabulary, seed)), flat, axis=0)
    if raise_by is not None:
        hertz = graph.op("Mul", hertz, graph.reshape(raise_by, -1))
    hertz, within = spread(graph, hertz, graph.cast(each, INT64))
    swell = graph.op("Sin", graph.op("Mul", graph.op("Div", within, each), np.pi))
    wave = graph.op("Sin", graph.op("Mul", graph.op("Mul", hertz, within), 2 * np.pi / rate))
    return graph.op("Mul", graph.op("Mul", wave, swell), LEVEL)


# What English needs of espeak-ng's data; the other hundred languages would be nineteen megabytes.
ESPEAK_FILES = ["phontab", "phondata", "phonindex", "intonations", "en_dict"]
ESPEAK_LANGUAGES = ["lang/gmw/en", "lang/gmw/en-US"]


def espeak_data(folder):
    """Copies espeak-ng's English data into `folder`/espeak-ng-data, as sherpa-onnx's published voices carry it."""
    source = Path(importlib.util.find_spec("espeakng_loader").origin).parent / "espeak-ng-data"
    for name in [*ESPEAK_FILES, *ESPEAK_LANGUAGES]:
        target = folder / "espeak-ng-data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)


def write_tokens(folder, tokens):
    lines = [f"{token} {number}" for token, number in tokens.items()]
    Path(folder, "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
