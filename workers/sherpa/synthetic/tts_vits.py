"""VITS voices: Piper's as sherpa-onnx publishes them and as Piper does, and two with a lexicon."""

import json

from graph import FLOAT, INT64, Graph
from voice import PHONEMES, speakers, tone, write_lexicon, write_tokens

RATE = 22050
# A Piper phoneme is two tokens, itself and a pad; so is one of the others, with a blank.
TOKEN_MILLISECONDS = 40
# As k2-fsa's MeloTTS voices.
MELO_RATE = 44100


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
    language = dict(code="en_US", family="en", region="US", name_native="English", name_english="English")
    config = {
        "audio": audio,
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "phoneme_type": "espeak",
        "phoneme_map": {},
        "phoneme_id_map": {phoneme: [number] for number, phoneme in enumerate(PHONEMES)},
        "num_symbols": 256,
        "num_speakers": 1,
        "speaker_id_map": {},
        "piper_version": "1.0.0",
        "language": {**language, "country_english": "United States"},
        "dataset": "synthetic",
    }
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def piper(folder):
    """As k2-fsa publishes them: metadata in the model, tokens.txt beside it, and since sherpa-onnx 2 a lexicon."""
    model = folder / "en_US-synthetic-low.onnx"
    metadata = dict(model_type="vits", comment="piper", language="English", voice="en-us", has_espeak=1)
    piper_model(model, **metadata, n_speakers=1, sample_rate=RATE)
    piper_json(folder / f"{model.name}.json", with_rate=True)
    write_tokens(folder, PHONEMES)
    write_lexicon(folder / "lexicon.txt", bars=True)


def piper_raw(folder):
    """As Piper publishes its voices: a model without metadata, and its JSON."""
    model = folder / "en_US-synthetic-low.onnx"
    piper_model(model)
    piper_json(folder / f"{model.name}.json", with_rate=True)


def piper_rateless(folder):
    """A raw voice whose JSON doesn't say its rate: nothing may guess it."""
    model = folder / "en_US-synthetic-low.onnx"
    piper_model(model)
    piper_json(folder / f"{model.name}.json", with_rate=False)


def speaker_pitch(graph, sid):
    """The speakers' pitches lie a fifth apart."""
    return graph.op("Add", graph.op("Mul", graph.cast(sid, FLOAT), 0.5), 1.0)


def lexicon(folder):
    """VITS with a lexicon and four speakers, laid out as k2-fsa's VCTK voices."""
    graph = Graph("synthetic-vits-lexicon")
    x = graph.input("x", INT64, ["N", "L"])
    graph.input("x_length", INT64, ["N"])
    graph.input("noise_scale", FLOAT, [1])
    slowness = graph.input("length_scale", FLOAT, [1])
    graph.input("noise_scale_w", FLOAT, [1])
    sid = graph.input("sid", INT64, [1])
    pitch = speaker_pitch(graph, sid)
    samples = tone(graph, x, slowness, RATE, TOKEN_MILLISECONDS, len(PHONEMES), seed=2, raise_by=pitch)
    graph.output(graph.reshape(samples, 1, 1, -1), "y", FLOAT, ["N", 1, "time"])
    metadata = dict(model_type="vits", comment="vctk", language="English", add_blank=1, sample_rate=RATE)
    graph.save(
        folder / "vits-synthetic.onnx", **metadata, punctuation="; : , . ! ?", **speakers(["p1", "p2", "p3", "p4"])
    )
    write_tokens(folder, PHONEMES)
    write_lexicon(folder / "lexicon.txt")


def melo(folder):
    """MeloTTS, English: a lexicon with tones."""
    graph = Graph("synthetic-melo")
    x = graph.input("x", INT64, ["N", "L"])
    graph.input("x_lengths", INT64, ["N"])
    graph.input("tones", INT64, ["N", "L"])
    graph.input("sid", INT64, [1])
    graph.input("noise_scale", FLOAT, [1])
    slowness = graph.input("length_scale", FLOAT, [1])
    graph.input("noise_scale_w", FLOAT, [1])
    samples = tone(graph, x, slowness, MELO_RATE, TOKEN_MILLISECONDS, len(PHONEMES), seed=3)
    graph.output(graph.reshape(samples, 1, 1, -1), "y", FLOAT, ["N", 1, "time"])
    graph.save(
        folder / "model.onnx",
        model_type="melo-vits",
        comment="melo",
        version=2,
        language="English",
        add_blank=1,
        n_speakers=1,
        jieba=0,
        sample_rate=MELO_RATE,
        speaker_id=0,
        lang_id=2,
        tone_start=7,
        bert_dim=1024,
        ja_bert_dim=768,
    )
    write_tokens(folder, PHONEMES)
    write_lexicon(folder / "lexicon.txt", tones=True)
