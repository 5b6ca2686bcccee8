"""What the synthetic voices share: how they sound, what they can pronounce, and how that is written down."""

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
    """Repeats every one of `values` [P] `each` times (an int64 tensor of one number): the value of every sample, and the sample's
    place within its token."""
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


# Piper numbers the code points of English phonemes so; the first three are pad, start and end.
PHONEMES = [
    *"_^$ !'(),-.:;?abcdefhijklmnopqrstuvwxyz",
    *"æçðøħŋœǀǁǂǃɐɑɒɓɔɕɖɗɘəɚɛɜɞɟɠɡɢɣɤɥɦɧɨɪɫɬɭɮɯɰɱɲɳɴɵɶɸɹɺɻɽɾʀʁʂʃʄʈʉʊʋʌʍʎʏʐʑʒʔʕʘʙʛʜʝʟʡʢʲ",
    *"ˈˌːˑ˞βθχᵻⱱ",
    *"0123456789",
    *"\u0327\u0303\u032a\u032f\u0329ʰˤε↓#\"↑\u033a\u033bgʦX",
]

# The words that the voices with a lexicon know; the pronunciation of each is its letters.
WORDS = """
a about after again all am an and any are as ask at back be because been before but by call can come could day did do does done down
each every find first five for four friend from get give go good great had has have he hello help her here him his how i if in
into is it its just know last let like little long longer look made make many may me more much my name never new next no not now of
off on one only or other our out over own people please question right said same say second see sentence she short should six so
some speak still such take tell ten test than thank thanks that the their them then there these they thing think third this three
time to today tomorrow too try two under up us use very voice wait want was way we well were what when where which who why will
with word words work world would yes you your zero seven eight nine hundred thousand minute minutes hour order number account
""".split()


def letters(word):
    """A word's "phonemes"."""
    return list(word)


def write_lexicon(path, bars=False, tones=False):
    """`word p1 p2 …`, with a bar before the phonemes (sherpa-onnx 2's new format) or tones after them (MeloTTS's)."""
    lines = []
    for word in sorted(set(WORDS)):
        sounds = letters(word)
        lines.append(" ".join([word, *(["||"] if bars else []), *sounds, *(["0"] * len(sounds) if tones else [])]))
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_tokens(folder, tokens):
    """`token number` a line; sherpa-onnx reads a line with a number alone as the space's."""
    lines = [f"{token} {number}" for number, token in enumerate(tokens)]
    Path(folder, "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def speakers(names):
    """What k2-fsa writes into the metadata of models with many speakers."""
    return dict(
        n_speakers=len(names),
        speaker_names=",".join(names),
        speaker2id=",".join(f"{name}->{number}" for number, name in enumerate(names)),
        id2speaker=",".join(f"{number}->{name}" for number, name in enumerate(names)),
    )
