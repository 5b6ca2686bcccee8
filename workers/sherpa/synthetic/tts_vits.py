"""VITS voices: Piper's as sherpa-onnx publishes them and as Piper does, and one with a lexicon."""

import json

from graph import FLOAT, INT64, Graph
from voice import espeak_data, tone, write_tokens

RATE = 22050
# A phoneme is two tokens, itself and a pad.
TOKEN_MILLISECONDS = 40

# Piper numbers the code points of English phonemes so; the first three are pad, start and end.
PHONEMES = [
    *"_^$ !'(),-.:;?abcdefhijklmnopqrstuvwxyz",
    *"æçðøħŋœǀǁǂǃɐɑɒɓɔɕɖɗɘəɚɛɜɞɟɠɡɢɣɤɥɦɧɨɪɫɬɭɮɯɰɱɲɳɴɵɶɸɹɺɻɽɾʀʁʂʃʄʈʉʊʋʌʍʎʏʐʑʒʔʕʘʙʛʜʝʟʡʢʲˈˌːˑ˞βθχᵻⱱ",
    *"0123456789", "\u0327", "\u0303", "\u032a", "\u032f", "\u0329", "ʰ", "ˤ", "ε", "↓", "#", '"', "↑", "\u033a", "\u033b", "g", "ʦ", "X",
]  # fmt: skip
NUMBERS = {phoneme: number for number, phoneme in enumerate(PHONEMES)}

METADATA = dict(
    model_type="vits", comment="piper", language="English", voice="en-us", has_espeak=1, n_speakers=1, sample_rate=RATE
)


def piper_model(path, **metadata):
    graph = Graph("synthetic-piper")
    ids = graph.input("input", INT64, ["batch_size", "phonemes"])
    graph.input("input_lengths", INT64, ["batch_size"])
    # Noise, length and noise of the durations; only the length matters to a tone.
    scales = graph.input("scales", FLOAT, [3])
    samples = tone(graph, ids, graph.slice(scales, 1, 2, 0), RATE, TOKEN_MILLISECONDS, len(PHONEMES), seed=1)
    graph.output(graph.reshape(samples, 1, 1, 1, -1), "output", FLOAT, ["batch_size", 1, 1, "time"])
    graph.save(path, **metadata)


def piper_json(path, with_rate):
    audio = {"sample_rate": RATE, "quality": "low"} if with_rate else {"quality": "low"}
    path.write_text(
        json.dumps(
            {
                "audio": audio,
                "espeak": {"voice": "en-us"},
                "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
                "phoneme_type": "espeak",
                "phoneme_map": {},
                "phoneme_id_map": {phoneme: [number] for phoneme, number in NUMBERS.items()},
                "num_symbols": 256,
                "num_speakers": 1,
                "speaker_id_map": {},
                "piper_version": "1.0.0",
                "language": {"code": "en_US", "family": "en", "region": "US", "name_native": "English",
                             "name_english": "English", "country_english": "United States"},
                "dataset": "synthetic",
            },
            ensure_ascii=False,
            indent=2,
        ),
        encoding="utf-8",
    )  # fmt: skip


def piper(folder):
    """As in sherpa-onnx's releases: metadata in the model, tokens.txt and espeak-ng-data beside it."""
    model = folder / "en_US-synthetic-low.onnx"
    piper_model(model, **METADATA)
    piper_json(folder / f"{model.name}.json", with_rate=True)
    write_tokens(folder, NUMBERS)
    espeak_data(folder)


def piper_raw(folder):
    """As Piper publishes its voices: a model and its JSON. The data of espeak-ng is not part of them."""
    model = folder / "en_US-synthetic-low.onnx"
    piper_model(model)
    piper_json(folder / f"{model.name}.json", with_rate=True)


def piper_rateless(folder):
    """A raw voice whose JSON doesn't say its rate: nothing may guess it."""
    model = folder / "en_US-synthetic-low.onnx"
    piper_model(model)
    piper_json(folder / f"{model.name}.json", with_rate=False)
